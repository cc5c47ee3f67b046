"""Checks of notebook 03: the choice loss, two options, the last real token, the ceiling, gain and
bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import (
    Answer,
    NotYet,
    ask,
    check,
    how_close,
    judge,
    near,
    number,
    shape,
    steady,
)
from rlhf_helpers.records import Comparison, Label

MINUS = "the minus sign is missing: the loss must fall when the choice becomes more probable."
MEAN = "did you forget the mean over the batch?"
SUM = "this is the sum over the batch: take the mean."
NO_LOG = "the logarithm is missing: this is minus the mean probability of the choice."


@check
def nb03_choice_loss(answer: Answer | None) -> str:
    """Check -log softmax(rewards)[choice], averaged over the batch."""
    rows = [[1.0, -0.5, 2.0, 0.25], [0.0, 3.0, -1.0, 0.5], [-2.0, 0.5, 0.75, 1.5]]
    chosen = [2, 0, 1]
    pairs = list(zip(rows, chosen, strict=True))
    columns = list(zip(*rows, strict=True))

    def log_sum(row: Sequence[float]) -> float:
        return math.log(math.fsum(map(math.exp, row)))

    def loss(terms: Sequence[float]) -> float:
        return -math.fsum(terms) / len(rows)

    terms = [r[c] - log_sum(r) for r, c in pairs]  # log p(choice)
    right = loss(terms)
    gradient = [[(math.exp(x - log_sum(r)) - (k == c)) / 3 for k, x in enumerate(r)]
                for r, c in pairs]  # fmt: skip
    slips = [
        (MINUS, -right),
        (SUM, 3 * right),
        (MEAN, [-t for t in terms]),
        (NO_LOG, loss([math.exp(t) for t in terms])),
        ("there is no softmax: you averaged the chosen rewards themselves.",
         loss([r[c] for r, c in pairs])),
        ("the softmax runs over the batch; it must run over the options (the last dimension).",
         loss([r[c] - log_sum(columns[c]) for r, c in pairs])),
        ("you looked up the option with the highest reward, not the one that was chosen.",
         loss([max(r) - log_sum(r) for r in rows])),
        ("you averaged over all options instead of looking up the chosen one.",
         loss([math.fsum(r) / 4 - log_sum(r) for r in rows])),
        ("this logarithm has base 2: use nats, so that chance is ln 4.", right / math.log(2)),
    ]  # fmt: skip
    rewards, choices = torch.tensor(rows, requires_grad=True), torch.tensor(chosen)
    close = judge(answer, (rewards, choices), torch.tensor(right), slips, torch.tensor(gradient))
    advice = "rewards of 1,000 overflow the exponential. Use logsumexp or log_softmax."
    steady(answer, 1000 * rewards, choices, advice=advice)
    return f"{close}, and no overflow for rewards in the thousands."


@check
def nb03_pairwise(answer: Answer | None) -> str:
    """Check the loss of a comparison of two: -log sigmoid of the difference, averaged."""
    pairs = [(1.5, 0.25), (-0.5, 1.0), (2.0, 2.5)]

    def mean(terms: Sequence[float]) -> float:
        return math.fsum(terms) / len(pairs)

    terms = [math.log1p(math.exp(b - a)) for a, b in pairs]
    sigmoids = [1 / (1 + math.exp(b - a)) for a, b in pairs]
    slips = [
        ("the difference is the wrong way round: chosen minus rejected.",
         mean([math.log1p(math.exp(a - b)) for a, b in pairs])),
        (MINUS, -mean(terms)),
        (SUM, math.fsum(terms)),
        (MEAN, terms),
        (NO_LOG, -mean(sigmoids)),
        ("the logarithm is missing: this is the mean probability of the choice.", mean(sigmoids)),
        ("there is no sigmoid: you averaged the difference.", mean([b - a for a, b in pairs])),
        ("the sigmoid sees the chosen reward only; it needs the difference.",
         mean([math.log1p(math.exp(-a)) for a, _ in pairs])),
    ]  # fmt: skip
    chosen, rejected = torch.tensor(pairs).unbind(-1)
    gradient = torch.tensor([s - 1 for s in sigmoids]) / len(pairs)
    arguments = (chosen.requires_grad_(), rejected)
    close = judge(answer, arguments, torch.tensor(mean(terms)), slips, gradient)
    advice = "a difference of 2,000 gives log(0). Use logsigmoid, not log after sigmoid."
    steady(answer, torch.full((2,), -1000.0), torch.full((2,), 1000.0), advice=advice)
    return f"{close}, and equal to the softmax over two."


@check
def nb03_uphill(answer: Answer | None) -> str:
    """Check the gradient of log P(clicks | w) + log P(w), a sum over clicks, by w."""
    x = [  # features of 3 options in 4 comparisons
        [[1.0, 0.5], [-0.5, 2.0], [0.0, -1.0]], [[2.0, 0.0], [0.5, 1.0], [-1.0, 0.25]],
        [[0.5, -0.5], [1.5, 1.0], [-2.0, 0.0]], [[0.0, 1.0], [1.0, -1.0], [0.25, 0.75]],
    ]  # fmt: skip
    third = 1 / 3
    targets = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [third, third, third], [0.0, 0.0, 1.0]]
    weights, variances = [0.8, -0.6], [2.0, 0.5]
    rewards = [[option[0] * weights[0] + option[1] * weights[1] for option in row] for row in x]

    def softmax(row: Sequence[float]) -> list[float]:
        return [math.exp(r) / math.fsum(map(math.exp, row)) for r in row]

    def pull(chances: Sequence[Sequence[float]]) -> list[float]:
        return [
            math.fsum(
                (t - p) * option[d]
                for row, told, expected in zip(x, targets, chances, strict=True)
                for option, t, p in zip(row, told, expected, strict=True)
            )
            for d in (0, 1)
        ]

    clicks = pull([softmax(row) for row in rewards])
    columns = [softmax(column) for column in zip(*rewards, strict=True)]
    across = pull(list(zip(*columns, strict=True)))
    prior = [-w / s for w, s in zip(weights, variances, strict=True)]

    def both(scale: float, other: Sequence[float], first: Sequence[float] = clicks) -> Tensor:
        return torch.tensor([scale * a + b for a, b in zip(first, other, strict=True)])

    slips = [
        ("the prior is missing: without it the weights may grow without end.", both(1, [0, 0])),
        ("the prior pushes the wrong way: it pulls every weight back to 0.",
         both(1, [-p for p in prior])),
        ("you multiply by the variance: the wider the prior, the weaker its pull. Divide.",
         both(1, [-w * s for w, s in zip(weights, variances, strict=True)])),
        ("the pull of the prior is w / s, not half of it or twice: the derivative of w^2 / (2 s).",
         both(1, [p / 2 for p in prior])),
        ("the pull of the prior is w / s, not half of it or twice: the derivative of w^2 / (2 s).",
         both(1, [2 * p for p in prior])),
        ("this goes downhill: it is the gradient of the loss.", -both(1, prior)),
        ("the clicks push the wrong way: targets minus probabilities.", both(-1, prior)),
        ("you averaged over the clicks: sum them, or sixty clicks weigh no more than one.",
         both(1 / len(x), prior)),
        ("the softmax runs over the comparisons; it must run over the options.",
         both(1, prior, across)),
    ]  # fmt: skip
    arguments = tuple(map(torch.tensor, (x, targets, weights, variances)))
    return f"{judge(answer, arguments, both(1, prior), slips)}, with one answer of 'cannot tell'."


@check
def nb03_last_real_token(answer: Answer | None) -> str:
    """Check the column of the last True of every row, for pads on any side and any width."""
    _columns(answer, ["..####", "#####.", ".###..", "#.....", "######", "...##."])
    try:
        _columns(answer, ["..#######", "####.....", "...###...", "#........"])
    except NotYet as wrong:
        hint = "right for masks of 6 columns but not of 9: take the width from the mask. There, "
        raise NotYet(hint + str(wrong)) from None
    return "exact in all 10 rows, with pads on the left, on the right and on both sides."


def _columns(answer: Any, pictures: list[str]) -> None:
    """Check the columns found in a mask drawn as rows of # (real) and . (pad)."""
    width, right = len(pictures[0]), [row.rindex("#") for row in pictures]
    slips = [
        ("you counted real tokens and took off one: that is wrong with a pad on the LEFT.",
         [row.count("#") - 1 for row in pictures]),
        ("you counted the real tokens: you want the index of the last one.",
         [row.count("#") for row in pictures]),
        ("you always took the last column: in rows that end in a pad, that is the pad.",
         [width - 1] * len(pictures)),
        ("this is the FIRST real token: argmax finds the first True.",
         [row.index("#") for row in pictures]),
        ("you searched the flipped mask but did not turn the answer back: T - 1 minus it.",
         [row[::-1].index("#") for row in pictures]),
        ("one too far: columns are counted from 0.", [r + 1 for r in right]),
        ("one short: this is the token before the last.", [r - 1 for r in right]),
    ]  # fmt: skip
    value = ask(answer, torch.tensor([[letter == "#" for letter in row] for row in pictures]))
    try:
        got = torch.as_tensor(value).reshape(-1).tolist()
    except (TypeError, ValueError, RuntimeError):
        got = []
    if len(got) != len(right):
        raise NotYet(f"return one column for each of the {len(right)} rows, not {shape(value)}.")
    for text, wrong in slips:
        if got == wrong and got != right:
            raise NotYet(text)
    for row, expected, yours in zip(pictures, right, got, strict=True):
        if yours != expected:
            raise NotYet(f"row {row} (# real, . pad): {expected} expected, yours is {yours:g}.")
    if not isinstance(value, Tensor) or value.dtype != torch.long:
        found = value.dtype if isinstance(value, Tensor) else shape(value)
        raise NotYet(f"the columns are right: return them as a long tensor, not as {found}.")
    if value.dim() != 1:
        found = tuple(value.shape)
        raise NotYet(f"the columns are right, but the shape is {found}; expected {(len(right),)}.")


@check
def nb03_ceiling(answer: Answer | None) -> str:
    """Check the share of labels that equal the option of highest utility, the first on a tie."""
    rows = [  # the utilities of four options, and the one that was chosen
        ((1, 4, 2, 3), 1), ((5, 0, 1, 2), 2), ((0, 0, 3, 3), 3), ((2, 2, 1, 0), 0),
        ((1, 2, 3, 4), 1), ((0, 1, 1, 0), 1), ((6, 5, 4, 7), 3), ((3, 1, 2, 0), 0),
        ((1, 1, 1, 2), 3),
    ]  # fmt: skip
    asked = [
        Comparison("toy", f"q{i}", tuple(f"{v} of {k}" for k, v in enumerate(values)))
        for i, (values, _) in enumerate(rows)
    ]
    labels = [Label(c.id, "someone", choice) for c, (_, choice) in zip(asked, rows, strict=True)]

    def share(hits: Sequence[float]) -> float:
        return sum(hits) / len(rows)

    def last_best(values: tuple) -> int:
        return max(k for k in range(4) if values[k] == max(values))

    right = share([v.index(max(v)) == c for v, c in rows])
    slips = [
        ("this is the number of hits: divide by the number of labels.", right * len(rows)),
        ("this is the share of misses.", 1 - right),
        ("you count every tied option as a hit, so a coin flip too: let a tie go to the first.",
         share([v[c] == max(v) for v, c in rows])),
        ("you shared ties out, which is fair; but here a tie goes to the first, as with argmax.",
         share([(v[c] == max(v)) / v.count(max(v)) for v, c in rows])),
        ("on a tie you took the last of the best options: take the first, as argmax does.",
         share([last_best(v) == c for v, c in rows])),
        ("you compared with the option of LOWEST utility.",
         share([v.index(min(v)) == c for v, c in rows])),
        ("you averaged the utility of the choices: count how often the choice IS the best option.",
         share([v[c] for v, c in rows])),
    ]  # fmt: skip

    def utility(text: str) -> float:
        return float(text.split()[0])

    close = judge(answer, (asked, labels, utility), torch.tensor(right), slips)
    return f"{close}, ties included."


@check
def nb03_normalise(answer: Answer | None) -> str:
    """Check the gain and bias that give raw rewards mean 0 and (population) deviation 1."""
    raw = [3.0, 5.0, 4.0, 8.0, 10.0]
    mean = math.fsum(raw) / 5
    square = math.fsum((x - mean) ** 2 for x in raw)
    std, unbiased = math.sqrt(square / 5), math.sqrt(square / 4)
    gain, bias = right = 1 / std, -mean / std
    slips = [
        ("minus the mean is not enough: the gain multiplies first, so multiply the mean by it too.",
         (gain, -mean)),
        ("the bias has the wrong sign: gain * mean + bias must be 0.", (gain, -bias)),
        ("gain and bias are the wrong way round.", (bias, gain)),
        ("you multiply by the standard deviation: divide by it.", (std, -mean * std)),
        ("the gain is right, but the bias forgets the mean.", (gain, 0.0)),
        ("you divided by the variance: the standard deviation is its square root.",
         (1 / std**2, -mean / std**2)),
        ("the deviation divides by n - 1; the released code divides by n (correction=0).",
         (1 / unbiased, -mean / unbiased)),
        ("these are the mean and the deviation themselves, not what undoes them.", (mean, std)),
        ("these are the deviation and the mean themselves, not what undoes them.", (std, mean)),
    ]  # fmt: skip
    value = ask(answer, torch.tensor(raw))
    try:
        first, second = (number(x) for x in value)
    except (TypeError, ValueError, NotYet):
        raise NotYet(f"return two numbers, gain and bias, not {shape(value)}.") from None

    def equal(pair: tuple[float, float]) -> bool:
        return near(first, pair[0], 1e-4) and near(second, pair[1], 1e-4)

    if not equal(right):
        for text, pair in slips:
            if equal(pair):
                raise NotYet(text)
        got = f"mean {first * mean + second:.2f} and standard deviation {abs(first) * std:.2f}"
        raise NotYet(f"your numbers give {got}; wanted are 0 and 1.")
    close = how_close(max(abs(first - gain), abs(second - bias)))
    return f"{close}. Mean 0, standard deviation 1."
