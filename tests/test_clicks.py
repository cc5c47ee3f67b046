"""The reward model of few labels: what it learns, expects, asks and keeps."""

import itertools
import random

import pytest
import torch

from rlhf_helpers import clicks, ppo, reward, sampling, tasks
from rlhf_helpers.clicks import Taste
from rlhf_helpers.posterior import Guess
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.runtime.runs import Run


def asked(count, options=4, seed=0):
    """Comparisons of the toy task; "_" stands between one-letter words."""
    draw = random.Random(seed)

    def text():
        return "_".join(draw.choice("abcdefgh") for _ in range(4)) + "."

    return [Comparison("toy", "ab", tuple(text() for _ in range(options))) for _ in range(count)]


def choose(comparisons, letter="c"):
    """A labeler who counts a letter: labels, and the comparisons in which it cannot tell."""
    labels, ties = [], []
    for c in comparisons:
        counts = [option.count(letter) for option in c.options]
        if len(set(counts)) == 1:
            ties.append(c.id)
        else:
            labels.append(Label(c.id, "ann", counts.index(max(counts)), simulated=True))
    return labels, ties


@pytest.fixture
def pool():
    return asked(80)


@pytest.fixture
def taste(policy, task, pool):
    labels, ties = choose(pool[:40])
    return clicks.fit(policy, task, pool, labels, cannot_tell=ties)


# ---- fit -----------------------------------------------------------------------------------------


def test_a_taste_for_a_particular_letter_is_learned(taste, pool):
    labels, _ = choose(pool[40:])
    by_id = {c.id: c for c in pool}
    rewards = taste.rewards([by_id[x.comparison_id] for x in labels])
    assert reward.accuracy(rewards, torch.tensor([x.choice for x in labels])) > 0.75


@pytest.mark.parametrize("options", [2, 3])
def test_any_number_of_options(policy, task, options):
    pool = asked(30, options)
    labels, ties = choose(pool)
    taste = clicks.fit(policy, task, pool, labels, cannot_tell=ties)
    assert taste.rewards(pool).shape == taste.uncertainty(pool).shape == (30, options)


def test_every_click_is_predicted_by_the_clicks_before_it(policy, task, pool):
    labels, _ = choose(pool[:12])
    by_id = {c.id: c for c in pool}
    guesses = clicks.fit(policy, task, pool, labels[:8]).guesses
    assert [g.comparison_id for g in guesses] == [x.comparison_id for x in labels[:8]]
    assert torch.allclose(guesses[0].probabilities, torch.full((4,), 0.25).double())
    for count in (3, 7):
        earlier = clicks.fit(policy, task, pool, labels[:count])
        new = by_id[labels[count].comparison_id]
        expected = earlier.probabilities([new])[0]
        assert torch.allclose(guesses[count].probabilities.float(), expected, atol=1e-4)


def test_going_on_is_the_same_as_starting_again(policy, task, pool):
    labels, ties = choose(pool[:14])
    step = None
    for count in range(1, 9):
        step = clicks.fit(policy, task, pool, labels[:count], previous=step)
    fresh = clicks.fit(policy, task, pool, labels[:8], features=step.features)
    assert torch.allclose(step.tensors["weights"], fresh.tensors["weights"], atol=1e-4)
    assert [g.choice for g in step.guesses] == [g.choice for g in fresh.guesses]
    assert len(step.guesses) == 8


def test_one_taste_can_be_gone_on_from_twice(policy, task, pool):
    """Going on changed the earlier fit, and a second time failed with sizes that did not match."""
    labels, _ = choose(pool[:14])
    first = clicks.fit(policy, task, pool, labels[:4])
    for end in (5, 6, 5):
        again = clicks.fit(policy, task, pool, labels[:end], previous=first)
        fresh = clicks.fit(policy, task, pool, labels[:end], features=first.features)
        assert torch.allclose(again.tensors["weights"], fresh.tensors["weights"], atol=1e-4)
    assert len(first.clicks.rows) == 4 and len(first.clicks.grams[0]) == 4 * 3


def test_a_click_that_was_taken_back_or_changed_is_forgotten(policy, task, pool):
    labels, _ = choose(pool[:14])
    first = clicks.fit(policy, task, pool, labels[:6])
    changed = Label(labels[5].comparison_id, "ann", (labels[5].choice + 1) % 4, simulated=True)
    after = clicks.fit(policy, task, pool, [*labels[:5], changed], previous=first)
    fresh = clicks.fit(policy, task, pool, [*labels[:5], changed], features=first.features)
    assert torch.allclose(after.tensors["weights"], fresh.tensors["weights"], atol=1e-4)
    assert after.guesses[-1].choice == changed.choice and len(after.guesses) == 6
    fewer = clicks.fit(policy, task, pool, labels[:5], previous=first)
    assert len(fewer.guesses) == len(fewer.clicks.rows) == 5


def test_what_was_taken_back_leaves_no_prior_behind(policy, task, pool):
    """The tenth and the twentieth click choose a prior; without them it is as it was before."""
    labels, _ = choose(pool)
    by_count = {}
    step = None
    for count in range(1, 22):
        step = clicks.fit(policy, task, pool, labels[:count], previous=step)
        by_count[count] = step
    assert by_count[9].prior != by_count[10].prior or by_count[19].prior != by_count[20].prior
    for count in (9, 19):
        back = clicks.fit(policy, task, pool, labels[:count], previous=by_count[21])
        assert back.prior == by_count[count].prior
        assert torch.allclose(
            back.tensors["weights"], by_count[count].tensors["weights"], atol=1e-4
        )
    without = [*labels[:4], *labels[5:21]]  # the fifth one taken back in the end
    back = clicks.fit(policy, task, pool, without, previous=by_count[21])
    fresh = clicks.fit(policy, task, pool, without, features=step.features)
    assert back.prior == fresh.prior
    assert torch.allclose(back.tensors["weights"], fresh.tensors["weights"], atol=1e-4)


def test_clicks_in_their_order_are_learned_as_if_one_came_after_another(policy, task, pool):
    """A "cannot tell" between two choices is known when the second one is predicted."""
    labels, ties = choose(pool)
    rows = [(x.comparison_id, x.choice) for x in labels[:6]]
    rows.insert(3, (ties[0], None))
    features = clicks.fit(policy, task, pool, labels[:1]).features
    step, pool = None, {c.id: c for c in pool}
    for count in range(1, 8):
        step = clicks.learn(features, pool, rows[:count], previous=step)
    whole = clicks.learn(features, pool, rows)
    assert len(whole.guesses) == 6 and whole.clicks.rows == rows
    for one, other in zip(step.guesses, whole.guesses, strict=True):
        assert torch.allclose(one.probabilities, other.probabilities, atol=1e-6)
    late = clicks.fit(
        policy, task, list(pool.values()), labels[:6], cannot_tell=ties[:1], features=features
    )
    assert not torch.allclose(late.guesses[3].probabilities, whole.guesses[3].probabilities)


def test_two_answers_to_one_comparison_count_twice(policy, task, pool):
    labels, _ = choose(pool[:4])
    once = clicks.fit(policy, task, pool, labels)
    twice = clicks.fit(policy, task, pool, [*labels, labels[0]], previous=once)
    assert len(twice.clicks.rows) == len(labels) + 1


def test_cannot_tell_is_learned_from_and_a_skip_is_not(policy, task, pool):
    """The letter c never decides where all hold it as often; saying so pulls its reward down."""
    labels, ties = choose(pool[:30])
    without = clicks.fit(policy, task, pool, labels, predict=False)
    told = clicks.fit(
        policy, task, pool, labels, cannot_tell=ties, features=without.features, predict=False
    )
    by_id = {c.id: c for c in pool}
    tied = [by_id[i] for i in ties]

    def spread(taste):
        return taste.probabilities(tied).std(-1).mean()

    assert ties and spread(told) < spread(without)


def test_faults_in_labels_are_named(policy, task, pool):
    with pytest.raises(ValueError, match="no clicks yet"):
        clicks.fit(policy, task, pool, [])
    with pytest.raises(ValueError, match="not among"):
        clicks.fit(policy, task, pool, [Label("elsewhere", "ann", 0)])
    with pytest.raises(ValueError, match="cannot tell.*not among"):
        clicks.fit(policy, task, pool, [], cannot_tell=["elsewhere"])


# ---- what a taste says ---------------------------------------------------------------------------


def test_rewards_of_the_pool_have_mean_0_and_deviation_1(taste, pool):
    rewards = taste.rewards(pool)
    assert rewards.mean().item() == pytest.approx(0, abs=1e-4)
    assert rewards.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_probabilities_are_those_of_the_choice_model(taste, pool):
    unnormalised = (taste.rewards(pool) - taste.tensors["bias"]) / taste.tensors["gain"]
    by_hand = unnormalised.exp() / unnormalised.exp().sum(-1, keepdim=True)
    assert torch.allclose(taste.probabilities(pool), by_hand, atol=1e-5)


def test_uncertainty_is_the_deviation_of_many_draws(taste, pool):
    draws = clicks._draws(taste, 6_000, torch.Generator().manual_seed(0))
    x = taste.features(pool[35:45])
    rewards = torch.einsum("nkd,sd->snk", x - x.mean(1, keepdim=True), draws)
    scale = taste.tensors["gain"] * taste.tensors["width"]
    assert torch.allclose(taste.uncertainty(pool[35:45]), rewards.std(0) * scale, rtol=0.06)
    off = (draws.mean(0) - taste.tensors["weights"]) / draws.std(0) * len(draws) ** 0.5
    assert off.abs().max() < 5


def test_the_calibrated_width_is_that_of_the_guesses(taste):
    assert taste.tensors["width"].item() == pytest.approx(
        clicks.calibrated_width(taste.guesses), rel=1e-6
    )


def test_more_clicks_leave_less_uncertain(policy, task, pool):
    labels, ties = choose(pool)
    few = clicks.fit(policy, task, pool, labels[:5], predict=False)
    few.clicks.prior = few.prior
    many = clicks.fit(policy, task, pool, labels[:5] + labels[5:40], previous=few, predict=True)
    ratio = many.uncertainty(pool) / many.tensors["gain"] / many.tensors["width"]
    before = few.uncertainty(pool) / few.tensors["gain"]
    scale = (sum(few.prior) / sum(many.prior)) ** 0.5
    assert (ratio * scale).mean() < 0.9 * before.mean()


# ---- as a score ----------------------------------------------------------------------------------


@pytest.fixture
def rollout(policy):
    tokens = torch.tensor([[2, 3]]).repeat(256, 1)  # "ab"
    queries = Queries(tokens, torch.ones_like(tokens, dtype=torch.bool))
    return sampling.sample(policy, queries, 5, 1.0, torch.Generator().manual_seed(0))


def test_scores_are_rewards_of_truncated_texts_or_the_penalty(taste, rollout, task, letters):
    scores, texts = taste.score(rollout), tasks.texts(task, rollout.responses, letters)
    _, finished = tasks.truncate(task, rollout.responses, letters)
    assert 0 < finished.sum() < len(finished)
    assert (scores[~finished] == task.penalty).all()
    plain = finished & (rollout.responses != 0).all(-1)
    for i in plain.nonzero().flatten().tolist():
        comparison = Comparison("toy", "ab", (texts[i], texts[i] + "a"))
        assert scores[i].item() == pytest.approx(taste.rewards([comparison])[0, 0].item(), abs=1e-3)
    assert plain.sum() >= 5


def test_a_lower_bound_takes_off_deviations_but_not_from_the_penalty(taste, rollout, task, letters):
    kept, finished = tasks.truncate(task, rollout.responses, letters)
    x = taste.features.of_rollout(rollout, kept)
    t = taste.tensors
    covariance = torch.diag(t["variances"]) - t["factor"].T @ t["factor"]
    deviation = (x @ covariance * x).sum(-1).sqrt() * t["gain"] * t["width"]
    low, plain = taste.scorer(lower_bound=2.0)(rollout), taste.score(rollout)
    assert torch.allclose(low[finished], (plain - 2 * deviation)[finished], atol=1e-3)
    assert (low[~finished] == task.penalty).all()


def test_a_rank_is_the_share_of_the_references_answers_below(taste, pool, rollout, task, letters):
    """It is bounded: one answer in a thousand that the taste adores once was all PPO would say."""
    rewards = taste.rewards(pool)
    known = sorted(rewards.flatten().tolist())
    wanted = [sum(k < r for k in known) / len(known) for r in rewards[0].tolist()]
    found = taste.rank(rewards[0]) / 12**0.5 + 0.5
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    extremes = taste.rank(torch.tensor([-1e9, 1e9])).tolist()
    assert extremes == pytest.approx([-(3**0.5), 3**0.5])
    scores, plain = taste.scorer(ranked=True)(rollout), taste.score(rollout)
    _, finished = tasks.truncate(task, rollout.responses, letters)
    assert torch.equal(scores[finished], taste.rank(plain[finished]))
    assert (scores[~finished] == task.penalty).all()


def test_ppo_takes_a_taste_and_knows_it_by_name(taste, policy, task, pool, rollout, tmp_path):
    config = ppo.PPOConfig(episodes=32, batch=16, minibatches=1)
    run = Run(tmp_path, quiet=True, device="cpu")
    assert len(ppo.tune(policy, taste.score, rollout.queries, task, config, run)) == 2
    settings = (tmp_path / "run.json").read_text()
    assert taste.score.name in settings
    labels, ties = choose(pool[:41])
    other = clicks.fit(policy, task, pool, labels, cannot_tell=ties, previous=taste)
    more = {taste.scorer(lower_bound=1.0).name, taste.scorer(ranked=True).name}
    assert len({taste.score.name, other.score.name} | more) == 4


def test_a_saved_taste_scores_alike_and_only_with_its_model(
    taste, policy, make_policy, pool, rollout, tmp_path
):
    taste.save(tmp_path / "mine" / "taste.safetensors")
    again = Taste.load(tmp_path / "mine" / "taste.safetensors", policy)
    assert torch.allclose(again.rewards(pool), taste.rewards(pool), atol=1e-5)
    assert torch.allclose(again.uncertainty(pool), taste.uncertainty(pool), atol=1e-5)
    assert torch.allclose(again.score(rollout), taste.score(rollout), atol=1e-5)
    assert torch.equal(again.rank(torch.arange(-3.0, 3)), taste.rank(torch.arange(-3.0, 3)))
    assert again.name == taste.name and again.prior == taste.prior
    with pytest.raises(ValueError, match="was fitted on"):
        Taste.load(tmp_path / "mine" / "taste.safetensors", make_policy(seed=5))
    del taste.tensors["ladder"]
    taste.save(tmp_path / "old.safetensors")
    with pytest.raises(ValueError, match="an older version and cannot rank answers: fit it again"):
        Taste.load(tmp_path / "old.safetensors", policy)


# ---- how good, and what next ---------------------------------------------------------------------


def guess(name, choice, favourite):
    probabilities = torch.tensor([0.2, 0.2, 0.2])
    probabilities[favourite] = 0.6
    return Guess(name, choice, probabilities, torch.zeros(2), torch.eye(2))


def test_accuracy_counts_hits_among_those_asked_at_random():
    guesses = [guess("a", 0, 0), guess("b", 1, 2), guess("c", 2, 2), guess("d", 0, 1)]
    assert clicks.accuracy(guesses).rate == 0.5
    found = clicks.accuracy(guesses, among={"a", "c", "d"})
    assert found.successes == 2 and found.total == 3


def test_a_guess_without_anything_to_go_by_counts_as_chance():
    """Whichever option is clicked first: 1 / K, and not a hit if it happens to be the first one."""
    blind = [Guess("a", k, torch.full((4,), 0.25), torch.zeros(3), torch.eye(3)) for k in range(4)]
    assert [g.hit for g in blind] == [0.25] * 4
    two = torch.tensor([0.4, 0.4, 0.2])
    hits = [Guess("b", k, two, torch.zeros(2), torch.eye(2)).hit for k in range(3)]
    assert hits == [0.5, 0.5, 0.0]
    assert clicks.accuracy([*blind, guess("c", 0, 0)]).successes == 2.0


def test_nobody_guesses_better_than_the_ceiling():
    """Labelers on a grid: the best guess is right with max p, two answers agree with sum p^2."""
    grid = [i / 10 for i in range(11)]
    people = [p for p in itertools.product(grid, repeat=3) if abs(sum(p) - 1) < 1e-9]
    for p in people:
        assert max(p) <= clicks.ceiling(sum(x * x for x in p), 3) + 1e-9
    mean = [
        sum(values) / len(people)
        for values in zip(*((max(p), sum(x * x for x in p)) for p in people))
    ]
    assert mean[0] <= clicks.ceiling(mean[1], 3)
    favourite = (0.7, 0.1, 0.1, 0.1)
    assert clicks.ceiling(sum(x * x for x in favourite), 4) == pytest.approx(0.7)
    assert clicks.ceiling(0.25, 4) == clicks.ceiling(0.2, 4) == 0.25 and clicks.ceiling(1, 4) == 1


def test_next_asks_everything_once_and_never_equal_options(taste, pool):
    equal = Comparison("toy", "ab", ("c.", "c.", " c."))
    asked_, how = [], []
    while (question := clicks.next(taste, [equal, *pool[:30]], asked_)) is not None:
        asked_.append(question.comparison.id)
        how.append(question.how)
        assert len(asked_) <= 30  # one that asks again would never end
    assert sorted(asked_) == sorted(c.id for c in pool[:30])
    assert {"random", "thompson"} == set(how)


def test_without_a_taste_or_on_request_the_next_is_random(taste, pool):
    first = [clicks.next(None, pool, [], seed=s) for s in range(40)]
    assert {q.how for q in first} == {"random"} and len({q.comparison.id for q in first}) > 20
    assert clicks.next(taste, pool, [], how="random").how == "random"
    share = [clicks.next(taste, pool[:9], [], random_share=0.5, seed=s).how for s in range(60)]
    assert 15 <= share.count("random") <= 45
    with pytest.raises(ValueError, match="no way to pick"):
        clicks.next(taste, pool, [], how="entropy")


def test_thompson_leaves_options_that_hardly_differ_for_the_end(taste, pool):
    alike = [Comparison("toy", "ab", ("c_c_c.", "c_c_c.", f"c_c_{x}.", "c_c_c.")) for x in "cdef"]
    alike = [c for c in alike if not c.has_equal_options]
    mixed = [*alike, *pool[40:60]]
    picked = [
        clicks.next(taste, mixed, [], random_share=0.0, seed=s).comparison.id for s in range(40)
    ]
    assert not {c.id for c in alike} & set(picked) and len(set(picked)) > 3
