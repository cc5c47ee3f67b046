"""What `make_label_counts.py` is run with, what is labelled, and what is measured on.

Each part of the experiment (`pool` and `held` here, the others in `label_counts_models`) is a
function from the settings to what its file holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import datasets
import torch
import transformers

from rlhf_helpers import labelers, models, sampling, tasks
from rlhf_helpers.records import Comparison, Queries
from rlhf_helpers.runtime import seeds

PART = 1_000  # comparisons collected at a time
BEST_OF = 16
KINDS = {"sentiment": "style", "descriptiveness": "style", "tldr": "tldr"}  # share their samples


@dataclass(frozen=True)
class Settings:
    """What is run: with these numbers, or another base model, it is another folder."""

    labels: int  # comparisons of the base model that may be labelled
    read: int  # of which the few-click model reads so many, labelled or not
    held: int  # prompts on which everything is measured
    episodes: int
    kl_coef: float
    split: str  # where the prompts of the measurements come from
    precision: str
    # more of these are more parts in the same folder
    counts: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    tuned: tuple[tuple[str, int, int], ...] = ()  # (learner, labels, rounds) of each policy
    seeds: tuple[int, ...] = (0,)
    base: str = str(models.BASE)
    folder: str = ""


# ---- what is labelled, and what is measured on ---------------------------------------------------


def pool(s: Settings, kind: str, part: int) -> dict:
    """Collect a part of the comparisons of the base model; labelers choose later."""
    policy, task = load(s), task_of(kind)
    count = min(PART, s.labels)
    spare = count + count // 20 + 1  # some have equal samples, and are left out
    queries = tasks.queries(task, policy.tokenizer, (part + 1) * spare, seed=1_000)
    queries = queries[slice(part * spare, None)]
    asked = labelers.collect(policy, task, queries, seed=1_000 + part)
    return {"comparisons": [[c.query, *c.options] for c in asked[:count]]}


def held(s: Settings, kind: str) -> dict:
    """Collect other comparisons, on prompts of another split, and for each of these prompts the
    candidates of best-of-n and one answer more, which they have to beat."""
    policy, task = load(s), task_of(kind)
    queries = prompts_of(s, task, policy)
    asked = labelers.collect(policy, task, queries, seed=77)
    dice = seeds.generator(77, "candidates")
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, dice, answers=BEST_OF + 1
    )
    texts = tasks.texts(task, rollout.responses, policy.tokenizer)
    finished = tasks.truncate(task, rollout.responses, policy.tokenizer)[1].tolist()
    rows = [slice(i, i + BEST_OF + 1) for i in range(0, len(texts), BEST_OF + 1)]
    return {
        "comparisons": [[c.query, *c.options] for c in asked],
        "prompts": tasks.query_texts(queries, policy.tokenizer),
        "texts": [texts[x] for x in rows], "finished": [finished[x] for x in rows],
    }  # fmt: skip


# ---- what they share -----------------------------------------------------------------------------


def load(s: Settings) -> models.Policy:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    return models.Policy.load(s.base, s.precision)


def task_of(kind: str) -> tasks.Task:
    """Return a task of this kind: the style tasks share prompts, lengths and samples."""
    return tasks.get("sentiment" if kind == "style" else kind)


def prompts_of(s: Settings, task: tasks.Task, policy: models.Policy) -> Queries:
    """Return the prompts of the measurement; of stories that begin alike, one."""
    queries = tasks.queries(task, policy.tokenizer, s.held, split=s.split, seed=77)
    last = {text: i for i, text in enumerate(tasks.query_texts(queries, policy.tokenizer))}
    return queries[torch.tensor(sorted(last.values()))]


def pool_files(s: Settings, kind: str) -> tuple[str, ...]:
    return tuple(f"pool-{kind}-{part}.json" for part in range(-(-s.labels // PART)))


@cache
def _pool(s: Settings, kind: str) -> list[list[str]]:
    read = [json.loads((Path(s.folder) / name).read_text()) for name in pool_files(s, kind)]
    return [row for part in read for row in part["comparisons"]][: s.labels]


def ordered(s: Settings, task_name: str, seed: int) -> list[Comparison]:
    """Return what may be labelled, in the seed's own order: the first n are labelled first, by
    everybody."""
    rows = _pool(s, KINDS[task_name])
    order = torch.randperm(len(rows), generator=seeds.generator(seed, "order of labels")).tolist()
    return [Comparison(task_name, rows[i][0], tuple(rows[i][1:]), "base") for i in order]


def others(s: Settings, task_name: str) -> tuple[list[Comparison], list[Comparison]]:
    """Return the comparisons of the measurement, and the candidates of best-of-n as comparisons."""
    known = json.loads((Path(s.folder) / f"held-{KINDS[task_name]}.json").read_text())
    asked = [
        Comparison(task_name, q, tuple(options), "held") for q, *options in known["comparisons"]
    ]
    both = zip(known["prompts"], known["texts"], strict=True)
    return asked, [Comparison(task_name, q, tuple(x[:BEST_OF]), "best of") for q, x in both]
