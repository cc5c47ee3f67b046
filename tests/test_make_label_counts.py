"""The experiment on numbers of labels: labelers and verdicts by hand, and the whole command on a
random model of a few thousand weights."""

import dataclasses
import json
import math
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

import jobs  # noqa: E402
import label_counts_models as learned  # noqa: E402
import label_counts_parts as parts  # noqa: E402
import label_counts_truth as truth  # noqa: E402
import label_counts_verdicts as verdicts  # noqa: E402
import make_label_counts  # noqa: E402

from rlhf_helpers import labelers, models, presets, tasks  # noqa: E402
from rlhf_helpers.course import profile  # noqa: E402
from rlhf_helpers.records import Comparison  # noqa: E402

STYLE = truth.Truth("sentiment")
GLAD, SAD, PLAIN = " She was glad and happy.", " She was sad.", " She went to the mill."


# ---- who labels ----------------------------------------------------------------------------------


def asked(count, options=(SAD, GLAD, PLAIN, PLAIN)):
    return [Comparison("sentiment", "Once.", options, round=n) for n in range(count)]


def test_without_noise_the_best_is_chosen_and_it_is_the_one_of_highest_utility():
    (values,) = STYLE.utilities(asked(1)).tolist()
    assert values == [labelers.sentiment(text) for text in (SAD, GLAD, PLAIN, PLAIN)]
    assert {x.choice for x in STYLE.labels(asked(50), "noiseless", 0)} == {1}


def test_labels_are_chosen_as_often_as_the_chances_say():
    labels = STYLE.labels(asked(2_000), "recorded", 3)
    (chances,) = STYLE.chances(asked(1)).tolist()
    assert sum(chances) == pytest.approx(1) and all(x.simulated for x in labels)
    for k, count in sorted(Counter(x.choice for x in labels).items()):
        spread = math.sqrt(2_000 * chances[k] * (1 - chances[k]))
        assert abs(count - 2_000 * chances[k]) < 4 * spread


def test_a_coin_makes_every_difference_between_chances_smaller_by_its_share():
    """Of two options the better is chosen with p; with the coin, with (1 - c) p + c / 2."""
    pairs = asked(4_000, (GLAD, PLAIN))
    (p, _), c = STYLE.chances(pairs[:1])[0].tolist(), truth.COIN
    labels = STYLE.labels(pairs, "coin", 0)
    share, expected = sum(x.choice == 0 for x in labels) / 4_000, (1 - c) * p + c / 2
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 4_000)
    assert labels == STYLE.labels(pairs, "coin", 0) != STYLE.labels(pairs, "coin", 1)


def test_the_coin_should_cost_five_times_as_many_labels():
    """(1 - c) of the difference seen through n labels is as clear as all of it through n / 5."""
    assert (1 - truth.COIN) * math.sqrt(5_000) == pytest.approx(math.sqrt(1_000))


def test_judges_by_hand():
    """Three wins and a tie for the judge without noise; sides are shuffled and come back."""
    prompts = [f"Once, {n}." for n in range(4)]
    ours, theirs = [GLAD, GLAD, PLAIN, PLAIN], [SAD, PLAIN, SAD, PLAIN]
    won = STYLE.wins(prompts, ours, theirs, seed=0)
    lost = STYLE.wins(prompts, theirs, ours, seed=0)
    assert won["sharp"][0] == pytest.approx(3.5 / 4) and lost["sharp"][0] == pytest.approx(0.5 / 4)
    assert set(won) == {"sharp", "noisy"} and all(low <= x <= high for x, low, high in won.values())


def test_labelers_of_summaries_are_asked_about_the_towns_posts():
    rows = tasks.bundled("posts", "validation").select(range(3)).to_list()
    pairs = [Comparison("tldr", r["text"], (" " + r["summary"], " Nothing.")) for r in rows]
    posts = truth.Truth("tldr")
    values, chances = posts.utilities(pairs), posts.chances(pairs)
    assert (values[:, 0] > values[:, 1] + 0.3).all()  # what states nothing is worth little
    assert (chances[:, 0] > 0.9).all()
    copied = [Comparison("tldr", r["text"], (r["text"], " " + r["summary"])) for r in rows]
    wanted = posts.utilities_to_ourselves(copied)
    assert (wanted[:, 0] < wanted[:, 1]).any()  # all of it copied, and long
    with pytest.raises(ValueError, match="not 'coin'"):
        posts.labels(pairs, "coin", 0)


# ---- verdicts ------------------------------------------------------------------------------------


def row(task, learner, labels, seed, **numbers):
    return {"task": task, "learner": learner, "labels": labels, "seed": seed} | numbers


def test_claims_are_answered_from_rows_of_one_kind_only():
    """A tuned policy, other noise or chosen questions have the same task, learner and number."""
    rows = []
    for seed in (0, 1, 2):
        usual = {"noise": "recorded", "asking": "random"}
        rows += [
            row("sentiment", "few", 200, seed, best_noisy=[0.7 + seed / 100, 0, 1], **usual),
            row("sentiment", "full", 200, seed, best_noisy=[0.6 + seed / 100, 0, 1], **usual),
            row("sentiment", "few", 200, seed, best_noisy=[0.1, 0, 1], noise="coin",
                asking="random"),
            row("sentiment", "few", 200, seed, wins_noisy=[0.6, 0, 1], rounds=1),
            row("sentiment", "full", 200, seed, wins_noisy=[0.6, 0, 1], rounds=1),
        ]  # fmt: skip
    found = verdicts.verdicts(rows)
    first, tuned = found
    assert first["measure"] == "best_noisy" and first["differences"] == [0.1] * 3
    assert first["verdict"] == "more" and first["who"] == "sentiment, few-click model, 200 labels"
    assert tuned["measure"] == "wins_noisy" and tuned["verdict"] == "no difference seen"
    assert tuned["who"].endswith("tuned, offline")
    (alone, _) = verdicts.verdicts([r for r in rows if r["seed"] == 0])
    assert alone["verdict"] == "inconclusive" and alone["interval"] is None


def test_every_claim_is_about_rows_that_the_experiment_makes():
    """A claim about a count that is not run would never be answered, and nobody would notice."""
    tuned = {(learner, count, rounds) for learner, count, rounds in make_label_counts.TUNED}
    for claim in verdicts.CLAIMS:
        for r in (claim.who, claim.than):
            assert r.labels in make_label_counts.COUNTS
            assert r.labels <= make_label_counts.MOST.get(r.task, 20_000)
            assert r.learner == "full" or r.labels <= learned.FEW
            assert r.asking == "random" or r.labels <= learned.ASKED
            known = r.labels in make_label_counts.NOISY and r.task == "sentiment"
            assert r.noise == "recorded" or known
            if r.rounds:
                assert (r.learner, r.labels, r.rounds) in tuned
                assert r.task not in make_label_counts.MOST
        assert claim.expected in ("more", "less", "no difference seen") and claim.margin > 0


def test_sizes_by_hand():
    """Half of 0.4 bits is foreseen at 1,000 labels (halfway from 100 to 10,000 by the logarithm):
    400 bits were paid. The few-click model never gets there."""
    rows = []
    for seed, off in ((0, -0.02), (1, 0.02)):
        for learner, counts in (
            ("full", {100: 0.1, 10_000: 0.3}),
            ("few", {100: 0.1, 1_000: 0.15}),
        ):
            for labels, bits in counts.items():
                wins = [0.5 + bits + (0.1 if learner == "few" else 0), 0, 1]
                rows.append(row(
                    "tldr", learner, labels, seed, bits_foreseen=bits + off, share=0.1,
                    bits_in_label=0.4, best_noisy=wins,
                ))  # fmt: skip
    few, full, cross = verdicts.sizes(rows)
    assert (few["labels_for_half"], few["bits_paid"]) == (None, None)
    assert (full["labels_for_half"], full["bits_paid"]) == (1_000, 400.0)
    assert cross == {"task": "tldr", "full_overtakes_few_at": None}  # .75 and .7 at 1,000


# ---- the whole command ---------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The smallest experiment there is: a random model that shares the bundled tokenizer."""
    for name in ("sentiment", "tldr"):
        small = dataclasses.replace(presets.BUNDLED[name], normalize_samples=16)
        monkeypatch.setitem(presets.BUNDLED, name, small)
    monkeypatch.setattr(learned, "STEPS", 2)
    monkeypatch.setattr(make_label_counts, "MOST", {})
    monkeypatch.setattr(make_label_counts, "NOISY", (8, 16))
    tokenizer = models.load_tokenizer()
    models.tiny_policy(vocabulary=len(tokenizer), context=256).save(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return parts.Settings(
        labels=16, read=12, held=6, episodes=128, kl_coef=0.35, split="validation",
        precision="fp32", counts=(8, 16), tasks=("sentiment",),
        tuned=(("few", 8, 1), ("full", 16, 1), ("full", 16, 2)), base=str(tmp_path / "base"),
    )  # fmt: skip


def perform(settings, folder):
    folder.mkdir(exist_ok=True)
    s = dataclasses.replace(settings, folder=str(folder))
    with ThreadPoolExecutor(1) as pool:
        jobs.work(make_label_counts.jobs_of(s), s, 1, pool)
    return make_label_counts.table(s)


def without_seconds(made):
    for found in [*made["reward_models"], *made["policies"]]:
        found.pop("seconds", None)
    return made


def test_a_command_that_was_stopped_goes_on_and_ends_with_the_same_table(
    settings, tmp_path, monkeypatch, capsys
):
    straight = without_seconds(perform(settings, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        patch.setattr(learned.ppo, "tune", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            perform(settings, tmp_path / "stopped")
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "stopped").glob("*.json")}
    assert without_seconds(perform(settings, tmp_path / "stopped")) == straight
    assert f"{len(done)} of 16 parts are there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == made for path, made in done.items())  # nothing twice

    found = straight["reward_models"]
    kinds = Counter((r["learner"], r["noise"], r["asking"]) for r in found)
    assert kinds == {
        ("nobody", "recorded", "random"): 1, ("the taste itself", "recorded", "random"): 1,
        ("few", "recorded", "random"): 1, ("few", "noiseless", "random"): 1,
        ("few", "coin", "random"): 1, ("few", "recorded", "uncertain"): 1,
        ("full", "recorded", "random"): 2, ("full", "noiseless", "random"): 2,
        ("full", "coin", "random"): 2,
    }  # fmt: skip
    (known,) = [r for r in found if r["learner"] == "the taste itself"]
    assert known["share"] == 1 and known["accuracy"] == known["ceiling"]
    assert known["best_sharp"][0] >= max(r["best_sharp"][0] for r in found)
    assert {p["sampled_tokens"] for p in straight["policies"]} == {128 * 32}
    assert [(p["learner"], p["rounds"]) for p in straight["policies"]] == [
        ("few", 1), ("full", 1), ("full", 2)
    ]  # fmt: skip
    assert all(math.isfinite(p["kl_nats"]) for p in straight["policies"])
    assert {v["verdict"] for v in straight["verdicts"]} <= {"inconclusive"}
    assert set(straight["samples"][0]) > {"task", "prompt", "base"}
    json.dumps(straight, allow_nan=False)


def test_summaries_go_through_the_same_parts(settings, tmp_path):
    s = dataclasses.replace(settings, tasks=("tldr",), counts=(8,), tuned=())
    made = perform(s, tmp_path / "posts")
    assert {r["task"] for r in made["reward_models"]} == {"tldr"} and not made["policies"]
    assert [r["learner"] for r in made["reward_models"]].count("full") == 1
    assert all("share_ourselves" in r for r in made["reward_models"])


def test_the_first_labels_are_the_same_for_all_who_learn(settings, tmp_path):
    """Few-click model and full fit are compared on the same labels; another seed has others."""
    s = dataclasses.replace(settings, folder=str(tmp_path))
    rows = [[f"Prompt {n}.", "a", "b", "c", "d"] for n in range(16)]
    (tmp_path / "pool-style-0.json").write_text(json.dumps({"comparisons": rows}))
    first, again, other = (
        [c.query for c in parts.ordered(s, name, seed)]
        for name, seed in (("sentiment", 0), ("descriptiveness", 0), ("sentiment", 1))
    )
    assert first == again and first != other and sorted(first) == sorted(other)
    assert sorted(first) == sorted(row[0] for row in rows)


def test_what_it_asks_itself_is_never_asked_twice(settings, tmp_path):
    s = dataclasses.replace(settings, folder=str(tmp_path / "parts"))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "pool-style-0.json").write_text(json.dumps(parts.pool(s, "style", 0)))
    known = parts.ordered(s, "sentiment", 0)
    policy = parts.load(s).requires_grad_(False)
    features = learned.Features(policy, tasks.SENTIMENT, known)
    chosen = learned.uncertain(features, STYLE, known, [4, 15], seed=0)
    assert len({c.id for c in chosen}) == len(chosen) == 15
    ten = learned.uncertain(features, STYLE, known, [4, 10], seed=0)
    assert chosen[:10] == ten  # more questions begin with the same ones


def test_a_policy_that_collapsed_is_a_row_too(settings, tmp_path, monkeypatch):
    def collapse(*arguments):
        raise learned.Collapsed("step 3: it says one thing")

    folder = tmp_path / "parts"
    folder.mkdir()
    s = dataclasses.replace(settings, folder=str(folder))
    (folder / "held-style.json").write_text(json.dumps(parts.held(s, "style")))
    monkeypatch.setattr(learned.online, "tune", collapse)
    found = learned.tuned(s, "sentiment", "full", 16, 2, 0)
    assert found["collapsed"] == "step 3: it says one thing" and abs(found["kl_nats"]) < 1e-4


def test_every_part_is_made_before_it_is_needed_and_only_once(settings):
    s = dataclasses.replace(
        settings, labels=20_000, counts=make_label_counts.COUNTS, seeds=(0, 1),
        tasks=("sentiment", "descriptiveness", "tldr"), tuned=make_label_counts.TUNED,
    )  # fmt: skip
    made = []
    for job in make_label_counts.jobs_of(s):
        assert set(job.needs) <= set(made) and job.file not in made
        made.append(job.file)
    assert sum(name.startswith("pool-") for name in made) == 40  # two kinds of samples
    first = [n for n, name in enumerate(made) if name.endswith("-0.json") and "pool" not in name]
    assert max(first) < min(n for n, name in enumerate(made) if name.endswith("-1.json")
                            and "pool" not in name)  # fmt: skip


def test_other_numbers_are_another_folder_and_more_seeds_are_not(settings, tmp_path):
    def folder(*words):
        given = ["--base", settings.base, "--folder", str(tmp_path), *words]
        return make_label_counts.settings_of(make_label_counts.parser().parse_args(given)).folder

    assert folder() == folder("--seeds", "0", "--tasks", "tldr")
    assert folder() == folder("--counts", "25", "20000")  # the same pool
    others = [folder("--held", "7"), folder("--counts", "25", "100"), folder("--quick")]
    assert len({folder(), *others}) == 4


def test_policies_on_counts_that_are_not_run_are_left_out(settings, tmp_path):
    """Nobody would have made what they need."""
    given = ["--base", settings.base, "--folder", str(tmp_path), "--counts", "200", "1000"]
    s = make_label_counts.settings_of(make_label_counts.parser().parse_args(given))
    assert s.tuned == (("few", 200, 1), ("full", 200, 1), ("full", 1_000, 1))


# ---- the recorded table --------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(profile.RECORDED.glob("label_counts*.json")), ids=str)
def test_the_recorded_table_has_every_row_for_every_seed(path):
    made = json.loads(path.read_text())
    found = [*made["reward_models"], *made["policies"]]
    by_seed = Counter(row["seed"] for row in found)
    assert set(by_seed) == set(made["settings"]["seeds"]) and len(set(by_seed.values())) == 1
    assert made["verdicts"] == verdicts.verdicts(found)
    assert made["sizes"] == verdicts.sizes(made["reward_models"])
    json.dumps(made, allow_nan=False)


def test_measurements_of_torch_are_plain_numbers(settings, tmp_path):
    s = dataclasses.replace(settings, folder=str(tmp_path))
    (tmp_path / "held-style.json").write_text(json.dumps(parts.held(s, "style")))
    found = learned.measure(
        s, "sentiment", 0, lambda asked: torch.zeros(len(asked), len(asked[0].options))
    )
    assert found["bits_foreseen"] == 0 and found["bits_in_label"] >= 0
    json.dumps(found, allow_nan=False)
