"""Tables with commas, semicolons or tabs; and the format `csv`: columns query, option_0, option_1,
..., choice (an index from 0), and if known options (their number), labeler, seconds, ..."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, TextIO

from rlhf_helpers.labels.exchange.files import NOT_UTF8, Records, Refused, Text
from rlhf_helpers.labels.exchange.pairs import Parsed
from rlhf_helpers.records import Comparison, Label

_LONGEST = 2**31 - 1  # letters of a field: the most that the csv module takes on any system
_KNOWN = {"query", "choice", "prompt", "chosen", "rejected", "first", "second"}
# A spreadsheet runs a cell that begins so as a formula; an apostrophe before it prevents that.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_TEXTS = ("query", "labeler", "source")


def rows(text: Text) -> Records:
    """Yield the rows of a table as dicts, each with the line on which it begins.

    Raises Refused if there is no header of several columns.
    """
    # Texts may be longer than the 131,072 letters that the module allows unless told otherwise.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    told = re.match("sep=(.)[\r\n]+", text.head)  # a first line that only Excel understands
    delimiter = told[1] if told else _delimiter(text)
    # strict: else one quote swallows the rest
    reader = csv.reader(text.file, delimiter=delimiter, strict=True)
    try:
        if told:
            next(reader)
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise Refused(f"{text.path}: the header of the table cannot be read ({error})") from error
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise Refused(f"{text.path} has several columns {twice[0]!r}: rename or remove them")
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield "line", line, partial(_broken, error)
            continue
        if any(cells):  # spreadsheets leave empty rows at the end
            yield "line", line, partial(_row, names, cells)


def _delimiter(text: Text) -> str:
    """Tell what parts the columns: what makes most sense of the header."""

    def sense(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader(text.first_lines(1), delimiter=delimiter))
        return len(_KNOWN & {name.strip() for name in names}), len(names)

    best = max(",;\t|", key=sense)
    if sense(best)[1] < 2:
        raise Refused(
            f"{text.path} is neither JSON nor a table; it begins with {text.head.strip()[:40]!r}"
        )
    return best


def _broken(error: csv.Error) -> dict[str, str]:
    raise ValueError(f"{error}: is a quote missing?")


def _row(names: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) > len(names):
        raise ValueError(
            "the row has more fields than the header: is a text that holds the delimiter not "
            "quoted?"
        )
    if any(NOT_UTF8.search(cell) for cell in cells):
        raise ValueError('the row is not UTF-8 text: save the table as "CSV UTF-8"')
    row = dict(zip(names, cells, strict=False))
    # a count marks a table that `write` made; an apostrophe in another's is the author's own
    return {n: _unmarked(n, x) for n, x in row.items()} if _count(row) else row


def _count(row: dict[str, Any]) -> int:
    """Return the number of options that `write` notes in `options`; 0 for a table of others."""
    value = str(row.get("options", "")).strip()
    return int(value) if re.fullmatch("[0-9]{1,9}", value) else 0


def _marked(name: str, cell: Any) -> Any:
    text = name in _TEXTS or name.startswith("option_")
    return f"'{cell}" if text and _FORMULA.match(cell) else cell


def _unmarked(name: str, cell: str) -> str:
    text = name in _TEXTS or name.startswith("option_")
    return cell[1:] if text and cell.startswith("'") and _FORMULA.match(cell) else cell


# ---- the format ----------------------------------------------------------------------------------


def parse(row: dict[str, Any]) -> Parsed:
    """Read one row of the format `csv`; raises Refused where options are counted from 1."""
    names = [n for n in row if n.startswith("option_")]
    capital = [n for n in row if n.lower().startswith("option_") and n.lower() not in row]
    if wrong := [n for n in names if not n[7:].isdecimal()] + capital:
        raise ValueError(f"the column {wrong[0]!r} must be named option_0, option_1, ...")
    names.sort(key=lambda n: int(n[7:]))
    if "option_1" in names and "option_0" not in names:
        raise Refused(
            "the options are counted from 1, as there is no option_0: rename the columns to "
            "option_0, option_1, ... and take 1 from every choice"
        )
    if names != [f"option_{k}" for k in range(len(names))]:
        raise ValueError(f"a column is missing: there are {', '.join(names)}")
    count = _count(row)  # of a shorter comparison the last columns are empty
    while names and (len(names) > count if count else not row[names[-1]]):
        names.pop()
    return row["query"], [row[name] for name in names], index(row["choice"]), row


def index(value: Any) -> int:
    """Read a choice; raises ValueError unless it is a whole number from 0."""
    if isinstance(value, bool) or not re.fullmatch(r"\s*[0-9]{1,9}\s*", str(value)):
        raise ValueError(f"choice {value!r} must be an index from 0")
    return int(value)


def write(file: TextIO, rows: Sequence[tuple[Comparison, Label]]) -> int:
    """Write a table of which no spreadsheet runs a cell as a formula."""
    records = [_record(comparison, label) for comparison, label in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows({n: _marked(n, cell) for n, cell in record.items()} for record in records)
    return len(records)


def _record(c: Comparison, x: Label) -> dict[str, Any]:
    return {
        "query": c.query,
        "options": len(c.options),
        **{f"option_{k}": option for k, option in enumerate(c.options)},
        "choice": x.choice,
        "labeler": x.labeler,
        "seconds": x.seconds,
        "created": x.created,
        "simulated": x.simulated,
        "source": c.source,
        "round": c.round,
    }
