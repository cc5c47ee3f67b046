"""The checks of notebook 07 pass the right answer, name each slip, and never raise."""

import math
from pathlib import Path

import pytest

from rlhf_helpers import evaluation
from rlhf_helpers.course.checks import nb07 as checks
from rlhf_helpers.records import Comparison, Label

Z = 1.959963984540054


def uncover(choices, tuned_is_zero):
    return [(choice == 0) == zero for choice, zero in zip(choices, tuned_is_zero)]


def wilson(wins, total, z=1.96):
    rate = wins / total
    centre = (rate + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(rate * (1 - rate) / total + z**2 / (4 * total**2))
    return centre - half, centre + half


def pairs_needed(rate, z=1.96, power=0.84):
    return math.ceil(((z * 0.5 + power * math.sqrt(rate * (1 - rate))) / (rate - 0.5)) ** 2)


def wald(wins, total):
    rate, half = wins / total, Z * math.sqrt(wins / total * (1 - wins / total) / total)
    return rate - half, rate + half


def wilson_with(centre_shrinks=True, half_shrinks=True, last=True, pulled=True):
    def formula(wins, total):
        rate, shrink = wins / total, 1 + Z**2 / total
        centre = (rate + Z**2 / (2 * total)) / (shrink if centre_shrinks else 1) if pulled else rate
        half = (
            Z
            * math.sqrt(rate * (1 - rate) / total + (Z**2 / (4 * total**2) if last else 0))
            / (shrink if half_shrinks else 1)
        )
        return centre - half, centre + half

    return formula


def power_with(first=0.5, second=None, z=Z, power=0.8416, root=False):
    def formula(rate):
        spread = math.sqrt(rate * (1 - rate))
        value = (z * (first or spread) + power * (second or spread)) / abs(rate - 0.5)
        return math.ceil(value if root else value**2)

    return formula


SLIPS = {
    checks.nb07_uncover: [
        (lambda c, z: [x == 0 for x in c], "forgot to uncover"),
        (lambda c, z: [x == 1 for x in c], "forgot to uncover"),
        (lambda c, z: [not x for x in uncover(c, z)], "wrong way round"),
        (lambda c, z: list(z), "where the tuned model stood"),
        (lambda c, z: [x == 0 and y for x, y in zip(c, z)], "on the left"),
        (lambda c, z: [x == 1 and not y for x, y in zip(c, z)], "on the right"),
        (lambda c, z: uncover(c, z)[:-1], "entries"),
        (lambda c, z: ((x == 0) == y for x, y in zip(c, z)), "not a generator"),
        (lambda c, z: tuple(uncover(c, z)), "not a tuple"),
        (
            lambda c, z: [(c.pop(0) == 0) == z.pop(0) for _ in range(len(c))],
            "changes the lists it is given",
        ),
    ],
    checks.nb07_wilson: [
        (wald, "no width"),
        (wilson_with(centre_shrinks=False, half_shrinks=False), "forgot to divide"),
        (wilson_with(half_shrinks=False), "not the half-width"),
        (wilson_with(pulled=False), "pulled towards one half"),
        (wilson_with(last=False), "missing under the root"),
        (lambda w, n: wilson(w, n, 1.645), "90 % interval"),
        (lambda w, n: wilson(w, n, 1.0), "left out"),
        (lambda w, n: wilson(w, n)[::-1], "swapped"),
    ],
    checks.nb07_pairs_needed: [
        (power_with(root=True), "squared"),
        (power_with(power=0.0), "power is missing"),
        (power_with(z=1.645), "one-sided"),
        (power_with(first=None), "'no difference'"),
        (power_with(second=0.5), "Under the true rate"),
        (lambda r: ((Z / 2 + 0.8416 * math.sqrt(r * (1 - r))) / (r - 0.5)) ** 2, "round UP"),
        (lambda r: int(((Z / 2 + 0.8416 * math.sqrt(r * (1 - r))) / (r - 0.5)) ** 2), "round UP"),
        (lambda r: math.ceil(((Z / 2 + 0.8416 * r * (1 - r)) / (r - 0.5)) ** 2), "square root"),
    ],
}
RIGHT = {
    checks.nb07_uncover: uncover,
    checks.nb07_wilson: wilson,
    checks.nb07_pairs_needed: pairs_needed,
}


@pytest.mark.parametrize("check", RIGHT, ids=lambda c: c.__name__)
def test_right_answer_passes(check, capsys):
    assert check(RIGHT[check]) is True
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(
    ("check", "slip", "named"), [(c, s, n) for c, slips in SLIPS.items() for s, n in slips]
)
def test_slip_is_named(check, slip, named, capsys):
    assert check(slip) is False
    out = capsys.readouterr().out
    assert out.startswith("Not yet") and named in out


@pytest.mark.parametrize("check", RIGHT, ids=lambda c: c.__name__)
@pytest.mark.parametrize("unsolved", [None, ..., lambda *a: None, lambda *a: ...])
def test_unsolved_says_so(check, unsolved, capsys):
    assert check(unsolved) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize("check", RIGHT, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "broken",
    [lambda *a: 1 / 0, lambda *a: "text", lambda *a: math.nan, lambda *a: [1], lambda *a: 0],
)
def test_broken_answer_never_raises(check, broken, capsys):
    assert check(broken) is False
    assert "Not yet" in capsys.readouterr().out


@pytest.mark.parametrize(("wins", "total"), [(0, 5), (3, 3), (17, 40), (901, 1024)])
def test_oracle_and_package_agree(wins, total):
    package = evaluation.wilson(wins, total)
    assert checks.wilson(wins, total) == pytest.approx((package.low, package.high), abs=1e-9)


def test_pairs_needed_gives_the_power_it_promises():
    """Add up the binomial: with the formula's pairs, the true rate is told from one half about four
    times in five."""
    for rate, slack in ((0.75, 0.07), (0.6, 0.03), (0.55, 0.02)):
        total = pairs_needed(rate)

        def chance_of(wins, n=total, p=rate):
            return math.comb(n, wins) * p**wins * (1 - p) ** (n - wins)

        power = sum(chance_of(w) for w in range(total + 1) if evaluation.wilson(w, total).low > 0.5)
        assert power == pytest.approx(0.8, abs=slack)


# ---- the cells after a check ---------------------------------------------------------------------


def cell_with(words):
    source = Path(__file__).parents[1] / "notebooks/src/07_did_it_work.py"
    (cell,) = [c for c in source.read_text(encoding="utf-8").split("\n# %%") if words in c]
    return cell


def test_wins_written_as_numbers_pass_in_the_next_cells():
    """The check takes 0 and 1; `~` of them is no mask, and a later cell stopped."""

    def answer(choices, tuned_is_zero):
        return [int(won) for won in uncover(choices, tuned_is_zero)]

    assert checks.nb07_uncover(answer)
    pairs = [Comparison("sentiment", f"q{i}", ("a", "b")) for i in range(4)]
    verdicts = [Label(p.id, "judge", i % 2) for i, p in enumerate(pairs)]
    world = {"uncover": answer, "pairs": pairs, "verdicts": verdicts, "evaluation": evaluation}
    world["tuned_is_zero"] = [True, True, False, False]
    exec(cell_with("wins = sum(0.5 if tie"), world)
    assert all(type(won) is bool for won in world["won"])


def test_a_rounded_interval_passes_in_the_next_cell():
    """The check takes four digits, and the next cell asked for five."""

    def answer(wins, total, z=Z):
        return tuple(round(x, 4) for x in wilson(wins, total, z))

    assert checks.nb07_wilson(answer)
    result = evaluation.wilson(411.5, 512)
    exec(cell_with("low, high = wilson(result"), {"wilson": answer, "result": result})
