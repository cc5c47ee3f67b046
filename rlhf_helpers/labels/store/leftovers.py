"""Journals and logs that lie beside a label store and belong to another file.

A label store that is copied over one whose program was killed finds the old one's journal at its
side. SQLite takes it for the file's own and rolls old pages into the new file, or shows what the
old log holds. Such a file is renamed before SQLite sees it, and never deleted.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # a journal without it is never rolled back
# what begins at which byte: https://www.sqlite.org/fileformat2.html, sections 1.3 and 3
COUNTER = slice(24, 28)  # of page 1: how many transactions have been committed
STORE_ID = slice(60, 64)  # of page 1: the user version, random for each store


def set_aside(path: Path) -> None:
    """Rename a journal or a write-ahead log beside a store that belongs to another file."""
    _set_aside_log(path)
    _set_aside_journal(path)


def _set_aside_log(path: Path) -> None:
    log = Path(f"{path}-wal")
    # the file is read only where a log lies beside it: closing it drops this process's locks on it
    if not log.exists():
        return
    header = path.read_bytes()[:20] if path.exists() else b""
    if header[18:20] != b"\x02\x02":  # version 2: the file is in write-ahead mode
        log.rename(_free_name(log))


def _set_aside_journal(path: Path) -> None:
    journal = Path(f"{path}-journal")
    try:
        file = journal.open("rb")
    except FileNotFoundError:
        return
    with file:
        content = file.read()
        if not content.startswith(JOURNAL_MAGIC) or _belongs(content, path):
            return
        # A journal that is being used changes meanwhile. One that does not is locked, so that of
        # two programs only one renames it, and never the journal of the other's first transaction.
        _lock(file.fileno())
        file.seek(0)
        with suppress(FileNotFoundError):
            if file.read() == content and os.path.samestat(os.fstat(file.fileno()), journal.stat()):
                if os.name == "nt":  # an open file cannot be renamed there
                    file.close()
                journal.rename(_free_name(journal))


def _belongs(journal: bytes, path: Path) -> bool:
    """Tell whether a journal can undo the latest transaction of this very file."""
    initial = int.from_bytes(journal[16:20], "big")  # pages before the transaction
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return initial == 0
    page_size, page_1 = int.from_bytes(journal[24:28], "big"), _header(path)
    if len(page_1) < 100 or size < initial * page_size:  # a transaction does not shorten the file
        return False
    counter = int.from_bytes(page_1[COUNTER], "big")
    if initial == 0:  # of the transaction that made the file; a complete file needs no undoing
        return counter <= 1 and not _is_healthy(path)
    before = next((page for number, page in _pages(journal) if number == 1), None)
    if before is None:
        return True
    started_at = int.from_bytes(before[COUNTER], "big")
    return before[STORE_ID] == page_1[STORE_ID] and counter in (started_at, started_at + 1)


def _pages(journal: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the pages that a journal would write back, each with its number."""
    at = 0
    while journal[at : at + 8] == JOURNAL_MAGIC:
        count, _, _, sector, size = (
            int.from_bytes(journal[k : k + 4], "big") for k in range(at + 8, at + 28, 4)
        )
        at += sector
        while count and at + size + 8 <= len(journal):  # a number, the page, a checksum
            yield int.from_bytes(journal[at : at + 4], "big"), journal[at + 4 : at + 4 + size]
            at, count = at + size + 8, count - 1
        at = -(-at // sector) * sector if sector else len(journal)


def _immutable(path: Path) -> sqlite3.Connection:
    """Open a file as it stands, without looking at a journal.

    Opening and closing it in Python would drop the locks that this process has on it.
    """
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def _header(path: Path) -> bytes:
    try:
        with closing(_immutable(path)) as db:
            db.execute("PRAGMA writable_schema = ON")  # or a file that is cut short is not read
            return db.serialize()[:100]
    except sqlite3.Error:
        return b""


def _is_healthy(path: Path) -> bool:
    try:
        with closing(_immutable(path)) as db:
            return db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.Error:
        return False


def _lock(descriptor: int) -> None:
    with suppress(ImportError, OSError):  # not on Windows, nor on some network file systems
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _free_name(left_over: Path) -> Path:
    """Name a left-over file so that no earlier one is overwritten."""
    name, number = Path(f"{left_over}.left-over"), 1
    while name.exists():
        number += 1
        name = Path(f"{left_over}.left-over.{number}")
    return name
