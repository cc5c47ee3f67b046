"""Exercise checks of notebook 01: each compares with an oracle in plain Python, names the slip it
recognises, prints and returns a bool."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import call

_NB01_UNSOLVED = "Not solved yet: replace the ... and run the cell again."
_NB01_LOGITS = [2.0, -1.0, 0.5, 0.0, 1.5]


def _nb01_say(ok: bool, text: str) -> bool:
    print(text if text == _NB01_UNSOLVED else ("Right: " if ok else "Not yet: ") + text)
    return ok


def _nb01_call(function: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Call a student's function; returns its value (None may be an answer), or what to say
    instead."""
    if function is None or function is ...:
        return None, _NB01_UNSOLVED
    value, problem = call(function, *arguments)
    return value, problem or (_NB01_UNSOLVED if value is ... else None)


def _nb01_number(value: Any) -> float | None:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _nb01_logsoftmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    scaled = [x / temperature for x in logits]
    total = math.log(math.fsum(math.exp(x) for x in scaled))
    return [x - total for x in scaled]


def _nb01_compare(
    function: Any,
    cases: list[tuple[Any, ...]],
    oracle: Callable[..., float],
    slips: dict[str, Callable[..., float]],
) -> bool:
    """Call on every case, compare with the oracle, and look for the one slip that explains all the
    answers."""
    got = []
    for case in cases:
        value, problem = _nb01_call(function, *case)
        if problem is None and value is None:
            problem = _NB01_UNSOLVED
        if problem:
            return _nb01_say(False, problem)
        number = _nb01_number(value)
        if number is None:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            return _nb01_say(False, f"expected one number, got {shape}")
        got.append(number)
    right = [oracle(*case) for case in cases]
    largest = max(abs(a - b) for a, b in zip(got, right, strict=True))
    if largest <= 1e-4:
        return _nb01_say(
            True,
            "exact." if largest == 0 else f"close, largest difference {largest:.0e} (rounding).",
        )
    for text, wrong in slips.items():
        if all(
            abs(a - wrong(*case)) <= 1e-4 * max(1.0, abs(a))
            for a, case in zip(got, cases, strict=True)
        ):
            return _nb01_say(False, text)
    if any(math.isnan(x) for x in got):
        return _nb01_say(
            False,
            "the answer is not a number (NaN): is a logarithm of 0 or of a negative number taken?",
        )
    worst = max(range(len(cases)), key=lambda i: abs(got[i] - right[i]))
    return _nb01_say(False, f"got {got[worst]:.4f} where {right[worst]:.4f} was expected.")


def nb01_logprob(function: Any) -> bool:
    """Check log p(token) under softmax(logits / temperature)."""
    logits = torch.tensor(_NB01_LOGITS)
    cases = [(logits, token, temperature) for temperature in (0.7, 2.0) for token in range(5)]

    def right(x: Tensor, token: int, t: float) -> float:
        return _nb01_logsoftmax(x.tolist(), t)[token]

    return _nb01_compare(
        function,
        cases,
        right,
        {
            "you multiplied by the temperature; it divides the logits.": lambda x, y, t: right(
                x, y, 1 / t
            ),
            "it looks as if you forgot the temperature.": lambda x, y, t: right(x, y, 1.0),
            "you divided the log-probabilities after the softmax, so they no longer sum to 1; divide the LOGITS before it.": (
                lambda x, y, t: right(x, y, 1.0) / t
            ),
            "this is the probability; take its logarithm.": lambda x, y, t: math.exp(
                right(x, y, t)
            ),
            "the sign is turned round: log-probabilities are never positive.": lambda x, y, t: (
                -right(x, y, t)
            ),
            "this is the scaled logit itself: the normaliser (logsumexp) is missing.": lambda x, y, t: (
                x[y].item() / t
            ),
            "the logarithm has base 2: this course counts in nats.": lambda x, y, t: (
                right(x, y, t) / math.log(2)
            ),
            "the normaliser was not divided by the temperature; divide the logits first, then do everything else.": (
                lambda x, y, t: (
                    x[y].item() / t - math.log(math.fsum(math.exp(v) for v in x.tolist()))
                )
            ),
        },
    )


def nb01_entropy(function: Any) -> bool:
    """Check the entropy of softmax(logits / temperature), in nats."""
    cases = [(torch.tensor(_NB01_LOGITS), t) for t in (0.5, 1.0, 2.0)]

    def plain(x: Tensor, t: float) -> float:
        return -math.fsum(math.exp(v) * v for v in _nb01_logsoftmax(x.tolist(), t))

    return _nb01_compare(
        function,
        cases,
        plain,
        {
            "the minus sign is missing: an entropy is never negative.": lambda x, t: -plain(x, t),
            "it looks as if you forgot the temperature.": lambda x, t: plain(x, 1.0),
            "you multiplied by the temperature; it divides the logits.": lambda x, t: plain(
                x, 1 / t
            ),
            "the weights are missing: this is the plain mean of -log p. Weight each -log p with its own p and add up.": (
                lambda x, t: -math.fsum(_nb01_logsoftmax(x.tolist(), t)) / len(x)
            ),
            "the weights are missing: this is the plain sum of -log p. Weight each -log p with its own p.": (
                lambda x, t: -math.fsum(_nb01_logsoftmax(x.tolist(), t))
            ),
            "this is the MEAN of -p log p over the vocabulary; an entropy is the sum.": lambda x, t: (
                plain(x, t) / len(x)
            ),
            "the logarithm has base 2, so this counts bits: this course counts in nats.": lambda x, t: (
                plain(x, t) / math.log(2)
            ),
            "this is the surprise at the likeliest token only; average over all tokens, weighted by p.": (
                lambda x, t: -max(_nb01_logsoftmax(x.tolist(), t))
            ),
        },
    )


def nb01_response_logits(function: Any) -> bool:
    """Check the slice of (B, Q + R, V) logits that predicts the R response tokens: columns Q - 1 to
    Q + R - 2."""
    for query, length in ((4, 3), (2, 1), (3, 5)):
        logits = torch.arange(2 * (query + length) * 3, dtype=torch.float32).view(
            2, query + length, 3
        )
        value, problem = _nb01_call(function, logits, length)
        if problem or value is None:
            return _nb01_say(False, problem or _NB01_UNSOLVED)
        if not isinstance(value, Tensor) or value.dim() != 3:
            return _nb01_say(False, f"expected a tensor (B, R, V), got {_nb01_shape(value)}.")
        slips = {
            "one column late: the last R columns. The logits at a token's own column predict the token AFTER it.": logits[
                :, -length:
            ],
            "one column too early: start at the LAST query column.": logits[
                :, query - 2 : query - 2 + length
            ],
            "these are the FIRST columns, where the query is read.": logits[:, :length],
            "one column too many: the logits at the last response token predict nothing that was sampled.": logits[
                :, -length - 1 :
            ],
            "the first prediction is missing: the last QUERY column predicts the first response token.": logits[
                :, query:-1
            ],
            "one column per query token as well: cut the query's own predictions off.": logits[
                :, :-1
            ],
        }
        if value.shape == (2, length, 3) and torch.equal(
            value, logits[:, query - 1 : query - 1 + length]
        ):
            continue
        for text, wrong in slips.items():
            if value.shape == wrong.shape and wrong.numel() and torch.equal(value, wrong):
                return _nb01_say(False, text)
        shape = (2, length, 3)
        return _nb01_say(
            False,
            f"for Q = {query}, R = {length}: got {_nb01_shape(value)}, expected {shape} of other "
            "columns.",
        )
    return _nb01_say(
        True, "exact: column Q - 1 predicts the first response token, column Q + R - 2 the last."
    )


def _nb01_shape(value: Any) -> str:
    return (
        f"a tensor {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"a {type(value).__name__}"
    )


def nb01_ends_at(function: Any) -> bool:
    """Check the truncation rule: index of the first period at index `after` or later, None without
    one."""
    dot = 9
    cases = [
        [1, 2, dot, 3, 4, dot, 5, dot],
        [dot, 1, 2, 3, dot, 5, 6, 7],
        [1, 2, dot, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, 6, 7, dot],
        [1, 2, 3, 4, 5, 6, 7, 8],
    ]
    after = 4

    def where(row: list[int], start: int) -> int | None:
        return next((i for i, x in enumerate(row) if x == dot and i >= start), None)

    got = []
    for row in cases:
        value, problem = _nb01_call(function, list(row), dot, after)
        if problem:
            return _nb01_say(False, problem)
        if isinstance(value, bool):
            return _nb01_say(
                False,
                "this says WHETHER the response ends; return the index WHERE it ends, or None.",
            )
        number = None if value is None else _nb01_number(value)
        if number is None and value is not None:
            return _nb01_say(False, f"expected an index or None, got {_nb01_shape(value)}.")
        got.append(number)
    right = [where(row, after) for row in cases]
    if got == right:
        return _nb01_say(True, "exact on all five responses.")
    if got == [None] * len(cases):
        return _nb01_say(False, _NB01_UNSOLVED)
    slips: dict[str, Callable[[list[int]], int | None]] = {
        "you took the first period anywhere: one before index `after` does not count.": lambda row: (
            where(row, 0)
        ),
        "a period AT index `after` counts too: use >=, not >.": lambda row: where(row, after + 1),
        "you took the LAST period: the answer ends at the first one that counts.": lambda row: max(
            (i for i, x in enumerate(row) if x == dot and i >= after), default=None
        ),
        "one too high: indices count from 0 (or you returned the length of what is kept).": lambda row: (
            None if where(row, after) is None else where(row, after) + 1  # type: ignore[operator]
        ),
        "the index counts from `after`; it must count from the start of the response.": lambda row: (
            None if where(row, after) is None else where(row, after) - after  # type: ignore[operator]
        ),
    }
    for text, wrong in slips.items():
        if got == [wrong(row) for row in cases]:
            return _nb01_say(False, text)
    found = [row is not None for row in right]
    if [g for g, f in zip(got, found, strict=True) if f] == [r for r in right if r is not None]:
        return _nb01_say(
            False,
            "right where there is a period that counts, but without one the answer is unfinished: "
            "return None.",
        )
    wrong_at = next(i for i, (g, r) in enumerate(zip(got, right, strict=True)) if g != r)
    shown = " ".join("." if x == dot else "w" for x in cases[wrong_at])
    return _nb01_say(
        False,
        f"for the response `{shown}` with after = {after}: got {got[wrong_at]}, expected "
        f"{right[wrong_at]}.",
    )


def nb01_perplexity(function: Any) -> bool:
    """Check exp(-mean log p)."""
    cases = [
        (torch.tensor(x),) for x in ([-0.5, -2.0, -0.25], [-1.0, -3.0], [-0.1, -0.7, -4.0, -1.2])
    ]

    def mean(x: Tensor) -> float:
        return math.fsum(x.tolist()) / len(x)

    return _nb01_compare(
        function,
        cases,
        lambda x: math.exp(-mean(x)),
        {
            "the minus sign is missing: a perplexity is at least 1.": lambda x: math.exp(mean(x)),
            "this uses the SUM of the log-probabilities, so longer texts always look worse: take the mean.": (
                lambda x: math.exp(-math.fsum(x.tolist()))
            ),
            "you averaged 1 / p: take the mean of the LOG-probabilities first, then the exponential.": (
                lambda x: math.fsum(math.exp(-v) for v in x.tolist()) / len(x)
            ),
            "this is the mean surprise in nats; its exponential is the perplexity.": lambda x: (
                -mean(x)
            ),
            "bases are mixed: the log-probabilities are in nats, so use exp, not a power of 2.": lambda x: (
                2 ** -mean(x)
            ),
            "you took one over the mean probability: average the logarithms instead.": (
                lambda x: len(x) / math.fsum(math.exp(v) for v in x.tolist())
            ),
        },
    )
