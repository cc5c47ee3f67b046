"""Reading preferences that other programs wrote: every fault with its place, the good records kept
or none, as the caller chooses."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.labels.exchange import files, foreign, openai, pairs, pairwise, tables
from rlhf_helpers.labels.exchange.files import FAULTS, Refused
from rlhf_helpers.labels.exchange.pairs import Parsed
from rlhf_helpers.labels.store import Event
from rlhf_helpers.labels.store.events import check
from rlhf_helpers.labels.store.events import fits as check_columns
from rlhf_helpers.labels.store.tables import comparisons as table
from rlhf_helpers.records import Comparison, Label

Format = Literal["openai", "pairs", "pairwise", "csv"]
Errors = Literal["raise", "skip"]
_MILLISECONDS = 1e11  # a time from here on is not in seconds: they would be in the year 5138


@dataclass(frozen=True)
class Fault:
    """A record that could not be read, and why; `line` is its number from 1 where `unit` says that
    it has no line, in an array or a data set."""

    line: int
    reason: str
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.unit} {self.line}: {self.reason}"


@dataclass(frozen=True)
class Read:
    """What a file held.

    `faults` lists what was left out, if leaving out was asked for; `equal` counts the comparisons
    that were left out because all their options read the same, and `other_tasks` the records that
    name another task than the one asked for.
    """

    comparisons: list[Comparison]
    labels: list[Label]
    faults: list[Fault]
    equal: int = 0
    other_tasks: int = 0


def records(path: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the records of a file as dicts: JSON lines, a JSON array, or a table; compressed or
    not.

    Raises ValueError, with the line, for one that is damaged.
    """
    with files.opened(path) as text:
        for unit, number, load in _records(text):
            try:
                record = _object(load())
            except FAULTS as error:
                raise ValueError(f"{path}, {unit} {number}: {explain(error)}") from error
            yield record


def read(
    path: Path | str, format: Format, task: str, *, labeler: str = "imported",
    simulated: bool = False, tokenizer: PreTrainedTokenizerBase | None = None,
    errors: Errors = "raise", fits: Callable[[Comparison], None] | None = None,
) -> Read:  # fmt: skip
    """Read a file of preferences: JSON lines, a JSON array, or a table; compressed or not.

    With errors="skip" faulty records are left out and reported, otherwise the first one raises
    ValueError with its line and reason. A file that gives no label, or counts choices from 1, is
    refused in any case. A record that names another task than `task` is left out and counted.
    `fits` may raise ValueError for a comparison that is of no use, such as one
    that is too long for a model. The openai format needs the tokenizer that made its ids
    (GPT-2's).
    """
    if format == "openai" and tokenizer is None:
        raise ValueError(
            "the openai format holds token ids: pass the tokenizer that made them (GPT-2's)"
        )
    parsers = {
        "openai": partial(openai.parse, tokenizer=tokenizer),
        "pairs": pairs.parse,
        "pairwise": pairwise.parse,
        "csv": tables.parse,
    }
    if format not in parsers:
        raise ValueError(f"there is no format {format!r}; use {', '.join(parsers)}")
    reader = Reader(str(path), task, labeler, simulated, errors, parsers[format], format, fits)
    with files.opened(path) as text:
        return reader.read(_records(text))


def _records(text: files.Text) -> files.Records:
    return files.json_records(text) if files.is_json(text) else tables.rows(text)


def _object(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("expected an object with named fields")
    return record


def explain(error: Exception) -> str:
    """Say in words why a record was not read."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


@dataclass
class Reader:
    """Reads records one at a time.

    A labeler who contradicts themselves is a fault; labels without a name are of different people.
    """

    name: str  # of the file, for messages
    task: str
    labeler: str
    simulated: bool
    errors: str
    parse: Callable[[dict[str, Any]], Parsed]
    format: Format | None = None
    fits: Callable[[Comparison], None] | None = None
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    labels: dict[tuple[str, str], Label] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    equal: int = 0
    others: Counter[str] = field(default_factory=Counter)  # records of other tasks, by task
    first: dict[str, Any] | None = None  # record, to be recognised by its fields
    least: float = math.inf  # choice of all
    last: bool = False  # whether a choice was the number of options, one too many

    def read(self, records: files.Records) -> Read:
        """Read all; raises ValueError for the first fault, unless faults are skipped."""
        if self.errors not in ("raise", "skip"):
            raise ValueError(
                f'errors is {self.errors!r}; use "raise" (keep nothing) or "skip" (keep the good '
                "ones)"
            )
        for unit, number, load in records:
            try:
                self.take(_object(load()))
            except Refused as error:
                raise Refused(f"{self.name}: {error}") from error
            except FAULTS as error:
                if self.errors == "raise":
                    raise ValueError(
                        f"{self.name}, {unit} {number}: {explain(error)}; nothing was read "
                        '(errors="skip", or --skip-faulty, leaves it out)'
                    ) from error
                self.faults.append(Fault(number, explain(error), unit))
        if self.last and self.least > 0:
            raise Refused(
                f"{self.name} seems to count choices from 1: none is 0, and one is the number of "
                "options. Take 1 from every choice"
            )
        if not self.labels:
            raise Refused(f"{self.name} gave no labels: {self._nothing()}")
        return Read(
            list(self.comparisons.values()),
            list(self.labels.values()),
            self.faults,
            self.equal,
            self.others.total(),
        )

    def take(self, record: dict[str, Any]) -> None:
        """Read one record."""
        if self.first is None:
            self.first = record
            foreign.check(record, self.format, self.name, self.task)
        task = "" if _is_missing(record.get("task")) else str(record["task"])
        if self.task and task not in ("", self.task):
            self.others[task] += 1
            return
        try:
            query, options, choice, more = self.parse(record)
        except KeyError as error:
            raise ValueError(_missing(str(error.args[0]), record)) from error
        self.least, self.last = min(self.least, choice), self.last or choice == len(options)
        if not 0 <= choice < len(options):
            hint = "; are they counted from 1?" if self.last and self.least > 0 else ""
            raise ValueError(f"choice {choice}, but there are {len(options)} options, from 0{hint}")
        comparison = self._comparison(query, options, more)
        label, named = self._label(comparison, choice, more)
        if comparison.has_equal_options:
            self.equal += 1
            return
        if self.fits is not None:
            self.fits(comparison)
        number, key = 1, (label.comparison_id, label.labeler)
        while key in self.labels and not named:
            number += 1
            key = label.comparison_id, f"{label.labeler} {number}"
        before = self.labels.get(key, label)
        if before.choice != choice:
            raise ValueError(
                f"{label.labeler} chose option {before.choice} of the same comparison further up, "
                f"and {choice} here"
            )
        self.comparisons[comparison.id] = comparison
        self.labels[key] = replace(before, labeler=key[1])

    def _comparison(self, query: Any, options: Any, more: dict[str, Any]) -> Comparison:
        if not isinstance(query, str):
            raise ValueError(f"the query must be text, got {query!r}")
        round_ = str(more.get("round", ""))  # other programs may mean something else by it
        comparison = Comparison(
            str(self.task or more.get("task") or ""),
            query,
            tuple(options),
            str(more.get("source") or "imported"),
            int(round_) if round_.isdecimal() else 0,
        )
        if not comparison.task:
            raise ValueError("which task is it? Pass `task`")
        columns = ("task", "query", "source", "round")
        check_columns(table, {name: getattr(comparison, name) for name in columns})
        for option in comparison.options:
            check_columns(table, {"query": option})  # is it Unicode text?
        return comparison

    def _label(
        self, comparison: Comparison, choice: int, more: dict[str, Any]
    ) -> tuple[Label, bool]:
        """Make the label, and say whether its labeler was named."""
        who = _name(more.get("labeler"))
        label = Label(
            comparison.id,
            who or self.labeler,
            choice,
            _number("seconds", more.get("seconds")),
            _time(more.get("created")),
            _truth(more.get("simulated"), self.simulated),
        )
        values = label.labeler, "choose", choice, (), label.seconds, label.created, label.simulated
        check(Event(label.comparison_id, *values), len(comparison.options))
        return label, bool(who)

    def _nothing(self) -> str:
        if self.faults:
            fields = ", ".join(map(str, self.first or {}))[:200]
            return f"{len(self.faults)} records are faulty; the first: {self.faults[0]}" + (
                f". The first record has the fields {fields}" if fields else ""
            )
        if self.others:
            tasks = ", ".join(map(repr, sorted(self.others)))[:200]
            return (
                f"{self.others.total()} records name another task than {self.task!r}: {tasks}. Ask "
                "for that task, or remove the field `task` if it means something else"
            )
        return f"all {self.equal} comparisons are of equal texts" if self.equal else "it is empty"


# ---- single fields -------------------------------------------------------------------------------


def _missing(name: str, record: dict[str, Any]) -> str:
    """Say that a field is missing, and whether it is there in other capitals."""
    other = next((field for field in record if str(field).lower() == name), None)
    return f"{name!r} is missing" + (
        f", but there is {other!r}: rename it, capitals count" if other is not None else ""
    )


def _is_missing(value: Any) -> bool:
    """Say whether a field is left empty, as tables and pandas have it."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _name(value: Any) -> str:
    """Read a labeler's name; 0 is one."""
    if _is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with gaps comes as floats
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"labeler must be a name or a number, got {str(value)[:30]!r}")
    return str(value)


def _number(name: str, value: Any) -> float:
    if _is_missing(value):
        return 0.0
    try:
        if isinstance(value, bool):
            raise TypeError("true is no number here, though Python counts with it")
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {str(value)[:30]!r}") from error


def _time(value: Any) -> float:
    """Read a time: seconds or milliseconds since 1970, or an ISO date (UTC, unless it says)."""
    if isinstance(value, str | int) and re.fullmatch(r"\s*[0-9]{8}\s*", str(value)):
        try:  # 20240501: as seconds it would be a day of 1970
            value = datetime.strptime(str(value).strip(), "%Y%m%d")
        except ValueError as error:
            raise ValueError(
                f"created {str(value)!r} has 8 digits, but is no date such as 20240501"
            ) from error
    if isinstance(value, str) and not value.strip().replace(".", "", 1).isdecimal():
        if _is_missing(value):
            return 0.0
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            pass  # perhaps a number in another form, such as 1.7e9
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    seconds = _number("created", value)
    return seconds / 1_000 if seconds > _MILLISECONDS else seconds


def _truth(value: Any, default: bool) -> bool:
    if _is_missing(value):
        return default
    answer = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if str(value).strip().lower() not in answer:
        raise ValueError(f"simulated must be true or false, got {str(value)[:30]!r}")
    return answer[str(value).strip().lower()]
