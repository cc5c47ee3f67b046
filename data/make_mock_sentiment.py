"""Mock sentiment, the paper's quantitative figure, on the bundled world
(`data/recorded/mock_sentiment.json`).

No person takes part: r_s, the sentiment scorer of `labelers`, is what is wanted, and labels are its
own choices, the best of four samples. So what labels cost can be measured: PPO directly on r_s, PPO
on reward models fitted to 300, 1,000, 5,000 and 20,000 simulated labels, each at several KL
targets, and the optimum, the base model reweighted by exp(r_s / beta). All are judged by r_s
itself, on prompts of the test split. r_s is in units of its standard deviation over the base
model's responses, and -1 for a response that never ends, as a reward is.

Every finished part is kept in runs/mock_sentiment; the same command goes on from there. `--plan`
only says how long it will take.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import torch
import transformers

DATA = Path(__file__).resolve().parent
sys.path[:0] = [str(DATA.parent), str(DATA)]
from jobs import Job, plan, work  # noqa: E402

from rlhf_helpers import evaluation, labelers, models, ppo, presets, reward, tasks  # noqa: E402
from rlhf_helpers.course import profile  # noqa: E402
from rlhf_helpers.records import Comparison, Rollout  # noqa: E402
from rlhf_helpers.runtime.runs import Run  # noqa: E402

TASK = tasks.SENTIMENT
PART = 1_000  # comparisons collected at a time
BETAS = (
    20.0,
    10.0,
    6.0,
    4.0,
    3.0,
    2.4,
    2.0,
    1.6,
    1.4,
    1.2,
    1.0,
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
    0.45,
    0.4,
    0.35,
    0.3,
    0.25,
    0.2,
)
RELIABLE = 8.0  # effective samples a prompt, under which the optimum is not drawn


@dataclass(frozen=True)
class Settings:
    """What is run. Targets are nats per response: the bundled model's responses hold a third of the
    nats that GPT-2's hold."""

    sizes: tuple[int, ...]  # labels of the reward models; 0 stands for PPO on r_s itself
    targets: tuple[float, ...]
    seeds: tuple[int, ...]
    episodes: int
    held_out: int  # comparisons on which reward models are tested
    test: int  # prompts on which policies are tested
    prompts: int  # for the optimum, with so many samples each:
    samples: int
    precision: str
    base: str
    folder: str


# ---- the pieces ----------------------------------------------------------------------------------


def reference(s: Settings) -> dict:
    """Sample the base model many times a prompt: the scale of r_s, and the optimum by
    reweighting."""
    policy, tokenizer = load(s)
    queries = tasks.queries(TASK, tokenizer, s.prompts, split="test", seed=77).repeat(s.samples)
    rollout = ppo.sampling.sample(
        policy, queries, TASK.response_length, TASK.temperature, torch.Generator().manual_seed(77)
    )
    raw, finished = utilities(rollout, tokenizer)
    scale = {"mean": raw.mean().item(), "deviation": raw.std(correction=0).item()}
    scores = in_units(raw, finished, scale).view(s.prompts, s.samples)
    points = [evaluation.reweighted(scores, beta) for beta in BETAS]
    # further away the samples say nothing; there the controller has to find its own way
    most = 0.6 * math.log(s.samples)
    coefs = {f"{target:g}": beta_at(scores, min(target, most)) for target in s.targets}
    return {
        "scale": scale,
        "finished": finished.float().mean().item(),
        "base": scores.mean().item(),
        "optimum": points,
        "kl_coefs": coefs,
    }


def beta_at(scores: torch.Tensor, kl: float) -> float:
    """Find the beta at which the reweighted reference has this KL: where PPO's controller starts
    from."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (
            (middle, high)
            if evaluation.reweighted(scores, middle)["kl_nats_per_response"] > kl
            else (low, middle)
        )
    return middle


def comparisons(s: Settings, part: int) -> dict:
    """Collect a part of the comparisons from the base model; the labeler chooses later."""
    policy, tokenizer = load(s)
    count = min(PART, max(s.sizes) + s.held_out)
    # some have four equal samples, and are left out
    queries = tasks.queries(TASK, tokenizer, count + count // 20 + 1, seed=1_000 + part)
    asked = labelers.collect(policy, TASK, queries, seed=1_000 + part)[:count]
    return {"comparisons": [[c.query, *c.options] for c in asked]}


def reward_model(s: Settings, size: int, seed: int) -> dict:
    """Fit a reward model on so many labels, normalise it, keep it, and say how often it chooses as
    r_s does on other comparisons."""
    policy, tokenizer = load(s)
    parts = [
        json.loads((Path(s.folder) / f"comparisons-{part}.json").read_text())
        for part in range(parts_for(s, size))
    ]
    every = [
        Comparison(TASK.name, query, tuple(options))
        for part in parts
        for query, *options in part["comparisons"]
    ]
    # the best of four, ties drawn
    labels = labelers.simulated(TASK, "r_s", seed, temperature=0).label(every)
    encoded = reward.encode(TASK, every, labels, tokenizer)  # held out: the first ones
    model = models.RewardModel.from_policy(policy, seed)
    # some forty steps even from the fewest labels
    config = reward.RewardConfig(batch=min(32, max(8, size // 100)))
    samples = tasks.queries(TASK, tokenizer, 512, seed=100 + seed)
    # before and after, as in the paper
    reward.normalize(model, policy, samples, TASK, seed=seed)
    reward.fit(
        model,
        encoded[slice(s.held_out, s.held_out + size)],
        config,
        Run(seed=seed, device="cpu", quiet=True),
    )
    reward.normalize(model, policy, samples, TASK, seed=seed)
    model.save(Path(s.folder) / f"model-{size}-{seed}")
    held = encoded[slice(0, s.held_out)]
    predicted = reward.predictions(model, held)
    best = torch.tensor([[labelers.sentiment(o) for o in c.options] for c in every[: s.held_out]])
    # one of the best, where several are equal
    right = best.gather(1, predicted.argmax(-1, keepdim=True)).squeeze(1) == best.amax(-1)
    return {"labels": size, "seed": seed, "accuracy": right.float().mean().item()}


def tuned(s: Settings, size: int, target: float, seed: int) -> dict:
    """Tune by PPO on r_s itself (size 0) or on a reward model; r_s is noted at every step, and
    measured at the end on the test split."""
    policy, tokenizer = load(s)
    base, known = policy.frozen_copy(), json.loads((Path(s.folder) / "reference.json").read_text())
    model = (
        models.RewardModel.load(Path(s.folder) / f"model-{size}-{seed}", s.precision)
        if size
        else None
    )
    curve: list[float] = []

    def wanted(rollout: Rollout) -> torch.Tensor:
        return in_units(*utilities(rollout, tokenizer), known["scale"])

    def score(rollout: Rollout) -> torch.Tensor:
        truth = wanted(rollout)
        curve.append(truth.mean().item())
        return truth if model is None else reward.score(model, rollout, TASK)

    settings = presets.get("mock", "bundled").ppo
    config = replace(
        settings, episodes=s.episodes, kl_target=target, kl_coef=known["kl_coefs"][f"{target:g}"]
    )
    pool = tasks.queries(TASK, tokenizer, min(2_000, s.episodes), seed=100 + seed)
    lines = ppo.tune(policy, score, pool, TASK, config, Run(seed=seed, device="cpu", quiet=True))
    test = tasks.queries(TASK, tokenizer, s.test, split="test", seed=seed)
    measured = evaluation.measure(policy, base, test, TASK, wanted, seed=seed)
    return {
        "series": f"{size:,} labels" if size else "r_s itself", "labels": size, "kl_target": target,
        "seed": seed, **measured, "beta": lines[-1]["beta"], "batch": config.batch,
        "curve": [round(x, 4) for x in curve],
    }  # fmt: skip


def load(s: Settings) -> tuple[models.Policy, object]:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    return models.Policy.load(s.base, s.precision), models.load_tokenizer(s.base)


def utilities(rollout: Rollout, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Score every response as a labeler reads it, before scaling, and say which have an end. Both
    (B,)."""
    texts = tasks.texts(TASK, rollout.responses, tokenizer)
    return torch.tensor([labelers.sentiment(text) for text in texts]), tasks.truncate(
        TASK, rollout.responses, tokenizer
    )[1].cpu()


def in_units(raw: torch.Tensor, finished: torch.Tensor, scale: dict) -> torch.Tensor:
    return torch.where(finished, (raw - scale["mean"]) / scale["deviation"], TASK.penalty)


# ---- what depends on what ------------------------------------------------------------------------


def parts_for(s: Settings, size: int) -> int:
    return -(-(s.held_out + size) // PART)


def jobs_of(s: Settings) -> list[Job]:
    """List all the work, what others wait for first. Seconds: measured on one core of a server of
    2024, in bfloat16."""
    found = [Job("reference.json", (), s.prompts * s.samples / 160, reference, ())]
    collected = max((parts_for(s, size) for size in s.sizes if size), default=0)
    found += [
        Job(f"comparisons-{part}.json", (), 4.2 * PART / 160, comparisons, (part,))
        for part in range(collected)
    ]
    for size in sorted(filter(None, s.sizes), reverse=True):
        needs = tuple(f"comparisons-{part}.json" for part in range(parts_for(s, size)))
        found += [
            Job(f"reward-{size}-{seed}.json", needs, 10 + 0.013 * size, reward_model, (size, seed))
            for seed in s.seeds
        ]
    for seed in s.seeds:
        for target in s.targets:
            # direct first: the reward models may still be in the making
            for size in sorted(s.sizes):
                needs = ("reference.json", *([f"reward-{size}-{seed}.json"] if size else []))
                name = f"tuned-{size}-{target:g}-{seed}-{s.episodes}.json"
                found.append(
                    Job(
                        name,
                        needs,
                        8 + 0.01 * s.test + 0.032 * s.episodes,
                        tuned,
                        (size, target, seed),
                    )
                )
    return found


def table(s: Settings) -> dict:
    """Put all results into one table."""
    read = {job.file: json.loads((Path(s.folder) / job.file).read_text()) for job in jobs_of(s)}
    known = read["reference.json"]
    return {
        "about": "r_s of simulated labels and policies tuned on them; "
        "made by data/make_mock_sentiment.py",
        "settings": {
            k: getattr(s, k)
            for k in (
                "sizes",
                "targets",
                "seeds",
                "episodes",
                "test",
                "prompts",
                "samples",
                "precision",
            )
        },
        "base_score": known["base"],
        "optimum": [p for p in known["optimum"] if p["effective_samples"] >= RELIABLE],
        "reward_models": [found for name, found in read.items() if name.startswith("reward-")],
        "policies": [found for name, found in read.items() if name.startswith("tuned-")],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        default=[0, 300, 1_000, 5_000, 20_000],
        help="labels; 0 is PPO on r_s itself",
    )
    parser.add_argument(
        "--targets",
        nargs="+",
        type=float,
        default=[2.0, 4.0, 6.0],
        help="KL targets, nats per response",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--episodes",
        type=int,
        default=presets.get("mock", "bundled").ppo.episodes,
        help="of each PPO run",
    )
    parser.add_argument("--held-out", type=int, default=1_000)
    parser.add_argument("--test", type=int, default=1_024)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--base", default=str(models.BASE))
    parser.add_argument(
        "--folder",
        type=Path,
        default=profile.folder() / "mock_sentiment",
        help="where finished parts are kept",
    )
    parser.add_argument("--out", type=Path, default=profile.RECORDED / "mock_sentiment.json")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="jobs side by side, one core each"
    )
    parser.add_argument("--plan", action="store_true", help="only say how long it will take")
    args = vars(parser.parse_args())
    out, workers, only_plan = (args.pop(name) for name in ("out", "workers", "plan"))
    weights = hashlib.sha256((Path(args["base"]) / "model.safetensors").read_bytes()).hexdigest()[
        :12
    ]
    args["folder"] /= f"{weights}-{args['precision']}"  # another base model is another experiment
    args["folder"].mkdir(parents=True, exist_ok=True)
    s = Settings(
        **{
            k: tuple(v) if isinstance(v, list) else str(v) if isinstance(v, Path) else v
            for k, v in args.items()
        }
    )
    if only_plan:
        raise SystemExit(plan(jobs_of(s), Path(s.folder), workers))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        work(jobs_of(s), s, workers, pool)
    made = table(s)
    out.write_text(json.dumps(made, indent=1) + "\n")
    for row in sorted(
        made["policies"], key=lambda r: (r["kl_target"], r["labels"] or 10**9, r["seed"])
    ):
        print(
            f"{row['series']:>13}, target {row['kl_target']:g}: r_s {row['score']:+.2f} +- "
            f"{row['score_standard_error']:.2f} at {row['kl_nats_per_response']:.2f} nats"
        )
    print(f"written to {out}")


if __name__ == "__main__":
    main()
