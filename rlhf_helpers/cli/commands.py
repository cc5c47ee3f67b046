"""The commands that do not train, one function each; its argument is the command's `options`.

sample -> label -> (fit-reward -> tune, in `training`) -> judge        and summarize_run, export,
measure_copying
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlhf_helpers import copying, evaluation, labelers, models
from rlhf_helpers.cli.loading import load, model_folder, open_store, prompts
from rlhf_helpers.cli.options import (
    Export,
    Judge,
    LabelCommand,
    MeasureCopying,
    Sample,
    SummarizeRun,
)
from rlhf_helpers.labels import cards, exchange, frontend, handin
from rlhf_helpers.models import Policy
from rlhf_helpers.runtime import files


def sample(a: Sample) -> None:
    """Sample continuations of prompts, show them, and put them into a store if one is named."""
    policy, task = load(a)
    queries = prompts(a, task, policy.tokenizer, a.count, a.split)
    asked = labelers.collect(policy, task, queries, options=a.options, seed=a.seed)
    for c in asked:
        options = (f"  {i}  {frontend.visible(o.strip())}" for i, o in enumerate(c.options, 1))
        print("\n".join(["", frontend.visible(c.query.strip()), *options]))
    if len(asked) < len(queries):
        print(
            f"\n{len(asked)} of {len(queries)} prompts gave different answers; the others are left "
            "out."
        )
    if a.store is not None:
        new = open_store(a.store, make=True).add(asked)
        print(
            f"\n{new} of {len(asked)} comparisons are new in {a.store}. Next: python -m "
            f"rlhf_helpers label --store {a.store}"
        )


def label(a: LabelCommand) -> None:
    """Ask for the answers that are missing in a store."""
    store = open_store(a.store)
    if a.card:
        return open_card(a)
    ask(cards.label(store, a.task, a.labeler))


def judge(a: Judge) -> None:
    """Judge a tuned model against its base, blind, and print the win rate."""
    base, task = load(a)
    tuned = Policy.load(model_folder(a.tuned)).to(base.device)
    queries = prompts(a, task, base.tokenizer, a.count, "test")
    asked, first_is_zero = evaluation.pairs(tuned, base, queries, task, seed=a.seed)
    if a.by == "simulated":
        labels, ties = (
            labelers.simulated(
                task, name="held-out judge", seed=1_000 + a.seed, temperature=0
            ).label(asked),
            [],
        )
    else:
        card = cards.judge(
            asked,
            a.by,
            store=open_store(a.store, make=True),
            first_is_zero=first_is_zero,
            names=("tuned", "base"),
        )
        labels, ties = ask(card).labels(), card.ties()
    who = "a simulated judge" if a.by == "simulated" else a.by
    print(f"Tuned preferred by {who}: {evaluation.judge(asked, first_is_zero, labels, ties)}.")


def summarize_run(a: SummarizeRun) -> None:
    """Print what a run was, and six of its lines from first to last."""
    path = a.folder / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(
            f"{a.folder} holds no metrics.jsonl: name the folder of a run, as `tune --out` had it"
        )
    lines = files.read_metrics(path)
    about = (
        json.loads((a.folder / "run.json").read_text(encoding="utf-8"))
        if (a.folder / "run.json").exists()
        else {}
    )
    for name, value in about.items():
        print(f"{name:10} {value}")
    shown = (
        [lines[i] for i in sorted({round(k * (len(lines) - 1) / 5) for k in range(6)})]
        if lines
        else []
    )
    for name in shown[0] if shown else ():
        print(f"{name:28}" + "".join(f"{line.get(name, float('nan')):>12.5g}" for line in shown))


def export(a: Export) -> None:
    """Write the labels of a store in one of the formats."""
    store = open_store(a.store)
    comparisons, labels = store.comparisons(a.task), store.labels(a.task)
    if not comparisons:
        raise ValueError(
            f"{a.store} holds nothing to export{f' of the task {a.task!r}' if a.task else ''}"
        )
    check_target(a.out, folder=a.format == "dataset")
    if a.format == "store":
        print(handin.export(store, a.out))
        return
    if not labels:
        raise ValueError(f"{a.store} holds {len(comparisons):,} comparisons, but no labels yet")
    if a.format == "dataset":
        exchange.save_dataset(a.out, comparisons, labels, licence=a.licence)
        count = len(labels)
    else:
        tokenizer = models.load_tokenizer(model_folder(a.model)) if a.format == "openai" else None
        count = exchange.write(a.out, a.format, comparisons, labels, tokenizer=tokenizer)
    print(f"{count:,} records in {a.out}.")


def check_target(out: Path, folder: bool) -> None:
    """Raise ValueError if an export would overwrite other people's files."""
    if (
        folder
        and out.is_dir()
        and any(out.iterdir())
        and not (out / "comparisons" / "train.parquet").exists()
    ):
        raise ValueError(f"{out} holds something else: choose an empty folder for the data set")


def ask(card: Any) -> Any:
    """Let the card ask in the terminal, if it has not done so already."""
    if frontend.way_to_ask() != "typed":
        card.answer_by_typing()
    return card


def open_card(a: LabelCommand) -> None:
    """Open the card in JupyterLab, in a notebook of one cell beside the store.

    It can be reached from this machine only. Raises OSError if JupyterLab does not start.
    """
    import nbformat

    settings = f"{str(a.store.resolve())!r}, {a.task!r}, {a.labeler!r}"
    cell = f"from rlhf_helpers.labels import cards\ncards.label({settings})"
    page = a.store.with_suffix(".label.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), page)
    print(f"Run the one cell of {page}; stop with Ctrl-C when you are done.")
    code = subprocess.run(
        [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", str(page)], check=False
    ).returncode
    if code:
        raise OSError(
            f"JupyterLab ended with exit code {code}, its own message stands above; leave --card "
            "out to label by typing here"
        )


def measure_copying(a: MeasureCopying) -> None:
    """Print what summaries take from their sources, each number with its 95 % interval."""
    sources, summaries = copying.read(a.file)
    print(f"{len(summaries):,} summaries in {a.file}")
    for name, mean in copying.average(sources, summaries).items():
        print(f"{name.replace('_', ' '):18} {mean}")
