"""Exercise checks of notebook 03: each compares with an oracle in plain Python, names the slip it
recognises, prints and returns a bool."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import ask, say, untrainable
from rlhf_helpers.records import Comparison, Label


def _nb03_number(value: Any) -> float | None:
    """Read a scalar, or None if it is none."""
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _nb03_near(a: float, b: float, tolerance: float = 1e-4) -> bool:
    return math.isfinite(a) and abs(a - b) <= tolerance * max(1.0, abs(b))


def _nb03_verdict(difference: float) -> str:
    return "exact" if difference == 0 else f"close, largest difference {difference:.0e}"


def nb03_choice_loss(function: Callable[[Tensor, Tensor], Any] | None) -> bool:
    """Check -log softmax(rewards)[choice], averaged over the batch."""
    rows, chosen = (
        [[1.0, -0.5, 2.0, 0.25], [0.0, 3.0, -1.0, 0.5], [-2.0, 0.5, 0.75, 1.5]],
        [2, 0, 1],
    )
    # log p(choice)
    terms = [
        r[c] - math.log(math.fsum(map(math.exp, r))) for r, c in zip(rows, chosen, strict=True)
    ]
    right = -math.fsum(terms) / 3
    gradient = torch.tensor([[(math.exp(x - math.log(math.fsum(map(math.exp, r)))) - (k == c)) / 3 for k, x in enumerate(r)]
                             for r, c in zip(rows, chosen, strict=True)])  # fmt: skip
    rewards, choices = torch.tensor(rows, requires_grad=True), torch.tensor(chosen)
    value, problem = ask(function, rewards, choices)
    if problem:
        return say(False, problem)
    got = _nb03_number(value)
    if got is None:
        return say(
            False,
            f"expected one number, got {_nb03_shape(value)}. Did you forget the mean over the "
            "batch?",
        )
    columns = [math.log(math.fsum(math.exp(r[k]) for r in rows)) for k in range(4)]
    slips = {
        "the minus sign is missing: the loss must fall when the chosen option's probability rises": -right,
        "this is the sum over the batch; the paper takes the mean": 3 * right,
        "the logarithm is missing: this is minus the mean probability of the choice": -math.fsum(map(math.exp, terms)) / 3,
        "there is no softmax in it: you averaged the chosen rewards themselves": -math.fsum(r[c] for r, c in zip(rows, chosen)) / 3,
        "the softmax runs over the batch; it must run over the options of one comparison (the last dimension)": -math.fsum( r[c] - columns[c] for r, c in zip(rows, chosen) ) / 3,
        "you looked up the option with the highest reward, not the one that was chosen": -math.fsum( max(r) - math.log(math.fsum(map(math.exp, r))) for r in rows ) / 3,
        "you averaged over all options instead of looking up the chosen one": -math.fsum( math.fsum(r) / 4 - math.log(math.fsum(map(math.exp, r))) for r in rows ) / 3,
        "the logarithm has base 2: use nats, so that chance is ln 4": right / math.log(2),
    }  # fmt: skip
    if not _nb03_near(got, right):
        return say(False, _nb03_name(got, slips, f"got {got:.4f} where {right:.4f} was expected"))
    if problem := untrainable(value, rewards, gradient):
        return say(False, problem)
    large, problem = ask(function, 1000 * rewards, choices)
    large_number = math.nan if problem else _nb03_number(large)
    if large_number is None or not math.isfinite(large_number):
        return say(
            False,
            "right for small rewards, but rewards of 1,000 overflow the exponential: use logsumexp "
            "or log_softmax, not exp then log",
        )
    return say(True, f"{_nb03_verdict(abs(got - right))}, and steady for rewards in the thousands.")


def nb03_pairwise(function: Callable[[Tensor, Tensor], Any] | None) -> bool:
    """Check the loss of a comparison of two, written with the sigmoid of the difference,
    averaged."""
    pairs = [(1.5, 0.25), (-0.5, 1.0), (2.0, 2.5)]
    right = math.fsum(math.log1p(math.exp(b - a)) for a, b in pairs) / 3
    chosen, rejected = torch.tensor(pairs).unbind(-1)
    chosen.requires_grad_()
    value, problem = ask(function, chosen, rejected)
    if problem:
        return say(False, problem)
    got = _nb03_number(value)
    if got is None:
        return say(
            False,
            f"expected one number, got {_nb03_shape(value)}. Did you forget the mean over the "
            "batch?",
        )
    sigmoids = [1 / (1 + math.exp(b - a)) for a, b in pairs]
    slips = {
        "the difference is the wrong way round: chosen minus rejected": math.fsum(
            math.log1p(math.exp(a - b)) for a, b in pairs
        )
        / 3,
        "the minus sign is missing": -right,
        "this is the sum over the batch; take the mean": 3 * right,
        "the logarithm is missing: this is minus the mean probability of the choice": -math.fsum(
            sigmoids
        )
        / 3,
        "the logarithm is missing: this is the mean probability of the choice": math.fsum(sigmoids)
        / 3,
        "there is no sigmoid in it: you averaged the difference": -math.fsum(
            a - b for a, b in pairs
        )
        / 3,
        "the sigmoid sees only the chosen reward; it needs the difference": math.fsum(
            math.log1p(math.exp(-a)) for a, _ in pairs
        )
        / 3,
    }
    if not _nb03_near(got, right):
        return say(False, _nb03_name(got, slips, f"got {got:.4f} where {right:.4f} was expected"))
    if problem := untrainable(value, chosen, torch.tensor([s - 1 for s in sigmoids]) / 3):
        return say(False, problem)
    large, problem = ask(function, -1000 * torch.ones(2), 1000 * torch.ones(2))
    large_number = math.nan if problem else _nb03_number(large)
    if large_number is None or not math.isfinite(large_number):
        return say(
            False,
            "right for small rewards, but a difference of 2,000 gives log(0): use logsigmoid, not "
            "log after sigmoid",
        )
    return say(True, f"{_nb03_verdict(abs(got - right))}, and equal to the softmax over two.")


def nb03_last_real_token(function: Callable[[Tensor], Any] | None) -> bool:
    """Check the column of the last True of every row, wherever the pads stand and however wide the
    mask is."""
    narrow = ["..####", "#####.", ".###..", "#.....", "######", "...##."]
    wide = ["..#######", "####.....", "...###...", "#........"]
    problem = _nb03_columns(function, narrow)
    if not problem and (problem := _nb03_columns(function, wide)):
        problem = f"right for masks of 6 columns, but not for 9: take the width from the mask. There, {problem}"
    return say(
        not problem,
        problem or "exact in all 10 rows, with pads on the left, on the right and on both sides.",
    )


def _nb03_columns(function: Any, pictures: list[str]) -> str | None:
    """Say what is wrong with the columns found in a mask drawn as rows of # (real) and . (pad);
    None if nothing is."""
    right = [row.rindex("#") for row in pictures]
    value, problem = ask(
        function, torch.tensor([[letter == "#" for letter in row] for row in pictures])
    )
    if problem:
        return problem
    try:
        got = [float(x) for x in torch.as_tensor(value).reshape(-1)]
    except (TypeError, ValueError, RuntimeError):
        got = []
    if len(got) != len(right):
        return f"expected one column for each of the {len(right)} rows, got {_nb03_shape(value)}"
    width = len(pictures[0])
    slips = {
        "you counted real tokens and took one off: that is the last column only when no pad stands on the LEFT": [
            row.count("#") - 1 for row in pictures
        ],
        "you counted the real tokens: that is neither the index (one less) nor right after pads on the left": [
            row.count("#") for row in pictures
        ],
        "you always took the last column: that is a pad in every row that ends with one": [
            width - 1
        ]
        * len(right),
        "this is the FIRST real token: argmax finds the first True": [
            row.index("#") for row in pictures
        ],
        "you searched the flipped mask but did not turn the answer back: the column is T - 1 minus it": [
            row[::-1].index("#") for row in pictures
        ],
        "one too far: columns are counted from 0": [r + 1 for r in right],
        "one short: this is the token before the last": [r - 1 for r in right],
        "you searched the flipped mask and subtracted from T; columns run to T - 1": [
            width - row[::-1].index("#") for row in pictures
        ],
    }
    if got != right:
        named = next((text for text, wrong in slips.items() if got == wrong), None)
        bad = next(i for i in range(len(right)) if got[i] != right[i])
        return (
            named
            or f"row {pictures[bad]} (# real, . pad) should give {right[bad]}, got {got[bad]:g}"
        )
    if not isinstance(value, Tensor) or value.dtype != torch.long:
        found = value.dtype if isinstance(value, Tensor) else f"a {type(value).__name__}"
        return f"the columns are right: return them as a tensor of dtype long, which can pick entries of other tensors, not as {found}"
    if value.dim() != 1:
        return f"the columns are right, but their shape is {tuple(value.shape)}; it should be ({len(right)},), one index a row"
    return None


def nb03_ceiling(
    function: Callable[[Sequence[Comparison], Sequence[Label], Callable[[str], float]], Any] | None,
) -> bool:
    """Check the share of labels that equal the option of highest utility, the first one on a
    tie."""
    values = [
        (1, 4, 2, 3),
        (5, 0, 1, 2),
        (0, 0, 3, 3),
        (2, 2, 1, 0),
        (1, 2, 3, 4),
        (0, 1, 1, 0),
        (6, 5, 4, 7),
        (3, 1, 2, 0),
        (1, 1, 1, 2),
    ]
    chosen = [1, 2, 3, 0, 1, 1, 3, 0, 3]
    asked = [
        Comparison("toy", f"q{i}", tuple(f"{v} of {k}" for k, v in enumerate(row)))
        for i, row in enumerate(values)
    ]
    labels = [Label(c.id, "someone", choice) for c, choice in zip(asked, chosen, strict=True)]
    value, problem = ask(function, asked, labels, lambda text: float(text.split()[0]))
    if problem:
        return say(False, problem)
    got, n = _nb03_number(value), len(values)
    if got is None:
        return say(False, f"expected one number between 0 and 1, got {_nb03_shape(value)}")
    first = [row.index(max(row)) for row in values]
    right = sum(map(int.__eq__, first, chosen)) / n
    rows = list(zip(values, chosen, strict=True))
    slips = {
        "this is the number of hits: divide by the number of labels": right * n,
        "this is the share of misses": 1 - right,
        "you credit any option that ties for the best, so a labeler's coin flip always counts as a hit: let a tie go to the first": sum( row[c] == max(row) for row, c in rows ) / n,
        "you shared ties out, which is a fair way to count; here a tie goes to the first option, as argmax does": sum( (row[c] == max(row)) / row.count(max(row)) for row, c in rows ) / n,
        "on a tie you took the last of the best options; take the first, as argmax does": sum( max(k for k in range(4) if row[k] == max(row)) == c for row, c in rows ) / n,
        "you compared with the option of LOWEST utility": sum(row.index(min(row)) == c for row, c in rows) / n,
        "you averaged the utility of the chosen options; count how often the choice IS the best option": sum(row[c] for row, c in rows) / n,
    }  # fmt: skip
    if not _nb03_near(got, right):
        return say(False, _nb03_name(got, slips, f"got {got:.3f} where {right:.3f} was expected"))
    return say(True, f"{_nb03_verdict(abs(got - right))}, ties included.")


def nb03_normalise(function: Callable[[Tensor], Any] | None) -> bool:
    """Check gain and bias that bring raw rewards to mean 0 and (population) standard deviation
    1."""
    raw = [3.0, 5.0, 4.0, 8.0, 10.0]
    mean = math.fsum(raw) / 5
    square = math.fsum((x - mean) ** 2 for x in raw)
    std, unbiased = math.sqrt(square / 5), math.sqrt(square / 4)
    gain, bias = 1 / std, -mean / std
    value, problem = ask(function, torch.tensor(raw))
    if problem:
        return say(False, problem)
    try:
        first, second = (_nb03_number(x) for x in value)
    except (TypeError, ValueError):
        first = second = None
    if first is None or second is None:
        return say(False, f"expected two numbers, gain and bias, got {_nb03_shape(value)}")
    slips = {
        "the bias is minus the mean, but the gain multiplies first: the mean must be multiplied by the gain too": (
            gain,
            -mean,
        ),
        "the bias has the wrong sign: gain * mean + bias must be 0": (gain, -bias),
        "gain and bias stand the wrong way round": (bias, gain),
        "you multiply by the standard deviation; divide by it": (std, -mean * std),
        "the gain is right, but the bias forgets the mean": (gain, 0.0),
        "you divided by the variance: the standard deviation is its square root": (
            1 / std**2,
            -mean / std**2,
        ),
        "you divided by n - 1 in the standard deviation; the released code divides by n (correction=0)": (
            1 / unbiased,
            -mean / unbiased,
        ),
        "these are the mean and the standard deviation themselves, not the gain and bias that undo them": (
            mean,
            std,
        ),
        "these are the standard deviation and the mean themselves, not the gain and bias that undo them": (
            std,
            mean,
        ),
    }
    if not (_nb03_near(first, gain) and _nb03_near(second, bias)):
        named = next(
            (t for t, (g, b) in slips.items() if _nb03_near(first, g) and _nb03_near(second, b)),
            None,
        )
        after = f"your numbers give mean {first * mean + second:.2f} and standard deviation {abs(first) * std:.2f}; wanted are 0 and 1"
        return say(False, named or after)
    return say(
        True,
        f"{_nb03_verdict(max(abs(first - gain), abs(second - bias)))}: mean 0, standard deviation "
        "1.",
    )


def _nb03_name(got: float, slips: dict[str, float], otherwise: str) -> str:
    return next((text for text, wrong in slips.items() if _nb03_near(got, wrong)), otherwise)


def _nb03_shape(value: Any) -> str:
    return (
        f"a tensor of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else f"{type(value).__name__} {str(value)[:40]!r}"
    )
