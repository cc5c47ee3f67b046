"""Checks of notebook 07: uncovering the sides, Wilson's interval, how many pairs are enough."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

from rlhf_helpers.course.checks.verdict import ask as _ask
from rlhf_helpers.course.checks.verdict import say as _say

Answer = Callable[..., Any]
Z95 = NormalDist().inv_cdf(0.975)


def nb07_uncover(answer: Answer | None) -> bool:
    """Check uncover(choices, tuned_is_zero): the list of whether the tuned model won each pair."""
    dice = random.Random(7)
    choices = [0, 1, 0, 1] + [dice.randrange(2) for _ in range(60)]
    is_zero = [True, True, False, False] + [dice.random() < 0.5 for _ in range(60)]
    value, trouble = _ask(answer, choices, is_zero)
    if trouble:
        return _say(False, trouble)
    if not isinstance(value, list):
        return _say(
            False, f"return a list with one True or False per pair, not a {type(value).__name__}."
        )
    try:
        won = [bool(x) for x in value]
    except (TypeError, ValueError, RuntimeError):
        return _say(False, "each entry of your list should be True or False.")
    if len(won) != len(choices):
        return _say(False, f"there are {len(choices)} pairs but your list has {len(won)} entries.")
    right = [
        {(0, True): True, (1, True): False, (0, False): False, (1, False): True}[pair]
        for pair in zip(choices, is_zero, strict=True)
    ]
    slips = {
        "you forgot to uncover the sides: you counted how often the LEFT text won. On shuffled sides that is near 50 % for any two models.": [c == 0 for c in choices],
        "you forgot to uncover the sides: you counted how often the RIGHT text won.": [c == 1 for c in choices],
        "the sides are uncovered, but the wrong way round: these are the wins of the base model.": [not x for x in right],
        "that says where the tuned model stood, not whether it won.": list(is_zero),
        "you counted only the pairs in which the tuned model stood on the left. It can also win from the right (choice 1).": [c == 0 and z for c, z in zip(choices, is_zero, strict=True)],
        "you counted only the pairs in which the tuned model stood on the right. It can also win from the left (choice 0).": [c == 1 and not z for c, z in zip(choices, is_zero, strict=True)],
    }  # fmt: skip
    if won == right:
        return _say(True, f"the sides are uncovered (exact on {len(right)} pairs).")
    for name, slip in slips.items():
        if won == slip:
            return _say(False, name)
    wrong = [a != b for a, b in zip(won, right, strict=True)].index(True)
    return _say(
        False,
        f"pair {wrong} (choice {choices[wrong]}, tuned_is_zero {is_zero[wrong]}) should be "
        f"{right[wrong]}.",
    )


def _wilson(wins: float, total: int, z: float = Z95) -> tuple[float, float]:
    """Solve (p - wins/total)^2 = z^2 p (1 - p) / total for p, as a quadratic: another road than the
    textbook formula."""
    rate = wins / total
    a, b, c = 1 + z**2 / total, -(2 * rate + z**2 / total), rate**2
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def nb07_wilson(answer: Answer | None) -> bool:
    """Check wilson(wins, total) -> (low, high)."""
    cases = [(18, 20), (20, 20), (1, 12), (256, 512), (901, 1024)]

    def centre_half(wins: float, total: int, z: float = Z95) -> tuple[float, float]:
        low, high = _wilson(wins, total, z)
        return (low + high) / 2, (high - low) / 2

    def plain(wins: float, total: int) -> tuple[float, float]:
        rate = wins / total
        half = Z95 * math.sqrt(rate * (1 - rate) / total)
        return rate - half, rate + half

    def undivided(wins: float, total: int) -> tuple[float, float]:
        (centre, half), shrink = centre_half(wins, total), 1 + Z95**2 / total
        return (centre - half) * shrink, (centre + half) * shrink

    def half_divided(wins: float, total: int) -> tuple[float, float]:
        (centre, half), shrink = centre_half(wins, total), 1 + Z95**2 / total
        return centre - half * shrink, centre + half * shrink

    def about_the_rate(wins: float, total: int) -> tuple[float, float]:
        half = centre_half(wins, total)[1]
        return wins / total - half, wins / total + half

    def without_last_term(wins: float, total: int) -> tuple[float, float]:
        centre, shrink = centre_half(wins, total)[0], 1 + Z95**2 / total
        rate = wins / total
        half = Z95 * math.sqrt(rate * (1 - rate) / total) / shrink
        return centre - half, centre + half

    slips = {
        "this is the plain rate plus or minus z standard errors. With 20 wins of 20 it has no width at all; Wilson's has.": plain,
        "you forgot to divide by 1 + z^2 / n.": undivided,
        "you divided the centre by 1 + z^2 / n, but not the half-width.": half_divided,
        "your interval is centred on the plain rate. Wilson's centre is pulled towards one half.": about_the_rate,
        "the term z^2 / (4 n^2) is missing under the root.": without_last_term,
        "that is a 90 % interval: z is 1.96 for 95 %, not 1.645.": lambda w, n: _wilson(
            w, n, NormalDist().inv_cdf(0.95)
        ),
        "it looks as if z were left out (1 instead of 1.96).": lambda w, n: _wilson(w, n, 1.0),
        "low and high are swapped.": lambda w, n: _wilson(w, n)[::-1],
    }
    values = []
    for case in cases:
        value, trouble = _ask(answer, *case)
        if trouble:
            return _say(False, trouble)
        try:
            low, high = (float(x) for x in value)
        except (TypeError, ValueError):
            return _say(False, "return two numbers, `low, high`.")
        if not (math.isfinite(low) and math.isfinite(high)):
            return _say(False, f"for {case[0]} wins of {case[1]} your interval is not finite.")
        values.append((low, high))

    def distance(formula: Answer, slack: float = 0.0) -> float:
        return (
            max(
                abs(x - y)
                for case, mine in zip(cases, values, strict=True)
                for x, y in zip(mine, formula(*case), strict=True)
            )
            - slack
        )

    if distance(_wilson) < 5e-4:  # 1.96 instead of 1.959964 is welcome
        return _say(
            True,
            f"Wilson's interval (largest difference {distance(_wilson):.0e} on {len(cases)} "
            "examples).",
        )
    for name, slip in slips.items():
        if distance(slip) < 5e-4:
            return _say(False, name)
    (low, high), (wins, total) = _wilson(*cases[0]), cases[0]
    mine = f"{values[0][0]:.3f} to {values[0][1]:.3f}"
    return _say(
        False,
        f"for {wins} wins of {total} the interval is {low:.3f} to {high:.3f}; yours is {mine}.",
    )


def nb07_pairs_needed(answer: Answer | None) -> bool:
    """Check pairs_needed(rate): pairs to tell a true win rate from one half, 5 % two-sided, power
    80 %."""
    cases = [(0.88,), (0.75,), (0.6,), (0.55,), (0.52,), (0.4,)]
    z80, one_sided = NormalDist().inv_cdf(0.8), NormalDist().inv_cdf(0.95)

    def needed(rate: float, z: float = Z95, power: float = z80) -> float:
        return ((z / 2 + power * math.sqrt(rate * (1 - rate))) / (rate - 0.5)) ** 2

    def under_truth(rate: float) -> float:
        return (Z95 + z80) ** 2 * rate * (1 - rate) / (rate - 0.5) ** 2

    def under_half(rate: float) -> float:
        return (Z95 + z80) ** 2 / 4 / (rate - 0.5) ** 2

    slips = {
        "the whole fraction must be squared.": lambda r: math.sqrt(needed(r)),
        "the power is missing: with z = 1.96 alone you would miss the difference every second time. Add 0.84 standard deviations.": lambda r: needed(r, power=0.0),
        "you used z = 1.645, a one-sided test. You did not know beforehand which model would win: 1.96.": lambda r: needed(r, one_sided),
        "you used rate (1 - rate) for both standard deviations. Under 'no difference' it is one half.": under_truth,
        "you used one half for both standard deviations. Under the true rate it is sqrt(rate (1 - rate)).": under_half,
        "divide by the distance from one half, not by the rate.": lambda r: needed(r) * (r - 0.5) ** 2 / r**2,
        "you took the variance rate (1 - rate) where the standard deviation, its square root, belongs.": lambda r: ((Z95 / 2 + z80 * r * (1 - r)) / (r - 0.5)) ** 2,
    }  # fmt: skip
    values = []
    for case in cases:
        value, trouble = _ask(answer, *case)
        if trouble:
            return _say(False, trouble)
        try:
            values.append(float(value))
        except (TypeError, ValueError):
            return _say(False, f"return one whole number, not {type(value).__name__}.")

    def fits(formula: Answer, rounding: Callable[[float], float]) -> bool:
        """Allow for z written as 1.96 and 0.84: half a per cent, and one pair."""
        slack = 1e-9 + (rounding is math.ceil)
        return all(
            abs(v - rounding(formula(*c))) <= 0.005 * abs(formula(*c)) + slack
            for v, c in zip(values, cases, strict=True)
        )

    whole = all(v.is_integer() for v in values)
    if (
        whole
        and fits(needed, math.ceil)
        and all(v >= 0.995 * needed(*c) for v, c in zip(values, cases, strict=True))
    ):
        return _say(
            True, f"{values[0]:.0f} pairs for a true rate of 88 %, {values[4]:,.0f} for 52 %."
        )
    if fits(needed, float) or fits(needed, math.floor):
        return _say(False, "the formula is right; round UP to a whole number of pairs (math.ceil).")
    for name, slip in slips.items():
        if fits(slip, float) or (whole and fits(slip, math.ceil)):
            return _say(False, name)
    return _say(
        False,
        f"for a true rate of 60 % it takes {math.ceil(needed(0.6))} pairs; your function says "
        f"{values[2]:g}.",
    )
