"""Variety and faithfulness of answers, by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import variety  # noqa: E402
from town.tracker import Tracker  # noqa: E402


def test_one_sentence_under_many_names_is_one_sentence():
    answers = [
        " Nora found the lantern under the counter.",
        " Abel found the kettle under the counter.",
        " Nora found the lantern under the bench.",
        " It rained.",
    ]
    assert {variety.masked(a) for a in answers[:2]} == {"* found the * under the counter."}
    found = variety.variety(answers)
    assert found["different"] == 3 / 4 and found["most_frequent"] == 2 / 4
    assert found["most_frequent_opening"] == 3 / 4  # "* found the *"
    # 6 + 6 + 6 + 1 pairs; said again: "found the" and "under the" twice each, "Nora found",
    # "the lantern", "lantern under" and "the counter." once each
    assert found["distinct_2"] == 11 / 19


def test_a_thing_whose_name_is_part_of_anothers_is_masked_whole():
    assert (
        variety.masked("a snow globe, a globe and some clockwork") == "a *, a * and some clockwork"
    )


def test_an_answer_that_brings_strangers_does_not_follow():
    tracker = Tracker()
    prompt = "Nora the puppeteer looked everywhere for her small tin lantern."
    same, other = (f" Nora found the {x} under the counter." for x in ("lantern", "kettle"))
    found = variety.follows(tracker, [prompt] * 4, [same, same, other, " Of the and."])
    assert found == {"readable": 3 / 4, "kept": pytest.approx(2 / 3)}


def test_an_answer_without_a_sentence_is_not_readable():
    """An empty answer counted as readable, and as one that kept its prompt."""
    prompt, said = "Nora found the lantern.", " Nora found the lantern under the counter."
    found = variety.follows(Tracker(), [prompt] * 2, [said, " "])
    assert found["readable"] == 1 / 2
