"""Online collection: the schedule by hand, offline as one round, stopping and resuming, waiting for
people."""

import dataclasses
import shutil

import pytest
import torch

from rlhf_helpers import labelers, online, ppo, reward
from rlhf_helpers.labels import people
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.models import RewardModel
from rlhf_helpers.online import OnlineConfig
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runtime.runs import Run

ONLINE = OnlineConfig(initial=8, total=20, rounds=3, normalize_samples=12)
PPO = PPOConfig(episodes=48, batch=8, minibatches=1, epochs=2, lr=1e-2, kl_coef=0.1)
REWARD = RewardConfig(batch=4, lr=1e-2)
LABELER = labelers.SimulatedLabeler("simulated", lambda text: float(text.count("a")), temperature=0)


class Stopped(BaseException):
    pass


def tune(
    make_policy,
    letters,
    task,
    ragged,
    folder,
    ask=LABELER.label,
    config=ONLINE,
    on_log=None,
    ppo_config=PPO,
    micro_batch=None,
):
    policy, store = make_policy(), LabelStore(folder / "labels.db")
    run = Run(
        folder / "run",
        seed=3,
        device="cpu",
        checkpoint_every=2,
        quiet=True,
        on_log=on_log,
        micro_batch=micro_batch,
    )
    model, lines = online.tune(
        policy, task, ragged.repeat(3), ask, store, run, config, REWARD, ppo_config
    )
    return policy, model, lines, store


def equal(first, second):
    return all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


def test_rounds_bring_equally_many_labels_and_come_often_early_rarely_late_by_hand():
    assert [ONLINE.labels(k) for k in range(3)] == [8, 14, 20]
    # A third of the labels is due when 1 - (1 - p)^2 = 1/3, at p = 0.184, two thirds at p = 0.423:
    # of six steps, 1.1 and 2.5.
    assert ONLINE.starts(6) == [0, 1, 3] and [ONLINE.round_at(step, 6) for step in range(6)] == [
        0,
        1,
        1,
        2,
        2,
        2,
    ]
    summaries = OnlineConfig(initial=3_000, total=60_000, rounds=20)
    assert [summaries.labels(k) for k in (0, 1, 2, 19)] == [3_000, 6_000, 9_000, 60_000]
    starts = summaries.starts(100_000)
    due = [1 - (1 - start / 100_000) ** 2 for start in starts]
    # evenly spaced in labels, not in steps
    assert due == pytest.approx([k / 20 for k in range(20)], abs=1e-4)
    assert sorted({summaries.round_at(step, 1_000) for step in range(1_000)}) == list(range(20))


@pytest.mark.parametrize("rounds", [5, 7])
def test_more_rounds_than_steps_can_hold_are_refused_before_anything_is_asked(
    make_policy, letters, task, ragged, tmp_path, rounds
):
    # due at 0, 0.8, 1.76 and 3 steps
    assert dataclasses.replace(ONLINE, rounds=4).starts(6) == [0, 1, 2, 3]
    # of five, the second is due at 0.63 and the third at 1.35: both at step 1
    config = dataclasses.replace(ONLINE, rounds=rounds)
    with pytest.raises(
        ValueError,
        match=f"{rounds} rounds do not fit into 6 steps of PPO: lower `rounds` or raise `episodes`",
    ):
        tune(make_policy, letters, task, ragged, tmp_path, config=config)
    assert not LabelStore(tmp_path / "labels.db").comparisons()


def test_a_round_without_new_labels_fits_a_new_model_on_the_old_ones(
    make_policy, letters, task, ragged, tmp_path
):
    asked = []

    def ask(comparisons):
        asked.append(len(comparisons))
        return LABELER.label(comparisons)

    _, model, lines, store = tune(
        make_policy, letters, task, ragged, tmp_path, ask, dataclasses.replace(ONLINE, total=8)
    )
    assert len(lines) == 6 and len(asked) == 1 and len(store.comparisons()) == asked[0]
    assert equal(model, fitted_from_scratch(make_policy(), letters, task, ragged, store, 2))


@pytest.mark.parametrize(
    "settings", [{"initial": 0}, {"initial": 30}, {"rounds": 0}, {"rounds": 1}]
)
def test_impossible_plans_are_refused(settings):
    with pytest.raises(ValueError, match="labels first"):
        dataclasses.replace(ONLINE, **settings)


def test_each_round_asks_about_the_policy_of_its_time_and_learns_from_all_labels(
    make_policy, letters, task, ragged, tmp_path
):
    asked = []

    def ask(comparisons):
        asked.append(comparisons)
        return LABELER.label(comparisons)

    policy, model, lines, store = tune(make_policy, letters, task, ragged, tmp_path, ask)
    assert len(lines) == 6
    assert [{(c.round, c.source) for c in group} for group in asked] == [
        {(0, "base")},
        {(1, "policy")},
        {(2, "policy")},
    ]
    # comparisons of equal answers ask nothing
    assert sum(map(len, asked)) <= 20 and len(store.labels()) == sum(map(len, asked))
    # The last reward model is one fitted from scratch on everything, as anybody can do with the
    # store's labels.
    assert equal(fitted_from_scratch(make_policy(), letters, task, ragged, store, 2), model)


def fitted_from_scratch(base, letters, task, ragged, store, round, labeler=None):
    model, pool = RewardModel.from_policy(base, 3 + round), ragged.repeat(3)
    reward.normalize(model, base, pool, task, seed=3 + round)
    data = reward.encode(task, store.comparisons(), store.labels(labeler=labeler), letters)
    reward.fit(model, data, REWARD, Run(seed=3 + round, device="cpu", quiet=True))
    reward.normalize(model, base, pool, task, seed=3 + round)
    return model


def test_later_rounds_sample_from_the_policy_as_it_is_then(
    make_policy, letters, task, ragged, tmp_path, monkeypatch
):
    policy, base, real, moved = make_policy(), make_policy(), labelers.collect, []

    def collect(model, *args, **options):
        assert equal(model, policy)
        moved.append(not equal(model, base))
        return real(model, *args, **options)

    monkeypatch.setattr(labelers, "collect", collect)
    tune(lambda: policy, letters, task, ragged, tmp_path)
    assert moved == [False, True, True]


def distinct(count):
    """Prompts of which no two are alike."""
    tokens = torch.stack([torch.tensor([2 + i // 14, 2 + i % 14]) for i in range(count)])
    return Queries(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_every_round_draws_prompts_in_an_order_of_its_own_and_each_once_before_any_twice(
    policy, letters, task
):
    pool = distinct(40)
    prompts = letters.batch_decode(pool.tokens.tolist())
    rounds = [
        [c.query for c in online.collect(policy, task, pool, 30, round, seed=3)]
        for round in range(3)
    ]
    assert all(
        len(set(queries)) == len(queries) and set(queries) < set(prompts) for queries in rounds
    )
    orders = [[prompts.index(q) for q in queries] for queries in rounds]
    assert (
        all(order != sorted(order) for order in orders)
        and len({tuple(order[:10]) for order in orders}) == 3
    )
    twice = [c.query for c in online.collect(policy, task, pool, 60, 0, seed=3)]
    assert len(set(twice[:35])) == 35 and max(map(twice.count, twice)) == 2


def test_every_round_samples_with_numbers_of_its_own(policy, letters, task, ragged):
    """The policy has not moved and the prompts are the same: equal numbers would ask the same
    questions again."""
    rounds = [
        {(c.query, c.options) for c in online.collect(policy, task, ragged, 4, round, seed=3)}
        for round in range(3)
    ]
    assert all(len(asked) >= 3 for asked in rounds) and len(set.union(*rounds)) == sum(
        map(len, rounds)
    )


def test_one_round_is_offline_training(make_policy, letters, task, ragged, tmp_path):
    offline = OnlineConfig(initial=12, total=12, rounds=1, normalize_samples=12)
    tuned, model, lines, store = tune(make_policy, letters, task, ragged, tmp_path, config=offline)
    policy, pool = make_policy(), ragged.repeat(3)
    mine = fitted_from_scratch(policy, letters, task, ragged, store, 0)
    expected = ppo.tune(
        policy,
        lambda r: reward.score(mine, r, task),
        pool,
        task,
        PPO,
        Run(seed=3, device="cpu", quiet=True),
    )
    assert equal(mine, model) and equal(policy, tuned) and lines == expected


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
def test_stopped_and_resumed_equals_straight_through(
    make_policy, letters, task, ragged, tmp_path, stop_at
):
    straight = tune(make_policy, letters, task, ragged, tmp_path / "straight")

    def stop(line):
        if line["step"] == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        tune(make_policy, letters, task, ragged, tmp_path / "stopped", on_log=stop)
    resumed = tune(make_policy, letters, task, ragged, tmp_path / "stopped")
    assert (
        resumed[2] == straight[2]
        and equal(resumed[0], straight[0])
        and equal(resumed[1], straight[1])
    )
    assert resumed[3].comparisons() == straight[3].comparisons()


def test_training_waits_for_people_and_goes_on_with_their_labels(
    make_policy, letters, task, ragged, tmp_path
):
    store = LabelStore(tmp_path / "labels.db")
    for _ in range(3):  # each round stops, is labelled, and the same call goes on
        with pytest.raises(people.MoreLabels, match="wait in .*labels.db for a label"):
            tune(make_policy, letters, task, ragged, tmp_path, people.People(store))
        waiting = [
            c for c in store.comparisons() if c.id not in {x.comparison_id for x in store.labels()}
        ]
        store.add_labels([Label(c.id, "ada", LABELER.choose(c)) for c in waiting])
    policy, model, lines, _ = tune(
        make_policy, letters, task, ragged, tmp_path, people.People(store)
    )
    simulated = tune(make_policy, letters, task, ragged, tmp_path / "simulated")
    assert len(lines) == 6 and lines == simulated[2] and equal(policy, simulated[0])
    assert {x.labeler for x in store.labels()} == {"ada"}


def test_a_skipped_comparison_counts_as_answered(make_policy, letters, task, ragged, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    comparisons = labelers.collect(make_policy(), task, ragged, seed=1)
    store.add(comparisons)
    store.record("ada", comparisons[0].id, "skip")
    store.add_labels([Label(c.id, "ada", 0) for c in comparisons[1:]])
    assert len(people.People(store, "ada")(comparisons)) == len(comparisons) - 1
    with pytest.raises(people.MoreLabels):
        people.People(store, "ben")(comparisons)


def test_who_is_asked_alone_teaches_alone(make_policy, letters, task, ragged, tmp_path):
    store, config = (
        LabelStore(tmp_path / "labels.db"),
        OnlineConfig(initial=8, total=8, rounds=1, normalize_samples=12),
    )
    with pytest.raises(people.MoreLabels):
        tune(make_policy, letters, task, ragged, tmp_path, people.People(store, "ada"), config)
    store.add_labels([Label(c.id, "ben", 0) for c in store.comparisons()])
    with pytest.raises(people.MoreLabels):  # Ben's labels are not hers
        tune(make_policy, letters, task, ragged, tmp_path, people.People(store, "ada"), config)
    store.add_labels([Label(c.id, "ada", LABELER.choose(c)) for c in store.comparisons()])
    _, model, _, _ = tune(
        make_policy, letters, task, ragged, tmp_path, people.People(store, "ada"), config
    )
    base = make_policy()
    assert equal(model, fitted_from_scratch(base, letters, task, ragged, store, 0, "ada"))
    assert not equal(model, fitted_from_scratch(base, letters, task, ragged, store, 0))


def test_what_else_a_store_holds_is_not_taken_for_this_runs_questions(
    make_policy, letters, task, ragged, tmp_path
):
    store = LabelStore(tmp_path / "labels.db")
    others = [Comparison("toy", query, ("ab.", "ba.", "cc.", "dd.")) for query in ("abc", "ab")]
    store.add(others)
    store.add_labels([Label(c.id, "me", 0) for c in others])
    alone = tune(make_policy, letters, task, ragged, tmp_path / "alone")
    beside = tune(make_policy, letters, task, ragged, tmp_path)
    assert len(store.comparisons()) == len(alone[3].comparisons()) + 2
    assert equal(alone[1], beside[1]) and equal(alone[0], beside[0])


def test_another_store_than_the_run_began_with_is_refused(
    make_policy, letters, task, ragged, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(people.MoreLabels):
        tune(make_policy, letters, task, ragged, one, people.People(LabelStore(one / "labels.db")))
    shutil.copytree(one / "run", two / "run")
    with pytest.raises(ValueError, match="asked.json in .* do not belong together: open the store"):
        tune(make_policy, letters, task, ragged, two)


def test_the_fit_of_a_round_computes_as_few_rows_at_a_time_as_the_run(
    make_policy, letters, task, ragged, tmp_path, monkeypatch
):
    real, seen = reward.option_rewards, []
    monkeypatch.setattr(
        reward, "option_rewards", lambda model, batch: seen.append(len(batch)) or real(model, batch)
    )
    tune(
        make_policy,
        letters,
        task,
        ragged,
        tmp_path,
        config=OnlineConfig(8, 8, 1, 12),
        micro_batch=3,
    )
    assert max(seen) == 3
