"""The format `pairs`: prompt, chosen, rejected, as preference-tuning libraries have it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TextIO

from rlhf_helpers.labels.exchange import dialogue, files
from rlhf_helpers.records import Comparison, Label, same_text

# query, options, choice, what else is known
Parsed = tuple[str, Sequence[str], int, dict[str, Any]]
# what other data sets call their prompt
_PROMPTS = (
    "question", "instruction", "input", "query", "context", "history", "post", "document",
    "article", "conversation", "conversations", "messages", "user", "inputs", "user_input",
)  # fmt: skip


def parse(record: dict[str, Any]) -> Parsed:
    """Read one pair; both replies may repeat the prompt, or begin with it where there is none."""
    chosen, rejected, prompt = record["chosen"], record["rejected"], record.get("prompt")
    if prompt is None:
        _check_names(record)
    repeated = str(record.get("repeats_prompt")).lower() not in ("false", "0")
    query, first, second = dialogue.split(prompt, chosen, rejected, repeated)
    # Whether the chosen one becomes option 0 is a coin of the content, not always the same side.
    content = "\0".join([query, *sorted((first, second))])
    swap = hashlib.sha256(content.encode(errors="replace")).digest()[0] % 2 == 1
    return query, (second, first) if swap else (first, second), int(swap), record


def _check_names(record: dict[str, Any]) -> None:
    """Raise ValueError if the prompt stands in a field of another name: none is derived then."""
    names = {name: str(name).strip().lower() for name, value in record.items() if value is not None}
    named = [n for n, lower in names.items() if lower in _PROMPTS or lower == "prompt"]
    if named:
        raise ValueError(
            f'there is no field "prompt", but there is {named[0]!r}: if that is the prompt, rename '
            f'it, `exchange.from_dataset([row | {{"prompt": row[{named[0]!r}]}} for row in '
            "exchange.records(path)], task)`"
        )


def of_label(comparison: Comparison, label: Label) -> list[dict[str, Any]]:
    """Set the chosen option against each of the others, except those that read the same.

    `repeats_prompt` is False: a reply that happens to begin with the prompt is kept as it is.
    """
    chosen = comparison.options[label.choice]
    about = {
        "task": comparison.task,
        "labeler": label.labeler,
        "simulated": label.simulated,
        "repeats_prompt": False,
    }
    return [
        {"prompt": comparison.query, "chosen": chosen, "rejected": other} | about
        for other in comparison.options
        if not same_text(other, chosen)
    ]


def write(file: TextIO, rows: Sequence[tuple[Comparison, Label]]) -> int:
    """Write JSON lines, K - 1 for a comparison of K options; return how many."""
    records = [pair for comparison, label in rows for pair in of_label(comparison, label)]
    files.write_lines(file, records)
    return len(records)
