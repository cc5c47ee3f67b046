"""Online collection: the schedule by hand, offline as one round, stopping and resuming, waiting for people."""

import dataclasses

import pytest
import torch

from rlhf_helpers import labelers, online, ppo, reward
from rlhf_helpers.models import RewardModel
from rlhf_helpers.online import OnlineConfig
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Label
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runs import Run
from rlhf_helpers.store import LabelStore

ONLINE = OnlineConfig(initial=8, total=20, rounds=3, normalize_samples=12)
PPO = PPOConfig(episodes=48, batch=8, epochs=2, lr=1e-2, kl_coef=0.1)
REWARD = RewardConfig(batch=4, lr=1e-2)
LABELER = labelers.SimulatedLabeler("simulated", lambda text: float(text.count("a")), temperature=0)


class Stopped(BaseException):
    pass


def tune(make_policy, letters, task, ragged, folder, ask=LABELER.label, config=ONLINE, on_log=None):
    policy, store = make_policy(), LabelStore(folder / "labels.db")
    run = Run(folder / "run", seed=3, device="cpu", checkpoint_every=2, quiet=True, on_log=on_log)
    model, lines = online.tune(policy, letters, task, ragged.repeat(3), ask, store, run, config, REWARD, PPO)
    return policy, model, lines, store


def equal(first, second):
    return all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


def test_many_labels_early_fewer_later_by_hand():
    assert [ONLINE.labels(k) for k in range(3)] == [8, 17, 20]  # 8 + 12 (1 - 1/4), 8 + 12
    assert [ONLINE.round_at(step, 6) for step in range(6)] == [0, 0, 1, 1, 2, 2]
    summaries = OnlineConfig(initial=30_000, total=60_000, rounds=20)
    assert (summaries.labels(0), summaries.labels(19)) == (30_000, 60_000)
    assert sorted({summaries.round_at(step, 1_000) for step in range(1_000)}) == list(range(20))


@pytest.mark.parametrize("settings", [{"initial": 0}, {"initial": 30}, {"rounds": 0}, {"rounds": 1}])
def test_impossible_plans_are_refused(settings):
    with pytest.raises(ValueError, match="labels first"):
        dataclasses.replace(ONLINE, **settings)


def test_each_round_asks_about_the_policy_of_its_time_and_learns_from_all_labels(make_policy, letters, task, ragged, tmp_path):
    asked = []

    def ask(comparisons):
        asked.append(comparisons)
        return LABELER.label(comparisons)

    policy, model, lines, store = tune(make_policy, letters, task, ragged, tmp_path, ask)
    assert len(lines) == 6
    assert [{(c.round, c.source) for c in group} for group in asked] == [{(0, "base")}, {(1, "policy")}, {(2, "policy")}]
    assert sum(map(len, asked)) <= 20 and len(store.labels()) == sum(map(len, asked))  # comparisons of equal answers ask nothing
    # The last reward model is one fitted from scratch on everything, as anybody can do with the store's labels.
    base = make_policy()
    again = RewardModel.from_policy(base, 3 + 2)
    reward.normalize(again, base, ragged.repeat(3), task, letters, seed=3)
    reward.fit(again, reward.encode(task, store.comparisons(), store.labels(), letters), REWARD, Run(seed=5, device="cpu", quiet=True))
    reward.normalize(again, base, ragged.repeat(3), task, letters, seed=3)
    assert equal(again, model)
    # Samples of a later round are those of the moved policy: the base's own, from the same prompts and seed, differ.
    assert not equal(policy, base)


def test_one_round_is_offline_training(make_policy, letters, task, ragged, tmp_path):
    offline = OnlineConfig(initial=12, total=12, rounds=1, normalize_samples=12)
    tuned, model, lines, store = tune(make_policy, letters, task, ragged, tmp_path, config=offline)
    policy, pool = make_policy(), ragged.repeat(3)
    mine = RewardModel.from_policy(policy, 3)
    reward.normalize(mine, policy, pool, task, letters, seed=3)
    reward.fit(mine, reward.encode(task, store.comparisons(), store.labels(), letters), REWARD, Run(seed=3, device="cpu", quiet=True))
    reward.normalize(mine, policy, pool, task, letters, seed=3)
    expected = ppo.tune(policy, lambda r: reward.score(mine, r, task, letters), pool, task, PPO, Run(seed=3, device="cpu", quiet=True))
    assert equal(mine, model) and equal(policy, tuned) and lines == expected


@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
def test_stopped_and_resumed_equals_straight_through(make_policy, letters, task, ragged, tmp_path, stop_at):
    straight = tune(make_policy, letters, task, ragged, tmp_path / "straight")

    def stop(line):
        if line["step"] == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        tune(make_policy, letters, task, ragged, tmp_path / "stopped", on_log=stop)
    resumed = tune(make_policy, letters, task, ragged, tmp_path / "stopped")
    assert resumed[2] == straight[2] and equal(resumed[0], straight[0]) and equal(resumed[1], straight[1])
    assert resumed[3].comparisons() == straight[3].comparisons()


def test_training_waits_for_people_and_goes_on_with_their_labels(make_policy, letters, task, ragged, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    for _ in range(3):  # each round stops, is labelled, and the same call goes on
        with pytest.raises(online.MoreLabels, match="wait in .*labels.db for a label"):
            tune(make_policy, letters, task, ragged, tmp_path, online.from_people(store))
        waiting = [c for c in store.comparisons() if c.id not in {x.comparison_id for x in store.labels()}]
        store.add_labels([Label(c.id, "ada", LABELER.choose(c)) for c in waiting])
    policy, model, lines, _ = tune(make_policy, letters, task, ragged, tmp_path, online.from_people(store))
    simulated = tune(make_policy, letters, task, ragged, tmp_path / "simulated")
    assert len(lines) == 6 and lines == simulated[2] and equal(policy, simulated[0])
    assert {x.labeler for x in store.labels()} == {"ada"}


def test_a_skipped_comparison_counts_as_answered(make_policy, letters, task, ragged, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    comparisons = labelers.collect(make_policy(), letters, task, ragged, seed=1)
    store.add(comparisons)
    store.record("ada", comparisons[0].id, "skip")
    store.add_labels([Label(c.id, "ada", 0) for c in comparisons[1:]])
    assert len(online.from_people(store, "ada")(comparisons)) == len(comparisons) - 1
    with pytest.raises(online.MoreLabels):
        online.from_people(store, "ben")(comparisons)
