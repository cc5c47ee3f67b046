"""Summaries that copy, the paper's finding, on the bundled posts or reports
(`data/recorded/copying_tldr.json`, `copying_cnndm.json`).

Who writes: the references, the first sentences of the source (lead), the base model as it is
(zero-shot), fine-tuned on the references (supervised), tuned by PPO on a reward model of labelers
who were asked for accuracy only, and the supervised model tuned in the same way. No person takes
part: the labelers are those of `summary_labelers`, who have no taste for copies. `--instruction`
adds the base model tuned on labelers who were asked for their own words, or whose card shows
where each fact stands. With `--rounds 5` labels are collected while the policy trains.

Every row is measured on sources of the validation split, which are like those of the training
split and were never read. Those of the test split (`--split test`) tell of events that the base
model has never seen, so that even copying them is hard for it. Measured are copying
(`copying.measure`), facts by the town's exact reader, length, where copies begin, ROUGE, wins
against the zero-shot model by both judges (labelers like those who gave the labels, and
"ourselves"), and how often the two agree. What is claimed, and which words an answer may have,
was fixed before (`copying_verdicts`). All texts stay in the parts.

Every finished part is kept in runs/copying, and inside a part PPO goes on from its checkpoint; the
same command goes on from there. `--plan` only says how long it will take, `--quick` makes a small
version, which says nothing.
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
import copying_parts as parts  # noqa: E402
from copying_parts import PART, Settings, collected, comparison_files, labeler  # noqa: E402
from copying_rows import LEAD, agreements, row_of  # noqa: E402
from copying_verdicts import CLAIMS, QUESTION, verdicts  # noqa: E402
from jobs import Job, plan, work  # noqa: E402
from town.words import sentences  # noqa: E402

from rlhf_helpers import models, presets, tasks  # noqa: E402
from rlhf_helpers.course import profile  # noqa: E402
from rlhf_helpers.summary_labelers import INSTRUCTIONS  # noqa: E402

ASKED = [name for name in INSTRUCTIONS if name not in ("accuracy", "ourselves")]


# ---- what depends on what ------------------------------------------------------------------------


def jobs_of(s: Settings) -> list[Job]:
    """List all the work, what others wait for first. Seconds: measured on a slow core, float32."""
    found: dict[str, Job] = {}

    def add(file: str, needs: tuple[str, ...], seconds: float, do, *with_) -> None:
        found.setdefault(file, Job(file, needs, seconds, do, with_))

    writing = 6 + SECONDS["sample"] * s.test
    for seed in s.seeds:
        learning = SECONDS["supervised"] * s.texts
        add(f"zero-shot-{seed}.json", (), writing, parts.zero_shot, seed)
        add(f"supervised-{seed}.json", (), writing + learning, parts.supervised_model, seed)
        for which in ((*arm, seed) for arm in s.arms):
            start, name = which[0], "-".join(map(str, which))
            begun = () if start == "base" else (f"supervised-{seed}.json",)
            needs, rounds = begun, s.rounds if s.rounds > 1 else 0
            if s.rounds == 1:
                files = comparison_files(s, start, seed)
                collecting = 4 * SECONDS["sample"] * min(PART, s.labels + s.held_out)
                for part, file in enumerate(files):
                    add(file, begun, collecting, parts.comparisons, start, seed, part)
                fitting, needs = 25 + SECONDS["fit"] * s.labels, (f"reward-{name}.json",)
                add(needs[0], (*begun, *files), fitting, parts.reward_model, *which)
            # online, each round fits a model to the labels so far
            fitting = rounds * (25 + 0.5 * SECONDS["fit"] * s.labels)
            tuning = 2 * writing + SECONDS["tune"] * s.episodes + fitting
            add(f"tuned-{name}.json", needs, tuning, parts.tuned, *which)
    return list(found.values())


# of one core, for each summary sampled, text or label learned from, and answer tuned on
SECONDS = {"sample": 0.013, "supervised": 0.055, "fit": 0.115, "tune": 0.047}


# ---- the table -----------------------------------------------------------------------------------


def table(s: Settings) -> dict:
    """Measure all that was written, and put it into one table."""
    read = {job.file: json.loads((Path(s.folder) / job.file).read_text()) for job in jobs_of(s)}
    task = tasks.get(s.task)
    tokenizer = models.load_tokenizer(s.base)
    known = {r["text"]: r["summary"] for r in tasks.bundled(task.dataset, s.split)}
    rows, samples = [], []
    for seed in s.seeds:
        queries = tasks.queries(task, tokenizer, s.test, split=s.split, seed=seed)
        sources = tasks.query_texts(queries, tokenizer)
        lead = [" ".join(sentences(x)[: LEAD[s.task]]) for x in sources]
        references = [" " + known[source] for source in sources]
        who = {
            "reference": {"texts": references},
            "lead": {"texts": [" " + text for text in lead]},
            "zero-shot": read[f"zero-shot-{seed}.json"],
            "supervised": read[f"supervised-{seed}.json"],
        }
        for start, asked in s.arms:
            label = "tuned" if start == "base" else "supervised + tuned"
            label += "" if asked == "accuracy" else f", {asked}"
            name = f"{start}-{asked}-{seed}.json"
            who[label] = read[f"tuned-{name}"] | {"fit": read.get(f"reward-{name}")}
        judges = [labeler(s, name, 1_000 + seed, s.split) for name in ("accuracy", "ourselves")]
        for name, part in who.items():
            rivals = who["zero-shot"]["texts"]
            made = row_of(task, sources, part["texts"], references, rivals, judges)
            also = {k: v for k, v in part.items() if k not in ("texts", "losses")}
            rows.append({"who": name, "seed": seed} | made | also)
        if seed == s.seeds[0]:
            samples = [
                {"source": source} | {name: part["texts"][i].strip() for name, part in who.items()}
                for i, source in enumerate(sources[:8])
            ]
    made = {k: v for k, v in asdict(s).items() if k not in ("base", "folder")}
    about = "what summaries copy, by who wrote them; labels simulated; made by data/make_copying.py"
    asked = [labeler(s, "accuracy", seed) for seed in (0, 1)]
    asked += [labeler(s, "ourselves", seed) for seed in (0, 1)]
    found = agreements(collected(s, "base", s.seeds[0]), asked) if s.rounds == 1 else None
    return {
        "about": about, "question": QUESTION, "claims": [c._asdict() for c in CLAIMS],
        "settings": made, "verdicts": verdicts(rows), "agreement": found, "rows": rows,
        "samples": samples,
    }  # fmt: skip


def settings_of(args: argparse.Namespace) -> Settings:
    """Read the command line; --quick is the smallest run that does everything."""
    small = {"texts": 512, "labels": 200, "episodes": 512, "test": 64} if args.quick else {}
    given = {k: v for k, v in vars(args).items() if k in Settings.__dataclass_fields__}
    s = Settings(**given | small | {"seeds": tuple(args.seeds), "folder": ""})
    weights = hashlib.sha256((Path(s.base) / "model.safetensors").read_bytes())
    # what is not in here may change without a new folder: the code
    apart = ("seeds", "instructions", "base", "folder")
    given = {f.name: getattr(s, f.name) for f in fields(s) if f.name not in apart}
    weights.update(f"{given} {presets.KEPT} {presets.BUNDLED[s.task]} {INSTRUCTIONS}".encode())
    folder = args.folder / f"{s.task}-{weights.hexdigest()[:12]}"
    return replace(s, folder=str(folder), instructions=tuple(args.instruction))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bundled = presets.get("tldr", "bundled")
    found.add_argument("--task", default="tldr", choices=list(LEAD))
    found.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    found.add_argument("--instruction", nargs="*", default=[], choices=ASKED)
    found.add_argument("--texts", type=int, default=8_000, help="references to learn from")
    found.add_argument("--labels", type=int, default=bundled.labels)
    found.add_argument("--rounds", type=int, default=1, help="1 is offline")
    found.add_argument("--episodes", type=int, default=presets.KEPT.episodes)
    found.add_argument("--kl-coef", type=float, default=presets.KEPT.kl_coef)
    found.add_argument("--test", type=int, default=500, help="summaries of each row")
    found.add_argument("--split", default="validation", choices=["validation", "test"])
    found.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    found.add_argument("--base", default=str(models.BASE))
    found.add_argument("--folder", type=Path, default=profile.folder() / "copying")
    found.add_argument("--out", type=Path, help="[data/recorded/copying_TASK.json]")
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
    online_too = "" if s.rounds == 1 else "_online"
    kept = Path(s.folder) if args.quick else profile.RECORDED
    out = args.out or kept / f"copying_{s.task}{online_too}.json"
    out.write_text(json.dumps(made, indent=1) + "\n")
    for row in made["rows"]:
        print({k: v for k, v in row.items() if k != "curves"})
    for found in made["verdicts"]:
        print("{who}, {measure}, beside {than}: {verdict} (expected: {expected})".format(**found))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
