"""What PPO buys for its nats: one change at a time, score, wins and variety at equal KL.

    python benchmarks/nats.py --arms kept "paper's way" --seeds 0 1    some runs, added to the file
    python benchmarks/nats.py --table                                 the table of what was run

Every arm tunes the bundled model against the recorded reward model of the sentiment task. A run
that is in the file already is not done again; rows of another base or reward model, or of another
precision, are left out. Scores at 2, 4 and 6 nats are read off each run's own path (running means
of ten steps), so that arms are compared at the same KL; wins (simulated judge
without noise, and as noisy as the labeler; 512 pairs), the share of the most frequent first four
words (names masked) and distinct-2 (relative to the base model's) are those of the policy at the
end. Prompts are those of the validation split, so that whoever chooses by this table has not seen
what recorded runs are judged on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from rlhf_helpers import (
    evaluation,
    labelers,
    models,
    ppo,
    presets,
    reward,
    tasks,
)  # fmt: skip
from rlhf_helpers.course.profile import RECORDED
from rlhf_helpers.runtime.runs import Run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))
from town.variety import variety  # noqa: E402

TASK = tasks.SENTIMENT
START = ppo.PPOConfig(kl_target=5.0, episodes=8_192)
GROUPED = replace(START, answers=4)
ONE_EPOCH = replace(GROUPED, epochs=1, episodes=12_288, lr=2e-4)  # as long as 4 epochs of 7,000
LEFT_OUT = replace(GROUPED, leave_one_out=True, value_coef=0.0)
ARMS = {
    "paper's way": START,
    "4 answers a prompt": GROUPED,
    "leave one out": LEFT_OUT,
    "leave one out, batch 128": replace(LEFT_OUT, batch=128),
    "leave one out, batch 256": replace(LEFT_OUT, batch=256, minibatches=4),
    "leave one out, 8 answers": replace(LEFT_OUT, answers=8),
    "leave one out, 2 epochs": replace(LEFT_OUT, epochs=2),
    "leave one out, 1 epoch": replace(LEFT_OUT, epochs=1, minibatches=4),
    "leave one out, half the learning rate": replace(LEFT_OUT, lr=5e-5),
    "leave one out, fixed beta": replace(LEFT_OUT, kl_coef=0.15, kl_target=None),
    "4 answers, paid by token": GROUPED,
    "leave one out, batch 128, paid by token": replace(LEFT_OUT, batch=128),
    "1 epoch": ONE_EPOCH,
    "1 epoch, leave one out": replace(ONE_EPOCH, leave_one_out=True, value_coef=0.0),
    "1 epoch, paid by token": ONE_EPOCH,
    "1 epoch, paid by token, half the learning rate": replace(ONE_EPOCH, lr=1e-4),
    "1 epoch, paid by token, half the learning rate, target 4.5": replace(
        ONE_EPOCH, lr=1e-4, kl_target=4.5
    ),
    **{f"kept, beta {x}": replace(presets.KEPT, kl_coef=x) for x in (0.2, 0.25, 0.3, 0.35)},
    "kept": presets.KEPT,
}
EACH_TOKEN = [name for name in ARMS if "by token" in name or "kept" in name]  # `reward.gains`


def at_kl(lines: list[dict[str, float]], nats: float) -> float | None:
    """Read the score off a run's path where its running mean of the KL first reaches `nats`."""
    for i in range(10, len(lines) + 1):
        window = lines[i - 10 : i]
        if statistics.mean(x["kl_nats_per_response"] for x in window) >= nats:
            return statistics.mean(x["score"] for x in window)
    return None


def load(precision: str) -> tuple[models.Policy, models.RewardModel]:
    """Load the base model and the recorded reward model."""
    model = models.RewardModel.load(RECORDED / "reward_sentiment", precision=precision)
    return models.Policy.load(precision=precision), model


def run_arm(arm: str, seed: int, precision: str) -> dict[str, object]:
    """Tune and measure one policy; returns a line for the file."""
    base, model = load(precision)
    policy = models.Policy.load(precision=precision)
    score, config = reward.scorer(model, TASK, each_token=arm in EACH_TOKEN), ARMS[arm]
    pool = tasks.queries(TASK, base.tokenizer, 2_000, seed=100 + seed)
    began = time.process_time()
    lines = ppo.tune(policy, score, pool, TASK, config, Run(seed=seed, device="cpu", quiet=True))
    seconds = time.process_time() - began
    asked_of = tasks.queries(TASK, base.tokenizer, 512, split="validation", seed=seed)
    measured = evaluation.measure(policy, base, asked_of, TASK, score, seed=seed)
    asked, first_is_zero = evaluation.pairs(policy, base, asked_of, TASK, seed=seed)
    who = {"name": "judge of choices", "seed": 2_000 + seed}
    judges = labelers.simulated(TASK, **who, temperature=0), labelers.simulated(TASK, **who)
    sharp, noisy = (evaluation.judge(asked, first_is_zero, j.label(asked)) for j in judges)
    ours, theirs = (
        variety([c.options[0 if zero == first else 1] for c, zero in zip(asked, first_is_zero)])
        for first in (True, False)
    )
    return {
        "arm": arm, "seed": seed, "precision": precision, "seconds": seconds,
        "models": [models.fingerprint(x) for x in (base, model)],
        "score": measured["score"], "kl_nats": measured["kl_nats_per_response"],
        "wins": sharp.rate, "noisy_wins": noisy.rate, "different": ours["different"],
        "opening": ours["most_frequent_opening"], "opening_base": theirs["most_frequent_opening"],
        "distinct_2": ours["distinct_2"] / theirs["distinct_2"],
        **{f"score_at_{nats}": at_kl(lines, nats) for nats in (2, 4, 6)},
    }  # fmt: skip


def fitting(lines: list[str], ours: list[str]) -> list[dict]:
    """Return the rows that were measured on these models, given by their fingerprints."""
    return [row for row in map(json.loads, lines) if row.get("models") == ours]


def table(rows: list[dict]) -> str:
    """Lay out one line per arm: means over seeds, how many seeds, and the range of the wins."""
    head = "| arm | seeds | score at 2, 4, 6 nats | end: score at KL | wins | noisy wins | "
    out = [head + "most frequent opening | distinct-2 | CPU s |", "|" + "---|" * 9]
    for arm in ARMS:
        found = [row for row in rows if row["arm"] == arm]
        if not found:
            continue

        def mean(name: str, found: list[dict] = found) -> float | None:
            values = [row[name] for row in found if row[name] is not None]
            return statistics.mean(values) if values else None

        path = [mean(f"score_at_{nats}") for nats in (2, 4, 6)]
        cells = ", ".join("-" if value is None else f"{value:.2f}" for value in path)
        wins = sorted(row["wins"] for row in found)
        out.append(
            f"| {arm} | {len(found)} | {cells} | {mean('score'):.2f} at {mean('kl_nats'):.1f} | "
            f"{mean('wins'):.0%} ({wins[0]:.0%} to {wins[-1]:.0%}) | "
            f"{mean('noisy_wins'):.0%} | {mean('opening'):.0%} ({mean('opening_base'):.0%}) | "
            f"{mean('distinct_2'):.2f} | {mean('seconds'):.0f} |"
        )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--out", type=Path, default=Path("runs/nats.jsonl"))
    parser.add_argument("--table", action="store_true", help="only print what is in the file")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    rows = fitting(lines, [models.fingerprint(x) for x in load(args.precision)])
    for seed in [] if args.table else args.seeds:
        for arm in args.arms:
            if any((row["arm"], row["seed"]) == (arm, seed) for row in rows):
                continue
            rows.append(run_arm(arm, seed, args.precision))
            with args.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
