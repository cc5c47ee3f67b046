"""Mock sentiment: the command on a random model of a few thousand weights, and the recorded table
where there is one."""

import dataclasses
import importlib.util
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf_helpers import evaluation, labelers, models, sampling, tasks
from rlhf_helpers.course import profile
from rlhf_helpers.tasks import encode

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location(
    "make_mock_sentiment", ROOT / "data" / "make_mock_sentiment.py"
)
mock = importlib.util.module_from_spec(spec)
sys.modules["make_mock_sentiment"] = mock  # dataclasses look their module up
spec.loader.exec_module(mock)


@pytest.fixture
def settings(tmp_path):
    """The smallest experiment there is: a random model that shares the bundled tokenizer."""
    tokenizer = models.load_tokenizer()
    models.tiny_policy(vocabulary=len(tokenizer), context=96).save(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "parts").mkdir()
    return mock.Settings(
        sizes=(0, 24), targets=(0.5,), seeds=(0,), episodes=64, held_out=8, test=16, prompts=4,
        samples=32, precision="fp32", base=str(tmp_path / "base"), folder=str(tmp_path / "parts"),
    )  # fmt: skip


def test_a_command_that_was_stopped_goes_on_and_ends_with_the_same_table(
    settings, tmp_path, monkeypatch, capsys
):
    def run(folder):
        s = dataclasses.replace(settings, folder=str(tmp_path / folder))
        (tmp_path / folder).mkdir(exist_ok=True)
        with ThreadPoolExecutor(1) as pool:
            mock.work(mock.jobs_of(s), s, 1, pool)
        return mock.table(s)

    straight = run("straight")
    with monkeypatch.context() as patch:
        real, calls = mock.ppo.tune, []
        patch.setattr(
            mock.ppo,
            "tune",
            lambda *a, **k: real(*a, **k) if not calls.append(1) and len(calls) < 2 else 1 / 0,
        )
        with pytest.raises(ZeroDivisionError):
            run("stopped")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "stopped").glob("*.json")}
    assert run("stopped") == straight
    assert "4 of 5 parts are there" in capsys.readouterr().out and len(done) == 4
    # nothing was done twice
    assert all(
        (tmp_path / "stopped" / name).stat().st_mtime_ns == made for name, made in done.items()
    )

    assert {row["series"] for row in straight["policies"]} == {"r_s itself", "24 labels"}
    assert all(
        len(row["curve"]) == 1 and math.isfinite(row["score"]) for row in straight["policies"]
    )
    assert 0 <= straight["reward_models"][0]["accuracy"] <= 1 and straight["settings"][
        "targets"
    ] == (0.5,)
    json.dumps(straight)


def test_every_part_is_made_before_it_is_needed(settings):
    jobs = mock.jobs_of(
        dataclasses.replace(
            settings, sizes=(0, 300, 20_000), held_out=1_000, seeds=(0, 1), targets=(1.0, 2.0)
        )
    )
    made = set()
    for job in jobs:
        assert set(job.needs) <= made and job.file not in made
        made.add(job.file)
    assert (
        sum(name.startswith("comparisons") for name in made) == 21
        and sum(name.startswith("tuned") for name in made) == 12
    )


def test_r_s_is_the_scaled_taste_for_the_text_a_labeler_reads_and_minus_one_without_an_end(
    settings,
):
    tokenizer = models.load_tokenizer(settings.base)
    rollout = sampling.sample(
        models.Policy.load(settings.base), encode(mock.TASK, ["It was late."], tokenizer), 24, 0.7
    )
    endless, wonderful = [
        tokenizer(t)["input_ids"]
        for t in (" and" * 24, " a wonderful happy day" + " and" * 8 + ".")
    ]
    stop = tokenizer(".")["input_ids"]
    ids = torch.tensor([(endless * 24)[:24], (wonderful + stop * 24)[:24]])
    rollout = dataclasses.replace(
        rollout, queries=rollout.queries.repeat(2), responses=ids,
        mask=torch.ones(2, 24, dtype=torch.bool), logprobs=torch.zeros(2, 24),
        values=torch.zeros(2, 24),
    )  # fmt: skip
    raw, finished = mock.utilities(rollout, tokenizer)
    taste = labelers.sentiment(tasks.texts(mock.TASK, ids, tokenizer)[1])
    assert taste > 0 and finished.tolist() == [False, True]
    assert mock.in_units(raw, finished, {"mean": 0.5, "deviation": 2.0}).tolist() == [
        -1,
        pytest.approx((taste - 0.5) / 2),
    ]


def test_the_controller_starts_from_the_beta_at_which_the_optimum_has_the_target_kl():
    scores = torch.randn(6, 400, generator=torch.Generator().manual_seed(0))
    for target in (0.2, 1.0, 2.0):
        beta = mock.beta_at(scores, target)
        assert evaluation.reweighted(scores, beta)["kl_nats_per_response"] == pytest.approx(
            target, rel=1e-6
        )


# ---- the recorded table --------------------------------------------------------------------------

RECORDED = profile.RECORDED / "mock_sentiment.json"


@pytest.mark.skipif(
    not RECORDED.exists(), reason="not recorded: python data/make_mock_sentiment.py makes it"
)
def test_the_recorded_figure_has_the_papers_shape():
    """At equal KL more labels lie higher in the mean of the seeds, PPO on r_s itself highest, and
    nothing lies above the optimum."""
    table = json.loads(RECORDED.read_text())
    bound = sorted(
        (p["kl_nats_per_response"], p["score"], p["score_standard_error"]) for p in table["optimum"]
    )
    curves: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for row in table["policies"]:
        above = next((p for p in bound if p[0] >= row["kl_nats_per_response"]), None)
        if above is not None:  # the optimum rises: at a larger KL it is a looser bound
            assert row["score"] <= above[1] + 3 * math.hypot(
                row["score_standard_error"], above[2]
            ), row["series"]
        curve = curves.setdefault((row["labels"], row["seed"]), [(0.0, table["base_score"])])
        curve.append((row["kl_nats_per_response"], row["score"]))
    # the largest that every line reaches
    equal_kl = min(max(curve)[0] for curve in curves.values())
    heights: dict[int, list[float]] = {}
    for (labels, _), curve in curves.items():
        heights.setdefault(labels, []).append(
            float(np.interp(equal_kl, *zip(*sorted(curve), strict=True)))
        )
    mean = {labels: sum(found) / len(found) for labels, found in heights.items()}
    # fewest labels first, r_s itself last
    order = [*sorted(labels for labels in mean if labels), 0]
    assert sorted(mean, key=mean.get) == order, mean
