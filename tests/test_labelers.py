"""Simulated labelers: the lexicon scorers by hand, the softmax by its formula, agreement by
counting and by expectation."""

import dataclasses
import math
import random

import conftest
import pytest
import torch

from rlhf_helpers import labelers, tasks
from rlhf_helpers.records import Comparison, Label, Queries


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("It was a wonderful, happy day.", "It was a day."),
        ("It was a day.", "It was a horrible, miserable day."),
        ("They were not sad.", "They were sad."),
        ("They were happy.", "They were not happy."),
        ("She was very happy.", "She was happy."),
        ("He was utterly miserable, then happy.", "He was utterly miserable."),
        ("The film was excellent and I loved it.", "The film was terrible and I hated it."),
    ],
)
def test_sentiment_orders_texts_as_a_reader_would(text, better):
    assert labelers.sentiment(text) > labelers.sentiment(better)


def test_sentiment_adds_words_and_turns_those_within_three_words_after_a_negation():
    happy = labelers.sentiment("happy")
    assert happy > 0
    assert labelers.sentiment("happy happy") == 2 * happy
    assert labelers.sentiment("not happy") == -happy
    assert labelers.sentiment("not one two happy") == -happy
    assert labelers.sentiment("not one two three happy") == happy
    assert labelers.sentiment("very happy") == 1.5 * happy
    assert labelers.sentiment("wasn\u2019t happy") == labelers.sentiment("wasn't happy") == -happy
    assert labelers.sentiment("") == labelers.sentiment("the of and") == 0


def test_descriptiveness_counts_physical_words_and_nothing_else():
    assert labelers.descriptiveness("The rough, red, brass bell gave a faint clang.") >= 4
    assert labelers.descriptiveness("They went home and thought about it.") == 0
    assert labelers.descriptiveness("The velvety green moss glistened.") > labelers.descriptiveness(
        "The green moss was there."
    )


def test_word_lists_are_large_and_no_word_is_in_two_groups():
    for name, least in (("sentiment", 1_800), ("description", 1_300)):
        groups = labelers.lexicon(name)
        every = [word for words in groups.values() for word in words]
        assert len(every) == len(set(every)) >= least


def length(text: str) -> float:
    return float(len(text))


def test_choices_follow_softmax_of_utility_over_temperature():
    labeler = labelers.SimulatedLabeler("A", length, temperature=2.0)
    options = ("a", "bbb", "cc", "dddd")
    weights = [math.exp(n / 2.0) for n in (1, 3, 2, 4)]
    assert labeler.probabilities(options) == pytest.approx(
        [w / sum(weights) for w in weights], rel=1e-9
    )
    chosen = [labeler.choose(Comparison("t", f"q{i}", options)) for i in range(4000)]
    for k, w in enumerate(weights):
        p = w / sum(weights)
        assert abs(chosen.count(k) / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_comparisons_are_sampled_at_the_tasks_temperature(make_policy, task):
    """First letters against transformers' own probabilities, tempered; at temperature 1 their
    shares would be others."""

    class Letters(conftest.Letters):
        def batch_decode(self, rows, skip_special_tokens=False):
            # token 0 stays, so that the first letter is the first token
            return super().batch_decode(rows)

    policy, task, prompt = (
        make_policy(),
        dataclasses.replace(task, temperature=0.4),
        torch.tensor([[3, 9, 2]]),
    )
    with torch.no_grad():
        logits = policy.lm(prompt).logits[0, -1].double()
    expected, untempered = ((logits / t).softmax(-1) for t in (0.4, 1.0))
    queries = Queries(prompt, torch.ones_like(prompt, dtype=torch.bool)).repeat(1_000)
    policy.tokenizer = Letters()
    asked = labelers.collect(policy, task, queries, seed=1)
    first = [conftest.ALPHABET.index(option[0]) for c in asked for option in c.options]
    assert len(first) > 3_900  # four equal options, left out, are rare
    shares = torch.bincount(torch.tensor(first), minlength=16) / len(first)
    assert (expected - untempered).abs().max() > 0.1
    assert (
        (shares - expected).abs() < 5 * (expected * (1 - expected) / len(first)).sqrt() + 0.005
    ).all()


def test_options_that_differ_in_space_alone_are_not_collected(policy, task, monkeypatch):
    """They counted as different, and the labeler's card then left them out."""
    texts = ["x", "x ", " x", "x\n"] + ["x", "x ", "y", "x"] + ["y"] * 4
    monkeypatch.setattr(labelers.tasks, "texts", lambda *_: texts)
    queries = Queries(torch.full((3, 1), 5), torch.ones(3, 1, dtype=torch.bool))
    (made,) = labelers.collect(policy, task, queries)
    assert made.options == ("x", "x ", "y", "x")


def test_temperature_zero_takes_the_best_and_shares_ties():
    labeler = labelers.SimulatedLabeler("A", length, temperature=0)
    assert labeler.probabilities(("a", "bb", "cc")) == [0.0, 0.5, 0.5]


def test_the_same_labeler_gives_the_same_answer_in_any_order_and_another_one_does_not():
    comparisons = [Comparison("t", str(i), ("a", "b", "c", "d")) for i in range(200)]
    labeler, other = (labelers.SimulatedLabeler(n, length, 1.0) for n in "AB")
    first = {x.comparison_id: x.choice for x in labeler.label(comparisons)}
    shuffled = random.Random(0).sample(comparisons, 200)
    assert {x.comparison_id: x.choice for x in labeler.label(shuffled)} == first
    assert {x.comparison_id: x.choice for x in other.label(comparisons)} != first
    assert all(x.simulated for x in labeler.label(comparisons))


def test_agreement_counts_shared_comparisons_only():
    first = [Label("1", "A", 0), Label("2", "A", 1), Label("3", "A", 2)]
    second = [Label("2", "B", 1), Label("3", "B", 0), Label("4", "B", 0)]
    assert labelers.agreement(first, second) == 0.5
    with pytest.raises(ValueError, match="share no comparison"):
        labelers.agreement(first, [Label("9", "B", 0)])


@pytest.mark.parametrize("name", ["sentiment", "descriptiveness"])
def test_two_simulated_labelers_agree_as_often_as_people_did_in_the_paper(name):
    """38 % of choices among four were equal between two people; expectation over the noise: mean of
    the sum of squared probabilities."""
    task = tasks.get(name)
    comparisons, _ = labelers.recorded(task)
    labeler = labelers.simulated(task)
    expected = sum(sum(p * p for p in labeler.probabilities(c.options)) for c in comparisons) / len(
        comparisons
    )
    assert 0.36 < expected < 0.40
    counted = labelers.agreement(
        labelers.simulated(task, "one").label(comparisons),
        labelers.simulated(task, "two").label(comparisons),
    )
    # four standard errors of 6,000 comparisons
    assert counted == pytest.approx(expected, abs=0.025)


def test_recorded_labels_are_simulated_and_belong_to_their_comparisons():
    comparisons, labels = labelers.recorded(tasks.SENTIMENT)
    assert len(comparisons) == len(labels) >= 5_500
    assert all(
        x.simulated and x.comparison_id == c.id and x.choice < 4 == len(c.options)
        for c, x in zip(comparisons, labels, strict=True)
    )


def test_a_task_without_a_simulated_labeler_says_so():
    with pytest.raises(ValueError, match="only for sentiment, descriptiveness"):
        labelers.simulated(tasks.TLDR)
