"""The label store, seen from outside: by hand-worked cases, by Python's own sqlite3, by other processes, and after kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.store import AlreadyAnswered, LabelStore, Progress, StoreError

SCHEMA_1 = """
create table meta ("key" varchar(40) not null, value varchar(80) not null, primary key ("key"));
create table comparisons (position integer not null, id varchar(64) not null, task varchar(80) not null, "query" text not null,
  options json not null, source varchar(200) not null, round integer not null, primary key (position), unique (id));
create index comparisons_by_task on comparisons (task, position, id);
create table events (id integer not null primary key autoincrement, labeler varchar(120) not null, comparison_id varchar(64) not null,
  kind varchar(10) not null, choice integer, shown json not null, seconds float not null, created float not null,
  simulated boolean not null, repeat boolean not null, note text not null, undoes integer,
  foreign key(comparison_id) references comparisons (id), foreign key(undoes) references events (id));
create index events_by_labeler on events (labeler, comparison_id);
create table answers (labeler varchar(120) not null, comparison_id varchar(64) not null, repeat boolean not null,
  task varchar(80) not null, kind varchar(10) not null, event_id integer not null, primary key (labeler, comparison_id, repeat),
  foreign key(comparison_id) references comparisons (id), unique (event_id), foreign key(event_id) references events (id));
create index answers_by_task on answers (labeler, task, repeat, kind);
insert into meta values ('application', 'rlhf_helpers labels'), ('schema', '1');
"""  # as files of the first version have it

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def questions(count: int = 3, task: str = "sentiment", options: int = 4) -> list[Comparison]:
    return [Comparison(task, f"query {i}", tuple(f"option {i}.{k}" for k in range(options))) for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


@pytest.fixture
def store(path: Path) -> LabelStore:
    made = LabelStore(path)
    made.add(questions())
    return made


def rows(path: Path, query: str) -> list[tuple]:
    """Read the file with Python's own sqlite3, without our code."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


def test_adding_twice_is_harmless(store: LabelStore, path: Path) -> None:
    assert store.add(questions()) == 0
    assert store.add([*questions(5), *questions(5)]) == 2
    assert store.comparisons() == questions(5)
    assert rows(path, "select count(*) from comparisons") == [(5,)]
    assert store.add(questions(2, "tldr")) == 2
    assert store.comparisons("tldr") == questions(2, "tldr") and store.get(questions()[1].id) == questions()[1]


def test_a_labelers_day_worked_by_hand(store: LabelStore, path: Path) -> None:
    a, b, c = questions()
    assert store.next("ann", "sentiment") == a and store.progress("ann", "sentiment") == Progress(0, 0, 3)
    store.record("ann", a.id, "choose", 2, (2, 0, 1, 3), seconds=4.5)
    assert store.next("ann", "sentiment") == b and store.next("bob", "sentiment") == a
    store.record("ann", b.id, "tie")
    store.record("ann", c.id, "skip")
    assert store.next("ann", "sentiment") is None
    assert store.progress("ann", "sentiment") == Progress(2, 1, 3) and store.progress("ann", "sentiment").left == 0
    (label,) = store.labels("sentiment", "ann")  # a tie and a skip are no labels
    assert (label.comparison_id, label.labeler, label.choice, label.seconds, label.simulated) == (a.id, "ann", 2, 4.5, False)
    assert rows(path, "select kind, choice, shown from events order by id") == [
        ("choose", 2, "[2, 0, 1, 3]"), ("tie", None, "[]"), ("skip", None, "[]"),
    ]  # fmt: skip


def test_undo_any_depth_and_answer_again(store: LabelStore, path: Path) -> None:
    a, b, _ = questions()
    store.record("ann", a.id, "choose", 0)
    store.record("bob", a.id, "choose", 3)
    store.record("ann", b.id, "choose", 1)
    assert store.undo("ann") == b.id and store.undo("ann") == a.id and store.undo("ann") is None
    assert [x.labeler for x in store.labels()] == ["bob"]  # nobody else's answer was touched
    assert store.next("ann", "sentiment") == a
    store.record("ann", a.id, "choose", 1)
    assert [x.choice for x in store.labels(labeler="ann")] == [1]
    assert rows(path, "select kind, undoes from events where labeler = 'ann' order by id") == [
        ("choose", None), ("choose", None), ("undo", 3), ("undo", 1), ("choose", None),
    ]  # fmt: skip


def test_undo_stays_within_the_task(store: LabelStore) -> None:
    (other,) = questions(1, "tldr")
    store.add([other])
    store.record("ann", questions()[0].id, "choose", 0)
    store.record("ann", other.id, "choose", 0)
    assert store.undo("ann", "sentiment") == questions()[0].id
    assert [x.comparison_id for x in store.labels()] == [other.id]


def test_nobody_answers_twice(store: LabelStore) -> None:
    a = questions()[0]
    store.record("ann", a.id, "choose", 0)
    for kind, choice in (("choose", 0), ("choose", 1), ("tie", None), ("skip", None)):
        with pytest.raises(AlreadyAnswered, match="ann has already answered"):
            store.record("ann", a.id, kind, choice)
    store.record("ann", a.id, "flag", note="the text is broken")  # a remark is not an answer
    assert len(store.labels()) == 1 and [e.kind for e in store.events()] == ["choose", "flag"]


def test_a_second_answer_on_purpose_changes_no_label(store: LabelStore) -> None:
    a = questions()[0]
    store.record("ann", a.id, "choose", 0)
    store.record("ann", a.id, "choose", 3, repeat=True)
    assert [x.choice for x in store.labels()] == [0] and [x.choice for x in store.labels(repeats=True)] == [3]
    assert store.progress("ann", "sentiment") == Progress(1, 0, 3, 1)
    store.undo("ann")
    assert [x.choice for x in store.labels()] == [0] and store.labels(repeats=True) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"choice": 4}, "options 0 to 3"), ({"choice": None}, "options 0 to 3"), ({"choice": -1}, "options 0 to 3"),
        ({"kind": "tie"}, "no choice"), ({"kind": "like"}, "no kind of event"), ({"kind": "undo"}, "no kind of event"),
        ({"order": (0, 1)}, "each of its 4"), ({"order": (0, 0, 1, 2)}, "each of its 4"), ({"labeler": ""}, "name of its labeler"),
        ({"seconds": float("nan")}, "seconds"), ({"comparison_id": "nope"}, "nope"),
    ],
)  # fmt: skip
def test_wrong_answers_are_refused(store: LabelStore, path: Path, change: dict, error: str) -> None:
    good = {"labeler": "ann", "comparison_id": questions()[0].id, "kind": "choose", "choice": 0}
    with pytest.raises((ValueError, KeyError), match=error):
        store.record(**(good | change))
    assert rows(path, "select count(*) from events") == [(0,)]


def test_nothing_is_pasted_into_sql(store: LabelStore, path: Path) -> None:
    evil = "x'); drop table events; -- \" % ? :name \u202e \x00"
    hard = Comparison(evil, evil, (evil, "b"), evil)
    store.add([hard])
    store.record(evil, hard.id, "choose", 0, note=evil)
    assert store.get(hard.id) == hard and store.labels(evil, evil)[0].labeler == evil
    assert store.next(evil, evil) is None and store.events(labeler=evil)[0].note == evil
    assert len(rows(path, "select * from events")) == 1


def test_imported_labels(store: LabelStore) -> None:
    given = [Label(c.id, "sim", i, simulated=True) for i, c in enumerate(questions())]
    assert store.add_labels(given) == 3 and store.add_labels(given) == 0
    assert [(x.choice, x.simulated) for x in store.labels()] == [(0, True), (1, True), (2, True)]
    with pytest.raises(ValueError, match="sim answered comparison"):
        store.add_labels([Label(questions()[0].id, "new", 0), Label(questions()[0].id, "sim", 3)])
    with pytest.raises(ValueError, match="no comparison 'unknown'"):
        store.add_labels([Label(questions()[0].id, "new", 0), Label("unknown", "new", 0)])
    assert len(store.labels()) == 3  # all or nothing


def test_export_and_load(store: LabelStore, tmp_path: Path) -> None:
    a, b, c = questions()
    store.record("ann", a.id, "choose", 2, (3, 2, 1, 0), seconds=1.5)
    store.record("ann", b.id, "tie")
    store.record("ann", c.id, "choose", 0)
    store.undo("ann")
    store.record("ann", a.id, "choose", 1, repeat=True)
    assert store.export(tmp_path / "out.jsonl") == 3
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["query"] for line in lines] == ["query 0", "query 1", "query 2"]
    assert [[(x["kind"], x["choice"], x["repeat"]) for x in line["labels"]] for line in lines] == [
        [("choose", 2, False), ("choose", 1, True)], [("tie", None, False)], [],
    ]  # fmt: skip
    other = LabelStore(tmp_path / "other.db")
    assert other.load(tmp_path / "out.jsonl") == (3, 3) and other.load(tmp_path / "out.jsonl") == (0, 0)
    assert other.comparisons() == store.comparisons() and other.labels() == store.labels()
    assert other.progress("ann", "sentiment") == store.progress("ann", "sentiment") == Progress(2, 0, 3, 1)
    assert list(tmp_path.glob(".*partial")) == []


def test_what_was_taken_back_stays_taken_back(store: LabelStore, tmp_path: Path) -> None:
    store.record("ann", questions()[0].id, "choose", 2)
    store.export(tmp_path / "before.jsonl")
    store.undo("ann")
    assert store.load(tmp_path / "before.jsonl") == (0, 0) and store.labels() == []
    store.record("ann", questions()[0].id, "choose", 1)
    assert store.load(tmp_path / "before.jsonl") == (0, 0) and [x.choice for x in store.labels()] == [1]


GOOD = '{"task": "t", "query": "q", "options": ["a", "b"]'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"task": "t"', "delimiter"), ("[1]", "expected an object"), ('{"task": "t", "query": "q"}', "'options' is missing"),
        ('{"task": "t", "query": "q", "options": ["a"]}', "at least two options"), (GOOD + ', "id": "x"}', "edited by hand"),
        (GOOD + ', "labels": [{"labeler": "ann", "choice": 2}]}', "options 0 to 1"), (GOOD + ', "labels": [{"choice": 0}]}', "labeler"),
        (GOOD + ', "labels": [{"labeler": "ann", "choice": 0, "colour": 1}]}', "colour"), (GOOD + ', "labels": {}}', "list of labels"),
        (GOOD + ', "labels": [{"labeler": "ann", "kind": "undo"}]}', "no kind of answer"), ('{"query": "\\xff"}', "escape"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named_and_nothing_imported(store: LabelStore, tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(GOOD + ', "labels": [{"labeler": "ann", "choice": 0}]}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=rf"bad\.jsonl, line 3: .*{reason}.*nothing was imported"):
        store.load(file)
    assert len(store.comparisons()) == 3 and store.labels() == []


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    LabelStore(tmp_path / "whole.db").add(questions(300))
    whole = (tmp_path / "whole.db").read_bytes()
    with sqlite3.connect(tmp_path / "foreign.db") as db:
        db.execute("create table recipes (name text)")
    foreign = (tmp_path / "foreign.db").read_bytes()
    cases = {
        "text.db": (b"my shopping list\n" * 100, "no label store"),
        "cut.db": (whole[: len(whole) // 2], "no label store, or a damaged"),
        "stub.db": (whole[:50], "no label store"), "foreign.db": (foreign, "not one of labels .*recipes"),
    }  # fmt: skip
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match=rf"{name} is .*{reason}.*was not changed. Move it away"):
            LabelStore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(StoreError, match="is a folder"):
        LabelStore(tmp_path)
    with pytest.raises(ValueError, match="would be lost"):
        LabelStore("sqlite://")


def test_a_newer_schema_is_refused(store: LabelStore, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("update meta set value = '99' where key = 'schema'")
    with pytest.raises(StoreError, match="newer rlhf_helpers .*schema 99.*update"):
        LabelStore(path)


def test_a_file_of_the_first_schema_is_brought_up_to_date(path: Path) -> None:
    asked = questions(2)
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA_1)
        for i, c in enumerate(asked):
            db.execute("insert into comparisons values (?, ?, ?, ?, ?, 'base', 0)", (i + 1, c.id, c.task, c.query, json.dumps(c.options)))
        db.execute("insert into events values (7, 'ann', ?, 'choose', 2, '[2, 0, 1, 3]', 3.0, 1.0, 0, 0, '', null)", (asked[0].id,))
        db.execute("insert into answers values ('ann', ?, 0, 'sentiment', 'choose', 7)", (asked[0].id,))
    store = LabelStore(path)
    assert store.comparisons() == asked and store.labels() == [Label(asked[0].id, "ann", 2, 3.0, 1.0)]
    assert rows(path, "select value from meta where key = 'schema'") == [("2",)]
    assert store.claim("ann", asked[1].id, "here/1/a")
    LabelStore(path)  # and a second opening changes nothing
    assert rows(path, "select count(*) from claims") == [(1,)]


def test_an_item_is_on_one_screen_of_a_labeler_at_a_time(store: LabelStore, path: Path) -> None:
    a, b, _ = (c.id for c in questions())
    mine, other, gone = f"{socket.gethostname()}/{os.getpid()}/1", "elsewhere/1/2", f"{socket.gethostname()}/{2**22 + 1}/3"
    assert store.claim("ann", a, mine) and store.claim("ann", a, mine)  # again is harmless
    assert not store.claim("ann", a, other) and store.claim("ann", a, other, repeat=True) and store.claim("bob", a, other)
    assert store.claim("ann", b, other) and store.claimed("ann", but=mine) == {(b, False)}
    assert store.claim("ann", b, gone) is False
    assert store.claim("ann", questions()[2].id, mine) and store.claimed("ann") == {(b, False), (questions()[2].id, False)}
    with sqlite3.connect(path) as db:
        db.execute("update claims set until = 1.0 where comparison_id = ?", (b,))  # long ago
    assert store.claim("ann", b, gone) and store.claimed("ann", but=mine) == set()  # whose process does not live
    assert store.claim("ann", b, other) and store.next("ann", "sentiment", without=[a, b]) == questions()[2]
    store.release("ann", "elsewhere/")
    assert store.claimed("ann", but=mine) == set()


def test_the_file_is_set_up_for_many_writers(store: LabelStore, path: Path) -> None:
    assert rows(path, "pragma journal_mode") == [("wal",)]
    assert rows(path, "select key, value from meta order by key") == [("application", "rlhf_helpers labels"), ("schema", "2")]
    with store._transaction() as db:
        assert db.exec_driver_sql("pragma synchronous").scalar() == 2  # FULL
        assert db.exec_driver_sql("pragma foreign_keys").scalar() == 1
        assert db.exec_driver_sql("pragma busy_timeout").scalar() == 10_000


def test_a_file_of_schema_1_is_brought_up_to_date_and_keeps_its_labels(store: LabelStore, path: Path) -> None:
    store.record("ada", questions()[0].id, "choose", 2)
    store.close()
    with sqlite3.connect(path) as db:  # what the first version wrote: no claims
        db.execute("drop table claims")
        db.execute("update meta set value = '1' where key = 'schema'")
    again = LabelStore(path)
    assert rows(path, "select value from meta where key = 'schema'") == [("2",)]
    assert [x.choice for x in again.labels()] == [2]
    assert again.claim("ada", questions()[1].id, f"elsewhere/{os.getpid()}/1")


def test_two_windows_never_show_the_same_item_to_one_labeler(store: LabelStore) -> None:
    first, second, third = (c.id for c in questions())
    one, two = f"elsewhere/{os.getpid()}/1", f"elsewhere/{os.getpid()}/2"
    assert store.claim("ada", first, one) and store.claim("ada", first, one)  # claiming again what one has is harmless
    assert not store.claim("ada", first, two)
    assert store.claim("ben", first, two)  # another labeler is asked the same things
    assert store.claimed("ada", but=two) == {(first, False)}
    assert store.next("ada", "sentiment", without=[first]).id == second
    assert store.claim("ada", second, one)  # a window shows one item: the first is free again
    assert store.claim("ada", first, two)
    store.release("ada", two)
    assert store.claimed("ada") == {(second, False)}


def test_the_claims_of_windows_that_are_gone_or_left_alone_count_for_nothing(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first, here = questions()[0].id, socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert store.claim("ada", first, f"{here}/{ended.pid}/1")
    assert store.claimed("ada") == set() and store.claim("ada", first, f"{here}/{os.getpid()}/1")
    assert not store.claim("ada", first, "elsewhere/1/1")
    later = time.time() + 601
    monkeypatch.setattr("rlhf_helpers.store.time.time", lambda: later)
    assert store.claim("ada", first, "elsewhere/1/1")


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
    """Start a process that does `work`, with a function that reports a line; return its id and the pipe to read the lines from."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        return child, read
    status = 1
    try:
        work(lambda line: os.write(write, f"{line}\n".encode()))
        status = 0
    finally:
        os._exit(status)  # a copy of pytest must not go on from here


def finish(process: tuple[int, int]) -> list[str]:
    """Wait for a forked process that should end well, and return the lines it reported."""
    child, read = process
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return lines


def writer(path: Path, name: str, limit: int) -> Callable[[Callable[[str], object]], object]:
    def work(report: Callable[[str], object]) -> None:
        store, written = LabelStore(path), 0
        while written < limit and (item := store.next(name, "sentiment")) is not None:
            try:
                number = store.record(name, item.id, "choose", 1)
            except AlreadyAnswered:  # the other window was faster
                continue
            written += 1
            report(f"{item.id} {number}")

    return work


@needs_fork
def test_eight_processes_lose_nothing_and_double_nothing(path: Path) -> None:
    """Four labelers in two windows each, 50 answers a window: the two windows of one labeler race for the same items."""
    LabelStore(path).add(questions(100))
    processes = [fork(writer(path, f"labeler {i % 4}", 50)) for i in range(8)]
    said = [line.split() for process in processes for line in finish(process)]
    stored = rows(path, "select comparison_id, id from events")
    assert len(stored) == 400
    assert sorted(stored) == sorted((item, int(number)) for item, number in said)  # what was called saved is there, and no more
    assert rows(path, "select max(n) from (select count(*) n from events group by labeler, comparison_id)") == [(1,)]
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert len(LabelStore(path).labels()) == 400


@needs_fork
def test_a_new_file_made_by_many_at_once(path: Path) -> None:
    for process in [fork(lambda _: LabelStore(path)) for _ in range(8)]:
        finish(process)
    assert rows(path, "select count(*) from meta") == [(2,)]


def kill_loop(path: Path, rounds: int) -> None:
    """Kill a busy labeler again and again; whatever it had reported as saved must be there, and the file must open."""
    LabelStore(path).add(questions(rounds * 100))
    reported: list[str] = []
    for number in range(rounds):
        child, read = fork(writer(path, "ann", 100))
        with os.fdopen(read) as pipe:
            reported += [pipe.readline() for _ in range(1 + number * 7 % 11)]
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reported += pipe.readlines()
    said = [tuple(line.split()) for line in reported]
    stored = [(item, str(number)) for item, number in rows(path, "select comparison_id, id from events")]
    assert len(said) >= rounds and set(said) <= set(stored) and len(stored) == len({item for item, _ in stored})
    assert len(stored) - len(said) <= rounds  # at most the one that was saved and not yet reported, each time
    assert rows(path, "pragma integrity_check") == [("ok",)]
    assert {x.comparison_id for x in LabelStore(path).labels()} == {item for item, _ in stored}


@needs_fork
def test_killed_twenty_times(path: Path) -> None:
    kill_loop(path, 20)


@pytest.mark.slow
@needs_fork
def test_killed_two_hundred_times(path: Path) -> None:
    kill_loop(path, 200)


@needs_fork
def test_a_forked_child_opens_its_own_connections(store: LabelStore) -> None:
    store.progress("ann", "sentiment")  # so that the parent holds one
    finish(fork(lambda _: store.record("ann", questions()[0].id, "choose", 1)))
    assert [x.choice for x in store.labels()] == [1]


def test_a_locked_file_is_an_error_and_not_a_loss(store: LabelStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store._engine.dispose()
    monkeypatch.setattr("rlhf_helpers.database.WAIT_SECONDS", 0.1)
    hasty = LabelStore(path)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("begin immediate")
        with pytest.raises(Exception, match="locked"):
            hasty.record("ann", questions()[0].id, "choose", 1)
        other.execute("rollback")
    hasty.record("ann", questions()[0].id, "choose", 1)
    assert len(hasty.labels()) == 1


def test_light_to_import() -> None:
    code = "import sys, rlhf_helpers.store; print([m for m in ('pandas', 'ipywidgets', 'anywidget', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
