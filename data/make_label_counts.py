"""How many labels: wins against the base model, and bits foreseen, from 25 to 20,000 labels
(`data/recorded/label_counts.json`).

Sentiment, descriptiveness and summaries of posts, by what learns from the labels (a few-click
model on the frozen base model, `clicks`; all weights of a reward model, `reward`), by the labelers'
noise, and by who chooses the questions (chance, or the few-click model itself). No person takes
part, so what is wanted is known exactly (`label_counts_truth`).

Every reward model is measured on prompts of the validation split: how often its favourite is
chosen, the share of the attainable utility, bits foreseen, and wins of the best of 16 by its
opinion against one answer more, in the eyes of a judge without noise and of one as noisy as the
labelers. Some are tuned on, too, by PPO at the price that all chapters keep, offline and online.
What is claimed was fixed before (`label_counts_verdicts`).

Every finished part is kept in runs/label_counts, and inside a part PPO goes on from its checkpoint;
the same command goes on from there. `--plan` only says how long it will take, `--quick` makes a
small version, which says nothing. Begin with `--seeds 0`; more seeds are added to the same folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from pathlib import Path

DATA = Path(__file__).resolve().parent
sys.path[:0] = [str(DATA.parent), str(DATA)]
import label_counts_models as learned  # noqa: E402
import label_counts_parts as parts  # noqa: E402
from jobs import Job, plan, work  # noqa: E402
from label_counts_models import FEW  # noqa: E402
from label_counts_parts import KINDS, PART, Settings, pool_files  # noqa: E402
from label_counts_truth import COIN, FACTOR  # noqa: E402
from label_counts_verdicts import QUESTION, sizes, verdicts  # noqa: E402

from rlhf_helpers import models, presets  # noqa: E402
from rlhf_helpers.course import profile  # noqa: E402

COUNTS = (25, 50, 100, 200, 500, 1_000, 2_500, 5_000, 20_000)
MOST = {"descriptiveness": 5_000}  # of a full fit; the others go all the way
NOISY = (200, 1_000, 5_000)  # with other noise: on sentiment alone
# (learner, labels, rounds): on sentiment and on posts
TUNED = (("few", 200, 1), ("full", 200, 1), ("full", 1_000, 1), ("full", 5_000, 1),
         ("full", 5_000, 3))  # fmt: skip
# of one slow core, float32: for each answer sampled, label learned from in two passes, answer tuned
# on, comparison read by the few-click model
SECONDS = {
    "style": {"sample": 0.011, "fit": 0.086, "tune": 0.035, "read": 0.02},
    "tldr": {"sample": 0.014, "fit": 0.115, "tune": 0.047, "read": 0.03},
}
CUBE = 60.0  # seconds of the few-click fits to FEW labels; in part they grow with the cube


# ---- what depends on what ------------------------------------------------------------------------


def jobs_of(s: Settings) -> list[Job]:
    """List all the work, what others wait for first, and seed after seed."""
    found: dict[str, Job] = {}

    def add(file: str, needs: tuple[str, ...], seconds: float, do, *with_) -> None:
        found.setdefault(file, Job(file, needs, seconds, do, with_))

    for kind in dict.fromkeys(KINDS[name] for name in s.tasks):
        sample = SECONDS[kind]["sample"]
        add(f"held-{kind}.json", (), sample * s.held * (parts.BEST_OF + 5), parts.held, kind)
        for number, file in enumerate(pool_files(s, kind)):
            add(file, (), 4 * sample * min(PART, s.labels), parts.pool, kind, number)
    for seed in s.seeds:
        for name in s.tasks:
            _reward_models(s, name, seed, add)
        for name in s.tasks:
            if name not in MOST:
                _policies(s, name, seed, add)
    return list(found.values())


def _reward_models(s: Settings, name: str, seed: int, add) -> None:
    kind = KINDS[name]
    took, ready = SECONDS[kind], (f"held-{kind}.json", *pool_files(s, kind))
    measuring = took["read"] * 5 * s.held
    add(f"bounds-{name}-{seed}.json", ready, 10, learned.bounds, name, seed)
    reading = took["read"] * s.read + measuring
    noises = ("recorded", "noiseless", "coin") if name == "sentiment" else ("recorded",)
    for noise in noises:
        file = f"few-{name}-{noise}-{seed}.json"
        fits = CUBE * (min(FEW, s.labels) / FEW) ** 3 + 20
        add(file, ready, reading + fits, learned.few, name, noise, seed)
        counts = [n for n in s.counts if n <= MOST.get(name, n)]
        for count in counts if noise == "recorded" else [n for n in counts if n in NOISY]:
            file = f"full-{name}-{noise}-{count}-{seed}.json"
            labels = max(count, learned.STEPS * 8 / 2)
            seconds = took["fit"] * labels + 1_100 * took["sample"] + measuring
            add(file, ready, seconds, learned.full, name, noise, count, seed)
    asking = ("recorded", seed, "uncertain")
    add(f"asked-{name}-{seed}.json", ready, reading + 1.5 * CUBE, learned.few, name, *asking)


def _policies(s: Settings, name: str, seed: int, add) -> None:
    kind = KINDS[name]
    took, ready = SECONDS[kind], (f"held-{kind}.json",)
    for learner, count, rounds in s.tuned:
        seconds = took["tune"] * s.episodes + 2 * took["sample"] * s.held + 10
        made = f"few-{name}-recorded-{seed}.json"
        if learner == "full":
            made = f"full-{name}-recorded-{count}-{seed}.json"
        if rounds > 1:  # each round fits a model to the labels so far
            seconds += took["fit"] * count * (rounds + 1) / 2 + took["sample"] * 4 * count
        needs = ready if rounds > 1 else (*ready, made)
        file = f"tuned-{name}-{learner}-{count}-{rounds}-{seed}.json"
        add(file, needs, seconds, learned.tuned, name, learner, count, rounds, seed)


# ---- the table -----------------------------------------------------------------------------------


def table(s: Settings) -> dict:
    """Put all that was measured into one table."""
    made = {job.file: json.loads((Path(s.folder) / job.file).read_text()) for job in jobs_of(s)}
    models_of, policies, samples = [], [], []
    for file, part in made.items():
        models_of += part.get("rows", [])
        if file.startswith("tuned-"):
            policies.append({k: v for k, v in part.items() if k != "texts"})
    for name in s.tasks:
        known = made[f"held-{KINDS[name]}.json"]
        here = {
            f"{p['learner']}, {p['labels']:,} labels, rounds: {p['rounds']}": p["texts"]
            for p in made.values()
            if p.get("task") == name and p.get("seed") == s.seeds[0]
        }
        for i in range(min(4, len(known["prompts"]))):
            texts = {who: answers[i].strip() for who, answers in here.items()}
            base = known["texts"][i][parts.BEST_OF].strip()
            samples.append({"task": name, "prompt": known["prompts"][i], "base": base} | texts)
    settings = {k: v for k, v in asdict(s).items() if k not in ("base", "folder")}
    about = "wins and bits by number of labels; simulated; made by data/make_label_counts.py"
    return {
        "about": about, "question": QUESTION,
        "settings": settings | {"coin": COIN, "factor": FACTOR, "best_of": parts.BEST_OF},
        "verdicts": verdicts([*models_of, *policies]), "sizes": sizes(models_of),
        "prompts_also_learned_from": _shared(s, made),
        "reward_models": models_of, "policies": policies, "samples": samples,
    }  # fmt: skip


def _shared(s: Settings, made: dict) -> dict[str, int]:
    """Count prompts of the measurement that some labelled comparison had too: stories of two splits
    may begin alike."""
    found = {}
    for kind in dict.fromkeys(KINDS[name] for name in s.tasks):
        asked = {row[0] for file in pool_files(s, kind) for row in made[file]["comparisons"]}
        found[kind] = len(asked & set(made[f"held-{kind}.json"]["prompts"]))
    return found


def settings_of(args: argparse.Namespace) -> Settings:
    """Read the command line; --quick is the smallest run that does everything."""
    counts, tuned = tuple(args.counts), TUNED
    given = {k: v for k, v in vars(args).items() if k in Settings.__dataclass_fields__}
    if args.quick:
        given |= {"held": 40, "read": 100, "episodes": 256}
        counts, tuned = (25, 50, 100), (("few", 50, 1), ("full", 50, 1), ("full", 100, 3))
    tuned = tuple(x for x in tuned if x[1] in counts)
    given |= {"counts": counts, "labels": max(counts), "tuned": tuned, "folder": ""}
    s = Settings(**given | {"seeds": tuple(args.seeds), "tasks": tuple(args.tasks)})
    weights = hashlib.sha256((Path(s.base) / "model.safetensors").read_bytes())
    # what is not in here may change without a new folder: the code
    apart = ("counts", "tasks", "tuned", "seeds", "base", "folder")
    numbers = {f.name: getattr(s, f.name) for f in fields(s) if f.name not in apart}
    kept = [presets.BUNDLED[name] for name in KINDS]
    weights.update(f"{numbers} {presets.KEPT} {kept}".encode())
    return replace(s, folder=str(args.folder / weights.hexdigest()[:12]))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--tasks", nargs="+", default=list(KINDS), choices=list(KINDS))
    found.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    found.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="numbers of labels")
    found.add_argument(
        "--read", type=int, default=2_000, help="comparisons, by the few-click model"
    )
    found.add_argument("--held", type=int, default=500, help="prompts on which all is measured")
    found.add_argument("--episodes", type=int, default=8_192, help="of each policy")
    found.add_argument("--kl-coef", type=float, default=presets.KEPT.kl_coef)
    found.add_argument("--split", default="validation", choices=["validation", "test"])
    found.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    found.add_argument("--base", default=str(models.BASE))
    found.add_argument("--folder", type=Path, default=profile.folder() / "label_counts")
    found.add_argument("--out", type=Path, help="[data/recorded/label_counts.json]")
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
    kept = Path(s.folder) if args.quick else profile.RECORDED
    out = args.out or kept / "label_counts.json"
    out.write_text(json.dumps(made, indent=1) + "\n")
    for found in made["verdicts"]:
        print("{who}, {measure}, beside {than}: {verdict} (expected: {expected})".format(**found))
    for found in made["sizes"]:
        print(found)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
