"""The parts of `make_label_counts.py` that learn: reward models of many and of few labels, each
measured, and policies tuned on some of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from copying_parts import run_of, thinned
from copying_rows import rounded
from label_counts_parts import BEST_OF, KINDS, Settings, load, ordered, others, prompts_of
from label_counts_truth import Truth

from rlhf_helpers import (
    clicks,
    efficiency,
    models,
    online,
    ppo,
    presets,
    reward,
    sampling,
    tasks,
)
from rlhf_helpers.features import Features
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.guards import Collapsed

STEPS = 60  # a full fit takes as many at least, however few its labels
FEW = 1_000  # labels, at most, of the few-click model: its fit grows with their cube
ASKED = 500  # labels, at most, where it chooses its own questions
AT_ONCE = 10  # of which it asks so many before it learns from them

Rewards = Callable[[Sequence[Comparison]], torch.Tensor]  # of every option: (N, K)

# ---- reward models -------------------------------------------------------------------------------


def full(s: Settings, task_name: str, noise: str, count: int, seed: int) -> dict:
    """Fit all weights of a reward model to so many labels, and measure it."""
    began = time.process_time()
    policy, task, preset = load(s), tasks.get(task_name), presets.get(task_name, "bundled")
    asked = ordered(s, task_name, seed)[:count]
    labels = Truth(task_name).labels(asked, noise, seed)
    data = reward.encode(task, asked, labels, policy.tokenizer)
    model = models.RewardModel.from_policy(policy, seed)
    samples = tasks.queries(task, policy.tokenizer, preset.normalize_samples, seed=100 + seed)
    passes = max(preset.reward.epochs, -(-STEPS * preset.reward.batch // count))
    config = replace(preset.reward, epochs=passes)
    reward.train(model, policy, data, samples, task, config, run_of(seed))
    if noise == "recorded" and ("full", count, 1) in s.tuned:
        model.save(Path(s.folder) / f"model-{task_name}-{count}-{seed}")

    def rewards(asked: Sequence[Comparison]) -> torch.Tensor:
        unlabelled = [Label(c.id, "nobody", 0, simulated=True) for c in asked]
        read = reward.encode(task, asked, unlabelled, policy.tokenizer, keep_equal=True)
        return reward.predictions(model, read, 128 if len(asked[0].options) == 4 else 32)

    arm = {"learner": "full", "noise": noise, "asking": "random", "labels": count, "passes": passes}
    measured = measure(s, task_name, seed, rewards)
    return {"rows": [arm | measured | {"seconds": round(time.process_time() - began)}]}


def few(s: Settings, task_name: str, noise: str, seed: int, asking: str = "random") -> dict:
    """Fit the few-click model to labels in growing numbers, drawn at random or chosen by itself
    ("uncertain": in tens, by draws from its posterior), and measure each."""
    policy, task = load(s).requires_grad_(False), tasks.get(task_name)
    known = ordered(s, task_name, seed)[: s.read]
    features, truth = Features(policy, task, known), Truth(task_name)
    most = min(len(known), ASKED if asking == "uncertain" else FEW)
    counts = sorted(n for n in s.counts if n <= most)
    chosen = known if asking == "random" else uncertain(features, truth, known, counts, seed)
    rows = []
    for count in counts:
        began = time.process_time()
        labels = truth.labels(chosen[:count], noise, seed)
        fitted = clicks.fit(policy, task, known, labels, features=features, predict=False)
        if (noise, asking) == ("recorded", "random") and ("few", count, 1) in s.tuned:
            fitted.save(Path(s.folder) / f"taste-{task_name}-{count}-{seed}.safetensors")
        arm = {"learner": "few", "noise": noise, "asking": asking, "labels": count}
        measured = measure(s, task_name, seed, fitted.rewards)
        rows.append(arm | measured | {"seconds": round(time.process_time() - began)})
    return {"rows": rows}


def uncertain(
    features: Features, truth: Truth, known: list[Comparison], counts: list[int], seed: int
) -> list[Comparison]:
    """Let the few-click model choose what is asked, with labels as recorded; in the order asked."""
    chosen: list[Comparison] = []
    fitted, policy, task = None, features.policy, features.task
    while len(chosen) < max(counts):
        for _ in range(min(AT_ONCE, max(counts) - len(chosen))):
            ids = {c.id for c in chosen}
            question = clicks.next(fitted, known, ids, random_share=0.0, seed=seed)
            chosen.append(question.comparison)
        labels = truth.labels(chosen, "recorded", seed)
        fitted = clicks.fit(
            policy, task, known, labels, features=features, previous=fitted, predict=False
        )
    return chosen


def bounds(s: Settings, task_name: str, seed: int) -> dict:
    """Measure who knows nothing (the random twin of best-of-n), and the taste itself."""
    truth = Truth(task_name)

    def blind(asked: Sequence[Comparison]) -> torch.Tensor:
        dice = seeds.generator(seed, "nobody")
        return torch.rand(len(asked), len(asked[0].options), generator=dice)

    arm = {"noise": "recorded", "asking": "random", "labels": 0}
    return {
        "rows": [
            {"learner": name} | arm | measure(s, task_name, seed, rewards)
            for name, rewards in (("nobody", blind), ("the taste itself", truth.utilities))
        ]
    }


def measure(s: Settings, task_name: str, seed: int, rewards: Rewards) -> dict:
    """Measure a function from comparisons to rewards (N, K): how often its favourite is chosen,
    bits foreseen, share of the attainable utility, wins of its best of 16 against one answer more.

    All but the noisy judge's wins is computed from what is known of the labelers; no label of the
    measurement is drawn.
    """
    truth, asked, candidates = Truth(task_name), *others(s, task_name)
    chances, found = truth.chances(asked), rewards(asked)
    favourite = chances.gather(1, found.argmax(1, keepdim=True))
    known = json.loads((Path(s.folder) / f"held-{KINDS[task_name]}.json").read_text())
    finished = torch.tensor([row[:BEST_OF] for row in known["finished"]])
    best = rewards(candidates).masked_fill(~finished, -torch.inf).argmax(1).tolist()
    ours = [row[k] for row, k in zip(known["texts"], best, strict=True)]
    theirs = [row[BEST_OF] for row in known["texts"]]
    won = truth.wins(known["prompts"], ours, theirs, seed)
    numbers = {
        "accuracy": favourite.mean().item(),
        "ceiling": chances.amax(1).mean().item(),
        "share": efficiency.share_attained(found, truth.utilities(asked)),
        "bits_foreseen": efficiency.bits_foreseen(found, chances),
        "bits_in_label": efficiency.bits_in_labels(chances),
    }
    if truth.of_summaries:
        wanted = truth.utilities_to_ourselves(asked)
        numbers["share_ourselves"] = efficiency.share_attained(found, wanted)
    row = {"task": task_name, "seed": seed} | {name: rounded(x) for name, x in numbers.items()}
    return row | {f"best_{judge}": x for judge, x in won.items()}


# ---- policies ------------------------------------------------------------------------------------


def tuned(s: Settings, task_name: str, learner: str, count: int, rounds: int, seed: int) -> dict:
    """Tune the base model by PPO on a reward model, or with labels collected in rounds; let it
    answer the prompts of the measurement, against the same answers as the best of n."""
    began = time.process_time()
    policy, task, truth = load(s), tasks.get(task_name), Truth(task_name)
    base = policy.frozen_copy()
    prompts = tasks.queries(task, policy.tokenizer, min(4_000, s.episodes), seed=100 + seed)
    config = replace(presets.KEPT, episodes=s.episodes, kl_coef=s.kl_coef)
    name, ended = f"{task_name}-{learner}-{count}-{rounds}-{seed}", ""
    run = run_of(seed, Path(s.folder) / f"ppo-{name}")
    try:
        if rounds > 1:
            in_turns = online.OnlineConfig(max(1, count // rounds), count, rounds, each_token=True)
            fit = presets.get(task_name, "bundled").reward

            def source(asked: Sequence[Comparison]) -> list[Label]:
                return truth.labels(asked, "recorded", seed)

            online.tune(policy, task, prompts, source, run, in_turns, fit, config)
        else:
            score = paid_by(s, base, task_name, learner, count, seed)
            ppo.tune(policy, score, prompts, task, config, run)
    except Collapsed as error:  # a row that went wrong is published too
        ended = str(error)
    known = json.loads((Path(s.folder) / f"held-{KINDS[task_name]}.json").read_text())
    dice = seeds.generator(seed, f"answers of {name}")
    rollout = sampling.sample(
        policy, prompts_of(s, task, policy), task.response_length, task.temperature, dice
    )
    texts = tasks.texts(task, rollout.responses, policy.tokenizer)
    with torch.no_grad():
        theirs = sampling.replay(base, rollout, task.temperature, 128).logprobs
    kl = (rollout.logprobs - theirs).sum(-1).mean().item()
    won = truth.wins(known["prompts"], texts, [row[BEST_OF] for row in known["texts"]], seed)
    curves = {k: thinned([x[k] for x in run.metrics()]) for k in ("score", "kl_nats_per_response")}
    return {
        "task": task_name, "seed": seed, "learner": learner, "labels": count, "rounds": rounds,
        **{f"wins_{judge}": x for judge, x in won.items()}, "kl_nats": round(kl, 4),
        "kl_nats_per_token": round(kl / task.response_length, 4),
        "different": round(len(set(texts)) / len(texts), 4), "collapsed": ended, "curves": curves,
        "sampled_tokens": s.episodes * task.response_length, "texts": texts,
        "seconds": round(time.process_time() - began),
    }  # fmt: skip


def paid_by(s: Settings, base: models.Policy, task_name: str, learner: str, count: int, seed: int):
    """Load what PPO maximises: the reward of a full fit, token by token, or a taste's ranks."""
    if learner == "few":
        path = Path(s.folder) / f"taste-{task_name}-{count}-{seed}.safetensors"
        return clicks.Taste.load(path, base).scorer(ranked=True)
    model = models.RewardModel.load(
        Path(s.folder) / f"model-{task_name}-{count}-{seed}", s.precision
    )
    return reward.scorer(model, tasks.get(task_name), each_token=True)
