"""The label store under attack: many writers at once, kill -9, full and read-only disks, locks,
files that vanish; a server that stops."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest

from rlhf_helpers.labels.store import AlreadyAnswered, LabelStore, StoreError
from rlhf_helpers.records import Comparison

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def questions(count: int = 3) -> list[Comparison]:
    return [
        Comparison("sentiment", f"query {i}", tuple(f"option {i}.{k}" for k in range(4)))
        for i in range(count)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


@pytest.fixture
def store(path: Path) -> LabelStore:
    made = LabelStore(path)
    made.add(questions())
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as running:
        yield running


def rows(path: Path, query: str) -> list[tuple]:
    """Read the file with Python's own sqlite3, without our code."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


def test_any_thread(store: LabelStore) -> None:
    store.add(questions(40))
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while (item := store.next(name, "sentiment")) is not None:
                store.record(name, item.id, "choose", 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(store.labels()) == 160


def fork(work: Callable[[Callable[[str], object]], object]) -> tuple[int, int]:
    """Start a process that does `work`, with a function that reports a line; return its id and the
    pipe to read the lines from."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        return child, read
    status = 1
    try:
        work(lambda line: os.write(write, f"{line}\n".encode()))
        status = 0
    except BaseException:
        traceback.print_exc()  # or nobody would know
    finally:
        os._exit(status)  # a copy of pytest must not go on from here


def finish(process: tuple[int, int]) -> list[str]:
    """Wait for a forked process that should end well, and return the lines it reported."""
    child, read = process
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return lines


def writer(
    make: Callable[[], LabelStore], name: str, limit: int
) -> Callable[[Callable[[str], object]], object]:
    def work(report: Callable[[str], object]) -> None:
        store, written = make(), 0
        while written < limit and (item := store.next(name, "sentiment")) is not None:
            try:
                number = store.record(name, item.id, "choose", 1)
            except AlreadyAnswered:  # the other window was faster
                continue
            written += 1
            report(f"{item.id} {number}")

    return work


def raced(make: Callable[[], LabelStore], ask: Callable[[str], list[tuple]], each: int) -> None:
    """Four labelers in two windows each, `each` answers a window: the two windows of one labeler
    race for the same items."""
    store = make()
    store.add(questions(2 * each))
    store.close()
    processes = [fork(writer(make, f"labeler {i % 4}", each)) for i in range(8)]
    said = [line.split() for process in processes for line in finish(process)]
    stored = ask("select comparison_id, id from events")
    assert len(stored) == 8 * each
    # what was called saved is there, and no more
    assert sorted(stored) == sorted((item, int(number)) for item, number in said)
    assert ask(
        "select max(n) from (select count(*) as n from events group by labeler, comparison_id) as "
        "counts"
    ) == [(1,)]
    assert len(make().labels()) == 8 * each
    assert [make().progress(f"labeler {i}", "sentiment").done for i in range(4)] == [2 * each] * 4


@needs_fork
def test_eight_processes_of_500_labels_each_lose_nothing_and_double_nothing(path: Path) -> None:
    raced(lambda: LabelStore(path), lambda query: rows(path, query), 500)
    assert rows(path, "pragma integrity_check") == [("ok",)]


@needs_fork
def test_eight_processes_on_a_server_lose_nothing_and_double_nothing(
    server: postgres.Server,
) -> None:
    place = server.empty()
    raced(lambda: LabelStore(server.url(place)), lambda query: server.query(query, place), 60)


@needs_fork
def test_a_new_store_made_by_many_at_once(path: Path) -> None:
    for process in [fork(lambda _: LabelStore(path)) for _ in range(8)]:
        finish(process)
    assert rows(path, "select count(*) from meta") == [(2,)]


@needs_fork
def test_a_new_store_on_a_server_made_by_many_at_once(server: postgres.Server) -> None:
    place = server.empty()
    for process in [fork(lambda _: LabelStore(server.url(place))) for _ in range(8)]:
        finish(process)
    assert server.query("select count(*) from meta", place) == [(2,)]


@needs_fork
def test_killed_two_hundred_times(path: Path) -> None:
    """Kill a busy labeler again and again; whatever it had reported as saved must be there, and the
    file must open."""
    rounds = 200
    LabelStore(path).add(questions(rounds * 30))
    reported: list[str] = []
    for number in range(rounds):
        child, read = fork(writer(lambda: LabelStore(path), "ann", 30))
        with os.fdopen(read) as pipe:
            # 0: while it opens the file
            reported += [pipe.readline() for _ in range(number * 7 % 6)]
            time.sleep(number % 7 / 1000)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported += pipe.readlines()
    # the last one killed may have left a journal, which only an opening that may write uses
    LabelStore(path).close()
    assert not list(path.parent.glob("*.left-over*"))  # every journal was the store's own
    said = [tuple(line.split()) for line in reported]
    stored = [
        (item, str(number)) for item, number in rows(path, "select comparison_id, id from events")
    ]
    assert (
        len(said) >= rounds
        and set(said) <= set(stored)
        and len(stored) == len({item for item, _ in stored})
    )
    # at most the one that was saved and not yet reported, each time
    assert len(stored) - len(said) <= rounds
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert {x.comparison_id for x in LabelStore(path).labels()} == {item for item, _ in stored}
    # the counters did not come apart either
    assert LabelStore(path).progress("ann", "sentiment").done == len(stored)


@needs_fork
def test_a_forked_child_opens_its_own_connections(store: LabelStore) -> None:
    store.progress("ann", "sentiment")  # so that the parent holds one
    finish(fork(lambda _: store.record("ann", questions()[0].id, "choose", 1)))
    assert [x.choice for x in store.labels()] == [1]


# ---- files and disks -----------------------------------------------------------------------------


def test_a_locked_file_is_an_error_in_words_and_not_a_loss(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_helpers.labels.store.opening.WAIT_SECONDS", 0.1)
    hasty = LabelStore(path)
    hasty.add(questions())
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        with pytest.raises(
            StoreError,
            match=r"labels.db is locked by another program.*nothing was saved.*try again",
        ):
            hasty.record("ann", questions()[0].id, "choose", 1)
        assert hasty.next("ann", "sentiment") == questions()[0]  # reading goes on
        other.execute("rollback")
    hasty.record("ann", questions()[0].id, "choose", 1)
    assert len(hasty.labels()) == 1


def test_a_full_database_is_an_error_in_words_and_not_a_loss(store: LabelStore, path: Path) -> None:
    """SQLite's own limit on pages gives its own error for a full disk, at the same places in its
    code."""
    first, second, _ = (c.id for c in questions())
    store.record("ann", first, "choose", 1)

    def limit(pages: int) -> None:
        with store._engine.connect() as db:
            db.exec_driver_sql(f"pragma max_page_count = {pages}")

    limit(rows(path, "pragma page_count")[0][0])
    with pytest.raises(
        StoreError, match=r"the disk of .*labels.db is full.*nothing was saved.*Make room"
    ):
        store.record("ann", second, "choose", 2, note="x" * 50_000)
    assert [x.choice for x in store.labels()] == [1] and store.progress(
        "ann", "sentiment"
    ).done == 1
    limit(10_000)
    store.record("ann", second, "choose", 2, note="x" * 50_000)
    assert [x.choice for x in store.labels()] == [1, 2]


@needs_fork
def test_a_file_that_may_not_grow_is_an_error_in_words_and_not_a_loss(path: Path) -> None:
    """The kernel refuses every byte past a limit: as a quota does, and a disk that fails."""
    LabelStore(path).add(questions(2_000))

    def work(report: Callable[[str], object]) -> None:
        store = LabelStore(path)
        store.record("ann", questions()[0].id, "choose", 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100_000,) * 2)
        saved = 1
        try:
            for c in questions(2_000)[1:]:
                store.record("ann", c.id, "choose", 1)
                saved += 1
        except StoreError as error:
            report(f"{saved} {store.progress('ann', 'sentiment').done} {error}".replace("\n", " "))

    (said,) = finish(fork(work))
    saved, done, *words = said.split()
    assert (
        1 < int(saved) < 2_000
        and saved == done
        and "is full or failing" in " ".join(words)
        and "nothing was saved" in " ".join(words)
    )
    assert rows(path, "select count(*) from events") == [(int(saved),)] and rows(
        path, "pragma integrity_check"
    ) == [("ok",)]
    # and without the limit it goes on
    LabelStore(path).record("ann", questions(2_000)[-1].id, "choose", 1)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.name == "nt"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", disk], capture_output=True
        ).returncode
    ):
        pytest.skip("a small disk needs the right to mount one")
    store = LabelStore(disk / "labels.db")
    try:
        store.add(questions(300))
        saved = 0
        with pytest.raises(StoreError, match="is full"):
            for c in questions(300):
                store.record("ann", c.id, "choose", 1, note="x" * 2_000)
                saved += 1
        assert saved > 3 and len(store.labels()) == store.progress("ann", "sentiment").done == saved
        store.close()
        shutil.copytree(disk, tmp_path / "elsewhere")  # to a disk with room
        assert len(LabelStore(tmp_path / "elsewhere" / "labels.db").labels()) == saved
    finally:
        store.close()
        subprocess.run(["umount", disk], check=True)


def as_somebody_without_rights(work: Callable[[], None]) -> list[str]:
    """Root may write anywhere, so give its rights up in a child; returns what went wrong there, in
    words."""

    def inner(report: Callable[[str], object]) -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
        try:
            work()
        except StoreError as error:
            report(str(error))

    return finish(fork(inner))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a process without rights can read, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="labels-"))
    yield folder
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o755)
    shutil.rmtree(folder)


@needs_fork
def test_a_read_only_folder_is_an_error_in_words(open_folder: Path) -> None:
    path = open_folder / "labels.db"
    made = LabelStore(path)
    made.add(questions())
    made.close()
    for place, mode in ((path, 0o444), (open_folder, 0o555)):
        place.chmod(mode)
    before = path.read_bytes()
    for attempt in (
        lambda: LabelStore(open_folder / "new.db"),
        lambda: LabelStore(open_folder / "new" / "labels.db"),
        lambda: LabelStore(path).record("ann", questions()[0].id, "choose", 1),
    ):
        (said,) = as_somebody_without_rights(attempt)
        assert str(open_folder) in said and "you may write to" in said
    assert path.read_bytes() == before and [p.name for p in open_folder.iterdir()] == ["labels.db"]


@needs_fork
def test_a_file_that_becomes_read_only_while_it_is_open(open_folder: Path) -> None:
    path = open_folder / "labels.db"
    made = LabelStore(path)
    made.add(questions())
    made.close()
    for place in (open_folder, path):
        place.chmod(0o777)

    def work() -> None:
        store = LabelStore(path)
        store.close()
        path.chmod(0o444) if os.geteuid() == path.stat().st_uid else None
        LabelStore(path).record("ann", questions()[0].id, "choose", 1)

    path.chmod(0o444)
    (said,) = as_somebody_without_rights(work)
    assert "labels.db cannot be written" in said and "you may write to" in said


def test_a_file_that_vanishes_or_is_replaced_is_not_written_into_the_void(
    store: LabelStore, path: Path, tmp_path: Path
) -> None:
    """SQLite would go on writing to a deleted file, and every label would be lost with the
    kernel."""
    first = questions()[0].id
    path.rename(tmp_path / "moved.db")
    with pytest.raises(
        StoreError,
        match="labels.db was moved, deleted or replaced .*nothing was saved. Open the store again",
    ):
        store.record("ann", first, "choose", 1)
    LabelStore(path).add(questions())  # somebody makes a new one in its place
    with pytest.raises(StoreError, match="moved, deleted or replaced"):
        store.record("ann", first, "choose", 1)
    LabelStore(path).record("ann", first, "choose", 1)
    assert rows(path, "select count(*) from events") == [(1,)]


def test_pages_that_were_damaged_are_an_error_in_words(path: Path) -> None:
    made = LabelStore(path)
    made.add(questions(400))
    made.close()
    content = bytearray(path.read_bytes())
    for page in range(len(content) // 4096 // 2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match="labels.db is not a label store, or it is damaged .*Move it away"
    ):
        LabelStore(path).comparisons()


# ---- a server ------------------------------------------------------------------------------------


def test_a_server_that_stops_is_an_error_in_words_and_not_a_loss(server: postgres.Server) -> None:
    store = LabelStore(server.url(server.empty()))
    store.add(questions())
    first, second, _ = (c.id for c in questions())
    store.record("ann", first, "choose", 1)
    server.stop()
    try:
        with pytest.raises(
            StoreError, match="server of .* cannot be reached (?s:.*)nothing was saved. Try again"
        ):
            store.record("ann", second, "choose", 2)
        with pytest.raises(StoreError, match="cannot be reached"):
            LabelStore(store.name)
    finally:
        server.start()
    store.record("ann", second, "choose", 2)  # the same store goes on
    assert [x.choice for x in store.labels()] == [1, 2]


def test_a_server_that_another_writer_blocks(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    place = server.empty()
    monkeypatch.setattr("rlhf_helpers.labels.store.opening.WAIT_SECONDS", 1)
    store = LabelStore(server.url(place))
    store.add(questions())
    with psycopg.connect(
        f"host={server.folder} user=labels dbname=postgres options=-csearch_path={place}"
    ) as other:
        other.execute("select value from meta for update")
        with pytest.raises(StoreError, match="is locked by another program"):
            store.record("ann", questions()[0].id, "choose", 1)
        other.rollback()
    store.record("ann", questions()[0].id, "choose", 1)
    assert len(store.labels()) == 1


def test_a_database_of_somebody_else_on_a_server_is_left_alone(server: postgres.Server) -> None:
    place = server.empty()
    server.query("create table recipes (name text)", place)
    with pytest.raises(StoreError, match="not one of labels .*recipes"):
        LabelStore(server.url(place))
    assert server.query(
        f"select table_name from information_schema.tables where table_schema = '{place}'"
    ) == [("recipes",)]


def test_a_missing_driver_and_a_password_are_handled_with_care(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        LabelStore("postgresql+psycopg://ann:sesame@127.0.0.1:9/labels?connect_timeout=2")
    assert "sesame" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match="needs the package psycopg: pip install"):
        LabelStore("postgresql+psycopg://ann@127.0.0.1:9/labels")
