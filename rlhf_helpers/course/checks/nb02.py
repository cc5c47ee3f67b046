"""Checks of notebook 02: agreement, kappa, the agreement that two noisy labelers can expect, length
bias."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from rlhf_helpers.course.checks.verdict import Answer, check, compare


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


@check
def nb02_agreement(answer: Answer | None) -> str:
    """Check agreement(first, second), two dictionaries from comparison to choice."""

    def same(a: dict, b: dict) -> int:
        return sum(1 for key in a if key in b and a[key] == b[key])

    def right(a: dict, b: dict) -> float:
        return same(a, b) / len(a.keys() & b.keys())

    def in_order(a: dict, b: dict) -> float:
        pairs = list(zip(a.values(), b.values(), strict=False))
        return sum(x == y for x, y in pairs) / len(pairs)

    slips = [
        ("you divided by all comparisons of the first labeler: only shared ones count.",
         lambda a, b: same(a, b) / len(a)),
        ("you divided by all comparisons of the second labeler: only shared ones count.",
         lambda a, b: same(a, b) / len(b)),
        ("you divided by every comparison that either has seen: only shared ones count.",
         lambda a, b: same(a, b) / len(a.keys() | b.keys())),
        ("this is the share on which they DISAGREE.", lambda a, b: 1 - right(a, b)),
        ("this is a count: divide by the number of shared comparisons.", same),
        ("you compared the choices in the order they were given: look them up by comparison.",
         in_order),
    ]  # fmt: skip
    dice = random.Random(2)
    cases = [({"x": 0, "y": 3, "z": 1}, {"y": 3, "x": 2, "w": 1})]
    for size in (20, 50):
        a = {i: dice.randrange(4) for i in range(size)}
        seen = range(size + 7, size // 3, -1)  # another range, in another order
        cases.append((a, {i: dice.choice([a.get(i, 0), dice.randrange(4)]) for i in seen}))
    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"the share of equal choices among the shared comparisons ({close})."


@check
def nb02_kappa(answer: Answer | None) -> str:
    """Check kappa(first, second), Cohen's kappa of two lists of choices for the same items."""

    def observed(a: list, b: list) -> float:
        return mean([x == y for x, y in zip(a, b, strict=True)])

    def chance(a: list, b: list) -> float:
        return sum(a.count(k) * b.count(k) for k in set(a) | set(b)) / (len(a) * len(b))

    def above(a: list, b: list, luck: float) -> float:
        return (observed(a, b) - luck) / (1 - luck)

    def right(a: list, b: list) -> float:
        return above(a, b, chance(a, b))

    slips = [
        ("this is the raw agreement: subtract chance, and divide by 1 - chance.", observed),
        ("you took chance as one in four: use how often EACH labeler chooses every option.",
         lambda a, b: above(a, b, 0.25)),
        ("you did not divide by 1 - chance, so perfect agreement would not give 1.",
         lambda a, b: observed(a, b) - chance(a, b)),
        ("chance comes from the first labeler's habits alone: multiply the shares of both.",
         lambda a, b: above(a, b, chance(a, a))),
        ("chance comes from the second labeler's habits alone: multiply the shares of both.",
         lambda a, b: above(a, b, chance(b, b))),
        ("you divided by chance instead of 1 - chance.",
         lambda a, b: observed(a, b) / chance(a, b) - 1),
        ("the sign is wrong: agreement above chance must give a positive kappa.",
         lambda a, b: -right(a, b)),
    ]  # fmt: skip
    dice = random.Random(5)
    cases = [([0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 3, 0])]
    for habit in ((6, 2, 1, 1), (1, 1, 3, 5)):
        a = dice.choices(range(4), (4, 3, 2, 1), k=60)
        b = [x if dice.random() < 0.4 else dice.choices(range(4), habit)[0] for x in a]
        cases.append((a, b))
    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"0 is chance, 1 is perfect agreement ({close})."


@check
def nb02_expected_agreement(answer: Answer | None) -> str:
    """Check expected_agreement(first, second), from (N, K) probabilities of two labelers."""

    def meet(p: list, q: list) -> list[float]:
        return [sum(x * y for x, y in zip(r, s, strict=True)) for r, s in zip(p, q, strict=True)]

    def averaged_first(p: list, q: list) -> float:
        return sum(mean([r[k] for r in p]) * mean([s[k] for s in q]) for k in range(len(p[0])))

    def favourites(p: list, q: list) -> float:
        return mean([max(r) * max(s) for r, s in zip(p, q, strict=True)])

    def softmax(row: list[float], noise: float) -> list[float]:
        weights = [math.exp(x / noise) for x in row]
        return [w / sum(weights) for w in weights]

    slips = [
        ("you multiplied the most likely choices only: sum over all options.", favourites),
        ("you averaged the probabilities first: multiply within each comparison, then average.",
         averaged_first),
        ("this is how often the first labeler agrees with a copy of itself: multiply p with q.",
         lambda p, q: mean(meet(p, p))),
        ("this is how often the second labeler agrees with a copy of itself: multiply p with q.",
         lambda p, q: mean(meet(q, q))),
        ("you summed over comparisons: take the mean.", lambda p, q: sum(meet(p, q))),
        ("you took the mean over options too: sum over options, then average over comparisons.",
         lambda p, q: mean(meet(p, q)) / len(p[0])),
        ("this is the share on which they are expected to DISAGREE.",
         lambda p, q: 1 - mean(meet(p, q))),
    ]  # fmt: skip
    dice = random.Random(9)
    cases = [([[0.7, 0.1, 0.1, 0.1], [0.25] * 4], [[0.4, 0.4, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])]
    for rows in (5, 12):
        table = [[dice.gauss(0, 1.5) for _ in range(4)] for _ in range(rows)]
        cases.append(([softmax(r, 1) for r in table], [softmax(r, 2) for r in table]))
    close = compare(answer, cases, lambda p, q: mean(meet(p, q)), slips, tolerance=1e-6)
    return f"the sum of p times q within each comparison, then the mean ({close})."


@check
def nb02_length_bias(answer: Answer | None) -> str:
    """Check length_bias(options, choices): words of the chosen option above the mean of all."""

    def words(text: str) -> int:
        return len(text.split())

    def bias(
        options: list, choices: list, against: Callable = mean, size: Callable = words
    ) -> float:
        """Average by how much the chosen option is longer than `against` of all four."""
        rows = [([size(text) for text in row], c) for row, c in zip(options, choices, strict=True)]
        return mean([sizes[c] - against(sizes) for sizes, c in rows])

    slips = [
        ("the sign is wrong: a taste for long answers should come out positive.",
         lambda o, c: -bias(o, c)),
        ("it looks as if you counted letters: split the text into words.",
         lambda o, c: bias(o, c, size=len)),
        ("you compared with the OTHER three: compare with the mean of all four.",
         lambda o, c: bias(o, c) * 4 / 3),
        ("this is the mean length of what was chosen. Subtract that of what was offered.",
         lambda o, c: bias(o, c, against=lambda sizes: 0)),
        ("you compared with the first option: compare with the mean of all four.",
         lambda o, c: bias(o, c, against=lambda sizes: sizes[0])),
        ("this is a sum: divide by the number of labels.", lambda o, c: bias(o, c) * len(c)),
    ]  # fmt: skip
    dice = random.Random(3)
    first = [["a b c", "a", "a b", "a b c d e f"], ["one", "one two", "one", "one two three"]]
    cases = [(first, [3, 1])]
    for rows in (6, 15):
        texts = iter(
            " ".join("saltmere"[: dice.randint(1, 8)] for _ in range(dice.randint(4, 20)))
            for _ in range(4 * rows)
        )
        options = [[next(texts) for _ in range(4)] for _ in range(rows)]
        cases.append((options, [dice.randrange(4) for _ in range(rows)]))
    close = compare(answer, cases, bias, slips, tolerance=1e-6)
    return f"words of the chosen option above the mean of those on offer ({close})."
