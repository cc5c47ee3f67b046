"""Online collection: the schedule by hand, offline as one round, stopping and resuming, waiting for
people."""

import dataclasses

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
from rlhf_helpers.runtime import seeds
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
    source=LABELER.label,
    config=ONLINE,
    on_log=None,
    ppo_config=PPO,
    reward_config=REWARD,
    micro_batch=None,
):
    policy = make_policy()
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
        policy, task, ragged.repeat(3), source, run, config, reward_config, ppo_config
    )
    return policy, model, lines, online.Rounds(run)


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
    assert not (tmp_path / "run/rounds").exists()


def test_a_round_without_new_labels_fits_a_new_model_on_the_old_ones(
    make_policy, letters, task, ragged, tmp_path
):
    config = dataclasses.replace(ONLINE, total=8)
    _, model, lines, rounds = tune(make_policy, letters, task, ragged, tmp_path, config=config)
    assert len(lines) == 6 and [bool(group) for group in rounds.comparisons] == [True, False, False]
    assert equal(model, fitted_from_scratch(make_policy(), letters, task, ragged, rounds, 2))


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

    def source(comparisons):
        asked.append(list(comparisons))
        return LABELER.label(comparisons)

    policy, model, lines, rounds = tune(make_policy, letters, task, ragged, tmp_path, source)
    assert len(lines) == 6
    assert [{(c.round, c.source) for c in group} for group in rounds.comparisons] == [
        {(0, "base")},
        {(1, "policy")},
        {(2, "policy")},
    ]
    # each round asks for the labels of all comparisons so far
    assert asked == [rounds.so_far(round) for round in range(3)]
    # comparisons of equal answers ask nothing
    assert len(asked[2]) <= 20 and [len(rounds.labels[k]) for k in range(3)] == list(
        map(len, asked)
    )
    # The last reward model is one fitted from scratch on everything, as anybody can do with the
    # labels in the run's folder.
    assert equal(fitted_from_scratch(make_policy(), letters, task, ragged, rounds, 2), model)


def fitted_from_scratch(base, letters, task, ragged, rounds, round):
    seed = seeds.derive(3, "reward model of round", round)
    model, pool = RewardModel.from_policy(base, seed), ragged.repeat(3)
    reward.normalize(model, base, pool, task, seed=seed)
    data = reward.encode(task, rounds.so_far(round), rounds.labels[round], letters)
    reward.fit(model, data, REWARD, Run(seed=seed, device="cpu", quiet=True))
    reward.normalize(model, base, pool, task, seed=seed)
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


def collected(policy, task, pool, count, round, seed=3):
    config = OnlineConfig(initial=count, total=10 * count, rounds=10)
    return online.collect(policy, task, pool, round, config, Run(seed=seed, device="cpu"))


def test_every_round_draws_prompts_in_an_order_of_its_own_and_each_once_before_any_twice(
    policy, letters, task
):
    pool = distinct(40)
    prompts = letters.batch_decode(pool.tokens.tolist())
    rounds = [[c.query for c in collected(policy, task, pool, 30, k)] for k in range(3)]
    assert all(
        len(set(queries)) == len(queries) and set(queries) < set(prompts) for queries in rounds
    )
    orders = [[prompts.index(q) for q in queries] for queries in rounds]
    assert (
        all(order != sorted(order) for order in orders)
        and len({tuple(order[:10]) for order in orders}) == 3
    )
    twice = [c.query for c in collected(policy, task, pool, 60, 0)]
    assert len(set(twice[:35])) == 35 and max(map(twice.count, twice)) == 2


def test_every_round_samples_with_random_numbers_of_its_own(policy, letters, task, ragged):
    """The policy has not moved and the prompts are the same: equal random numbers would ask the
    same questions again. Seed 3 in round 100,003 once drew as seed 4 in round 0."""
    rounds = [
        {(c.query, c.options) for c in collected(policy, task, ragged, 4, round, seed)}
        for seed, round in ((3, 0), (3, 1), (3, 2), (4, 0), (4, 1))
    ]
    assert all(len(asked) >= 3 for asked in rounds)
    assert len(set.union(*rounds)) == sum(map(len, rounds))


def test_prompts_whose_answers_are_equal_are_counted(policy, letters, task, monkeypatch, capsys):
    """They were left out without a word."""
    texts = ["a", "b", "a", "a"] * 2 + ["a", "a ", "a", "a"] * 3
    monkeypatch.setattr(labelers.tasks, "texts", lambda *_: texts)
    assert len(collected(policy, task, distinct(5), 5, 1)) == 2
    said = "Round 1: 2 of 5 prompts gave different answers; the others are left out.\n"
    assert capsys.readouterr().out == said
    monkeypatch.setattr(labelers.tasks, "texts", lambda *_: ["a", "b", "a", "a"] * 5)
    assert len(collected(policy, task, distinct(5), 5, 1)) == 5 and not capsys.readouterr().out


def test_one_round_is_offline_training(make_policy, letters, task, ragged, tmp_path):
    offline = OnlineConfig(initial=12, total=12, rounds=1, normalize_samples=12)
    tuned, model, lines, rounds = tune(make_policy, letters, task, ragged, tmp_path, config=offline)
    policy, pool = make_policy(), ragged.repeat(3)
    mine = fitted_from_scratch(policy, letters, task, ragged, rounds, 0)
    run = Run(seed=3, device="cpu", quiet=True)
    expected = ppo.tune(policy, reward.scorer(mine, task), pool, task, PPO, run)
    assert equal(mine, model) and equal(policy, tuned) and lines == expected


def test_without_a_folder_nothing_is_written(make_policy, task, ragged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(seed=3, device="cpu", quiet=True)
    pool, policy = ragged.repeat(3), make_policy()
    lines = online.tune(policy, task, pool, LABELER.label, run, ONLINE, REWARD, PPO)[1]
    assert len(lines) == 6 and not list(tmp_path.iterdir())


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
    for round in range(3):
        name = f"run/rounds/{round:02}.jsonl"
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "straight" / name
        ).read_bytes()


@pytest.mark.parametrize("change, named", [
    ({"config": dataclasses.replace(ONLINE, rounds=2)},
     "reward_model.online.rounds is 3 there and 2 now"),
    ({"config": dataclasses.replace(ONLINE, total=26)},
     "reward_model.online.total is 20 there and 26 now"),
    ({"reward_config": dataclasses.replace(REWARD, lr=2e-2)},
     "reward_model.fit.lr is 0.01 there and 0.02 now"),
])  # fmt: skip
@pytest.mark.parametrize("stop_at", [None, 3])
def test_a_run_does_not_go_on_with_other_rounds_or_reward_settings(
    make_policy, letters, task, ragged, tmp_path, change, named, stop_at
):
    """It went on, with labels of one plan and rounds of another, without a word. A run that waits
    for the labels of its first round has no checkpoint, and is refused too."""

    def nobody(comparisons):
        raise Stopped

    def stop(line):
        if line["step"] == stop_at:
            raise Stopped

    source = nobody if stop_at is None else LABELER.label
    with pytest.raises(Stopped):
        tune(make_policy, letters, task, ragged, tmp_path, source, on_log=stop)
    with pytest.raises(ValueError, match=f"holds a run with other settings .{named}."):
        tune(make_policy, letters, task, ragged, tmp_path, **change)
    assert len(tune(make_policy, letters, task, ragged, tmp_path)[2]) == 6  # the old ones do go on


@pytest.mark.parametrize("content, fault", [
    ('{"comparison": ', "line 1: Expecting value"), ("[]", "line 1: it holds no object"),
    ('{"comparison": {"task": "toy"}}', "missing 2 required"), ("{}", "'comparison'"),
    ('{"label": {"comparison_id": "x", "labeler": "", "choice": 0}}', "needs the name"),
])  # fmt: skip
def test_a_damaged_file_of_a_round_is_named(
    make_policy, letters, task, ragged, tmp_path, content, fault
):
    tune(make_policy, letters, task, ragged, tmp_path)
    (tmp_path / "run/rounds/01.jsonl").write_text(content)
    with pytest.raises(ValueError, match=f"01.jsonl in .*rounds cannot be read .*{fault}"):
        tune(make_policy, letters, task, ragged, tmp_path)
    (tmp_path / "run/rounds/01.jsonl").unlink()
    with pytest.raises(ValueError, match="01.jsonl is missing, but the run has reached round 2"):
        tune(make_policy, letters, task, ragged, tmp_path)


# ---- labels by people ----------------------------------------------------------------------------


def answer(store, labeler, comparisons):
    """Give the answers that the simulated labeler would give, as a person."""
    labels = [Label(c.id, labeler, LABELER.choose(c)) for c in comparisons]
    store.add_labels(labels)


def test_training_waits_for_people_and_continues_with_their_labels(
    make_policy, letters, task, ragged, tmp_path
):
    store = LabelStore(tmp_path / "labels.db")
    for _ in range(3):  # each round stops, is labelled, and the same call continues
        with pytest.raises(people.MoreLabels, match="in .*labels.db wait for an answer: give it"):
            tune(make_policy, letters, task, ragged, tmp_path, people.People(store))
        done = {x.comparison_id for x in store.labels()}
        answer(store, "ada", [c for c in store.comparisons() if c.id not in done])
    policy, model, lines, _ = tune(
        make_policy, letters, task, ragged, tmp_path, people.People(store)
    )
    simulated = tune(make_policy, letters, task, ragged, tmp_path / "simulated")
    assert len(lines) == 6 and lines == simulated[2] and equal(policy, simulated[0])
    assert {x.labeler for x in store.labels()} == {"ada"}


def test_a_changed_answer_counts_from_the_next_round_on(
    make_policy, letters, task, ragged, tmp_path
):
    """A resumed run learns from the labels that its round began with; the next round asks anew."""
    store = LabelStore(tmp_path / "labels.db")
    source = people.People(store, "ada")
    for round in range(2):
        with pytest.raises(people.MoreLabels):
            tune(make_policy, letters, task, ragged, tmp_path, source)
        answer(store, "ada", [c for c in store.comparisons() if c.round == round])
    with pytest.raises(people.MoreLabels):  # round 1 was fitted, the questions of round 2 wait
        tune(make_policy, letters, task, ragged, tmp_path, source)
    asked = {c.id: c for c in store.comparisons()}
    # she takes her last two answers back and gives one of them anew
    changed, taken_back = store.undo("ada", "toy"), store.undo("ada", "toy")
    assert asked[changed].round == 1
    other = (LABELER.choose(asked[changed]) + 1) % len(asked[changed].options)
    store.record("ada", changed, "choose", other)
    answer(store, "ada", [c for c in asked.values() if c.round == 2])
    with pytest.raises(people.MoreLabels, match=f"1 of {len(asked)} .* wait for an answer of ada"):
        tune(make_policy, letters, task, ragged, tmp_path, source)
    store.record("ada", taken_back, "choose", LABELER.choose(asked[taken_back]))
    rounds = tune(make_policy, letters, task, ragged, tmp_path, source)[3]

    def choices(round):
        return {x.comparison_id: x.choice for x in rounds.labels[round]}

    assert choices(1)[changed] == LABELER.choose(asked[changed]) and choices(2)[changed] == other
    assert choices(2).keys() == asked.keys() and not any(x.simulated for x in rounds.labels[2])


def test_a_run_resumed_within_a_round_learns_from_the_labels_the_round_began_with(
    make_policy, letters, task, ragged, tmp_path
):
    straight = tune(make_policy, letters, task, ragged, tmp_path / "straight")

    def stop(line):
        if line["step"] == 4:  # round 2, the last
            raise Stopped

    with pytest.raises(Stopped):
        tune(make_policy, letters, task, ragged, tmp_path, on_log=stop)

    def nobody(comparisons):
        raise AssertionError("the labels of this round are known")

    resumed = tune(make_policy, letters, task, ragged, tmp_path, nobody)
    assert resumed[2] == straight[2] and equal(resumed[1], straight[1])


def test_a_skipped_comparison_counts_as_answered(make_policy, letters, task, ragged, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    comparisons = labelers.collect(make_policy(), task, ragged, seed=1)
    store.add(comparisons)
    store.record("ada", comparisons[0].id, "skip")
    store.add_labels([Label(c.id, "ada", 0) for c in comparisons[1:]])
    assert len(people.People(store, "ada")(comparisons)) == len(comparisons) - 1
    with pytest.raises(people.MoreLabels):
        people.People(store, "ben")(comparisons)


def test_who_is_asked_alone_teaches_alone(make_policy, task, ragged, tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    comparisons = labelers.collect(make_policy(), task, ragged, seed=1)
    with pytest.raises(people.MoreLabels):
        people.People(store, "ada")(comparisons)
    store.add_labels([Label(c.id, "ben", 0) for c in comparisons])
    with pytest.raises(people.MoreLabels):  # Ben's labels are not hers
        people.People(store, "ada")(comparisons)
    store.add_labels([Label(c.id, "ada", 1) for c in comparisons])
    assert {(x.labeler, x.choice) for x in people.People(store, "ada")(comparisons)} == {("ada", 1)}
    assert len(people.People(store)(comparisons)) == 2 * len(comparisons)


def test_what_else_a_store_holds_is_not_taken_for_this_runs_questions(
    make_policy, task, ragged, tmp_path
):
    store = LabelStore(tmp_path / "labels.db")
    others = [Comparison("toy", query, ("ab.", "ba.", "cc.", "dd.")) for query in ("abc", "ab")]
    store.add(others)
    store.add_labels([Label(c.id, "me", 0) for c in others])
    comparisons = labelers.collect(make_policy(), task, ragged, seed=1)
    answer(store, "me", [c for c in comparisons if store.add([c])])
    labels = people.People(store)(comparisons)
    assert {x.comparison_id for x in labels} == {c.id for c in comparisons}


def test_the_fit_of_a_round_computes_as_few_rows_at_a_time_as_the_run(
    make_policy, letters, task, ragged, tmp_path, monkeypatch
):
    real, seen = reward.option_rewards, []
    monkeypatch.setattr(
        reward,
        "option_rewards",
        lambda model, batch, **named: seen.append(len(batch)) or real(model, batch, **named),
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
