"""Checks of notebook 02: agreement, kappa, the agreement two noisy labelers can expect, length
bias."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_helpers.course.checks.verdict import ask as _ask
from rlhf_helpers.course.checks.verdict import say as _say

Answer = Callable[..., Any]


def _compare(
    answer: Any, cases: Sequence[tuple], right: Answer, slips: Mapping[str, Answer], praise: str
) -> bool:
    """Hold the student's function against `right` on every case, and look for the slip that
    explains a difference."""
    worst = 0.0
    values = []
    for case in cases:
        value, trouble = _ask(answer, *case)
        if trouble:
            return _say(False, trouble)
        try:
            values.append(float(value))
        except (TypeError, ValueError):
            return _say(
                False,
                f"your function should return one number, it returned {type(value).__name__}.",
            )
        difference = abs(values[-1] - right(*case))
        worst = max(worst, difference if math.isfinite(difference) else math.inf)
    if worst < 1e-6:
        return _say(
            True,
            f"{praise} ({'exact' if worst == 0 else f'largest difference {worst:.0e}'} on "
            f"{len(cases)} examples).",
        )
    for name, slip in slips.items():
        if all(abs(value - slip(*case)) < 1e-6 for value, case in zip(values, cases, strict=True)):
            return _say(False, name)
    wanted = right(*cases[0])
    return _say(
        False,
        f"the largest difference is {worst:.3g}. For the first example the answer is {wanted:.4f}, "
        f"yours {values[0]:.4f}.",
    )


def nb02_agreement(answer: Answer | None) -> bool:
    """Check agreement(first, second): dictionaries from comparison to choice; the share of equal
    choices among the shared ones."""

    def same(a: dict, b: dict) -> int:
        return sum(1 for key in a if key in b and a[key] == b[key])

    def shared(a: dict, b: dict) -> int:
        return len(a.keys() & b.keys())

    dice = random.Random(2)
    cases = [({"x": 0, "y": 3, "z": 1}, {"y": 3, "x": 2, "w": 1})]
    for size in (20, 50):
        a = {i: dice.randrange(4) for i in range(size)}
        cases.append(
            (
                a,
                {
                    i: dice.choice([a.get(i, 0), dice.randrange(4)])
                    for i in range(size + 7, size // 3, -1)
                },
            )
        )
    slips = {
        "it looks as if you divided by all comparisons of the first labeler. Only those that both have seen can be agreed on.": lambda a,
        b: same(a, b) / len(a),
        "it looks as if you divided by all comparisons of the second labeler. Only those that both have seen can be agreed on.": lambda a,
        b: same(a, b) / len(b),
        "it looks as if you divided by every comparison that either has seen. Only those that both have seen count.": lambda a,
        b: same(a, b) / len(a.keys() | b.keys()),
        "that is the share on which they DISAGREE.": lambda a, b: 1 - same(a, b) / shared(a, b),
        "that is a count. Divide by the number of comparisons that both have seen.": lambda a,
        b: same(a, b),
        "it looks as if you compared the choices in the order they were given. Look them up by comparison: orders differ.": lambda a,
        b: sum(x == y for x, y in zip(a.values(), b.values(), strict=False)) / min(len(a), len(b)),
    }  # fmt: skip
    return _compare(
        answer,
        cases,
        lambda a, b: same(a, b) / shared(a, b),
        slips,
        "the share of equal choices among the shared comparisons",
    )


def nb02_kappa(answer: Answer | None) -> bool:
    """Check kappa(first, second): two lists of choices for the same items; Cohen's kappa from the
    labelers' own habits."""

    def observed(a: list, b: list) -> float:
        return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)

    def chance(a: list, b: list) -> float:
        return sum(a.count(k) * b.count(k) for k in set(a) | set(b)) / (len(a) * len(b))

    def right(a: list, b: list) -> float:
        return (observed(a, b) - chance(a, b)) / (1 - chance(a, b))

    dice = random.Random(5)
    cases = [([0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 3, 0])]
    for habit in ((6, 2, 1, 1), (1, 1, 3, 5)):
        a = dice.choices(range(4), (4, 3, 2, 1), k=60)
        cases.append(
            (a, [x if dice.random() < 0.4 else dice.choices(range(4), habit)[0] for x in a])
        )
    slips = {
        "that is the raw agreement. Subtract what chance alone would give, and divide by what is left to gain.": observed,
        "you took chance as one in four. Cohen's kappa asks how often these two meet by luck, given how often EACH uses every option.": lambda a,
        b: (observed(a, b) - 0.25) / 0.75,
        "you subtracted chance but did not divide by 1 - chance, so that perfect agreement would not be 1.": lambda a,
        b: observed(a, b) - chance(a, b),
        "it looks as if chance came from the first labeler's habits alone (squared). Multiply the shares of both.": lambda a,
        b: (observed(a, b) - chance(a, a)) / (1 - chance(a, a)),
        "it looks as if chance came from the second labeler's habits alone (squared). Multiply the shares of both.": lambda a,
        b: (observed(a, b) - chance(b, b)) / (1 - chance(b, b)),
        "you divided by chance instead of 1 - chance.": lambda a,
        b: (observed(a, b) - chance(a, b)) / chance(a, b),
        "the sign is turned round: agreement above chance must give a positive kappa.": lambda a,
        b: -right(a, b),
    }  # fmt: skip
    return _compare(answer, cases, right, slips, "0 is luck, 1 is perfect agreement")


def nb02_expected_agreement(answer: Answer | None) -> bool:
    """Check expected_agreement(first, second): (N, K) probabilities of two independent labelers;
    how often they will choose the same."""

    def per_row(p: list, q: list) -> list[float]:
        return [sum(x * y for x, y in zip(r, s, strict=True)) for r, s in zip(p, q, strict=True)]

    def mean(numbers: Sequence[float]) -> float:
        return sum(numbers) / len(numbers)

    def averaged_first(p: list, q: list) -> float:
        return sum(mean([r[k] for r in p]) * mean([s[k] for s in q]) for k in range(len(p[0])))

    def softmax(row: list[float]) -> list[float]:
        weights = [math.exp(x) for x in row]
        return [w / sum(weights) for w in weights]

    dice = random.Random(9)
    cases = [([[0.7, 0.1, 0.1, 0.1], [0.25] * 4], [[0.4, 0.4, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])]
    for rows in (5, 12):
        utilities = [[dice.gauss(0, 1.5) for _ in range(4)] for _ in range(rows)]
        cases.append(
            ([softmax(r) for r in utilities], [softmax([x / 2 for x in r]) for r in utilities])
        )
    slips = {
        "you multiplied only the most likely choices. They can also meet on the other options: sum over all of them.": lambda p,
        q: mean([max(r) * max(s) for r, s in zip(p, q, strict=True)]),
        "you averaged the probabilities over comparisons first. Multiply within each comparison, then average.": averaged_first,
        "that is how often the first labeler agrees with a second one of the same noise. Multiply p with q.": lambda p,
        q: mean(per_row(p, p)),
        "that is how often the second labeler agrees with another of the same noise. Multiply p with q.": lambda p,
        q: mean(per_row(q, q)), "you summed over comparisons. Take the mean.": lambda p,
        q: sum(per_row(p, q)),
        "it looks as if you took the mean over options too. Sum over options, then the mean over comparisons.": lambda p,
        q: mean(per_row(p, q)) / len(p[0]),
        "that is the share on which they are expected to DISAGREE.": lambda p,
        q: 1 - mean(per_row(p, q)),
    }  # fmt: skip
    return _compare(
        answer,
        cases,
        lambda p, q: mean(per_row(p, q)),
        slips,
        "within each comparison the sum of p times q, then the mean",
    )


def nb02_length_bias(answer: Answer | None) -> bool:
    """Check length_bias(options, choices): words of the chosen option minus the mean of all
    options, averaged."""

    def lengths(
        options: list, size: Callable[[str], int] = lambda text: len(text.split())
    ) -> list[list[int]]:
        return [[size(text) for text in row] for row in options]

    def bias(table: list[list[int]], choices: list[int]) -> float:
        return sum(
            row[c] - sum(row) / len(row) for row, c in zip(table, choices, strict=True)
        ) / len(choices)

    def against_others(options: list, choices: list[int]) -> float:
        table = lengths(options)
        return sum(
            row[c] - (sum(row) - row[c]) / (len(row) - 1)
            for row, c in zip(table, choices, strict=True)
        ) / len(choices)

    def chosen(options: list, choices: list[int]) -> float:
        return sum(row[c] for row, c in zip(lengths(options), choices, strict=True)) / len(choices)

    dice = random.Random(3)
    cases = [
        ([["a b c", "a", "a b", "a b c d e f"], ["one", "one two", "one", "one two three"]], [3, 1])
    ]
    for rows in (6, 15):
        options = [
            [
                " ".join("saltmere"[: dice.randint(1, 8)] for _ in range(dice.randint(4, 20)))
                for _ in range(4)
            ]
            for _ in range(rows)
        ]
        cases.append((options, [dice.randrange(4) for _ in range(rows)]))
    slips = {
        "the sign is turned round: a taste for long answers should come out positive.": lambda o,
        c: -bias(lengths(o), c),
        "it looks as if you counted letters. Split the text into words.": lambda o,
        c: bias(lengths(o, len), c),
        "you compared the chosen option with the OTHER three. Compare with the mean of all four, the chosen one included.": against_others,
        "that is the mean length of what was chosen. Subtract the mean length of what was offered.": chosen,
        "it looks as if you compared with the first option. Compare with the mean of all options of the same comparison.": lambda o,
        c: sum(row[k] - row[0] for row, k in zip(lengths(o), c, strict=True)) / len(c),
        "that is a sum. Divide by the number of labels.": lambda o, c: bias(lengths(o), c) * len(c),
    }  # fmt: skip
    return _compare(
        answer,
        cases,
        lambda o, c: bias(lengths(o), c),
        slips,
        "words of the chosen option above the mean of those on offer",
    )
