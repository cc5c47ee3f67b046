"""Checks of notebook 10: what a label tells, in bits; how many it takes to see a difference; what a
question would tell; what ignorance has cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhf_helpers.course.checks.verdict import Answer, check, compare

Chances = Sequence[float]


def entropy(chances: Chances) -> float:
    """The oracle adds up; `efficiency` multiplies tensors."""
    return math.fsum(p * math.log2(1 / p) for p in chances if p > 0)


@check
def nb10_bits_in_label(answer: Answer | None) -> str:
    """Check bits_in_label(chances): log2 K less the entropy of a choice with these chances."""

    def right(chances: list[float]) -> float:
        return math.log2(len(chances)) - entropy(chances)

    slips = [
        ("this is the entropy, the part that is NOISE: a label tells log2 K less that.", entropy),
        ("the sign is wrong: a sure choice tells more than a coin.", lambda c: -right(c)),
        ("these are nats: take the logarithm to base 2, `math.log2`.",
         lambda c: right(c) * math.log(2)),
        ("log2 K and the entropy are in different units: use `math.log2` for both.",
         lambda c: math.log2(len(c)) - entropy(c) * math.log(2)),
        ("log2 K and the entropy are in different units: use `math.log2` for both.",
         lambda c: math.log(len(c)) - entropy(c)),
        ("the entropy is -sum p log p, which is positive: here it is ADDED to log2 K.",
         lambda c: math.log2(len(c)) + entropy(c)),
        ("this takes four options for granted: K is how many chances there are.",
         lambda c: 2 - entropy(c)),
        ("weigh each logarithm with its chance: -sum p log2 p.",
         lambda c: math.log2(len(c)) + sum(math.log2(p) for p in c if p > 0)),
        ("this is how much the FAVOURITE stands out: all the options count.",
         lambda c: math.log2(len(c)) + math.log2(max(c))),
    ]  # fmt: skip
    cases = [([0.7, 0.1, 0.1, 0.1],), ([0.25] * 4,), ([0.5, 0.25, 0.25],), ([0.9, 0.1],),
             ([1.0, 0.0, 0.0, 0.0],)]  # fmt: skip
    names = [f"chances {c}" for (c,) in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"two bits from somebody sure, none from a coin ({close})."


@check
def nb10_labels_to_see(answer: Answer | None) -> str:
    """Check labels_to_see(difference, coin): labels until a text that is chosen with probability
    1/2 + difference is two standard errors ahead, if a share `coin` is drawn blindly."""

    def right(difference: float, coin: float) -> float:
        seen, error_of_one = (1 - coin) * difference, 0.5
        return (2 * error_of_one / seen) ** 2

    slips = [
        ("the coin is missing: it makes the difference that is seen smaller.",
         lambda d, c: right(d, 0.0)),
        ("the coin makes the DIFFERENCE smaller, by 1 - coin, and n goes with its square.",
         lambda d, c: right(d, 0.0) / (1 - c)),
        ("n goes with the square of what is seen: (1 - coin) * difference, squared as a whole.",
         lambda d, c: 1 / ((1 - c) * d)),
        ("a share `coin` is blind, so 1 - coin of the difference is LEFT.",
         lambda d, c: right(d, 1 - c) if c else right(d, 0.0)),
        ("this is the number for ONE standard error; two are asked for.",
         lambda d, c: right(d, c) / 4),
        ("two standard errors: the factor 2 is squared, too.", lambda d, c: right(d, c) / 2),
        ("the standard error of a share near 1/2 is 0.5 / sqrt(n), not 1 / sqrt(n).",
         lambda d, c: right(d, c) * 4),
        ("solve for n: this is its square root.", lambda d, c: math.sqrt(right(d, c))),
        ("fewer labels for a SMALLER difference? Turn the fraction round.",
         lambda d, c: 1 / right(d, c)),
        ("each coin costs more than its own label: noise does not just take labels away.",
         lambda d, c: right(d, 0.0) * (1 + c)),
    ]  # fmt: skip
    cases = [(0.1, 0.0), (0.1, 0.5), (0.05, 0.2), (0.02, 0.8), (0.25, 0.0)]
    names = [f"difference {d}, coin {c}" for d, c in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"half the difference, four times the labels, whoever made it smaller ({close})."


@check
def nb10_labels_at(answer: Answer | None) -> str:
    """Check labels_at(goal, few, low, many, high): where a straight line on a logarithmic axis,
    from `low` at `few` labels to `high` at `many`, reaches the goal."""

    def right(goal: float, few: float, low: float, many: float, high: float) -> float:
        share = (goal - low) / (high - low)
        return math.exp((1 - share) * math.log(few) + share * math.log(many))

    def linear(goal: float, few: float, low: float, many: float, high: float) -> float:
        return few + (goal - low) / (high - low) * (many - few)

    slips = [
        ("this is a straight line on an ORDINARY axis: on ours each step multiplies.", linear),
        ("this is the logarithm of the number of labels: turn it back.",
         lambda *case: math.log(right(*case))),
        ("this is the logarithm of the number of labels: turn it back.",
         lambda *case: math.log10(right(*case))),
        ("this counts the way from the RIGHT end: how much of it lies between low and the goal?",
         lambda g, few, low, many, high: right(high + low - g, few, low, many, high)),
        ("this is by how much labels have to be MULTIPLIED: begin at `few`.",
         lambda g, few, *rest: right(g, few, *rest) / few),
        ("this is the middle of the axis whatever the goal: how much of the way is it?",
         lambda g, few, low, many, high: math.sqrt(few * many)),
        ("this is the share of the way: now go so far along the axis.",
         lambda g, few, low, many, high: (g - low) / (high - low)),
    ]  # fmt: skip
    cases = [(0.6, 100, 0.5, 10_000, 0.7), (0.7, 200, 0.519, 500, 0.749),
             (0.5, 500, 0.3, 2_500, 0.7), (0.3, 25, 0.3, 50, 0.4),
             (0.55, 1_000, 0.5, 8_000, 0.65)]  # fmt: skip
    names = ["goal {0}, from {2} at {1} to {4} at {3}".format(*case) for case in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"halfway up between 100 and 10,000 labels are 1,000 ({close})."


@check
def nb10_bits_paid(answer: Answer | None) -> str:
    """Check bits_paid(chosen, noise): surprise of choices that were foretold with these
    probabilities, less the bits of noise that each has for whoever knows everything."""

    def surprise(chosen: list[float]) -> float:
        return math.fsum(math.log2(1 / p) for p in chosen)

    def right(chosen: list[float], noise: float) -> float:
        return surprise(chosen) - noise * len(chosen)

    slips = [
        ("this is the whole surprise: take off the noise, which nobody could have foreseen.",
         lambda chosen, noise: surprise(chosen)),
        ("EVERY label has its noise: take it off once for each.",
         lambda chosen, noise: surprise(chosen) - noise),
        ("this is the mean: add up over the labels.",
         lambda chosen, noise: right(chosen, noise) / len(chosen)),
        ("the sign is wrong: who foresees badly pays more.",
         lambda chosen, noise: -right(chosen, noise)),
        ("the surprise is -log2 p, which is positive.",
         lambda chosen, noise: -surprise(chosen) - noise * len(chosen)),
        ("these are nats: take the logarithm to base 2.",
         lambda chosen, noise: surprise(chosen) * math.log(2) - noise * len(chosen)),
        ("the noise is taken off: here it is added.",
         lambda chosen, noise: surprise(chosen) + noise * len(chosen)),
        ("probabilities of choices that fall together are multiplied: add up their LOGARITHMS.",
         lambda chosen, noise: math.log2(1 / sum(chosen)) - noise * len(chosen)),
        ("surprise is log2(1 / p), not 1 - p.",
         lambda chosen, noise: sum(1 - p for p in chosen) - noise * len(chosen)),
    ]  # fmt: skip
    cases = [([0.25, 0.5, 0.5], 0.5), ([0.25] * 4, 1.6), ([0.9, 0.2], 0.0), ([0.7], 0.3)]
    names = [f"chosen with {c}, noise {n}" for c, n in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"nothing for whoever knew all that can be known ({close})."


@check
def nb10_told(answer: Answer | None) -> str:
    """Check told(weights, chances): bits that an answer tells on average of several tastes, which
    of them it is; chances: a list for each taste, of how often it makes each choice."""

    def mixed(weights: list[float], chances: list) -> list[float]:
        columns = zip(*chances, strict=True)
        return [math.fsum(w * p for w, p in zip(weights, c, strict=True)) for c in columns]

    def noise(weights: list[float], chances: list) -> float:
        return math.fsum(w * entropy(c) for w, c in zip(weights, chances, strict=True))

    def right(weights: list[float], chances: list) -> float:
        return entropy(mixed(weights, chances)) - noise(weights, chances)

    def even(weights: list[float]) -> list[float]:
        return [1 / len(weights)] * len(weights)

    slips = [
        ("this is the whole surprise: a question on which every taste throws a coin would be the "
         "best one. Take off the noise.", lambda w, c: entropy(mixed(w, c))),
        ("the sign is wrong: an answer tells no less than nothing.", lambda w, c: -right(w, c)),
        ("this is the noise: what is left of it is the surprise LESS the noise.", noise),
        ("the weights are missing: a taste that is unlikely counts less.",
         lambda w, c: right(even(w), c)),
        ("the noise of each taste counts with its weight, too.",
         lambda w, c: entropy(mixed(w, c)) - noise(even(w), c)),
        ("the noise of each taste counts with its weight: these add up to more than an average.",
         lambda w, c: entropy(mixed(w, c)) - sum(map(entropy, c))),
        ("these are nats: use `math.log2`.", lambda w, c: right(w, c) * math.log(2)),
        ("this compares the answer with a coin: compare it with what each taste would say.",
         lambda w, c: math.log2(len(c[0])) - entropy(mixed(w, c))),
        ("this is how little is known of the taste now: how much of it would the answer tell?",
         lambda w, c: entropy(w)),
    ]  # fmt: skip
    cases = [
        ([0.5, 0.5], [[0.75, 0.25], [0.25, 0.75]]),
        ([0.7, 0.3], [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]),
        ([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]]),
        ([0.2, 0.3, 0.5], [[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]]),
    ]
    names = [f"weights {w}, chances {c}" for w, c in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"a question tells much if the tastes disagree and each is sure of itself ({close})."
