"""A copy of the one file holds everything that was shown as saved, whenever it is made, and nothing
else is beside it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore, StoreError
from rlhf_helpers.records import Comparison


def questions(count: int = 20) -> list[Comparison]:
    return [Comparison("sentiment", f"query {i}", ("a", "b", "c")) for i in range(count)]


def inside(path: Path, folder: Path) -> tuple[int, int, str]:
    """Copy the one file alone, and count its comparisons and labels with Python's sqlite3."""
    copy = folder / f"copy-{len(list(folder.iterdir()))}.db"
    shutil.copy(path, copy)
    with sqlite3.connect(copy) as db:
        counts = db.execute(
            "select (select count(*) from comparisons), (select count(*) from labels)"
        ).fetchone()
        (state,) = db.execute("pragma integrity_check").fetchone()
    return *counts, state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "labels.db"


def write_ahead(path: Path) -> sqlite3.Connection:
    """Put a store into write-ahead mode, as earlier versions kept it, and hold it open."""
    db = sqlite3.connect(path, isolation_level=None)
    assert db.execute("pragma journal_mode = wal").fetchone() == ("wal",)
    return db


def test_a_copy_after_every_answer_holds_that_answer(path: Path, folder: Path) -> None:
    """A copy of labels.db alone held 0 labels and 0 comparisons: all was in labels.db-wal."""
    store = LabelStore(path)
    store.add(questions())
    session = Session(store, "sentiment", "ann", questions(), repeat_every=0)
    window = LabelStore(path)  # a second window that looks on
    for number in range(1, 21):
        assert session.answer("choose", 0) and "Saved" in session.message
        assert len(window.labels()) == number
        assert inside(path, folder) == (20, number, "ok")
        assert [p.name for p in path.parent.iterdir()] == ["labels.db"]
    session.answer("undo")
    assert inside(path, folder) == (20, 19, "ok")
    store.close()
    window.close()
    assert inside(path, folder) == (20, 19, "ok")


def test_a_copy_beside_a_reader_in_mid_transaction_holds_the_answer_too(
    path: Path, folder: Path
) -> None:
    store = LabelStore(path)
    store.add(questions())
    reader = sqlite3.connect(path, isolation_level=None)
    for number, c in enumerate(questions(), 1):
        # a statement that is not finished holds its lock; the writer waits until it lets go
        rows = reader.execute("select * from comparisons")
        rows.fetchone()
        rows.close()
        store.record("ann", c.id, "choose", 1)
        assert inside(path, folder) == (20, number, "ok")
    reader.close()


KERNEL = """
import os, sys, time
from rlhf_helpers.labels import cards
from rlhf_helpers.labels.store import LabelStore
os.environ["RLHF_HEADLESS"] = "1"
card = cards.label(LabelStore(sys.argv[1]), "sentiment", "ann", repeat_every=0)
for line in sys.stdin:
    print(card.answer("choose", 0), card.session.message, flush=True)
    if line.strip() == "end":
        sys.exit()
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("end", ["exit", "kill", "terminate"])
def test_a_copy_is_complete_however_the_kernel_ends(path: Path, folder: Path, end: str) -> None:
    LabelStore(path).add(questions())
    for round_ in range(3):  # and again in the kernel that is started next
        kernel = subprocess.Popen(
            [sys.executable, "-c", KERNEL, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for press in ("go", "go", "end" if end == "exit" else "go"):
            kernel.stdin.write(press + "\n")
            kernel.stdin.flush()
            assert kernel.stdout.readline().startswith("True Saved")
        if end != "exit":
            kernel.send_signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        kernel.communicate()
        assert inside(path, folder) == (20, 3 * round_ + 3, "ok")
        assert [p.name for p in path.parent.iterdir()] == ["labels.db"]


def test_a_hot_journal_takes_back_only_what_was_never_shown_as_saved(path: Path) -> None:
    """The file as a power cut leaves it in the middle of a commit: pages written, journal there."""
    store = LabelStore(path)
    store.add(questions())
    store.record("ann", questions()[0].id, "choose", 1)
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma cache_size = 1")  # so that pages go to the file before the commit
    other.execute("begin immediate")
    other.execute("update comparisons set query = query || ?", ("x" * 5_000,))
    other.execute("update events set choice = 2")
    journal = Path(f"{path}-journal")
    assert journal.stat().st_size > 5_000
    cut = path.with_name("cut.db")
    shutil.copy(path, cut)
    shutil.copy(journal, f"{cut}-journal")
    other.close()
    assert cut.read_bytes() != path.read_bytes()
    store = LabelStore(cut)
    assert [x.choice for x in store.labels()] == [1] and store.comparisons() == questions()


# ---- other files saved over it -------------------------------------------------------------------


def test_a_newer_or_older_file_saved_over_the_store_is_what_is_read(
    path: Path, folder: Path
) -> None:
    """With a write-ahead log the old data were shown, and their integrity was "ok"."""
    store = LabelStore(path)
    store.add(questions())
    store.record("ann", questions()[0].id, "choose", 0)
    shutil.copy(path, folder / "older.db")
    store.record("ann", questions()[1].id, "choose", 1)
    store.close()
    shutil.copy(path, folder / "newer.db")
    for name, choices in (("older.db", [0]), ("newer.db", [0, 1]), ("older.db", [0])):
        shutil.copy(folder / name, path)  # into the same file, as a download or an upload does
        assert [x.choice for x in store.labels()] == choices
        assert [x.choice for x in LabelStore(path).labels()] == choices
        store.close()


def test_a_file_put_in_its_place_is_noticed_before_anything_is_written(
    path: Path, folder: Path
) -> None:
    """Writing would go on into the old file, which nobody can see any more."""
    store = LabelStore(path)
    store.add(questions())
    shutil.copy(path, folder / "other.db")
    os.replace(folder / "other.db", path)
    with pytest.raises(StoreError, match="replaced while it was open; nothing was saved"):
        store.record("ann", questions()[0].id, "choose", 0)
    assert LabelStore(path).labels() == []


def test_a_store_saved_over_one_with_a_write_ahead_log_is_not_mixed_with_it(
    path: Path, folder: Path
) -> None:
    """The log of the other file stayed behind, and was shown instead of what had been saved."""
    newer = LabelStore(folder / "newer.db")
    newer.add(questions(3))
    for c in questions(3):
        newer.record("ann", c.id, "choose", 2)
    newer.close()
    LabelStore(path).close()
    old = write_ahead(path)
    old.execute("insert into labelers values ('old', 1, 0)")
    log = Path(f"{path}-wal")
    content = log.read_bytes()
    old.close()
    log.write_bytes(content)  # as a killed kernel leaves it
    path.write_bytes((folder / "newer.db").read_bytes())
    store = LabelStore(path)
    assert [x.choice for x in store.labels()] == [2, 2, 2] and store.labelers() == ["ann"]
    assert not log.exists() and Path(f"{log}.left-over").read_bytes() == content


def test_a_log_whose_file_is_gone_is_kept(path: Path) -> None:
    """SQLite deletes a log beside an empty file, and with it labels that were only there."""
    path.parent.mkdir()
    log = Path(f"{path}-wal")
    log.write_bytes(b"labels of an earlier version")
    LabelStore(path)
    assert Path(f"{log}.left-over").read_bytes() == b"labels of an earlier version"
    log.write_bytes(b"a second log")  # it overwrote the first
    LabelStore(path)
    assert Path(f"{log}.left-over").read_bytes() == b"labels of an earlier version"
    assert Path(f"{log}.left-over.2").read_bytes() == b"a second log"


# ---- journals of killed programs -----------------------------------------------------------------


class Killed(NamedTuple):
    """The file before and after a commit, and the journal as it is while the pages are written."""

    before: bytes
    after: bytes
    journal: bytes


def killed(path: Path) -> Killed:
    """Take a commit apart with Python's sqlite3: what is there if a program is killed in it."""
    journal = Path(f"{path}-journal")
    before = path.read_bytes() if path.exists() else b""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = persist")  # the commit clears only the first 28 bytes
        db.execute("begin immediate")
        if before:
            db.execute("update labelers set name = 'half saved'")
        db.execute("create table filler as select randomblob(9000) as x")
        start = journal.read_bytes()[12:28]  # the magic and the number of pages are written last
        db.execute("commit")
    content = journal.read_bytes()[28:]
    journal.unlink()
    pages = (len(content) + 28 - 512) // (4096 + 8)
    magic = bytes.fromhex("d9d505f920a163d7")
    return Killed(before, path.read_bytes(), magic + pages.to_bytes(4, "big") + start + content)


def labelled(path: Path, count: int) -> None:
    store = LabelStore(path)
    store.add(questions())
    for c in questions()[:count]:
        store.record("ann", c.id, "choose", 2)
    store.close()


def opened(path: Path, file: bytes, journal: bytes) -> LabelStore:
    path.write_bytes(file)
    Path(f"{path}-journal").write_bytes(journal)
    return LabelStore(path)


def test_a_half_saved_answer_is_undone(path: Path) -> None:
    """The store's own journal is used, whether the pages had been written already or not."""
    labelled(path, 3)
    found = killed(path)
    assert sqlite3.connect(path).execute("select name from labelers").fetchall() == [
        ("half saved",)
    ]
    for file in (found.before, found.after, found.before[:4096] + found.after[4096:]):
        store = opened(path, file, found.journal)
        assert store.labelers() == ["ann"] and len(store.labels()) == 3
        store.close()
        assert path.read_bytes() == found.before
    assert [p.name for p in path.parent.iterdir()] == ["labels.db"]


@pytest.mark.parametrize("newer", ["same store", "another store"])
def test_a_newer_store_copied_over_one_that_was_killed_is_not_rolled_back(
    path: Path, folder: Path, newer: str
) -> None:
    """SQLite rolled the old journal into the new file: of 120 labels 9 were left, integrity ok."""
    labelled(path, 3)
    copy = folder / "newer.db"
    if newer == "same store":
        shutil.copy(path, copy)
        labelled_more = LabelStore(copy)
        for c in questions()[3:15]:
            labelled_more.record("ann", c.id, "choose", 2)
        labelled_more.close()
    else:
        labelled(copy, 3)  # as many transactions, so that only the id of the store differs
    count = 15 if newer == "same store" else 3
    journal = killed(path).journal
    for number in (1, 2):
        store = opened(path, copy.read_bytes(), journal)
        assert len(store.labels()) == count and store.labelers() == ["ann"]
        store.close()
        assert path.read_bytes() == copy.read_bytes()
        end = ".left-over" + (".2" if number == 2 else "")
        assert Path(f"{path}-journal{end}").read_bytes() == journal


def test_a_store_copied_over_one_that_was_killed_while_it_was_made_is_not_emptied(
    path: Path, folder: Path
) -> None:
    """Such a journal says that the file was empty; a `vacuum into` counts from 1, as a new one."""
    path.parent.mkdir()
    made = killed(path)
    labelled(folder / "labels.db", 3)
    with closing(sqlite3.connect(folder / "labels.db")) as db:
        db.execute("vacuum into ?", (str(folder / "compact.db"),))
    for name in ("labels.db", "compact.db"):
        store = opened(path, (folder / name).read_bytes(), made.journal)
        assert len(store.labels()) == 3
        store.close()
    # and one that is half made is made again
    store = opened(path, made.after[:4096], made.journal)
    assert store.add(questions()) == 20


def test_a_journal_whose_file_is_gone_is_kept(path: Path) -> None:
    """SQLite deletes a journal beside an empty file."""
    labelled(path, 3)
    journal = killed(path).journal
    path.unlink()
    Path(f"{path}-journal").write_bytes(journal)
    LabelStore(path).close()
    assert Path(f"{path}-journal.left-over").read_bytes() == journal


def test_every_store_has_a_number_of_its_own(folder: Path) -> None:
    LabelStore(folder / "a.db").close()
    LabelStore(folder / "b.db").close()
    ids = [(folder / name).read_bytes()[60:64] for name in ("a.db", "b.db")]
    assert ids[0] != ids[1] and bytes(4) not in ids


# ---- stores of an earlier version ----------------------------------------------------------------


def test_a_store_with_a_write_ahead_log_is_converted_and_keeps_its_labels(
    path: Path, folder: Path
) -> None:
    store = LabelStore(path)
    store.add(questions())
    store.close()
    old = write_ahead(path)
    old.execute("insert into labelers values ('old', 1, 0)")
    killed = folder / "killed.db"  # both files, as a killed kernel leaves them
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{killed}{end}")
    old.close()
    store = LabelStore(killed)
    assert store.labelers() == ["old"] and not Path(f"{killed}-wal").exists()
    store.close()
    with sqlite3.connect(killed) as db:
        assert db.execute("pragma journal_mode").fetchone() == ("delete",)
    assert killed.read_bytes()[18:20] == b"\x01\x01"  # the header says so, too


def test_a_store_that_an_earlier_version_has_open_is_an_error_in_words(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_helpers.labels.store.opening.WAIT_SECONDS", 0.2)
    LabelStore(path).close()
    old = write_ahead(path)
    old.execute("select * from meta").fetchall()
    with pytest.raises(StoreError, match="labels.db is locked by another program.*Close"):
        LabelStore(path)
    old.close()
    LabelStore(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_many_windows_convert_a_store_at_once(path: Path) -> None:
    LabelStore(path).close()
    write_ahead(path).close()
    code = "import sys; from rlhf_helpers.labels.store import LabelStore; LabelStore(sys.argv[1])"
    windows = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [w.wait() for w in windows] == [0, 0, 0, 0]
    with sqlite3.connect(path) as db:
        assert db.execute("pragma journal_mode").fetchone() == ("delete",)
