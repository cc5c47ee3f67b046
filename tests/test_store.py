"""The label store by hand-worked cases, seen from outside by other drivers: on SQLite, and on a
PostgreSQL where there is one."""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import postgres
import pytest

from rlhf_helpers.labels.store import AlreadyAnswered, LabelStore, Progress, StoreError
from rlhf_helpers.records import Comparison, Label

Rows = Callable[[str], list[tuple]]


def questions(count: int = 3, task: str = "sentiment", options: int = 4) -> list[Comparison]:
    return [
        Comparison(task, f"query {i}", tuple(f"option {i}.{k}" for k in range(options)))
        for i in range(count)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.db"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, path: Path) -> tuple[str, Rows]:
    """Name an empty database, and give a way to read it past the code under test."""
    if request.param == "sqlite":
        return str(path), lambda query: rows(path, query)
    running = request.getfixturevalue("server")
    name = running.empty()
    return running.url(name), lambda query: running.query(query, name)


@pytest.fixture
def store(database: tuple[str, Rows]) -> Iterator[LabelStore]:
    made = LabelStore(database[0])
    made.add(questions())
    yield made
    made.close()


@pytest.fixture
def ask(database: tuple[str, Rows]) -> Rows:
    return database[1]


def rows(path: Path, query: str) -> list[tuple]:
    """Read the file with Python's own sqlite3, without our code."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


def test_adding_twice_is_harmless(store: LabelStore, ask: Rows) -> None:
    assert store.add(questions()) == 0
    assert store.add([*questions(5), *questions(5)]) == 2
    assert store.comparisons() == questions(5)
    assert ask("select count(*) from comparisons") == [(5,)]
    assert store.add(questions(2, "tldr")) == 2
    assert (
        store.comparisons("tldr") == questions(2, "tldr")
        and store.get(questions()[1].id) == questions()[1]
    )


def test_a_labelers_day_worked_by_hand(store: LabelStore, ask: Rows) -> None:
    a, b, c = questions()
    assert store.next("ann", "sentiment") == a and store.progress("ann", "sentiment") == Progress(
        0, 0, 3
    )
    store.record("ann", a.id, "choose", 2, (2, 0, 1, 3), seconds=4.5)
    assert store.next("ann", "sentiment") == b and store.next("bob", "sentiment") == a
    store.record("ann", b.id, "tie")
    store.record("ann", c.id, "skip")
    assert store.next("ann", "sentiment") is None
    assert (
        store.progress("ann", "sentiment") == Progress(2, 1, 3)
        and store.progress("ann", "sentiment").left == 0
    )
    (label,) = store.labels("sentiment", "ann")  # a tie and a skip are no labels
    assert (label.comparison_id, label.labeler, label.choice, label.seconds, label.simulated) == (
        a.id,
        "ann",
        2,
        4.5,
        False,
    )
    seen = ask("select kind, choice, shown from events order by id")
    assert [
        (kind, choice, json.loads(shown) if isinstance(shown, str) else shown)
        for kind, choice, shown in seen
    ] == [
        ("choose", 2, [2, 0, 1, 3]),
        ("tie", None, []),
        ("skip", None, []),
    ]


def test_undo_any_depth_and_answer_again(store: LabelStore, ask: Rows) -> None:
    a, b, _ = questions()
    store.record("ann", a.id, "choose", 0)
    store.record("bob", a.id, "choose", 3)
    store.record("ann", b.id, "choose", 1)
    assert store.undo("ann") == b.id and store.undo("ann") == a.id and store.undo("ann") is None
    assert [x.labeler for x in store.labels()] == ["bob"]  # nobody else's answer was touched
    assert store.next("ann", "sentiment") == a
    store.record("ann", a.id, "choose", 1)
    assert [x.choice for x in store.labels(labeler="ann")] == [1]
    assert ask("select kind, undoes from events where labeler = 'ann' order by id") == [
        ("choose", None), ("choose", None), ("undo", 3), ("undo", 1), ("choose", None),
    ]  # fmt: skip


def test_undo_stays_within_the_task(store: LabelStore) -> None:
    (other,) = questions(1, "tldr")
    store.add([other])
    store.record("ann", questions()[0].id, "choose", 0)
    store.record("ann", other.id, "choose", 0)
    assert store.undo("ann", "sentiment") == questions()[0].id
    assert [x.comparison_id for x in store.labels()] == [other.id]
    store.record("ann", questions()[0].id, "choose", 0)
    assert [x.comparison_id for x in store.labels("sentiment")] == [questions()[0].id]


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
    assert [x.choice for x in store.labels()] == [0] and [
        x.choice for x in store.labels(repeats=True)
    ] == [3]
    assert store.progress("ann", "sentiment") == Progress(1, 0, 3, 1)
    store.undo("ann")
    assert [x.choice for x in store.labels()] == [0] and store.labels(repeats=True) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"choice": 4}, "options 0 to 3"),
        ({"choice": None}, "options 0 to 3"),
        ({"choice": -1}, "options 0 to 3"),
        ({"kind": "tie"}, "no choice"),
        ({"kind": "like"}, "not a kind of event"),
        ({"kind": "undo"}, "an undo is not recorded"),
        ({"order": (0, 1)}, "each of its 4"),
        ({"order": (0, 0, 1, 2)}, "each of its 4"),
        ({"labeler": ""}, "name of its labeler"),
        ({"seconds": float("nan")}, "seconds"),
        ({"comparison_id": "nope"}, "nope"),
    ],
)
def test_wrong_answers_are_refused(store: LabelStore, ask: Rows, change: dict, error: str) -> None:
    good = {"labeler": "ann", "comparison_id": questions()[0].id, "kind": "choose", "choice": 0}
    with pytest.raises((ValueError, KeyError), match=error):
        store.record(**(good | change))
    assert ask("select count(*) from events") == [(0,)]


def test_nothing_is_pasted_into_sql(store: LabelStore, ask: Rows) -> None:
    evil = "x'); drop table events; -- \" % ? :name \u202e"
    hard = Comparison(evil, evil, (evil, "b\x00"), evil)
    store.add([hard])
    store.record(evil, hard.id, "choose", 0, note=evil)
    assert store.get(hard.id) == hard and store.labels(evil, evil)[0].labeler == evil
    assert store.next(evil, evil) is None and store.events(labeler=evil)[0].note == evil
    assert len(ask("select * from events")) == 1


def test_a_letter_that_a_database_cannot_hold_is_kept_or_refused_in_words(
    store: LabelStore,
) -> None:
    odd = Comparison("sentiment", "zero \x00 byte", ("a", "b"))
    if "postgresql" in store.name:
        with pytest.raises(StoreError, match="cannot hold this text.*nothing was saved"):
            store.add([odd])
        assert len(store.comparisons()) == 3
    else:
        store.add([odd])
        assert store.get(odd.id) == odd
    # the same for both
    with pytest.raises(ValueError, match="labeler 'aaaa.* has 121 letters; at most 120"):
        store.record("a" * 121, questions()[0].id, "tie")
    with pytest.raises(ValueError, match="source 'x.*at most 200"):
        store.add([Comparison("sentiment", "q", ("a", "b"), "x" * 201)])


def test_imported_labels(store: LabelStore) -> None:
    given = [Label(c.id, "sim", i, simulated=True) for i, c in enumerate(questions())]
    assert store.add_labels(given) == 3 and store.add_labels(given) == 0
    assert [(x.choice, x.simulated) for x in store.labels()] == [(0, True), (1, True), (2, True)]
    with pytest.raises(ValueError, match="sim answered comparison"):
        store.add_labels([Label(questions()[0].id, "new", 0), Label(questions()[0].id, "sim", 3)])
    with pytest.raises(ValueError, match="no comparison 'unknown'"):
        store.add_labels([Label(questions()[0].id, "new", 0), Label("unknown", "new", 0)])
    assert len(store.labels()) == 3  # all or nothing
    store.undo("sim")
    # once a label of unknown time came back when it was added again
    assert store.add_labels(given) == 0 and len(store.labels()) == 2
    assert [x.created for x in store.labels()] == [0, 0]


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    LabelStore(tmp_path / "whole.db").add(questions(300))
    whole = (tmp_path / "whole.db").read_bytes()
    with sqlite3.connect(tmp_path / "foreign.db") as db:
        db.execute("create table recipes (name text)")
    foreign = (tmp_path / "foreign.db").read_bytes()
    cases = {
        "text.db": (b"my shopping list\n" * 100, "not a label store"),
        "cut.db": (whole[: len(whole) // 2], "not a label store, or it is damaged"),
        "stub.db": (whole[:50], "not a label store"),
        "foreign.db": (foreign, "not one of labels .*recipes"),
    }  # fmt: skip
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            StoreError, match=rf"{name} is .*{reason}.*was not changed. Move it away"
        ):
            LabelStore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(StoreError, match="is a folder"):
        LabelStore(tmp_path)
    with pytest.raises(ValueError, match="would be lost"):
        LabelStore("sqlite://")


@pytest.mark.parametrize("schema", ["99", "1", "", "three"])
def test_another_schema_is_refused_and_left_alone(path: Path, schema: str) -> None:
    LabelStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("update meta set value = ? where key = 'schema'", (schema,))
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=rf"another version .*its schema is {schema}, this version"
    ):
        LabelStore(path)
    assert path.read_bytes() == before


def test_the_file_is_set_up_for_many_writers(path: Path) -> None:
    store = LabelStore(path)
    assert rows(path, "pragma journal_mode") == [("delete",)]
    assert rows(path, "select key, value from meta order by key") == [
        ("application", "rlhf_helpers labels"),
        ("schema", "3"),
    ]
    with store._transaction() as db:
        assert db.exec_driver_sql("pragma synchronous").scalar() == 3  # EXTRA
        assert db.exec_driver_sql("pragma cache_spill").scalar() == 0
        assert db.exec_driver_sql("pragma foreign_keys").scalar() == 1
        assert db.exec_driver_sql("pragma busy_timeout").scalar() == 10_000


# what is on whose screen


def test_two_windows_never_show_the_same_item_to_one_labeler(store: LabelStore) -> None:
    first, second, third = (c.id for c in questions())
    one, two = "elsewhere/1/1", "elsewhere/1/2"
    # claiming again what one has is harmless
    assert store.claim("ada", first, one) and store.claim("ada", first, one)
    assert not store.claim("ada", first, two) and store.claim("ada", first, two, repeat=True)
    assert store.claim("ben", first, two)  # another labeler is asked the same things
    assert store.claimed("ada", but=two) == {(first, False)}
    assert store.next("ada", "sentiment", without=[first]).id == second
    assert store.next("ada", "sentiment", without=[first, second]).id == third
    assert store.claim("ada", second, one)  # a window shows one item: the first is free again
    assert store.claim("ada", first, two)
    store.release("ada", two)
    assert store.claimed("ada") == {(second, False)}
    store.release("ada", "elsewhere/")
    assert store.claimed("ada") == set()


def test_the_claims_of_windows_that_are_gone_or_left_alone_count_for_nothing(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, here = questions()[0].id, socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert store.claim("ada", first, f"{here}/{ended.pid}/1")
    assert store.claimed("ada") == set() and store.claim("ada", first, f"{here}/{os.getpid()}/1")
    assert not store.claim("ada", first, "elsewhere/1/1")
    later = time.time() + 601
    monkeypatch.setattr("rlhf_helpers.labels.store.claims.time.time", lambda: later)
    assert store.claim("ada", first, "elsewhere/1/1")


# counters, remarks, gold, sittings, blind pairs


def test_counters_equal_a_count_after_any_sequence_of_answers_and_undos(
    store: LabelStore, ask: Rows
) -> None:
    """`next` and `progress` read counters; the oracle counts the rows again after every step."""
    rng = random.Random(5)
    items = {"sentiment": questions(3), "tldr": []}
    for step in range(80):
        labeler, task = rng.choice(["ann", "ben"]), rng.choice(["sentiment", "tldr"])
        if rng.random() < 0.1:
            items[task] = questions(len(items[task]) + 2, task)
            store.add(items[task])
        if rng.random() < 0.35:
            store.undo(labeler, task if rng.random() < 0.7 else None)
        elif items[task]:
            item = store.next(labeler, task) if rng.random() < 0.7 else None
            kind, choice = rng.choice([("choose", 0), ("choose", 1), ("tie", None), ("skip", None)])
            with suppress(AlreadyAnswered):
                store.record(
                    labeler,
                    (item or rng.choice(items[task])).id,
                    kind,
                    choice,
                    repeat=rng.random() < 0.2,
                )
        stand = ask("select labeler, task, comparison_id, kind, repeat from answers")
        for who in ("ann", "ben"):
            for what, asked in items.items():
                found = [row[2:] for row in stand if row[:2] == (who, what)]
                first = {i: kind for i, kind, repeat in found if not repeat}
                skipped = sum(kind == "skip" for kind in first.values())
                assert store.progress(who, what) == Progress(
                    len(first) - skipped, skipped, len(asked), len(found) - len(first)
                ), step
                assert store.next(who, what) == next(
                    (c for c in asked if c.id not in first), None
                ), step


def test_a_remark_on_a_bad_text_is_kept_and_leaves_the_item_open(store: LabelStore) -> None:
    a = questions()[0]
    store.record("ann", a.id, kind="flag", note="the second text is cut off", choice=1)
    store.record("ann", a.id, kind="flag", note="and <b>rude</b>")
    assert store.next("ann", "sentiment") == a and store.progress("ann", "sentiment") == Progress(
        0, 0, 3
    )
    assert [(e.kind, e.choice, e.note) for e in store.events(labeler="ann")] == [
        ("flag", 1, "the second text is cut off"), ("flag", None, "and <b>rude</b>"),
    ]  # fmt: skip
    assert store.undo("ann") is None  # nothing to take back


def test_gold_items_carry_their_right_choice(store: LabelStore) -> None:
    a, b, _ = questions()
    store.set_gold({a.id: 2, b.id: 0})
    assert store.gold("sentiment") == {a.id: 2, b.id: 0} and store.gold("tldr") == {}
    store.set_gold({b.id: None})
    assert store.gold() == {a.id: 2}
    assert store.get(a.id) == store.next("ann", "sentiment") == a  # nothing on the card tells
    store.record("ann", a.id, "choose", 2)
    store.record("ann", b.id, "choose", 3)
    # nothing learns from gold items
    assert [x.comparison_id for x in store.labels()] == [b.id]
    assert [x.comparison_id for x in store.labels(gold=True)] == [a.id, b.id]
    with pytest.raises(ValueError, match="gold choice 4 .*options 0 to 3"):
        store.set_gold({b.id: 1, a.id: 4})
    with pytest.raises(KeyError, match="no comparison 'x'"):
        store.set_gold({"x": 1})
    assert store.gold() == {a.id: 2}  # all or none


def test_sittings_begin_by_themselves_and_after_a_break(
    store: LabelStore, ask: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (c.id for c in questions())
    clock = [1_000_000.0]
    monkeypatch.setattr("rlhf_helpers.labels.store.label_store.time.time", lambda: clock[0])
    described = store.sit_down("ann", "sentiment", "Which is best?", "Read all four.")
    for item, pause in ((a, 60), (b, 1_800), (c, 1_801)):
        clock[0] += pause
        store.record("ann", item, "choose", 0)
    clock[0] += 1
    store.record("ben", a, "tie")
    first, second, third = store.sittings()
    assert first == described and (first.labeler, first.question, first.started) == (
        "ann",
        "Which is best?",
        1_000_000.0,
    )
    assert (second.labeler, second.question, second.rubric, second.started) == (
        "ann",
        "Which is best?",
        "Read all four.",
        clock[0] - 1,
    )
    assert (third.labeler, third.question, third.host) == (
        "ben",
        "",
        socket.gethostname(),
    ) and store.sittings("ben") == [third]
    seen = ask("select labeler, session from events order by id")
    assert seen == [("ann", first.id), ("ann", first.id), ("ann", second.id), ("ben", third.id)]
    assert store.labelers() == ["ann", "ben"]
    clock[0] += 1
    with pytest.raises(AlreadyAnswered):
        store.record("cleo", a, "tie") and store.record("cleo", a, "tie")
    assert [s.labeler for s in store.sittings()] == ["ann", "ann", "ben", "cleo"]


def test_blind_pairs_are_uncovered_by_the_store_alone(store: LabelStore, ask: Rows) -> None:
    pairs = questions(4, "sentiment-judging", options=2)
    systems = [("tuned", "base"), ("base", "tuned"), ("base", "tuned"), ("tuned", "base")]
    assert store.add_judgements(pairs, systems) == 4 and store.add_judgements(pairs, systems) == 0
    store.record("ann", pairs[0].id, "choose", 0, seconds=2.0)
    store.record("ann", pairs[1].id, "choose", 0)
    store.record("ann", pairs[2].id, "tie")
    store.record("ann", pairs[3].id, "skip")
    store.record("ann", questions()[0].id, "choose", 1)  # a label, no judgement
    found = store.judgements("sentiment-judging")
    assert [(j.comparison_id, j.winner) for j in found] == [
        (pairs[0].id, "tuned"),
        (pairs[1].id, "base"),
        (pairs[2].id, None),
    ]
    assert (
        found[0].seconds == 2.0 and store.judgements() == found and store.judgements("tldr") == []
    )
    assert ask("select count(*) from judgements") == [(4,)]
    with pytest.raises(ValueError, match="are by tuned and base here but by base and tuned there"):
        store.add_judgements(pairs[:1], [("base", "tuned")])
    with pytest.raises(ValueError, match="has 4 options; judging is for pairs"):
        store.add_judgements(questions(1, "new"), [("a", "b")])
    assert store.comparisons("new") == []  # all or none


def test_the_view_of_labels_reads_like_the_method(store: LabelStore, ask: Rows) -> None:
    a, b, c = (c.id for c in questions())
    store.record("ann", a, "choose", 3)
    store.record("ann", b, "tie")
    store.record("ben", c, "choose", 1)
    store.undo("ben")
    assert ask("select labeler, comparison_id, task, choice from labels") == [
        ("ann", a, "sentiment", 3)
    ]
    assert [(x.labeler, x.choice) for x in store.labels()] == [("ann", 3)]


def test_light_to_import() -> None:
    heavy = ("pandas", "ipywidgets", "anywidget", "transformers")
    code = f"import sys, rlhf_helpers.labels.store; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )
