"""When it goes wrong: proxy and gold against KL, flipped signs, labelers with a habit, remedies
(`data/recorded/failures.json`).

No person takes part. A simulated reader (`rlhf_helpers/course/readers.py`) likes happy words and
nothing twice; it labels the recorded comparisons with as much noise as people have, and its utility
without the noise is the gold. Reward models of 100, 500 and 2,500 of its labels are the proxies.

curves    the best of n from a pool of the base model's answers, and PPO at no price of the KL and
          at a low one: proxy and gold on the way, fitted with the forms of Gao et al. 2022
signs     reward and KL, each with both signs, at a small budget
habits    labelers who prefer what stands first, on a card that begins with the shortest text and on
          a shuffled one, or the longer text; measured in labels, reward model and policy, and
          removed: by the shuffle, or by taking what goes with length out of the reward
remedies  for the reward model of some labels, which fails: a KL target, more labels, the strictest
          of three models of the same labels, stopping by a held-out judge; and for a taste of 100
          clicks its lower bound

All texts shown are kept beside their numbers. What is claimed, and which words an answer may have,
was fixed before (`failures_verdicts`). Every finished part is kept in runs/failures, and inside a
part PPO goes on from its checkpoint; the same command goes on from there. `--plan` only says how
long it will take, `--quick` makes a small version, which says nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path[:0] = [str(DATA.parent), str(DATA)]
import failures_parts as parts  # noqa: E402
from failures_arms import PPO, Settings, arms  # noqa: E402
from failures_table import models_of, table  # noqa: E402
from jobs import Job, plan, work  # noqa: E402

from rlhf_helpers import models, presets  # noqa: E402
from rlhf_helpers.course import profile, readers  # noqa: E402

# of one core, guessed from the recorded runs of `make_recorded.py` and notebook 07: for each answer
# sampled, answer scored, label learned from, and answer tuned on
SECONDS = {"sample": 0.010, "score": 0.004, "fit": 0.090, "tune": 0.035}
QUICK = {
    "sizes": (32, 64, 96), "clicks": 16, "episodes": 256, "short": 128, "prompts": 4,
    "samples": 128, "judged": 8, "test": 16, "held_out": 32, "looks": 4,
}  # fmt: skip


def jobs_of(s: Settings) -> list[Job]:
    """List all the work, what others wait for first, seed after seed."""
    found = []
    answers = s.prompts * s.samples
    for seed in s.seeds:
        pool = f"pool-{seed}.json"
        found.append(Job(pool, (), 10 + SECONDS["sample"] * answers, parts.pool, (seed,)))
        for model in models_of(s):
            fit, best = f"reward-{model.name(seed)}.json", f"best-{model.name(seed)}.json"
            seconds = 30 + (0 if model.taste else SECONDS["fit"] * model.size)
            found.append(Job(fit, (), seconds, parts.reward_model, (model, seed)))
            seconds = 10 + SECONDS["score"] * answers
            found.append(Job(best, (pool, fit), seconds, parts.best_of, (model, seed)))
        for arm in arms(s):
            needs = [pool, *(f"reward-{model.name(seed)}.json" for model in arm.pays)]
            needs += [f"best-{arm.pays[0].name(seed)}.json"] if arm.even else []
            looks = s.looks + 1 if arm.part in ("curve", "remedy") else 2
            each = SECONDS["sample"] + SECONDS["score"] * (1 + len(arm.pays))
            seconds = 10 + looks * each * (s.judged + s.test)
            seconds += arm.episodes * (SECONDS["tune"] + SECONDS["score"] * (len(arm.pays) - 1))
            found.append(Job(arm.file(seed), tuple(needs), seconds, parts.tuned, (arm, seed)))
    return found


def settings_of(args: argparse.Namespace) -> Settings:
    """Read the command line; --quick is the smallest run that does everything."""
    given = {k: v for k, v in vars(args).items() if k in Settings.__dataclass_fields__}
    s = Settings(**given | (QUICK if args.quick else {}) | {"folder": ""})
    s = replace(s, seeds=tuple(s.seeds), sizes=tuple(s.sizes))
    weights = hashlib.sha256((Path(s.base) / "model.safetensors").read_bytes())
    # what is not in here may change without a new folder: the code
    apart = ("seeds", "base", "folder")
    kept = {f.name: getattr(s, f.name) for f in fields(s) if f.name not in apart}
    reader = (readers.BOREDOM, readers.LETTERS, readers.FIRST, readers.WORDY)
    text = f"{kept} {PPO} {presets.BUNDLED[parts.TASK.name]} {reader} {list(arms(s))}"
    weights.update(text.encode())
    return replace(s, folder=str(args.folder / weights.hexdigest()[:12]))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Settings()
    found.add_argument("--seeds", nargs="+", type=int, default=list(usual.seeds))
    found.add_argument("--sizes", nargs=3, type=int, default=list(usual.sizes), help="of labels")
    found.add_argument("--episodes", type=int, default=usual.episodes)
    found.add_argument("--short", type=int, default=usual.short, help="episodes: signs and habits")
    found.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    found.add_argument("--base", default=str(models.BASE))
    found.add_argument("--folder", type=Path, default=profile.folder() / "failures")
    found.add_argument("--out", type=Path, help="[data/recorded/failures.json]")
    found.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    found.add_argument("--plan", action="store_true", help="only say how long it will take")
    found.add_argument("--quick", action="store_true", help="a small version, not recorded")
    return found


def main() -> None:
    args = parser().parse_args()
    s = settings_of(args)
    if args.plan:
        raise SystemExit(plan(jobs_of(s), Path(s.folder), args.workers))
    Path(s.folder).mkdir(parents=True, exist_ok=True)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, mp_context=spawned) as pool:
        work(jobs_of(s), s, args.workers, pool)
    made = table(s)
    out = args.out or (Path(s.folder) if args.quick else profile.RECORDED) / "failures.json"
    out.write_text(json.dumps(made, indent=1) + "\n")
    for found in made["fits"]:
        print(found)
    for found in made["verdicts"]:
        print("{who}, {measure}, beside {than}: {verdict} (expected: {expected})".format(**found))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
