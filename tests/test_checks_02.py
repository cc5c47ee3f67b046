"""The checks of notebook 02 pass the right answer, name each slip, and never raise."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rlhf_helpers import labelers, tasks
from rlhf_helpers.course.checks import nb02 as checks
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison


def agreement(first, second):
    shared = [key for key in first if key in second]
    return sum(first[key] == second[key] for key in shared) / len(shared)


def kappa(first, second):
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second)) / n
    chance = sum((first.count(k) / n) * (second.count(k) / n) for k in range(4))
    return (observed - chance) / (1 - chance)


def expected_agreement(first, second):
    return sum(sum(a * b for a, b in zip(p, q)) for p, q in zip(first, second)) / len(first)


def length_bias(options, choices):
    words = [[len(text.split()) for text in row] for row in options]
    return sum(row[c] - sum(row) / len(row) for row, c in zip(words, choices)) / len(choices)


def raises(*arguments):
    raise KeyError("x")


def words_of(row):
    return [len(text.split()) for text in row]


SLIPS = {
    checks.nb02_agreement: [
        (lambda a, b: agreement(a, b) * len(a.keys() & b.keys()) / len(a), "first labeler"),
        (lambda a, b: agreement(a, b) * len(a.keys() & b.keys()) / len(b), "second labeler"),
        (
            lambda a, b: agreement(a, b) * len(a.keys() & b.keys()) / len(a.keys() | b.keys()),
            "either has seen",
        ),
        (lambda a, b: 1 - agreement(a, b), "DISAGREE"),
        (lambda a, b: agreement(a, b) * len(a.keys() & b.keys()), "count"),
        (
            lambda a, b: sum(x == y for x, y in zip(a.values(), b.values())) / min(len(a), len(b)),
            "order they were given",
        ),
    ],
    checks.nb02_kappa: [
        (lambda a, b: sum(x == y for x, y in zip(a, b)) / len(a), "raw agreement"),
        (lambda a, b: (sum(x == y for x, y in zip(a, b)) / len(a) - 0.25) / 0.75, "one in four"),
        (
            lambda a, b: (
                kappa(a, b) * (1 - sum(a.count(k) * b.count(k) for k in range(4)) / len(a) ** 2)
            ),
            "did not divide",
        ),
        (
            lambda a, b: (lambda o, c: (o - c) / (1 - c))(
                sum(x == y for x, y in zip(a, b)) / len(a),
                sum(a.count(k) ** 2 for k in range(4)) / len(a) ** 2,
            ),
            "first labeler's habits",
        ),
        (
            lambda a, b: (lambda o, c: (o - c) / (1 - c))(
                sum(x == y for x, y in zip(a, b)) / len(a),
                sum(b.count(k) ** 2 for k in range(4)) / len(a) ** 2,
            ),
            "second labeler's habits",
        ),
        (lambda a, b: -kappa(a, b), "sign"),
    ],
    checks.nb02_expected_agreement: [
        (lambda p, q: sum(max(a) * max(b) for a, b in zip(p, q)) / len(p), "most likely"),
        (lambda p, q: expected_agreement(p, p), "first labeler agrees"),
        (lambda p, q: expected_agreement(q, q), "second labeler agrees"),
        (lambda p, q: expected_agreement(p, q) * len(p), "summed over comparisons"),
        (lambda p, q: expected_agreement(p, q) / 4, "mean over options"),
        (lambda p, q: 1 - expected_agreement(p, q), "DISAGREE"),
        (
            lambda p, q: sum(
                sum(r[k] for r in p) / len(p) * sum(r[k] for r in q) / len(q) for k in range(4)
            ),
            "averaged the probabilities",
        ),
    ],
    checks.nb02_length_bias: [
        (lambda o, c: -length_bias(o, c), "sign"),
        (
            lambda o, c: sum(len(r[k]) - sum(map(len, r)) / len(r) for r, k in zip(o, c)) / len(c),
            "letters",
        ),
        (lambda o, c: length_bias(o, c) * 4 / 3, "OTHER three"),
        (lambda o, c: sum(words_of(r)[k] for r, k in zip(o, c)) / len(c), "Subtract"),
        (
            lambda o, c: sum(words_of(r)[k] - words_of(r)[0] for r, k in zip(o, c)) / len(c),
            "first option",
        ),
        (lambda o, c: length_bias(o, c) * len(c), "sum"),
    ],
}
RIGHT = {
    checks.nb02_agreement: agreement,
    checks.nb02_kappa: kappa,
    checks.nb02_expected_agreement: expected_agreement,
    checks.nb02_length_bias: length_bias,
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
    "broken", [raises, lambda *a: "text", lambda *a: math.nan, lambda *a: [1, 2]]
)
def test_broken_answer_never_raises(check, broken, capsys):
    assert check(broken) is False
    assert "Not yet" in capsys.readouterr().out


# ---- the cells after a check ---------------------------------------------------------------------


def cell_with(words):
    source = Path(__file__).parents[1] / "notebooks/src/02_be_the_labeler.py"
    (cell,) = [c for c in source.read_text(encoding="utf-8").split("\n# %%") if words in c]
    return cell


def test_the_cell_after_agreement_takes_what_its_check_takes():
    """Equality to the last bit was asked of a share that the check takes in float32."""

    def answer(first, second):
        return torch.tensor([agreement(first, second)])  # one number, in float32

    assert checks.nb02_agreement(answer)
    asked, _ = labelers.recorded(tasks.SENTIMENT)
    anna, ben = (
        labelers.simulated(tasks.SENTIMENT, name=name, seed=seed)
        for name, seed in (("Anna", 1), ("Ben", 2))
    )
    world = {"math": math, "labelers": labelers, "comparisons": asked, "anna": anna, "ben": ben}
    world |= {"agreement": answer, "show": SimpleNamespace(note=lambda text: None)}
    for name, person, part in (("anna", anna, asked[:1500]), ("ben", ben, asked[300:2001])):
        world[f"{name}_said"] = {x.comparison_id: x.choice for x in person.label(part)}
    exec(cell_with("measured = float("), world)
    assert isinstance(world["measured"], float)


def test_a_choice_that_was_taken_back_is_not_in_the_position_figure(tmp_path):
    """All events were counted, those undone too."""
    items = [Comparison("sentiment", f"q{i}", tuple("abcd")) for i in range(3)]
    store = LabelStore(tmp_path / "labels.db")
    store.add(items)
    desk = Session(store, "sentiment", "ann", items, repeat_every=0)
    for kind, slot in (("choose", 0), ("undo", None), ("choose", 3), ("tie", None)):
        assert desk.answer(kind, slot)
    world = {"desk": desk, "me": "ann", "task": tasks.SENTIMENT, "Counter": Counter}
    exec(cell_with("my_places = Counter("), world)
    assert world["my_places"] == {4: 1}
