"""The parts of `make_copying.py`: the supervised model, comparisons, reward models, tuned policies.

Each part is a function from the settings to what its file holds.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import datasets
import torch
import transformers
from town.facts import FactReader, stated_in

from rlhf_helpers import (
    evaluation,
    labelers,
    models,
    online,
    ppo,
    presets,
    reward,
    sampling,
    supervised,
    tasks,
)
from rlhf_helpers.records import Comparison
from rlhf_helpers.runtime import seeds
from rlhf_helpers.runtime.guards import Collapsed
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.summary_labelers import INSTRUCTIONS, SummaryLabeler

PART = 1_000  # comparisons collected at a time
HELD_OUT = 500  # comparisons on which reward models are tested, at most


@dataclass(frozen=True)
class Settings:
    """What is run: with these numbers, another base model or another task it is another folder."""

    task: str
    texts: int  # references that the supervised model learns from
    labels: int  # of each reward model
    rounds: int  # in which they are collected: 1 is offline
    episodes: int
    kl_coef: float
    test: int  # summaries of each row
    split: str  # where their sources come from
    precision: str
    # more of these are more parts in the same folder
    seeds: tuple[int, ...] = (0,)
    instructions: tuple[str, ...] = ()
    base: str = str(models.BASE)
    folder: str = ""

    @property
    def held_out(self) -> int:
        return min(HELD_OUT, self.labels // 4)

    @property
    def arms(self) -> list[tuple[str, str]]:
        """List the tuned rows: what PPO starts from, and what its labelers were asked for."""
        return [("base", "accuracy"), ("supervised", "accuracy")] + [
            ("base", name) for name in self.instructions
        ]


# ---- the pieces ----------------------------------------------------------------------------------


def supervised_model(s: Settings, seed: int) -> dict:
    """Fine-tune the base model on references, keep it, and write summaries with it."""
    policy, task = load(s, "base", seed), tasks.get(s.task)
    rows = tasks.bundled(task.dataset, "train").shuffle(seed=seed).select(range(s.texts))
    answers = [" " + summary for summary in rows["summary"]]
    data = supervised.encode(task, rows["text"], answers, policy)
    lines = supervised.fit(policy, data, task, supervised.SupervisedConfig(), run_of(seed))
    policy.save(Path(s.folder) / f"supervised-{seed}")
    losses = [line["loss_nats_per_token"] for line in lines]
    return {"losses": thinned(losses), "texts": written(s, policy, "supervised", seed)}


def zero_shot(s: Settings, seed: int) -> dict:
    """Write summaries with the base model as it is."""
    return {"texts": written(s, load(s, "base", seed), "zero-shot", seed)}


def comparisons(s: Settings, start: str, seed: int, part: int) -> dict:
    """Collect a part of the comparisons; the labelers choose later."""
    policy, task = load(s, start, seed), tasks.get(s.task)
    seed = 0 if start == "base" else seed  # those of the base model are shared
    count = min(PART, s.labels + s.held_out)
    spare = count + count // 20 + 1  # some have four equal samples, and are left out
    # one order of prompts, cut into parts: what is held out has prompts of its own
    queries = tasks.queries(task, policy.tokenizer, (part + 1) * spare, seed=1_000)
    queries = queries[slice(part * spare, None)]
    asked = labelers.collect(policy, task, queries, seed=1_000 * (seed + 1) + part)[:count]
    return {"comparisons": [[c.query, *c.options] for c in asked]}


def reward_model(s: Settings, start: str, instruction: str, seed: int) -> dict:
    """Fit a reward model on what labelers chose, keep it, and say how often it chooses as they do
    on other comparisons, beside how often anybody could who knows them (the ceiling)."""
    policy, task = load(s, start, seed), tasks.get(s.task)
    every, who = collected(s, start, seed), labeler(s, instruction, seed)
    labels = who.label(every)
    data = reward.encode(task, every, labels, policy.tokenizer)  # held out: the first ones
    model = models.RewardModel.from_policy(policy, seed)
    settings = presets.get(s.task, "bundled")
    samples = tasks.queries(task, policy.tokenizer, settings.normalize_samples, seed=100 + seed)
    reward.train(
        model, policy, data[slice(s.held_out, None)], samples, task, settings.reward, run_of(seed)
    )
    model.save(Path(s.folder) / f"model-{start}-{instruction}-{seed}")
    held = data[slice(0, s.held_out)]
    found = reward.accuracy(reward.predictions(model, held), held.choices)
    ceiling = statistics.mean(max(who.probabilities(c)) for c in every[: s.held_out])
    return {"labels": len(data) - len(held), "accuracy": found, "ceiling": ceiling}


def tuned(s: Settings, start: str, instruction: str, seed: int) -> dict:
    """Tune by PPO, on a reward model or with one in turns; then write summaries.

    KL is from what it started as, per summary and per token; seconds are those of the processor, of
    the call that finished it.
    """
    began = time.process_time()
    policy, task = load(s, start, seed), tasks.get(s.task)
    base = policy.frozen_copy()
    pool = tasks.queries(task, policy.tokenizer, min(4_000, s.episodes), seed=100 + seed)
    config = replace(presets.KEPT, episodes=s.episodes, kl_coef=s.kl_coef)
    name, ended = f"{start}-{instruction}-{seed}", ""
    run = run_of(seed, Path(s.folder) / f"ppo-{name}")
    try:
        if s.rounds == 1:
            model = models.RewardModel.load(Path(s.folder) / f"model-{name}", s.precision)
            ppo.tune(policy, reward.scorer(model, task, each_token=True), pool, task, config, run)
        else:
            source = labeler(s, instruction, seed).label
            first = max(1, s.labels // s.rounds)
            in_turns = online.OnlineConfig(first, s.labels, s.rounds, each_token=True)
            fit = presets.get(s.task, "bundled").reward
            online.tune(policy, task, pool, source, run, in_turns, fit, config)
    except Collapsed as error:  # a row that went wrong is published too
        ended = str(error)
    policy.save(Path(s.folder) / f"policy-{name}")
    texts = written(s, policy, name, seed)
    test = tasks.queries(task, policy.tokenizer, s.test, split=s.split, seed=seed)
    kl = evaluation.measure(policy, base, test, task, lambda r: torch.zeros(len(r)), seed=seed)
    curves = {k: thinned([x[k] for x in run.metrics()]) for k in ("score", "kl_nats_per_response")}
    return {
        "texts": texts, "kl_nats": kl["kl_nats_per_response"],
        "kl_nats_per_token": kl["kl_nats_per_response"] / task.response_length,
        "entropy_nats": kl["entropy_nats_per_response"], "curves": curves, "collapsed": ended,
        "sampled_tokens": s.episodes * task.response_length,
        "seconds": round(time.process_time() - began),
    }  # fmt: skip


# ---- what they share -----------------------------------------------------------------------------


def load(s: Settings, start: str, seed: int) -> models.Policy:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    folder = s.base if start == "base" else Path(s.folder) / f"supervised-{seed}"
    return models.Policy.load(folder, s.precision)


def run_of(seed: int, folder: Path | None = None) -> Run:
    return Run(folder, seed=seed, device="cpu", quiet=True)


def thinned(values: list[float], most: int = 60) -> list[float]:
    """Keep some values of a curve, evenly spaced, rounded."""
    return [round(x, 4) for x in values[:: max(1, -(-len(values) // most))]]


def written(s: Settings, policy: models.Policy, who: str, seed: int) -> list[str]:
    """Write a summary of every source of the test, as a labeler reads it; `who` has draws of its
    own."""
    task = tasks.get(s.task)
    queries = tasks.queries(task, policy.tokenizer, s.test, split=s.split, seed=seed)
    generator = seeds.generator(seed, f"summaries of {who}")
    rollout = sampling.sample(policy, queries, task.response_length, task.temperature, generator)
    return tasks.texts(task, rollout.responses, policy.tokenizer)


@cache
def stated(dataset: str, split: str):
    """Read the facts of summaries; sources are those of one split."""
    return stated_in(FactReader(), tasks.bundled(dataset, split).to_list(), dataset)


def labeler(s: Settings, instruction: str, seed: int, split: str = "train") -> SummaryLabeler:
    facts = stated(tasks.get(s.task).dataset, split)
    return SummaryLabeler(instruction, facts, INSTRUCTIONS[instruction], seed)


def collected(s: Settings, start: str, seed: int) -> list[Comparison]:
    names = comparison_files(s, start, seed)
    parts = [json.loads((Path(s.folder) / name).read_text())["comparisons"] for name in names]
    every = [Comparison(s.task, q, tuple(options)) for part in parts for q, *options in part]
    return every[: s.held_out + s.labels]


def comparison_files(s: Settings, start: str, seed: int) -> tuple[str, ...]:
    """Name the parts; those of the base model are shared by all seeds."""
    whose = "base" if start == "base" else f"supervised-{seed}"
    parts = -(-(s.held_out + s.labels) // PART)
    return tuple(f"comparisons-{whose}-{part}.json" for part in range(parts))
