"""Files as bytes and text: compression, encodings, JSON as lines or as one array; and writing a
file that appears only when it is complete."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from rlhf_helpers.labels.store.opening import SQLITE_MAGIC

# what a record that makes no sense can raise
FAULTS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
# ("line" or "record", its number from 1, function that gives the record or raises one of FAULTS)
Records = Iterator[tuple[str, int, Callable[[], Any]]]

HEAD = 1 << 16  # bytes that are looked at to tell what a file is
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ENCODINGS = {  # by byte order mark, the longer ones first
    b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_LOAD_DATASET = (
    '`rows = datasets.load_dataset("{kind}", data_files="{path}", split="train")`, then '
    "`exchange.from_dataset(rows, task)`"
)
_OTHERS = {  # by first bytes: what the file is, and the way in
    b"PAR1": ("parquet", _LOAD_DATASET.replace("{kind}", "parquet")),
    b"ARROW1": ("Arrow", _LOAD_DATASET.replace("{kind}", "arrow")),
    b"\xff\xff\xff\xff": ("an Arrow stream", _LOAD_DATASET.replace("{kind}", "arrow")),
    SQLITE_MAGIC: ("a SQLite database", 'open a label store with `LabelStore("{path}")`'),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it with `zstd -d` and read the result"),
    b"\x89HDF": ("HDF5", "write it as JSON lines with the program that made it"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", 'save the sheet as "CSV UTF-8" and read that'),
    b"%PDF": ("a PDF", "look for the data that it was made from"),
    b"version https://git-lfs": ("a Git LFS pointer, not the data", "fetch it with `git lfs pull`"),
}  # fmt: skip
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what bytes that are not UTF-8 become


class Refused(ValueError):
    """The whole file is not what it was taken for; it is refused even where faulty records are
    skipped."""


class Text(NamedTuple):
    """An open text file, what it begins with, and its name for messages."""

    file: TextIO
    head: str
    path: Path

    def first_lines(self, count: int) -> list[str]:
        """Return the first lines that are not blank."""
        return [line for line in re.split("[\r\n]+", self.head) if line.strip()][:count]


@contextmanager
def opened(path: Path | str) -> Iterator[Text]:
    """Open a text file, compressed or not, in UTF-8, UTF-16 or UTF-32.

    Bytes that are not UTF-8 become lone surrogates, so that they are a fault of one record. Raises
    Refused, with the name of the format and the way in, for a file that is not text.
    """
    path = Path(path)
    if path.is_dir():
        raise Refused(
            f'{path} is a folder: name a file in it; a data set is loaded with '
            f'`datasets.load_dataset("{path}")` and read with `exchange.from_dataset`'
        )  # fmt: skip
    if path.exists() and not path.is_file():
        raise Refused(f"{path} is a pipe or a device: write what comes out of it to a file first")
    with path.open("rb") as file:
        start = file.read(16)
    unpack = next((f for magic, f in _COMPRESSED.items() if start.startswith(magic)), open)
    try:
        with unpack(path, "rb") as file:
            start = file.read(HEAD)
            file.seek(0)
            _refuse_others(start, path)
            encoding = _encoding(start)
            head = start.decode(encoding, errors="replace")
            if not head.strip():
                raise Refused(f"{path} is empty: was the download, or the export, complete?")
            text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
            yield Text(text, head, path)
    except (EOFError, OSError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the file system said so, not the contents
        raise Refused(
            f"{path} is damaged or incomplete ({error}): download or copy it again"
        ) from error


def _refuse_others(start: bytes, path: Path) -> None:
    found = next((what for magic, what in _OTHERS.items() if start.startswith(magic)), None)
    if start.startswith(b"PK\x03\x04"):
        if b"xl/" in start or b"[Content_Types].xml" in start or b"opendocument" in start:
            found = "a spreadsheet", 'save the sheet as "CSV UTF-8" and read that'
        else:
            found = "a zip archive", "unpack it and read the file inside"
    elif re.match(rb"\x80[\x02-\x05]", start):
        found = "a pickle", "it is not opened, as a pickle can run any program: ask for JSON lines"
    elif re.match(rb"(?i)\s*(<!doctype html|<html)", start):
        found = "a web page", "download the file itself, not the page that shows it"
    if found:
        raise Refused(f"{path} seems to be {found[0]}: {found[1].replace('{path}', str(path))}")


def _encoding(start: bytes) -> str:
    for mark, encoding in _ENCODINGS.items():
        if start.startswith(mark):
            return encoding
    if len(start) > 1 and start[0] and not start[1]:
        return "utf-16-le"  # without a mark; text begins with an ASCII letter, a quote or a bracket
    return "utf-16-be" if len(start) > 1 and start[1] and not start[0] else "utf-8"


def is_json(text: Text) -> bool:
    """Say whether a file holds JSON; its first line may be damaged."""
    lines = text.first_lines(2)
    return lines[0].lstrip()[0] in "[{" or (
        len(lines) > 1 and lines[1].lstrip()[0] == "{" and _parsed(lines[1]) is not None
    )


def json_records(text: Text) -> Records:
    """Yield what a file of JSON holds: one value a line, one array, or one object over many
    lines."""
    first = text.first_lines(1)[0]
    if text.head.lstrip()[0] == "[" or _parsed(first) is None:
        whole = text.file.read()
        text.file.seek(0)
        value = _parsed(whole)
        if isinstance(value, list):
            for number, record in enumerate(value, 1):
                yield "record", number, partial(_same, record)
            return
        if value is None and first.lstrip()[0] == "[" and _parsed(first) is None:
            raise Refused(
                f"{text.path} begins as a JSON array but is no JSON: was the download complete?"
            )
        if isinstance(value, dict):
            yield "record", 1, partial(_same, value)
            return
    for number, line in enumerate(text.file, 1):
        if line.strip():
            yield "line", number, partial(_from_line, line)


def _same(record: Any) -> Any:
    return record


def _from_line(line: str) -> Any:
    if NOT_UTF8.search(line):
        raise ValueError("the line is not UTF-8 text")
    try:
        return json.loads(line.removeprefix("\ufeff"))
    except ValueError as error:
        raise ValueError(f"the line is no JSON ({error})") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that takes its place only when it is complete.

    If writing fails, what was there before stays. Raises ValueError if that is a database, in which
    people's labels may be.
    """
    if path.is_file():
        with path.open("rb") as there:
            if there.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC:
                raise ValueError(
                    f"{path} is a database, and people's labels may be in it: write to another file"
                )
    partial_file = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial_file.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial_file.replace(path)
    finally:
        partial_file.unlink(missing_ok=True)


def write_lines(file: TextIO, records: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
