"""Labels as a `datasets.Dataset`, as a folder with parquet files and a dataset card, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rlhf_helpers.labels.exchange import pairs as pair_format
from rlhf_helpers.labels.exchange.pairs import Parsed
from rlhf_helpers.labels.exchange.reading import Errors, Read, Reader
from rlhf_helpers.labels.exchange.writing import labelled
from rlhf_helpers.records import Comparison, Label


def dataset(
    comparisons: Iterable[Comparison], labels: Iterable[Label], *, pairs: bool = False
) -> Any:
    """Make a `datasets.Dataset`: one row per label with all its options, or prompt / chosen /
    rejected rows. Raises ValueError if empty."""
    from datasets import Dataset

    rows = labelled(comparisons, labels)
    if pairs:
        return Dataset.from_list([pair for c, x in rows for pair in pair_format.of_label(c, x)])
    return Dataset.from_list([_row(comparison, label) for comparison, label in rows])


def _row(c: Comparison, x: Label) -> dict[str, Any]:
    return {
        "task": c.task,
        "query": c.query,
        "options": list(c.options),
        "choice": x.choice,
        "labeler": x.labeler,
        "seconds": x.seconds,
        "created": x.created,
        "simulated": x.simulated,
        "source": c.source,
        "round": c.round,
    }


def from_dataset(
    rows: Iterable[dict[str, Any]],
    task: str = "",
    *,
    labeler: str = "imported",
    simulated: bool = False,
    errors: Errors = "raise",
    fits: Callable[[Comparison], None] | None = None,
) -> Read:
    """Read a `datasets.Dataset`, or any rows of dicts.

    Rows have prompt, chosen and rejected, or query, options and choice.

    `task` is that of rows that name none; rows that name another are left out and counted. Without
    it every row must name its own.

    With errors="skip" faulty rows are left out and reported, otherwise the first one raises
    ValueError with its number and reason. `fits` is that of `read`.
    """
    reader = Reader("the data set", task, labeler, simulated, errors, _parse, fits=fits)
    return reader.read(("record", n, partial(dict, row)) for n, row in enumerate(rows, 1))


def _parse(row: dict[str, Any]) -> Parsed:
    if "options" not in row:
        return pair_format.parse(row)
    if type(row["choice"]) is not int or not isinstance(row["query"], str):
        raise ValueError("query must be text, and choice an index from 0")
    return row["query"], row["options"], row["choice"], row


def save_dataset(
    folder: Path | str,
    comparisons: Iterable[Comparison],
    labels: Iterable[Label],
    *,
    licence: str = "unknown",
) -> None:
    """Write both forms as parquet with a dataset card, ready for `datasets.load_dataset(folder,
    "comparisons")` or "pairs"."""
    folder, comparisons, labels = Path(folder), list(comparisons), list(labels)
    for name in ("comparisons", "pairs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        dataset(comparisons, labels, pairs=name == "pairs").to_parquet(
            str(folder / name / "train.parquet")
        )
    (folder / "README.md").write_text(_card(comparisons, labels, licence), encoding="utf-8")


def _card(comparisons: list[Comparison], labels: list[Label], licence: str) -> str:
    labels = [x for _, x in labelled(comparisons, labels)]
    people, machines = (
        {x.labeler for x in labels if x.simulated == simulated} for simulated in (False, True)
    )
    simulated, asked = sum(x.simulated for x in labels), {x.comparison_id for x in labels}
    by_task = Counter(c.task for c in comparisons if c.id in asked)
    sources = ", ".join(f"`{s}`" for s in sorted({c.source for c in comparisons if c.id in asked}))
    size = next(
        (
            name
            for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
            if len(labels) < limit
        ),
        "n>100K",
    )
    return f"""---
license: {licence}
language: en
size_categories:
- {size}
tags:
- preference
- human-feedback
configs:
- config_name: comparisons
  data_files: comparisons/train.parquet
- config_name: pairs
  data_files: pairs/train.parquet
---

# Preferences between samples of a language model

{len(labels):,} labels of {len(asked):,} comparisons: {len(labels) - simulated:,} by
{len(people)} people, {simulated:,} simulated (by {len(machines)} programs). Options were written
by {sources}.

| task | comparisons |
|---|---|
{chr(10).join(f"| {task} | {count:,} |" for task, count in sorted(by_task.items()))}

## Fields

`comparisons` has one row per label: `task`, `query`, `options` (the texts), `choice` (index of the
chosen one), `labeler`, `seconds` (time taken), `created` (seconds since 1970), `simulated` (true:
no person chose), `source` (who wrote the options), `round` (of collection).

`pairs` sets the chosen option against each of the others: `prompt`, `chosen`, `rejected`, `task`,
`labeler`, `simulated`. `repeats_prompt` is false everywhere: the replies stand alone, without the
prompt.

## Before you use it

Labelers appear under the names they chose: use pseudonyms before you publish. The options are
samples of a language model and may say anything. A label says which option one labeler preferred
under the rubric of the task, not that it is true or good.
"""
