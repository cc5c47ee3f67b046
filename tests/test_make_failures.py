"""The experiment on failures: rows by hand, and the whole command on a random model of a few
thousand weights."""

import dataclasses
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

import failures_arms  # noqa: E402
import failures_parts  # noqa: E402
import failures_table  # noqa: E402
import failures_verdicts  # noqa: E402
import jobs  # noqa: E402
import make_failures  # noqa: E402

from rlhf_helpers import models, presets  # noqa: E402
from rlhf_helpers.course import profile, readers  # noqa: E402

USUAL = failures_arms.Settings()

# ---- pieces --------------------------------------------------------------------------------------


def test_the_strictest_model_pays_each_answer_in_all():
    """Not the least of every token, which no model has paid."""
    one = torch.tensor([[1.0, 1.0, 1.0], [2.0, -5.0, 0.0]])
    other = torch.tensor([[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
    assert failures_parts.strictest([one, other]).tolist() == [other[0].tolist(), one[1].tolist()]
    assert failures_parts.strictest([one[:, 0], other[:, 0]]).tolist() == [0.0, 1.0]


def test_slope_by_hand():
    assert failures_parts.slope(
        torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 2, 4])
    ) == pytest.approx(1.5)
    # no answer ended, or all are equally long: a NaN would have spoiled the training
    assert failures_parts.slope(torch.zeros(0), torch.zeros(0)) == 0
    assert failures_parts.slope(torch.ones(3), torch.rand(3)) == 0


def test_looks_are_closer_together_at_the_start_and_include_both_ends():
    at = sorted(failures_parts.looks(48, 12))
    gaps = [b - a for a, b in zip(at, at[1:], strict=False)]
    assert at[0] == 0 and at[-1] == 48 and len(at) == 13 and max(gaps[:4]) < min(gaps[-4:])
    assert sorted(failures_parts.looks(48, 1)) == [0, 48]


def test_fewer_labels_are_the_beginning_of_more_and_none_is_held_out():
    few, many = failures_arms.Model("reader", 100), failures_arms.Model("reader", 500)
    held = {c.id for c in failures_parts.asked()[: USUAL.held_out]}
    one = [c.id for c in failures_parts.learned(USUAL, many, 0)]
    assert [c.id for c in failures_parts.learned(USUAL, few, 0)] == one[:100]
    assert not held & set(one) and one != [c.id for c in failures_parts.learned(USUAL, many, 1)]


def test_each_labeler_has_its_habit_and_nothing_else():
    options = ("A goat came by the mill.", "A goat came.")
    p = {
        name: failures_arms.labeler(name, 0).probabilities(options)
        for name in ("reader", "sorted", "shuffled", "longer")
    }
    assert p["reader"] == [0.5, 0.5] and p["sorted"][1] > 0.7 and p["longer"][0] > 0.55
    assert sorted(p["shuffled"]) == sorted(p["sorted"])


def test_every_claim_is_about_rows_that_are_made():
    """A claim about a row of another name would be silently left out."""
    made = {arm.who for arm in failures_arms.arms(USUAL)}
    made |= {f"{w}, a third of the way" for w in made if w.endswith("no price")}
    made |= {f"{role} labels, best of {n}" for role in failures_arms.ROLES
             for n in failures_parts.NS}  # fmt: skip
    made |= {"base", "plus reward, minus KL", "stopped by a judge",
             f"{failures_verdicts.LATE}, at the KL of a low price"}  # fmt: skip
    for claim in failures_verdicts.CLAIMS:
        assert {claim.who, claim.than} <= made, claim
    assert len({(c.measure, c.who, c.than) for c in failures_verdicts.CLAIMS}) == len(
        failures_verdicts.CLAIMS
    )


def test_arms_have_files_of_their_own():
    files = [arm.file(0) for arm in failures_arms.arms(USUAL)]
    assert len(set(files)) == len(files) == 18
    signs = {(a.sign, a.price > 0) for a in failures_arms.arms(USUAL) if a.part == "signs"}
    assert signs == {(-1, True), (1, False), (-1, False)}  # the fair arm is the fourth


# ---- the table -----------------------------------------------------------------------------------


def point(step, kl, gold, proxy=0.0, wins=0.5):
    row = dict.fromkeys(failures_table.MEASURES, 0.0)
    return row | {"step": step, "kl_nats": kl, "gold": gold, "proxy": proxy, "wins": wins}


def test_gold_at_a_distance_lies_on_the_line_between_two_looks():
    path = [point(0, 0.0, 0.0), point(5, 4.0, 2.0, 4.0), point(9, 10.0, -1.0, 10.0)]
    assert failures_table.at_kl(path, 7.0) == {"kl_nats": 7.0, "proxy": 7.0, "gold": 0.5}
    assert failures_table.at_kl(path, 4.0)["gold"] == 2.0
    assert failures_table.at_kl(path, 50.0) == {"kl_nats": 10.0, "proxy": 10.0, "gold": -1.0}


def test_a_judge_stops_before_the_end_and_the_low_price_has_a_twin():
    free = [point(i, float(i), g, wins=w) for i, (g, w) in enumerate(
        [(0.0, 0.5), (0.4, 0.6), (0.6, 0.7), (0.5, 0.65), (0.2, 0.6), (-1.0, 0.5), (-2.0, 0.9)]
    )]  # fmt: skip
    runs = [
        {"who": "some labels, no price", "seed": 3, "points": free},
        {
            "who": "some labels, a low price",
            "seed": 3,
            "points": [point(0, 0, 0), point(9, 2.5, 1)],
        },
    ]
    stopped, twin = failures_table.compared(runs, 3)
    assert (stopped["who"], stopped["gold"]) == ("stopped by a judge", 0.6)
    assert twin["who"] == "some labels, no price, at the KL of a low price"
    assert twin["gold"] == pytest.approx(0.55) and twin["kl_nats"] == 2.5


def test_fits_take_all_seeds_together_and_begin_at_the_base_model():
    """Gold d (1 - d / 4) above a start of 0.3 and of -0.2."""
    chosen = [
        {
            "series": "few labels",
            "points": [
                {"kl_nats": d**2, "gold": start + d * (1 - d / 4)} for d in (0.0, 0.5, 1.0, 1.5)
            ],
        }
        for start in (0.3, -0.2)
    ]
    (found,) = failures_table.fits(chosen, [])
    assert (found["rise"], found["bend"]) == pytest.approx((1.0, 0.25), abs=1e-3)
    assert found["turns_at_nats"] == pytest.approx(4.0, abs=1e-2) and found["peak"] == 1.0
    assert not found["seen"] and found["to_nats"] == 2.25  # it turns beyond what was measured


def test_claims_are_answered_seed_by_seed():
    rows = [
        {"who": who, "seed": seed, "gold": gold + seed / 100, "words": None}
        for seed in (0, 1, 2)
        for who, gold in (("some labels, no price", -1.0), ("base", 0.0), ("ensemble", -0.995))
    ]
    found = {(v["who"], v["than"]): v for v in failures_verdicts.verdicts(rows)}
    assert set(found) == {("some labels, no price", "base"), ("ensemble", "some labels, no price")}
    assert found["some labels, no price", "base"]["verdict"] == "less"
    assert found["ensemble", "some labels, no price"]["differences"] == [0.005] * 3
    (alone, _) = failures_verdicts.verdicts(rows[:3])
    assert alone["verdict"] == "inconclusive" and alone["interval"] is None


# ---- the whole command ---------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The smallest experiment there is: a random model that shares the bundled tokenizer."""
    few = dataclasses.replace(presets.BUNDLED["sentiment"], normalize_samples=16)
    monkeypatch.setitem(presets.BUNDLED, "sentiment", few)
    monkeypatch.setattr(failures_parts, "READ", 24)
    tokenizer = models.load_tokenizer()
    models.tiny_policy(vocabulary=len(tokenizer), context=256).save(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return failures_arms.Settings(
        sizes=(8, 12, 16), clicks=6, episodes=128, short=64, prompts=3, samples=8, judged=4,
        test=4, held_out=6, looks=2, seeds=(0,), base=str(tmp_path / "base"),
    )  # fmt: skip


def perform(settings, folder):
    folder.mkdir(exist_ok=True)
    s = dataclasses.replace(settings, folder=str(folder))
    with ThreadPoolExecutor(1) as pool:
        jobs.work(make_failures.jobs_of(s), s, 1, pool)
    return failures_table.table(s)


def without_seconds(made):
    for run in made["runs"]:
        run.pop("seconds", None)
    return made


def test_a_command_that_was_stopped_goes_on_and_ends_with_the_same_table(
    settings, tmp_path, monkeypatch, capsys
):
    straight = without_seconds(perform(settings, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        real, calls = failures_parts.ppo.tune, []

        def stop(*arguments, **options):
            calls.append(1)
            return real(*arguments, **options) if len(calls) < 3 else 1 / 0

        patch.setattr(failures_parts.ppo, "tune", stop)
        with pytest.raises(ZeroDivisionError):
            perform(settings, tmp_path / "stopped")
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "stopped").glob("*.json")}
    assert without_seconds(perform(settings, tmp_path / "stopped")) == straight
    total = len(make_failures.jobs_of(settings))
    assert f"{len(done)} of {total} parts are there" in capsys.readouterr().out and len(done) >= 4
    assert all(path.stat().st_mtime_ns == made for path, made in done.items())  # nothing twice

    runs = {run["who"]: run for run in straight["runs"]}
    assert [p["step"] for p in runs["some labels, no price"]["points"]] == [0, 1, 2]
    assert [p["step"] for p in runs["longer"]["points"]] == [0, 1]
    assert all(abs(run["points"][0]["kl_nats"]) < 1e-3 for run in runs.values())
    assert all(run["ended"] == "" for run in runs.values())
    assert runs["ensemble"]["sampled_tokens"] == 128 * 32
    fitted = {(m["labeler"], m["labels"], m["member"], m["taste"]) for m in straight["models"]}
    assert len(fitted) == len(straight["models"]) == 9
    assert all(0.25 <= m["ceiling"] <= 1 for m in straight["models"])
    assert {f["form"] for f in straight["fits"]} >= {"best of n"}
    assert {v["verdict"] for v in straight["verdicts"]} == {"inconclusive"}  # of one seed
    assert len(straight["verdicts"]) >= 17  # there is no best of 128 in a pool of 8
    json.dumps(straight, allow_nan=False)


def test_the_best_of_one_is_any_answer_and_more_have_a_higher_proxy(settings, tmp_path):
    s = dataclasses.replace(settings, folder=str(tmp_path))
    model = failures_arms.Model("reader", 8)
    for name, made in (
        ("pool-0.json", failures_parts.pool(s, 0)),
        ("x.json", failures_parts.reward_model(s, model, 0)),
    ):
        (tmp_path / name).write_text(json.dumps(made))
    found = failures_parts.best_of(s, model, 0)
    proxies = [p["proxy"] for p in found["points"]]
    assert proxies == sorted(proxies) and [p["n"] for p in found["points"]] == [1, 2, 4, 8]
    assert found["points"][0]["gold"] == pytest.approx(0, abs=1e-4)  # the pool is its unit
    assert set(found["samples"]) == {"best of 1", "best of 16", "best of 8"}
    assert -1 <= found["correlation"] <= 1 and math.isfinite(found["per_token"])


def test_without_length_each_kept_token_costs_what_length_earns(settings, tmp_path, monkeypatch):
    """The reward of an answer falls by the slope times its tokens; what never ends keeps the
    penalty alone."""
    s = dataclasses.replace(settings, folder=str(tmp_path))
    arm = next(a for a in failures_arms.arms(s) if a.even)
    policy = failures_parts.load(s)
    (tmp_path / "pool-0.json").write_text(json.dumps(failures_parts.pool(s, 0)))
    (tmp_path / f"best-{arm.pays[0].name(0)}.json").write_text('{"per_token": 0.5}')
    monkeypatch.setattr(
        failures_parts, "scorer", lambda *a: lambda rollout: torch.zeros(rollout.responses.shape)
    )
    rollout = failures_parts.drawn(s, policy, 0)
    paid = failures_parts.paid_by(s, policy, arm, 0)(rollout)
    kept, finished = failures_parts.tasks.truncate(
        failures_parts.TASK, rollout.responses, policy.tokenizer
    )
    assert torch.equal(paid.sum(-1), torch.where(finished, -0.5 * kept.sum(-1), 0.0))
    flipped = failures_parts.paid_by(s, policy, arm._replace(sign=-1), 0)(rollout)
    assert torch.equal(flipped, -paid)


def test_every_part_is_made_before_it_is_needed_and_only_once():
    made = []
    for job in make_failures.jobs_of(USUAL):
        assert set(job.needs) <= set(made) and job.file not in made
        made.append(job.file)
    assert sum(name.startswith("tuned") for name in made) == 3 * 18
    assert sum(name.startswith("reward") for name in made) == 3 * 9


def test_other_numbers_are_another_folder_and_more_seeds_are_not(settings, tmp_path, monkeypatch):
    def folder(*words):
        given = ["--base", settings.base, "--folder", str(tmp_path), *words]
        return make_failures.settings_of(make_failures.parser().parse_args(given)).folder

    usual = folder()
    assert usual == folder("--seeds", "0") == folder("--workers", "1")
    assert len({usual, folder("--episodes", "64"), folder("--quick")}) == 3
    monkeypatch.setattr(readers, "BOREDOM", 4.0)
    assert folder() != usual  # another reader


# ---- the recorded table --------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(profile.RECORDED.glob("failures.json")), ids=str)
def test_the_recorded_table_has_every_run_for_every_seed(path):
    made = json.loads(path.read_text())
    seeds = made["settings"]["seeds"]
    assert len(made["runs"]) == len(seeds) * 18
    assert made["claims"] == [c._asdict() for c in failures_verdicts.CLAIMS]
    assert len(made["verdicts"]) == len(failures_verdicts.CLAIMS)
    assert all(len(v["differences"]) == len(seeds) for v in made["verdicts"])
    json.dumps(made, allow_nan=False)
