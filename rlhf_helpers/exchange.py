"""Floor 2: labels in the formats of others. `read` makes comparisons and labels from a file, `write` and `dataset` give them away.

    openai    one JSON array: token ids `query`, `sample0` ... `sample3`, padded with 50259, and `best` (released with the paper)
    pairs     JSON lines: prompt, chosen, rejected; texts or lists of messages; the form that preference-tuning libraries read
    pairwise  JSON lines: prompt, first, second, choice ("first" or "second")
    csv       columns query, option_0, option_1, ..., choice (an index), and if known labeler, seconds, created, simulated

`store.LabelStore.add` and `add_labels` take what `read` gives; the store's own `export` keeps more (undone answers' order, skips, flags).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.records import Comparison, Label

OPENAI_PAD = 50_259  # outside GPT-2's vocabulary
Format = Literal["openai", "pairs", "pairwise", "csv"]


@dataclass(frozen=True)
class Fault:
    """A record that could not be read: where it stands (line, or number in the array, from 1) and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Read:
    """What a file held; `faults` lists what was left out, if leaving out was asked for."""

    comparisons: list[Comparison]
    labels: list[Label]
    faults: list[Fault]


def read(
    path: Path | str, format: Format, task: str, *, labeler: str = "imported", simulated: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None, errors: Literal["raise", "skip"] = "raise",
) -> Read:  # fmt: skip
    """Read a file of preferences; with errors="skip" faulty records are left out and reported, otherwise the first one ends it all.

    Raises ValueError with file, line and reason. The openai format needs the tokenizer that made its ids (GPT-2's).
    """
    path = Path(path)
    comparisons: dict[str, Comparison] = {}
    labels, faults = [], []
    for line, parse in _records(path, format, tokenizer):
        try:
            query, options, choice, more = parse()
            if not 0 <= choice < len(options):
                raise ValueError(f"choice {choice}, but there are {len(options)} options, from 0")
            comparison = Comparison(task, query, tuple(options), source=str(more.get("source") or "imported"))
            who = str(more.get("labeler") or labeler)
            flag = str(more.get("simulated", simulated)).lower() in ("true", "1")
            label = Label(comparison.id, who, choice, float(more.get("seconds") or 0), float(more.get("created") or 0), flag)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            if errors == "raise":
                raise ValueError(f'{path}, record {line}: {reason}; nothing was read (errors="skip" would leave it out)') from error
            faults.append(Fault(line, reason))
            continue
        comparisons[comparison.id] = comparison
        labels.append(label)
    return Read(list(comparisons.values()), labels, faults)


def write(
    path: Path | str, format: Format, comparisons: Iterable[Comparison], labels: Iterable[Label], *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> int:  # fmt: skip
    """Write labelled comparisons, one record per label (pairs: one per option not chosen), and return how many records there are.

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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        if format == "csv":
            names = list(dict.fromkeys(name for record in records for name in record))
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(records)
        elif format == "openai":
            json.dump(records, file)
        else:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    partial.replace(path)
    return len(records)


def dataset(comparisons: Iterable[Comparison], labels: Iterable[Label], *, pairs: bool = False) -> Any:
    """Make a `datasets.Dataset`: one row per label with all its options, or prompt / chosen / rejected rows. Raises ValueError if empty."""
    from datasets import Dataset

    rows = list(labelled(comparisons, labels))
    if not rows:
        raise ValueError("there are no labels to give away yet")
    if pairs:
        return Dataset.from_list([p for c, x in rows for p in as_pairs(c, x)])
    return Dataset.from_list([
        {"task": c.task, "query": c.query, "options": list(c.options), "choice": x.choice, "labeler": x.labeler, "seconds": x.seconds,
         "created": x.created, "simulated": x.simulated, "source": c.source, "round": c.round}
        for c, x in rows
    ])  # fmt: skip


def save_dataset(folder: Path | str, comparisons: Iterable[Comparison], labels: Iterable[Label], *, licence: str = "unknown") -> None:
    """Write both forms as parquet with a dataset card, ready for `datasets.load_dataset(folder, "comparisons")` or "pairs"."""
    folder, comparisons, labels = Path(folder), list(comparisons), list(labels)
    for name in ("comparisons", "pairs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        dataset(comparisons, labels, pairs=name == "pairs").to_parquet(str(folder / name / "train.parquet"))
    simulated, people = sum(x.simulated for x in labels), {x.labeler for x in labels if not x.simulated}
    tasks = ", ".join(sorted({c.task for c in comparisons}))
    card = f"""---
license: {licence}
language: en
configs:
- config_name: comparisons
  data_files: comparisons/train.parquet
- config_name: pairs
  data_files: pairs/train.parquet
---

# Preferences between samples of a language model

Tasks: {tasks}. {len(labels):,} labels of {len(comparisons):,} comparisons: {len(labels) - simulated:,} by {len(people)} people,
{simulated:,} simulated. `comparisons` has one row per label, with all options and the index of the chosen one; `pairs` sets the chosen
option against each of the others. Labelers appear under the names they chose.
"""
    (folder / "README.md").write_text(card, encoding="utf-8")


def labelled(comparisons: Iterable[Comparison], labels: Iterable[Label]) -> Iterator[tuple[Comparison, Label]]:
    """Pair every label with its comparison; raises ValueError for a label of an unknown one."""
    known = {c.id: c for c in comparisons}
    for label in labels:
        if label.comparison_id not in known:
            raise ValueError(f"label of {label.labeler!r}: comparison {label.comparison_id} is not among the {len(known)} given")
        yield known[label.comparison_id], label


def as_pairs(comparison: Comparison, label: Label) -> list[dict[str, Any]]:
    """Set the chosen option against each of the others."""
    chosen = comparison.options[label.choice]
    others = [option for k, option in enumerate(comparison.options) if k != label.choice]
    more = {"labeler": label.labeler, "simulated": label.simulated}
    return [{"prompt": comparison.query, "chosen": chosen, "rejected": other} | more for other in others]


# ---- one record at a time --------------------------------------------------------------------------------------------------------------

Parsed = tuple[str, Sequence[str], int, dict[str, Any]]  # query, options, choice, what else is known


def _records(path: Path, format: str, tokenizer: Any) -> Iterator[tuple[int, Callable[[], Parsed]]]:
    """Yield (number, function that parses the record): nothing is parsed before its turn, so that a fault has a place."""
    if format == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, lambda row=row: _from_csv(row)
    elif format == "openai":
        if tokenizer is None:
            raise ValueError("the openai format holds token ids: pass the tokenizer that made them (GPT-2's)")
        try:
            records = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}): was the download complete?") from error
        if not isinstance(records, list):
            raise ValueError(f"{path} must hold one JSON array of comparisons")
        for number, record in enumerate(records, 1):
            yield number, lambda record=record: _from_openai(record, tokenizer)
    elif format in ("pairs", "pairwise"):
        parse = _from_pair if format == "pairs" else _from_pairwise
        with path.open("rb") as file:  # bytes, so that text in a wrong encoding is reported with its line too
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, lambda line=line: parse(_object(json.loads(line)))
    else:
        raise ValueError(f"there is no format {format!r}; use openai, pairs, pairwise or csv")


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("expected an object with named fields")
    return record


def _from_openai(record: Any, tokenizer: Any) -> Parsed:
    record = _object(record)
    names = sorted(name for name in record if name.startswith("sample"))
    rows = [record["query"], *(record[name] for name in names)]
    if any(not isinstance(row, list) or any(type(t) is not int for t in row) for row in rows):
        raise ValueError("query and samples must be lists of token ids")
    query, *options = tokenizer.batch_decode([[t for t in row if t != OPENAI_PAD] for row in rows])
    return query, options, _index(record["best"]), {}


def _from_pair(record: dict[str, Any]) -> Parsed:
    chosen, rejected, prompt = record["chosen"], record["rejected"], record.get("prompt")
    if prompt is None:  # the prompt may stand at the beginning of both
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
        prompt = chosen[:same]
        if not prompt:
            raise ValueError("there is no prompt, and chosen and rejected begin differently")
        if isinstance(chosen, str):
            prompt = prompt[: prompt.rfind(" ") + 1] or prompt  # whole words only
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    query, first, second = _text(prompt), _text(chosen), _text(rejected)
    # Whether the chosen one becomes option 0 is a coin of the content, not always the same side.
    swap = hashlib.sha256("\0".join([query, *sorted((first, second))]).encode()).digest()[0] % 2 == 1
    return query, (second, first) if swap else (first, second), int(swap), record


def _from_pairwise(record: dict[str, Any]) -> Parsed:
    sides = {"first": 0, "second": 1}
    if record["choice"] not in sides:
        raise ValueError(f'choice {record["choice"]!r} must be "first" or "second"')
    return _text(record["prompt"]), (_text(record["first"]), _text(record["second"])), sides[record["choice"]], record


def _from_csv(row: dict[str, Any]) -> Parsed:
    names = sorted((n for n in row if n and n.startswith("option_") and row[n] not in (None, "")), key=lambda n: int(n[7:]))
    if None in row:
        raise ValueError("the row has more fields than the header: is a text with a comma not quoted?")
    return row["query"], [row[name] for name in names], _index(row["choice"]), row


def _index(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdigit():
        raise ValueError(f"choice {value!r} must be an index from 0")
    return int(value)


def _text(value: Any) -> str:
    """Return a text as it is, and a conversation as lines; one message is just its content."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or any(not isinstance(m, dict) or not isinstance(m.get("content"), str) for m in value):
        raise ValueError(f"expected a text or a list of messages, got {str(value)[:40]!r}")
    return value[0]["content"] if len(value) == 1 else "\n".join(f"{m.get('role', '')}: {m['content']}" for m in value)


def _csv_record(c: Comparison, x: Label) -> dict[str, Any]:
    options = {f"option_{k}": option for k, option in enumerate(c.options)}
    more = {"labeler": x.labeler, "seconds": x.seconds, "created": x.created, "simulated": x.simulated, "source": c.source}
    return {"query": c.query} | options | {"choice": x.choice} | more


def _pairwise_record(c: Comparison, x: Label) -> dict[str, Any]:
    if len(c.options) != 2:
        raise ValueError(f"comparison {c.id} has {len(c.options)} options; pairwise holds two: write it as pairs")
    more = {"labeler": x.labeler, "simulated": x.simulated, "source": c.source}
    return {"prompt": c.query, "first": c.options[0], "second": c.options[1], "choice": ("first", "second")[x.choice]} | more


def _openai_records(rows: Sequence[tuple[Comparison, Label]], tokenizer: Any) -> list[dict[str, Any]]:
    if tokenizer is None:
        raise ValueError("the openai format holds token ids: pass a tokenizer (GPT-2's)")
    queries = [tokenizer(c.query)["input_ids"] for c, _ in rows]
    samples = [[tokenizer(option)["input_ids"] for option in c.options] for c, _ in rows]
    wide, long = max(map(len, queries), default=0), max((len(s) for group in samples for s in group), default=0)
    return [
        {"query": query + [OPENAI_PAD] * (wide - len(query))}
        | {f"sample{k}": s + [OPENAI_PAD] * (long - len(s)) for k, s in enumerate(group)}
        | {"best": x.choice}
        for query, group, (_, x) in zip(queries, samples, rows, strict=True)
    ]
