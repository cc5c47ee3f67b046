"""Writing labels for other programs: one record per label, the whole file or none."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.labels.exchange import files, openai, pairs, pairwise, tables
from rlhf_helpers.labels.exchange.reading import Format
from rlhf_helpers.records import Comparison, Label


def write(
    path: Path | str, format: Format, comparisons: Iterable[Comparison], labels: Iterable[Label], *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> int:  # fmt: skip
    """Write labelled comparisons, one record per label (pairs: one per option not chosen), and
    return how many records there are.

    Comparisons whose options all read the same are left out. The file appears only when it is
    complete. Raises ValueError for what a format cannot hold, for labels of several tasks, and if
    there is nothing to write.
    """
    writers = {
        "openai": partial(openai.write, tokenizer=tokenizer),
        "pairs": pairs.write,
        "pairwise": pairwise.write,
        "csv": tables.write,
    }
    if format not in writers:
        raise ValueError(f"there is no format {format!r}; use {', '.join(writers)}")
    rows = labelled(comparisons, labels)
    tasks = sorted({comparison.task for comparison, _ in rows})
    if len(tasks) > 1:  # not every format names the task, and verdicts are no labels to learn from
        raise ValueError(
            f"these are labels of several tasks ({', '.join(tasks)}), and a file holds one: choose "
            f'it with `store.labels("{tasks[0]}")`, or --task {tasks[0]}'
        )
    with files.replacing(Path(path)) as file:
        return writers[format](file, rows)


def labelled(
    comparisons: Iterable[Comparison], labels: Iterable[Label]
) -> list[tuple[Comparison, Label]]:
    """Pair every label with its comparison, without those of equal options.

    Raises ValueError for a label of an unknown comparison, and if there is none.
    """
    known = {c.id: c for c in comparisons}
    rows = []
    for label in labels:
        if label.comparison_id not in known:
            raise ValueError(
                f"label of {label.labeler!r}: comparison {label.comparison_id} is not among the "
                f"{len(known)} given"
            )
        rows.append((known[label.comparison_id], label))
    rows = [(c, label) for c, label in rows if not c.has_equal_options]
    if not rows:
        raise ValueError("there are no labels to write yet, or none of options that differ")
    return rows
