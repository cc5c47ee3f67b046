"""Checks of notebook 07: uncovering the sides, Wilson's interval, how many pairs are enough."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist

from rlhf_helpers.course.checks.verdict import Answer, NotYet, ask, check, number, shape

Z95 = NormalDist().inv_cdf(0.975)
Z80 = NormalDist().inv_cdf(0.8)


@check
def nb07_uncover(answer: Answer | None) -> str:
    """Check uncover(choices, tuned_is_zero), the list of whether the tuned model won each pair."""
    dice = random.Random(7)
    choices = [0, 1, 0, 1] + [dice.randrange(2) for _ in range(60)]
    is_zero = [True, True, False, False] + [dice.random() < 0.5 for _ in range(60)]
    pairs = list(zip(choices, is_zero, strict=True))
    wins = {(0, True): True, (1, True): False, (0, False): False, (1, False): True}
    right = [wins[pair] for pair in pairs]
    slips = [
        ("you forgot to uncover the sides: you counted how often the LEFT text won.",
         [c == 0 for c in choices]),
        ("you forgot to uncover the sides: you counted how often the RIGHT text won.",
         [c == 1 for c in choices]),
        ("the sides are uncovered the wrong way round: these are the wins of the base model.",
         [not x for x in right]),
        ("this says where the tuned model stood, not whether it won.", is_zero),
        ("you counted only pairs with the tuned model on the left: it can win from the right too.",
         [c == 0 and z for c, z in pairs]),
        ("you counted only pairs with the tuned model on the right: it can win from the left too.",
         [c == 1 and not z for c, z in pairs]),
    ]  # fmt: skip
    value = ask(answer, choices, is_zero)
    if not isinstance(value, list):
        raise NotYet(f"return a list with one True or False per pair, not {shape(value)}.")
    try:
        won = [bool(x) for x in value]
    except (TypeError, ValueError, RuntimeError):
        raise NotYet("each entry of your list should be True or False.") from None
    if len(won) != len(choices):
        raise NotYet(f"there are {len(choices)} pairs but your list has {len(won)} entries.")
    if won == right:
        return f"the sides are uncovered (exact on {len(right)} pairs)."
    for text, slip in slips:
        if won == slip:
            raise NotYet(text)
    wrong = [a != b for a, b in zip(won, right, strict=True)].index(True)
    choice, zero = pairs[wrong]
    raise NotYet(
        f"pair {wrong} (choice {choice}, tuned_is_zero {zero}): {right[wrong]} expected, "
        f"yours is {won[wrong]}."
    )


def wilson(wins: float, total: int, z: float = Z95) -> tuple[float, float]:
    """Solve (p - wins/total)^2 = z^2 p (1 - p) / total for p: not the textbook formula."""
    rate = wins / total
    a, b, c = 1 + z**2 / total, -(2 * rate + z**2 / total), rate**2
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


@check
def nb07_wilson(answer: Answer | None) -> str:
    """Check wilson(wins, total) -> (low, high)."""

    def around(centre: float, half: float) -> tuple[float, float]:
        return centre - half, centre + half

    def parts(wins: float, total: int) -> tuple[float, float, float, float, float]:
        """Return rate, its plain half-width, Wilson's centre and half-width, 1 + z^2 / n."""
        rate, (low, high) = wins / total, wilson(wins, total)
        plain = Z95 * math.sqrt(rate * (1 - rate) / total)
        return rate, plain, (low + high) / 2, (high - low) / 2, 1 + Z95**2 / total

    def slip(change: Callable[..., tuple[float, float]]) -> Callable[..., tuple[float, float]]:
        return lambda wins, total: change(*parts(wins, total))

    slips = [
        ("this is the rate plus or minus z standard errors: with 20 wins of 20 it has no width.",
         slip(lambda rate, plain, centre, half, shrink: around(rate, plain))),
        ("you forgot to divide by 1 + z^2 / n.",
         slip(lambda rate, plain, centre, half, shrink: around(centre * shrink, half * shrink))),
        ("you divided the centre by 1 + z^2 / n, but not the half-width.",
         slip(lambda rate, plain, centre, half, shrink: around(centre, half * shrink))),
        ("your interval is centred on the rate; Wilson's centre is pulled towards one half.",
         slip(lambda rate, plain, centre, half, shrink: around(rate, half))),
        ("the term z^2 / (4 n^2) is missing under the root.",
         slip(lambda rate, plain, centre, half, shrink: around(centre, plain / shrink))),
        ("this is a 90 % interval: z is 1.96 for 95 %, not 1.645.",
         lambda w, n: wilson(w, n, NormalDist().inv_cdf(0.95))),
        ("it looks as if z were left out (1 instead of 1.96).", lambda w, n: wilson(w, n, 1.0)),
        ("low and high are swapped.", lambda w, n: wilson(w, n)[::-1]),
    ]  # fmt: skip
    cases = [(18, 20), (20, 20), (1, 12), (256, 512), (901, 1024)]
    values = [_interval(answer, *case) for case in cases]

    def distance(formula: Callable[..., tuple[float, float]]) -> float:
        ends = [(mine, formula(*case)) for case, mine in zip(cases, values, strict=True)]
        return max(abs(x - y) for mine, other in ends for x, y in zip(mine, other, strict=True))

    if distance(wilson) < 5e-4:  # 1.96 instead of 1.959964 is welcome
        return f"Wilson's interval (largest difference {distance(wilson):.0e})."
    for text, formula in slips:
        if distance(formula) < 5e-4:
            raise NotYet(text)
    (wins, total), (low, high) = cases[0], wilson(*cases[0])
    mine = f"{values[0][0]:.3f} to {values[0][1]:.3f}"
    raise NotYet(f"{wins} wins of {total}: {low:.3f} to {high:.3f} expected, yours is {mine}.")


def _interval(answer: Answer | None, wins: int, total: int) -> tuple[float, float]:
    """Call the student's function and read two finite numbers."""
    value = ask(answer, wins, total)
    try:
        low, high = (number(x) for x in value)
    except (TypeError, ValueError, NotYet):
        raise NotYet(f"return two numbers, `low, high`, not {shape(value)}.") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NotYet(f"for {wins} wins of {total} your interval is not finite.")
    return low, high


@check
def nb07_pairs_needed(answer: Answer | None) -> str:
    """Check pairs_needed(rate): pairs to tell a win rate from one half (5 %, power 80 %)."""

    def spread(rate: float) -> float:
        return math.sqrt(rate * (1 - rate))

    def needed(rate: float, z: float = Z95, power: float = Z80) -> float:
        return ((z / 2 + power * spread(rate)) / (rate - 0.5)) ** 2

    slips = [
        ("the whole fraction must be squared.", lambda r: math.sqrt(needed(r))),
        ("the power is missing: with z = 1.96 alone you miss the difference every second time.",
         lambda r: needed(r, power=0.0)),
        ("z = 1.645 is a one-sided test: you did not know beforehand which model would win.",
         lambda r: needed(r, z=NormalDist().inv_cdf(0.95))),
        ("you used rate (1 - rate) for both deviations: under 'no difference' it is one half.",
         lambda r: ((Z95 + Z80) * spread(r) / (r - 0.5)) ** 2),
        ("you used one half for both deviations. Under the true rate it is sqrt(rate (1 - rate)).",
         lambda r: ((Z95 + Z80) / 2 / (r - 0.5)) ** 2),
        ("divide by the distance from one half, not by the rate.",
         lambda r: needed(r) * (r - 0.5) ** 2 / r**2),
        ("you used the variance rate (1 - rate): take its square root.",
         lambda r: ((Z95 / 2 + Z80 * r * (1 - r)) / (r - 0.5)) ** 2),
    ]  # fmt: skip
    rates = [0.88, 0.75, 0.6, 0.55, 0.52, 0.4]
    values = [number(ask(answer, rate), "one whole number") for rate in rates]

    def fits(formula: Callable[[float], float], rounding: Callable[[float], float]) -> bool:
        """Allow for z written as 1.96 and 0.84: half a per cent, and one pair when rounded."""
        slack = 1e-9 + (rounding is math.ceil)
        return all(
            abs(v - rounding(formula(r))) <= 0.005 * abs(formula(r)) + slack
            for v, r in zip(values, rates, strict=True)
        )

    whole = all(v.is_integer() for v in values)
    enough = all(v >= 0.995 * needed(r) for v, r in zip(values, rates, strict=True))
    if whole and enough and fits(needed, math.ceil):
        return f"{values[0]:.0f} pairs for a true rate of 88 %, {values[4]:,.0f} for 52 %."
    if fits(needed, float) or fits(needed, math.floor):
        raise NotYet("the formula is right; round UP to a whole number of pairs (math.ceil).")
    for text, slip in slips:
        if fits(slip, float) or (whole and fits(slip, math.ceil)):
            raise NotYet(text)
    expected = math.ceil(needed(0.6))
    raise NotYet(f"for a true rate of 60 %: {expected} pairs expected, yours is {values[2]:g}.")
