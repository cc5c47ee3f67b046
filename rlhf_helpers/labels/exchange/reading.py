"""Reading preferences that other programs wrote: every fault with its place, the good records kept
or none, as the caller chooses."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.labels.store import Event
from rlhf_helpers.labels.store.events import check, fits
from rlhf_helpers.labels.store.tables import comparisons as table
from rlhf_helpers.records import Comparison, Label

OPENAI_PAD = 50_259  # outside GPT-2's vocabulary
Format = Literal["openai", "pairs", "pairwise", "csv"]
# what a record that makes no sense can raise
FAULTS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
# query, options, choice, what else is known
Parsed = tuple[str, Sequence[str], int, dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    """A record that could not be read: where it stands (line, or number in the array, from 1) and
    why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Read:
    """What a file held; `faults` lists what was left out, if leaving out was asked for."""

    comparisons: list[Comparison]
    labels: list[Label]
    faults: list[Fault]


def read(
    path: Path | str, format: Format, task: str, *, labeler: str = "imported",
    simulated: bool = False, tokenizer: PreTrainedTokenizerBase | None = None,
    errors: Literal["raise", "skip"] = "raise",
) -> Read:  # fmt: skip
    """Read a file of preferences; with errors="skip" faulty records are left out and reported,
    otherwise the first one ends it all.

    Raises ValueError with file, line and reason. The openai format needs the tokenizer that made
    its ids (GPT-2's).
    """
    if format not in ("openai", "pairs", "pairwise", "csv"):
        raise ValueError(f"there is no format {format!r}; use openai, pairs, pairwise or csv")
    path = Path(path)
    return read_records(
        _records(path, format, tokenizer),
        str(path),
        task,
        labeler=labeler,
        simulated=simulated,
        errors=errors,
    )


def read_records(
    records: Iterable[tuple[int, Callable[[], Parsed]]], name: str, task: str, *, labeler: str,
    simulated: bool = False, errors: str,
) -> Read:  # fmt: skip
    """Parse records one at a time; a labeler who contradicts himself is a fault, labels without a
    name are of different people."""
    if errors not in ("raise", "skip"):
        raise ValueError(
            f'errors is {errors!r}; use "raise" (keep nothing) or "skip" (keep the good ones)'
        )
    comparisons: dict[str, Comparison] = {}
    labels: dict[tuple[str, str], Label] = {}
    faults = []
    for line, parse in records:
        try:
            comparison, label, named = _understood(*parse(), task, labeler, simulated)
            number, key = 1, (label.comparison_id, label.labeler)
            while key in labels and not named:
                number += 1
                key = label.comparison_id, f"{label.labeler} {number}"
            before = labels.get(key, label)
            if before.choice != label.choice:
                raise ValueError(
                    f"{label.labeler} chose option {before.choice} of the same comparison further "
                    f"up, and {label.choice} here"
                )
        except FAULTS as error:
            if errors == "raise":
                raise ValueError(
                    f'{name}, record {line}: {explain(error)}; nothing was read (errors="skip" leaves it out)'
                ) from error
            faults.append(Fault(line, explain(error)))
            continue
        comparisons[comparison.id] = comparison
        labels[key] = replace(before, labeler=key[1])
    return Read(list(comparisons.values()), list(labels.values()), faults)


def _understood(
    query: Any,
    options: Any,
    choice: int,
    more: dict[str, Any],
    task: str,
    labeler: str,
    simulated: bool,
) -> tuple[Comparison, Label, bool]:
    """Make the records, and say whether the labeler was named."""
    if not isinstance(query, str):
        raise ValueError(f"the query must be text, got {query!r}")
    # other programs may mean something else by it
    round_ = int(more["round"]) if str(more.get("round", "")).isdigit() else 0
    comparison = Comparison(
        str(task or more.get("task") or ""),
        query,
        tuple(options),
        str(more.get("source") or "imported"),
        round_,
    )
    if not comparison.task:
        raise ValueError("which task is it? Pass `task`")
    fits(
        table,
        {"task": comparison.task, "query": query, "source": comparison.source, "round": round_},
    )
    if not 0 <= choice < len(comparison.options):
        raise ValueError(
            f"choice {choice}, but there are {len(comparison.options)} options, from 0"
        )
    flag = str(more.get("simulated", simulated)).lower() in ("true", "1")
    seconds, created = (float(more.get(name) or 0) for name in ("seconds", "created"))
    who = more.get("labeler")
    label = Label(comparison.id, str(who or labeler), choice, seconds, created, flag)
    check(
        Event(label.comparison_id, label.labeler, "choose", choice, (), seconds, created, flag),
        len(comparison.options),
    )
    return comparison, label, bool(who)


def explain(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


# ---- one record at a time ------------------------------------------------------------------------


def _records(path: Path, format: str, tokenizer: Any) -> Iterator[tuple[int, Callable[[], Parsed]]]:
    """Yield (number, function that parses the record): nothing is parsed before its turn, so that a
    fault has a place."""
    if format == "csv":
        # Bytes that are not UTF-8 become surrogates here, and a fault of their own row there.
        # Strict: else one quote swallows the rest.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            # reads the header, so that the first row begins on the line after it
            _ = reader.fieldnames
            while True:
                # where the row begins; a quoted text may have several lines
                line = reader.reader.line_num + 1
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    row = {
                        "": f"{error}: is a quote missing, or a field longer than {csv.field_size_limit():,} letters?"
                    }
                yield line, lambda row=row: _from_csv(row)
    elif format == "openai":
        if tokenizer is None:
            raise ValueError(
                "the openai format holds token ids: pass the tokenizer that made them (GPT-2's)"
            )
        try:
            records = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}): was the download complete?") from error
        if not isinstance(records, list):
            raise ValueError(f"{path} must hold one JSON array of comparisons")
        for number, record in enumerate(records, 1):
            yield number, lambda record=record: _from_openai(record, tokenizer)
    else:
        parse = parse_pair if format == "pairs" else _from_pairwise
        # bytes, so that text in a wrong encoding is reported with its line too
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, lambda line=line: parse(_object(json.loads(line)))


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("expected an object with named fields")
    return record


def _from_openai(record: Any, tokenizer: Any) -> Parsed:
    record = _object(record)
    # sample10 is the last
    names = sorted(
        (n for n in record if n.startswith("sample") and n[6:].isdecimal()),
        key=lambda n: int(n[6:]),
    )
    rows = [record["query"], *(record[name] for name in names)]
    if any(not isinstance(row, list) or any(type(t) is not int for t in row) for row in rows):
        raise ValueError("query and samples must be lists of token ids")
    rows = [[t for t in row if t != OPENAI_PAD] for row in rows]
    if strange := [t for row in rows for t in row if not 0 <= t < len(tokenizer)]:
        raise ValueError(
            f"token id {strange[0]} is not in this tokenizer's vocabulary of {len(tokenizer):,}: "
            "is it GPT-2's?"
        )
    query, *options = tokenizer.batch_decode(rows)
    return query, options, _index(record["best"]), {}


def parse_pair(record: dict[str, Any]) -> Parsed:
    chosen, rejected, prompt = record["chosen"], record["rejected"], record.get("prompt")
    if prompt is None:  # the prompt may stand at the beginning of both
        same = sum(
            1
            for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
        )
        prompt = chosen[:same]
        if not prompt:
            raise ValueError("there is no prompt, and chosen and rejected begin differently")
        if isinstance(chosen, str):
            prompt = prompt[: prompt.rfind(" ") + 1] or prompt  # whole words only
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    query, first, second = _text(prompt), _text(chosen), _text(rejected)
    # Whether the chosen one becomes option 0 is a coin of the content, not always the same side.
    swap = (
        hashlib.sha256("\0".join([query, *sorted((first, second))]).encode()).digest()[0] % 2 == 1
    )
    return query, (second, first) if swap else (first, second), int(swap), record


def _from_pairwise(record: dict[str, Any]) -> Parsed:
    sides = {"first": 0, "second": 1}
    if record["choice"] not in sides:
        raise ValueError(f'choice {record["choice"]!r} must be "first" or "second"')
    return (
        _text(record["prompt"]),
        (_text(record["first"]), _text(record["second"])),
        sides[record["choice"]],
        record,
    )


def _from_csv(row: dict[str, Any]) -> Parsed:
    if "" in row and len(row) == 1:
        raise ValueError(row[""])
    if None in row:
        raise ValueError(
            "the row has more fields than the header: is a text with a comma not quoted?"
        )
    if any("\udc80" <= letter <= "\udcff" for value in row.values() for letter in value or ""):
        raise ValueError("the row is not UTF-8 text: save the table as UTF-8")
    names = sorted(
        (n for n in row if n.startswith("option_") and row[n] is not None), key=lambda n: int(n[7:])
    )
    count = int(row.get("options") or 0)  # of a shorter comparison the last columns are empty
    while names and (len(names) > count if count else not row[names[-1]]):
        names.pop()
    return row["query"], [row[name] for name in names], _index(row["choice"]), row


def _index(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdigit():
        raise ValueError(f"choice {value!r} must be an index from 0")
    return int(value)


def _text(value: Any) -> str:
    """Return a text as it is, and a conversation as lines; one message is just its content."""
    if isinstance(value, str):
        return value
    if (
        not isinstance(value, list)
        or not value
        or any(not isinstance(m, dict) or not isinstance(m.get("content"), str) for m in value)
    ):
        raise ValueError(f"expected a text or a list of messages, got {str(value)[:40]!r}")
    return (
        value[0]["content"]
        if len(value) == 1
        else "\n".join(f"{m.get('role', '')}: {m['content']}" for m in value)
    )
