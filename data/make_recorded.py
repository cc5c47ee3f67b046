"""Record what notebooks fall back on: comparisons with simulated labels, a reward model, a tuned
policy, its curves (`make recorded`).

Also the figures of merit of the bundled world: for both style tasks and each seed asked for it
measures the reward model against the labeler's ceiling, score, KL, wins, how much the tuned answers
differ, whether they can be read and keep to their prompts, and writes all of it to
`data/recorded/results.json` and the README. The models that notebooks use are those of sentiment's
seed 0, whatever came out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

DATA = Path(__file__).resolve().parent
sys.path[:0] = [str(DATA.parent), str(DATA)]
from town.corpus import SMALL  # noqa: E402
from town.tracker import Tracker  # noqa: E402
from town.variety import follows, variety  # noqa: E402

from rlhf_helpers import (  # noqa: E402
    evaluation,
    labelers,
    models,
    ppo,
    presets,
    reward,
    tasks,
)
from rlhf_helpers.course.profile import RECORDED  # noqa: E402
from rlhf_helpers.records import Comparison  # noqa: E402
from rlhf_helpers.runtime.runs import Run  # noqa: E402

COMPARISONS, HELD_OUT, JUDGED = 5_000, 3_000, 512
KEPT = ("sentiment", 0)  # the run whose models notebooks use


def record_comparisons(names: list[str]) -> None:
    """Collect up to 8,000 comparisons of the base model (all but 5,000 held out; a prompt that
    comes twice is used once) and let each task's labeler choose; written as parquet.

    The style tasks share prompts, lengths and temperature, so they share the samples too.
    """
    policy, tokenizer, task = models.Policy.load(), models.load_tokenizer(), tasks.get(names[0])
    queries = tasks.queries(task, tokenizer, COMPARISONS + HELD_OUT, split="train", seed=1)
    # two stories can begin alike; a prompt must not be fitted and held out
    firsts: dict[str, Comparison] = {}
    for c in labelers.collect(policy, task, queries, seed=1):
        firsts.setdefault(c.query, c)
    collected = list(firsts.values())
    RECORDED.mkdir(exist_ok=True)
    for name in names:
        comparisons = [replace(c, task=name) for c in collected]
        labels, others = (
            labelers.simulated(tasks.get(name), *who).label(comparisons)
            for who in [("simulated", 0), ("another", 1)]
        )
        print(
            f"{name}: {len(comparisons)} comparisons; two labelers agree on "
            f"{labelers.agreement(labels, others):.1%}"
        )
        rows = [
            {
                "query": c.query,
                "options": list(c.options),
                "choice": x.choice,
                "labeler": x.labeler,
                "source": c.source,
                "round": c.round,
            }
            for c, x in zip(comparisons, labels, strict=True)
        ]
        pd.DataFrame(rows).to_parquet(
            RECORDED / f"{name}_comparisons.parquet", index=False, **SMALL
        )


def one_seed(task: tasks.Task, seed: int, episodes: int, precision: str) -> dict:
    """Fit, normalise, tune and judge once; every number measured on data that training has not
    seen."""
    policy, tokenizer = models.Policy.load(precision=precision), models.load_tokenizer()
    comparisons, labels = labelers.recorded(task)
    labeler = labelers.simulated(task)
    fitted = reward.encode(task, comparisons[:COMPARISONS], labels[:COMPARISONS], tokenizer)
    held_out = reward.encode(task, comparisons[COMPARISONS:], labels[COMPARISONS:], tokenizer)
    ceiling = sum(
        max(range(len(c.options)), key=lambda k, c=c: labeler.utility(c.options[k])) == x.choice
        for c, x in zip(comparisons[COMPARISONS:], labels[COMPARISONS:], strict=True)
    ) / len(held_out)

    start = time.time()
    model = models.RewardModel.from_policy(policy, seed)
    pool = tasks.queries(task, tokenizer, 2_000, seed=100 + seed)
    # before and after, as in the paper
    reward.normalize(model, policy, pool[:512], task, seed=seed)
    history = reward.fit(model, fitted, reward.RewardConfig(), Run(seed=seed))
    reward.normalize(model, policy, pool[:512], task, seed=seed)
    fit_seconds = time.time() - start
    accuracy = reward.accuracy(reward.predictions(model, held_out), held_out.choices)

    start = time.time()
    base, preset = policy.frozen_copy(), presets.get(task.name, "bundled")
    config = replace(preset.ppo, episodes=episodes)
    paid = reward.scorer(model, task, each_token=preset.each_token)
    metrics = ppo.tune(policy, paid, pool, task, config, Run(seed=seed))
    tune_seconds = time.time() - start

    test = tasks.queries(task, tokenizer, JUDGED, split="test", seed=seed)
    asked, first_is_zero = evaluation.pairs(policy, base, test, task, seed=seed)
    who = {"name": "held-out judge", "seed": 1_000 + seed}
    sharp = labelers.simulated(task, **who, temperature=0)  # knows the taste without its noise
    won = evaluation.judge(asked, first_is_zero, sharp.label(asked))
    # as noisy as the labeler: the number to set beside people's
    noisy = evaluation.judge(asked, first_is_zero, labelers.simulated(task, **who).label(asked))
    measured, start_at = (
        evaluation.measure(p, base, test, task, lambda r: reward.score(model, r, task), seed=seed)
        for p in (policy, base)
    )
    if (task.name, seed) == KEPT:
        save(model, policy, history, [*metrics[:-1], metrics[-1] | {"seconds": tune_seconds}])
    said = texts_of(asked, first_is_zero)
    for c, zero in list(zip(asked, first_is_zero, strict=True))[:6]:
        print(
            f"\n{c.query}\n  base:  {c.options[1 if zero else 0]}\n  tuned: "
            f"{c.options[0 if zero else 1]}"
        )
    return {
        "task": task.name, "seed": seed, "accuracy": accuracy, "ceiling": ceiling,
        "share_of_ceiling": accuracy / ceiling, "win_rate": won.rate, "low": won.low,
        "high": won.high, "noisy_win_rate": noisy.rate, "noisy_low": noisy.low,
        "noisy_high": noisy.high, "score": measured["score"], "base_score": start_at["score"],
        "kl_nats": measured["kl_nats_per_response"],
        "entropy_nats": measured["entropy_nats_per_response"], "fit_seconds": fit_seconds,
        "tune_seconds": tune_seconds, "precision": precision, "episodes": episodes,
        "machine": machine(), **said,
    }  # fmt: skip


def texts_of(asked: list[Comparison], first_is_zero: list[bool]) -> dict[str, float]:
    """Measure what the two models wrote: how much the answers differ, how many can be read and
    keep to their prompts."""
    tracker, found = Tracker(), {}
    for name, first in (("tuned", True), ("base", False)):
        pairs = zip(asked, first_is_zero, strict=True)
        answers = [c.options[0 if zero == first else 1] for c, zero in pairs]
        numbers = variety(answers) | follows(tracker, [c.query for c in asked], answers)
        found |= {f"{name}_{key}": value for key, value in numbers.items()}
    return found


def save(
    model: models.RewardModel, policy: models.Policy, fit: list[dict], tune: list[dict]
) -> None:
    """Keep the models and curves that notebooks use."""
    model.classifier.half()  # half the size of the clone; loaded as float32 again
    policy.lm.half()
    name = KEPT[0]
    model.save(RECORDED / f"reward_{name}")
    policy.save(RECORDED / f"policy_{name}")
    for kind, lines in (("fit", fit), ("ppo", tune)):
        (RECORDED / f"{kind}_{name}.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )


def machine() -> str:
    """Name the processor, how many threads were used, and torch's version: what the times belong
    to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def table(results: list[dict]) -> str:
    """Write the results as the README shows them, one row per task and seed."""
    names = (
        "task, seed", "reward accuracy, of the ceiling", "score (base)", "KL, nats",
        "wins, noiseless judge (95 %)", "wins, noisy judge (95 %)", "different answers (base)",
        "most frequent opening (base)", "distinct-2 (base)", "can be read (base)",
        "prompt kept (base)", "fit + PPO",
    )  # fmt: skip
    rows = [
        [
            f"{r['task']}, {r['seed']}{' (kept)' if r.get('kept') else ''}",
            f"{r['share_of_ceiling']:.1%} of {r['ceiling']:.1%}",
            f"{r['score']:.2f} ({r['base_score']:.2f})",
            f"{r['kl_nats']:.1f}", f"{r['win_rate']:.1%} ({r['low']:.1%} to {r['high']:.1%})",
            f"{r['noisy_win_rate']:.1%} ({r['noisy_low']:.1%} to {r['noisy_high']:.1%})",
            f"{r['tuned_different']:.0%} ({r['base_different']:.0%})",
            f"{r['tuned_most_frequent_opening']:.0%} ({r['base_most_frequent_opening']:.0%})",
            f"{r['tuned_distinct_2']:.2f} ({r['base_distinct_2']:.2f})",
            f"{r['tuned_readable']:.0%} ({r['base_readable']:.0%})",
            f"{r['tuned_kept']:.0%} ({r['base_kept']:.0%})",
            f"{r['fit_seconds']:.0f} + {r['tune_seconds']:.0f} s",
        ]
        for r in results
    ]  # fmt: skip
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=["sentiment", "descriptiveness"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--episodes", type=int, default=presets.KEPT.episodes)
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "bf16"],
        help="bf16 is faster where the processor has it",
    )
    parser.add_argument(
        "--collect", action="store_true", help="sample and label the comparisons again first"
    )
    args = parser.parse_args()
    if args.collect:
        record_comparisons(args.tasks)
        write([r for r in read() if r["task"] not in args.tasks])  # those of other texts
    for name in args.tasks:
        for seed in args.seeds:
            result = one_seed(tasks.get(name), seed, args.episodes, args.precision)
            print(json.dumps(result, indent=1), flush=True)
            write_down(result)


def read() -> list[dict]:
    """Read the results so far."""
    path = RECORDED / "results.json"
    return json.loads(path.read_text()) if path.exists() else []


def write(results: list[dict]) -> None:
    """Write all results."""
    (RECORDED / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def write_down(result: dict) -> None:
    """Put a seed's result in place of an older one, in `results.json` and in the README."""
    named = (result["task"], result["seed"])
    results = [r for r in read() if (r["task"], r["seed"]) != named]
    results.append(result | {"kept": True} if named == KEPT else result)
    results.sort(key=lambda r: (r["task"] != "sentiment", r["seed"]))
    write(results)
    readme = DATA.parent / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- results -->\n")
    readme.write_text(
        before
        + "<!-- results -->\n"
        + table(results)
        + rest[rest.index("<!-- end of results -->") :],
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
