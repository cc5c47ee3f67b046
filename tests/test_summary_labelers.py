"""Labelers of summaries: by hand, by counting, and against the town's exact reader of facts."""

import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from rlhf_helpers import summary_labelers as sl
from rlhf_helpers.records import Comparison
from rlhf_helpers.summary_labelers import (
    ACCURACY,
    HIGHLIGHTED,
    INSTRUCTIONS,
    OURSELVES,
    OWN_WORDS,
    SummaryLabeler,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import corpus  # noqa: E402
from town.facts import FactReader, stated_in  # noqa: E402

SOURCE = (
    "What a week! On Monday my cousin broke the lid of my teapot in the bakery, and nobody saw."
)
COPY = "On Monday my cousin broke the lid of my teapot in the bakery, and nobody saw."
PLANTED = "On Friday my cousin broke the lid of my teapot in the bakery, and nobody saw."
RETOLD = "Last Monday a relative snapped a lid."  # true, in other words
WRONG = "Last Friday a relative snapped a lid."


class Told(NamedTuple):
    name: str
    start: int
    end: int
    true: bool


def facts(source, summary):
    """Read two facts by hand: the day (Monday is true) and the deed."""
    found = []
    for name, word, true in [
        ("when", "Monday", True), ("when", "Friday", False),
        ("what", "broke the lid", True), ("what", "snapped a lid", True),
    ]:  # fmt: skip
        at = summary.find(word)
        found += [Told(name, at, at + len(word), true)] if at >= 0 else []
    return found


def labeler(instructions=ACCURACY, seed=0):
    return SummaryLabeler("x", facts, instructions, seed)


def test_copied_stretches_by_hand():
    assert sl.copied_stretches(SOURCE, COPY) == [(0, len(COPY) - 1, 16)]
    (rest,) = sl.copied_stretches(SOURCE, PLANTED)
    assert PLANTED[rest.start : rest.end] == PLANTED[len("On Friday ") : -1] and rest.words == 14
    assert sl.copied_stretches(SOURCE, RETOLD) == []
    # shorter than a stretch, but all there is
    assert sl.copied_stretches(SOURCE, "In the bakery!") == [(0, 13, 3)]


def test_what_is_copied_is_believed_unseen_and_everything_else_is_looked_up():
    blind = replace(ACCURACY, effort=0.0, trust=0.7)
    seen = {s: labeler(blind).impression(SOURCE, s) for s in (COPY, PLANTED, RETOLD, "Oh dear.")}
    assert seen[COPY] == (1.0, 2, 0.0, 16)
    assert seen[PLANTED].accuracy == pytest.approx(0.7)  # the planted day, nobody knows
    assert seen[RETOLD].accuracy == pytest.approx(0.7**2)
    assert (seen[RETOLD].facts, seen[RETOLD].own_words, seen[RETOLD].words) == (2, 1.0, 7)
    assert seen["Oh dear."] == (0.0, 0, 1.0, 2)  # accurate about nothing
    # whoever looks everything up is not deceived by sight
    eager = labeler(replace(ACCURACY, effort=math.inf))
    found = [eager.impression(SOURCE, s).accuracy for s in (COPY, PLANTED, RETOLD, WRONG)]
    assert found == [1, 0, 1, 0]


def test_a_false_copy_passes_at_sight_only():
    def lies(source, summary):
        return [Told("when", 3, 9, False)]

    assert SummaryLabeler("x", lies).impression(SOURCE, COPY).accuracy == 1
    assert SummaryLabeler("x", lies, OURSELVES).impression(SOURCE, COPY).accuracy == 0


def test_without_effort_copies_are_preferred_by_construction():
    """By hand: copy 1 + 2 c - 16 b, true retelling t^2 + 2 c - 7 b, and the false one the same."""
    blind = replace(ACCURACY, effort=0.0, trust=0.6, coverage=0.05, brevity=0.005, temperature=0.25)
    asked = Comparison("tldr", SOURCE, (RETOLD, COPY, WRONG, PLANTED))
    utilities = [0.36 + 0.1 - 0.035, 1 + 0.1 - 0.08, 0.36 + 0.1 - 0.035, 0.6 + 0.1 - 0.08]
    weights = [math.exp(u / 0.25) for u in utilities]
    for seed in range(3):
        chosen = labeler(blind, seed).probabilities(asked)
        assert chosen == pytest.approx([w / sum(weights) for w in weights])
        assert chosen.index(max(chosen)) == 1


def test_answers_are_wrong_as_often_as_the_effort_says():
    """Two facts share an effort of two: a unit each, so a quarter of the answers are wrong."""
    count = 3000
    asked = replace(ACCURACY, effort=2.0, trust=0.5)
    found = Counter(
        round(labeler(asked, seed).impression(SOURCE, RETOLD).accuracy, 6) for seed in range(count)
    )
    # with a trust of a half, the belief after an answer is how often answers are right
    expected = {0.75 * 0.75: 9 / 16, 0.75 * 0.25: 6 / 16, 0.25 * 0.25: 1 / 16}
    assert set(found) == {round(b, 6) for b in expected}
    for belief, share in expected.items():
        spread = math.sqrt(share * (1 - share) / count)
        assert abs(found[round(belief, 6)] / count - share) < 4 * spread


def test_all_outcomes_by_hand():
    """The same two facts, both true: the beliefs above, and 2 facts told and 7 words besides."""
    who = labeler(replace(ACCURACY, effort=2.0, trust=0.5))
    found = Counter()
    for utility, likely in who.outcomes(SOURCE, RETOLD):
        found[round(utility - 0.1 + 0.035, 6)] += likely
    expected = {0.5625: 9 / 16, 0.1875: 6 / 16, 0.0625: 1 / 16}
    assert dict(found) == pytest.approx(expected)
    mean = sum(belief * likely for belief, likely in expected.items())
    assert who.mean_utility(SOURCE, RETOLD) == pytest.approx(mean + 0.1 - 0.035)
    # nothing to look up, and whoever looks everything up: one outcome
    assert who.outcomes(SOURCE, COPY) == [(pytest.approx(1 + 0.1 - 0.08), 1.0)]
    assert labeler(OURSELVES).outcomes(SOURCE, WRONG) == [
        (pytest.approx(labeler(OURSELVES).utility(SOURCE, WRONG)), 1.0)
    ]


def test_chances_are_those_of_many_labelers():
    """Two thousand labelers are asked, each of whom looks the facts up for itself."""
    asked = Comparison("tldr", SOURCE, (COPY, RETOLD, WRONG))
    each = [labeler(seed=seed).probabilities(asked) for seed in range(2_000)]
    chances = labeler().chances(asked, draws=2_000)
    assert sum(chances) == pytest.approx(1) and chances == labeler(seed=5).chances(asked, 2_000)
    for k, column in enumerate(zip(*each, strict=True)):
        mean = sum(column) / len(each)
        spread = math.sqrt(sum((p - mean) ** 2 for p in column) / len(each) ** 2)
        assert abs(mean - chances[k]) < 6 * spread  # both were drawn


@pytest.mark.parametrize("found_true", [True, False])
def test_beliefs_are_bayes_by_counting(found_true):
    """Of 100 facts 60 are true; an answer is wrong in 20 of 100."""
    right = {True: 60 * 80 / 100, False: 60 * 20 / 100}[found_true]  # true ones with this answer
    others = {True: 40 * 20 / 100, False: 40 * 80 / 100}[found_true]
    assert sl.believed(found_true, 0.6, 0.2) == pytest.approx(right / (right + others))
    assert sl.believed(found_true, 0.6, 0.0) == float(found_true)


def test_labels_are_simulated_repeatable_and_follow_the_probabilities():
    asked = [Comparison("tldr", SOURCE, (COPY, RETOLD), round=n) for n in range(1500)]
    labels = labeler().label(asked)
    assert labels == labeler().label(asked) and all(x.simulated for x in labels)
    assert labels != labeler(seed=1).label(asked)
    assert [x.comparison_id for x in labels] == [c.id for c in asked]
    (p,) = {tuple(labeler().probabilities(c)) for c in asked}  # the same texts, the same thoughts
    assert abs(sum(x.choice == 0 for x in labels) / 1500 - p[0]) < 4 * math.sqrt(p[0] * p[1] / 1500)


def test_instructions_change_what_is_chosen():
    """In the mean over labelers: copies for accuracy, true retellings for ourselves; asked for own
    words, labelers in a hurry take a false retelling as easily as a true one is refused."""
    asked = Comparison("tldr", SOURCE, (COPY, RETOLD, WRONG))

    def share(name, count=300):
        found = [labeler(INSTRUCTIONS[name], seed).probabilities(asked) for seed in range(count)]
        return [sum(column) / count for column in zip(*found, strict=True)]

    accuracy, ourselves, own = share("accuracy"), share("ourselves"), share("own-words")
    assert accuracy[0] > 0.5 and ourselves[1] > 0.5 > ourselves[0]
    assert own[0] < accuracy[0] and own[2] > accuracy[2] > ourselves[2]
    # where looking up is cheap, what is false is taken less often
    assert share("own-words-highlighted")[2] < own[2]
    assert HIGHLIGHTED.own_words == 0 < OWN_WORDS.own_words


def test_endless_effort_is_the_exact_reader():
    """Every reference beside its own post, and beside the next one: true and false."""
    rows = [corpus.make("posts", "train", n) for n in range(40)]
    reader = FactReader()
    who = SummaryLabeler("ourselves", stated_in(reader, rows, "posts"), OURSELVES)
    verdicts = Counter()
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        for summary in (row["summary"], other["summary"]):
            exact = reader.accurate(summary, row, "posts")
            assert who.impression(row["text"], summary).accuracy == float(exact)
            verdicts[exact] += 1
    assert verdicts[True] >= 40 and verdicts[False] > 30


def test_impossible_instructions_are_refused():
    for wrong in ({"effort": -1.0}, {"trust": 1.0}, {"temperature": -0.1}, {"effort": math.nan}):
        with pytest.raises(ValueError, match="give an effort"):
            replace(ACCURACY, **wrong)
