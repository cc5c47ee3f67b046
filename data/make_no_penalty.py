"""Record a run without the KL penalty, of full length: what notebook 00 sets beside the recorded
run with it (`make recorded` makes both).

Reward model, prompts, seed and settings are those of the recorded run; only `kl_coef` is 0.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))
from rlhf_helpers import evaluation, labelers, models, ppo, presets, reward, sampling, tasks  # noqa: E402
from rlhf_helpers.course.profile import RECORDED  # noqa: E402
from rlhf_helpers.runtime import seeds  # noqa: E402
from rlhf_helpers.runtime.runs import Run  # noqa: E402

SHOWN, JUDGED = 8, 512
COLUMNS = ("episodes", "score", "kl_nats_per_response", "entropy_nats_per_response")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=presets.KEPT.episodes)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    args = parser.parse_args()
    task = tasks.SENTIMENT
    results = json.loads((RECORDED / "results.json").read_text())
    (seed,) = [r["seed"] for r in results if r["task"] == task.name and r.get("kept")]
    base = models.Policy.load(precision=args.precision)
    tuned = models.Policy.load(RECORDED / f"policy_{task.name}", precision=args.precision)
    model = models.RewardModel.load(RECORDED / f"reward_{task.name}")
    preset = presets.get(task.name, "bundled")
    score = reward.scorer(model, task)
    paid = reward.scorer(model, task, each_token=preset.each_token)
    pool = tasks.queries(task, base.tokenizer, 2_000, seed=100 + seed)
    config = replace(preset.ppo, episodes=args.episodes, kl_coef=0.0)
    free = models.Policy.load(precision=args.precision)
    lines = ppo.tune(free, paid, pool, task, config, Run(seed=seed), kl_limit=math.inf)

    rows = {"base": base, "with the penalty": tuned, "without": free}
    test = tasks.queries(task, base.tokenizer, JUDGED, split="test", seed=seed)
    judge = labelers.simulated(task, name="held-out judge", seed=1_000 + seed)
    texts, measured = {"prompt": tasks.query_texts(test[:SHOWN], base.tokenizer)}, {}
    for name, policy in rows.items():
        numbers = evaluation.measure(policy, base, test, task, score, seed=seed)
        pairs, sides = evaluation.pairs(policy, base, test, task, seed=seed)
        won = evaluation.judge(pairs, sides, judge.label(pairs))
        measured[name] = numbers | {"win_rate": won.rate, "low": won.low, "high": won.high}
        dice = seeds.generator(seed, "shown answers", 0, policy.device)
        length, warmth = task.response_length, task.temperature
        said = sampling.sample(policy, test[:SHOWN], length, warmth, dice)
        texts[name] = tasks.texts(task, said.responses, base.tokenizer)
    made = {
        "about": "Simulated labels and judge (noisy); made by data/make_no_penalty.py",
        "settings": {"episodes": args.episodes, "seed": seed, "precision": args.precision},
        "judged": JUDGED,
        "measured": measured,
        "texts": texts,
        "curve": [{name: line[name] for name in COLUMNS} for line in lines],
    }
    (RECORDED / "no_penalty.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
