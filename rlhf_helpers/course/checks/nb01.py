"""Checks of notebook 01: log-probability, entropy, the columns of a response, where an answer
ends, perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import (
    Answer,
    NotYet,
    Unsolved,
    ask,
    check,
    compare,
    given,
    number,
    shape,
    steady,
)

LOGITS = [2.0, -1.0, 0.5, 0.0, 1.5]
OVERFLOW = (
    "logits of 1,000 overflow the exponential. Use log_softmax or logsumexp, not exp and then log."
)
# what several exercises have in common
FORGOT_TEMPERATURE = "it looks as if you forgot the temperature."
MULTIPLIED = "you multiplied by the temperature: divide the logits by it."


def logsumexp(x: Sequence[float]) -> float:
    return math.log(math.fsum(math.exp(v) for v in x))


def log_softmax(logits: Tensor, temperature: float) -> list[float]:
    scaled = [x / temperature for x in logits.tolist()]
    return [x - logsumexp(scaled) for x in scaled]


@check
def nb01_logprob(answer: Answer | None) -> str:
    """Check log p(token) under softmax(logits / temperature)."""

    def right(x: Tensor, y: int, t: float) -> float:
        return log_softmax(x, t)[y]

    slips = [
        (MULTIPLIED, lambda x, y, t: right(x, y, 1 / t)),
        (FORGOT_TEMPERATURE, lambda x, y, t: right(x, y, 1)),
        ("you divided after the softmax, so the probabilities no longer sum to 1: divide first.",
         lambda x, y, t: right(x, y, 1) / t),
        ("this is the probability: take its logarithm.",
         lambda x, y, t: math.exp(right(x, y, t))),
        ("the sign is wrong: a log-probability is never positive.",
         lambda x, y, t: -right(x, y, t)),
        ("this is the scaled logit: the normaliser (logsumexp) is missing.",
         lambda x, y, t: x[y].item() / t),
        ("this logarithm has base 2: the course counts in nats.",
         lambda x, y, t: right(x, y, t) / math.log(2)),
        ("the normaliser was not divided by the temperature: divide all the logits first.",
         lambda x, y, t: x[y].item() / t - logsumexp(x.tolist())),
    ]  # fmt: skip
    logits = torch.tensor(LOGITS)
    cases = [(logits, token, t) for t in (0.7, 2.0) for token in range(len(LOGITS))]
    close = compare(answer, cases, right, slips)
    for token in range(len(LOGITS)):
        steady(answer, 1000 * logits, token, 0.7, advice=OVERFLOW)
    return f"{close}, and no overflow for logits in the thousands."


@check
def nb01_entropy(answer: Answer | None) -> str:
    """Check the entropy of softmax(logits / temperature), in nats."""

    def right(x: Tensor, t: float) -> float:
        return -math.fsum(math.exp(v) * v for v in log_softmax(x, t))

    slips = [
        ("the minus sign is missing: an entropy is never negative.",
         lambda x, t: -right(x, t)),
        (FORGOT_TEMPERATURE, lambda x, t: right(x, 1)),
        (MULTIPLIED, lambda x, t: right(x, 1 / t)),
        ("the weights are missing: this is the plain mean of -log p. Weight each with p, and sum.",
         lambda x, t: -math.fsum(log_softmax(x, t)) / len(x)),
        ("the weights are missing: this is the plain sum of -log p. Weight each with p.",
         lambda x, t: -math.fsum(log_softmax(x, t))),
        ("this is the MEAN of -p log p over the vocabulary: the entropy is the sum.",
         lambda x, t: right(x, t) / len(x)),
        ("this logarithm has base 2, so it counts bits: the course counts in nats.",
         lambda x, t: right(x, t) / math.log(2)),
        ("this is -log p of the likeliest token only: average over all tokens, weighted by p.",
         lambda x, t: -max(log_softmax(x, t))),
    ]  # fmt: skip
    logits = torch.tensor(LOGITS)
    close = compare(answer, [(logits, t) for t in (0.5, 1.0, 2.0)], right, slips)
    steady(answer, 1000 * logits, 0.7, advice=OVERFLOW)
    return f"{close}, and no overflow for logits in the thousands."


@check
def nb01_response_logits(answer: Answer | None) -> str:
    """Check the slice of (B, Q + R, V) logits that predicts the R response tokens."""
    for q, r in ((4, 3), (2, 1), (3, 5)):
        logits = torch.arange(2 * (q + r) * 3, dtype=torch.float32).view(2, q + r, 3)
        value = ask(answer, logits, r)
        if not isinstance(value, Tensor) or value.dim() != 3:
            raise NotYet(f"return a tensor (B, R, V), not {shape(value)}.")
        slips = [
            ("one column late: these are the last R columns, and each predicts the token AFTER it.",
             logits[:, -r:]),
            ("one column too early: start at the LAST query column.",
             logits[:, q - 2 : q - 2 + r]),
            ("these are the FIRST columns, where the query is read.", logits[:, :r]),
            ("one column too many: the last response token predicts nothing that was sampled.",
             logits[:, -r - 1 :]),
            ("the first prediction is missing: the last QUERY column predicts the first response "
             "token.", logits[:, q:-1]),
            ("one column for each query token as well: cut off the query's own predictions.",
             logits[:, :-1]),
        ]  # fmt: skip
        if torch.equal(value, logits[:, q - 1 : q - 1 + r]):
            continue
        for text, wrong in slips:
            if wrong.numel() and torch.equal(value, wrong):
                raise NotYet(text)
        raise NotYet(
            f"for Q = {q}, R = {r}: {(2, r, 3)} of other columns expected, yours is {shape(value)}."
        )
    return "exact. Column Q - 1 predicts the first response token, column Q + R - 2 the last."


@check
def nb01_ends_at(answer: Answer | None) -> str:
    """Check the index of the first period at index `after` or later, None without one."""
    after, period = 4, 9
    pictures = ["ww.ww.w.", ".www.www", "ww.wwwww", "wwwwwww.", "wwwwwwww"]

    def first(row: str, start: int = after, shift: int = 0) -> int | None:
        return None if (i := row.find(".", start)) < 0 else i + shift

    def last(row: str) -> int | None:
        return None if (i := row.rfind(".", after)) < 0 else i

    slips = [
        ("you took the first period anywhere: one before index `after` does not count.",
         lambda row: first(row, 0)),
        ("a period AT index `after` counts too: use >=, not >.", lambda row: first(row, after + 1)),
        ("you took the LAST period: the answer ends at the first one that counts.", last),
        ("one too high: return the index of the period, and count from 0.",
         lambda row: first(row, shift=1)),
        ("you counted from `after`: count from the start of the response.",
         lambda row: first(row, shift=-after)),
    ]  # fmt: skip
    got = [_index(answer, row, period, after) for row in pictures]
    right = [first(row) for row in pictures]
    if not any(x is not None for x in got):
        raise Unsolved("your function returns nothing; is there a `return`?")
    if got == right:
        return "exact on all five responses."
    for text, slip in slips:
        if got == [slip(row) for row in pictures]:
            raise NotYet(text)
    if all(g == r for g, r in zip(got, right, strict=True) if r is not None):
        raise NotYet("right where the answer ends; where it does not, return None.")
    wrong = next(i for i, (g, r) in enumerate(zip(got, right, strict=True)) if g != r)
    row = " ".join(pictures[wrong])
    raise NotYet(f"`{row}`, after = {after}: expected {right[wrong]}, yours is {got[wrong]}.")


def _index(answer: Any, picture: str, period: int, after: int) -> float | None:
    """Call the student's function on a response drawn with a . for each period."""
    ids = [period if letter == "." else 1 for letter in picture]
    value = ask(given(answer), ids, period, after, none=True)
    if isinstance(value, bool):
        raise NotYet("this says WHETHER the answer ends: return the index WHERE it ends, or None.")
    return None if value is None else number(value, "an index or None")


@check
def nb01_perplexity(answer: Answer | None) -> str:
    """Check exp(-mean log p)."""

    def mean(x: Tensor) -> float:
        return math.fsum(x.tolist()) / len(x)

    slips = [
        ("the minus sign is missing: a perplexity is at least 1.", lambda x: math.exp(mean(x))),
        ("this uses the SUM of the log-probabilities, so longer texts look worse: take the mean.",
         lambda x: math.exp(-math.fsum(x.tolist()))),
        ("you averaged 1 / p: average the LOG-probabilities first, then take the exponential.",
         lambda x: math.fsum(math.exp(-v) for v in x.tolist()) / len(x)),
        ("this is the mean surprise in nats: its exponential is the perplexity.",
         lambda x: -mean(x)),
        ("log-probabilities in nats need exp, not a power of 2.", lambda x: 2 ** -mean(x)),
        ("this is one over the mean probability: average the logarithms instead.",
         lambda x: len(x) / math.fsum(math.exp(v) for v in x.tolist())),
    ]  # fmt: skip
    texts = ([-0.5, -2.0, -0.25], [-1.0, -3.0], [-0.1, -0.7, -4.0, -1.2])
    cases = [(torch.tensor(x),) for x in texts]
    return compare(answer, cases, lambda x: math.exp(-mean(x)), slips) + "."
