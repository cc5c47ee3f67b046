"""Writing labels for other programs: one record per label, the whole file or none."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.labels.exchange.reading import OPENAI_PAD, Format
from rlhf_helpers.records import Comparison, Label


def write(
    path: Path | str, format: Format, comparisons: Iterable[Comparison], labels: Iterable[Label], *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> int:  # fmt: skip
    """Write labelled comparisons, one record per label (pairs: one per option not chosen), and
    return how many records there are.

    The file appears only when it is complete. Raises ValueError for what a format cannot hold.
    """
    path = Path(path)
    rows = list(labelled(comparisons, labels))
    if format == "csv":
        records = [_csv_record(c, x) for c, x in rows]
    elif format == "pairs":
        records = [p for c, x in rows for p in as_pairs(c, x)]
    elif format == "pairwise":
        records = [_pairwise_record(c, x) for c, x in rows]
    elif format == "openai":
        records = _openai_records(rows, tokenizer)
    else:
        raise ValueError(f"there is no format {format!r}; use openai, pairs, pairwise or csv")
    with replacing(path) as file:
        if format == "csv":
            names = list(dict.fromkeys(name for record in records for name in record))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(records)
        elif format == "openai":
            json.dump(records, file)
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return len(records)


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that takes its place only when it is complete; if writing fails, what was there
    before stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def labelled(
    comparisons: Iterable[Comparison], labels: Iterable[Label]
) -> Iterator[tuple[Comparison, Label]]:
    """Pair every label with its comparison; raises ValueError for a label of an unknown one."""
    known = {c.id: c for c in comparisons}
    for label in labels:
        if label.comparison_id not in known:
            raise ValueError(
                f"label of {label.labeler!r}: comparison {label.comparison_id} is not among the "
                f"{len(known)} given"
            )
        yield known[label.comparison_id], label


def as_pairs(comparison: Comparison, label: Label) -> list[dict[str, Any]]:
    """Set the chosen option against each of the others."""
    chosen = comparison.options[label.choice]
    others = [option for k, option in enumerate(comparison.options) if k != label.choice]
    more = {"labeler": label.labeler, "simulated": label.simulated}
    return [
        {"prompt": comparison.query, "chosen": chosen, "rejected": other} | more for other in others
    ]


def _csv_record(c: Comparison, x: Label) -> dict[str, Any]:
    options = {f"option_{k}": option for k, option in enumerate(c.options)}
    more = {
        "labeler": x.labeler,
        "seconds": x.seconds,
        "created": x.created,
        "simulated": x.simulated,
    }
    return (
        {"query": c.query, "options": len(c.options)}
        | options
        | {"choice": x.choice}
        | more
        | {"source": c.source, "round": c.round}
    )


def _pairwise_record(c: Comparison, x: Label) -> dict[str, Any]:
    if len(c.options) != 2:
        raise ValueError(
            f"comparison {c.id} has {len(c.options)} options; pairwise holds two: write it as pairs"
        )
    more = {
        "labeler": x.labeler,
        "seconds": x.seconds,
        "created": x.created,
        "simulated": x.simulated,
    }
    choice = {"choice": ("first", "second")[x.choice], "source": c.source, "round": c.round}
    return {"prompt": c.query, "first": c.options[0], "second": c.options[1]} | choice | more


def _openai_records(
    rows: Sequence[tuple[Comparison, Label]], tokenizer: Any
) -> list[dict[str, Any]]:
    if tokenizer is None:
        raise ValueError("the openai format holds token ids: pass a tokenizer (GPT-2's)")
    queries = [tokenizer(c.query, add_special_tokens=False)["input_ids"] for c, _ in rows]
    samples = [
        [tokenizer(option, add_special_tokens=False)["input_ids"] for option in c.options]
        for c, _ in rows
    ]
    wide, long = (
        max(map(len, queries), default=0),
        max((len(s) for group in samples for s in group), default=0),
    )
    return [
        {"query": query + [OPENAI_PAD] * (wide - len(query))}
        | {f"sample{k}": s + [OPENAI_PAD] * (long - len(s)) for k, s in enumerate(group)}
        | {"best": x.choice}
        for query, group, (_, x) in zip(queries, samples, rows, strict=True)
    ]
