"""What a taste is, in words."""

from types import SimpleNamespace

import pytest
import torch
from test_clicks import asked, choose

from rlhf_helpers import beliefs, clicks
from rlhf_helpers.records import Comparison, Label


@pytest.fixture
def pool():
    return asked(80)


@pytest.fixture
def taste(policy, task, pool):
    labels, ties = choose(pool[:40])
    return clicks.fit(policy, task, pool, labels, cannot_tell=ties)


def test_beliefs_name_the_letter_that_is_liked(taste, pool):
    found = beliefs.of(taste, pool)
    best = found.beliefs[0]
    assert best.what == "c" and best.effect > 0
    held = torch.tensor([["c" in o for o in c.options] for c in pool])
    rewards = taste.rewards(pool)
    by_hand = rewards[held].mean() - rewards[~held].mean()
    assert best.effect == pytest.approx(by_hand.item(), abs=1e-3) and best.answers == held.sum()
    new = [o for c in pool[40:] for o in c.options]
    assert found.best in new and found.worst in new
    assert found.best.count("c") > found.worst.count("c")
    assert "c +" in str(found) and found.expected is taste.guesses[-1]
    assert f"{found.accuracy}" in str(found)
    some = {g.comparison_id for g in taste.guesses[::3]}
    counted = beliefs.of(taste, pool, among=some).accuracy
    assert counted.successes == sum(g.hit for g in taste.guesses[::3])
    assert counted.total == len(some) and beliefs.of(taste, pool, among=set()).accuracy is None


def test_a_belief_is_as_unsure_as_the_difference_of_means_of_many_draws(taste, pool):
    best = beliefs.of(taste, pool).beliefs[0]
    x = taste.features(pool).flatten(0, 1)
    held = torch.tensor(["c" in o for c in pool for o in c.options])
    draws = clicks._draws(taste, 6_000, torch.Generator().manual_seed(0))
    rewards = draws @ x.T
    differences = rewards[:, held].mean(1) - rewards[:, ~held].mean(1)
    by_hand = differences.std() * taste.tensors["gain"] * taste.tensors["width"]
    assert best.deviation == pytest.approx(by_hand.item(), rel=0.05)


def test_nothing_is_said_of_a_word_that_most_answers_hold(policy, task, pool):
    """Who asked for dark texts was once told that they like the word "a"."""
    most = [
        Comparison(c.task, c.query, (c.options[0], *("a" + o[1:] for o in c.options[1:])))
        for c in pool
    ]
    labels, ties = choose(most[:10])
    fitted = clicks.fit(policy, task, most, labels, cannot_tell=ties)
    held = sum("a" in o for c in most for o in c.options)
    assert held > 0.75 * 4 * len(most)
    named = beliefs.traits(fitted.features, most).more
    assert "a" not in named and {"b", "c", "d"} <= set(named)


def test_nothing_is_said_that_is_less_than_its_uncertainty(policy, task, pool):
    """One click tells next to nothing; forty coherent ones tell something."""
    labels, ties = choose(pool[:40])
    one = clicks.fit(policy, task, pool, labels[:1])
    known = beliefs.traits(one.features, pool)
    effects = known.between @ one.tensors["weights"] * one.tensors["gain"]
    unsure = int((effects.abs() <= one.deviation(known.between)).sum())
    assert unsure and len(beliefs.believe(one, known)) == len(known.more) - unsure
    many = clicks.fit(policy, task, pool, labels, cannot_tell=ties, previous=one)
    said = beliefs.believe(many, known)
    assert all(abs(b.effect) > b.deviation for b in said) and "c" in [b.what for b in said]
    shares = [b.answers / 320 for b in said]
    weights = [
        (abs(b.effect) - b.deviation) * (p * (1 - p)) ** 0.5
        for b, p in zip(said, shares, strict=True)
    ]
    assert weights == pytest.approx(sorted(weights, reverse=True), abs=1e-4)


@pytest.mark.parametrize("most", [1, 3])
def test_the_first_of_each_sign_are_found_without_all_deviations(most):
    """A thousand traits, of which the hundred largest effects are hardly surer than a guess."""
    effects = torch.linspace(-1, 1, 1_000)
    deviations = torch.where(effects.abs() > 0.9, 0.98 * effects.abs(), 0.01)
    names, answers = [f"trait {i}" for i in range(1_000)], [100 + i % 97 for i in range(1_000)]
    opposites = [f"no {name}" if i % 3 == 0 else "" for i, name in enumerate(names)]
    known = beliefs.Traits(names, opposites, torch.stack([effects, deviations], 1), answers, 320)
    counted = []
    taste = SimpleNamespace(
        tensors={"weights": torch.tensor([1.0, 0.0]), "gain": torch.tensor(1.0)},
        deviation=lambda x: counted.append(len(x)) or x[:, 1],
    )
    whole, few = beliefs.believe(taste, known), beliefs.believe(taste, known, most)
    assert len(whole) > 900 and sum(counted[:16]) == 1_000 and 100 < sum(counted[16:]) < 1_000
    for sign in (1, -1):
        first, other = ([b for b in x if b.effect * sign > 0][:most] for x in (whole, few))
        assert len(first) == most and first == other


def test_a_taste_for_short_answers_is_said_as_one(policy, task):
    """Options of one to four letters, the shortest always chosen: shorter answers are liked."""
    words = [("a.", "a_b.", "a_b_c.", "a_b_c_d."), ("e.", "f_e.", "g_f_e.", "h_g_f_e.")]
    pool = [
        Comparison("toy", "ab", tuple(o.replace("a", x) for o in options))
        for x in "abcdefghijklmn"
        for options in words
    ]
    labels = [Label(c.id, "ann", 0, simulated=True) for c in pool[:28:2]]
    taste = clicks.fit(policy, task, pool, labels)
    said = [b.what for b in beliefs.believe(taste, beliefs.traits(taste.features, pool))]
    assert "shorter answers" in said and "longer answers" not in said


def test_marks_have_names_and_the_end_of_an_answer_is_not_one(taste):
    options = ('"a!" b.', "c? d.", "e, f.", "g. h.")
    found = beliefs.WORD.findall(options[0])
    assert found == ['"', "a", "!", '"', "b", "."]
    names = [beliefs.MARKS[mark] for mark in '"!?,.']
    assert names[0] == "quotation marks" and names[-1] == "more than one sentence"
