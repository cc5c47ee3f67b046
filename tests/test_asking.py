"""Which item is asked next where a model chooses: by a chooser whose picks are known by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from test_sessions import questions

from rlhf_helpers.labels import exchange, past
from rlhf_helpers.labels.asking import Choose
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.standing import picked_by
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison


def last(pool: list[Comparison], asked: set[str]) -> tuple[Comparison, str] | None:
    """The last open one, every third time called random."""
    open_ = [c for c in pool if c.id not in asked]
    return (open_[-1], "random" if len(asked) % 3 == 0 else "thompson") if open_ else None


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    made = LabelStore(tmp_path / "labels.db")
    made.add(questions(12))
    return made


def sit(store: LabelStore, choose: Choose | None = last, **more) -> Session:
    return Session(store, "sentiment", "ann", choose=choose, **{"repeat_every": 0, **more})


def ways(store: LabelStore) -> list[str]:
    return [e.note for e in store.events(standing=True)]


def test_the_chosen_one_is_asked_and_how_is_kept_with_its_answer(store: LabelStore) -> None:
    session, seen = sit(store), []
    while session.current is not None:
        seen.append(session.current)
        session.mirror = len(seen) == 2
        assert session.answer("choose", 0)
    assert seen == questions(12)[::-1]
    assert ways(store)[:4] == ["random", "thompson; mirror", "thompson", "random"]
    assert session.picked() == {c.id for i, c in enumerate(seen) if i % 3}
    assert picked_by("mirror") == "" and picked_by("thompson; mirror") == "thompson"


def test_equal_options_are_not_offered_to_who_chooses(store: LabelStore) -> None:
    store.add([Comparison("sentiment", "equal", ("same", " same", "same", "same"))])
    assert sit(store).current == questions(12)[-1] and sit(store).progress.total == 12


def test_a_new_kernel_asks_only_what_is_open(store: LabelStore) -> None:
    for left in range(12, 0, -1):
        session = sit(store)  # every answer in a kernel of its own
        assert session.progress.left == left
        assert session.answer("skip" if left % 4 == 0 else "choose", None if left % 4 == 0 else 1)
    assert sit(store).current is None and len({e.comparison_id for e in store.events()}) == 12


def test_what_another_window_shows_is_not_asked(store: LabelStore) -> None:
    here, there, seen = sit(store, cell="a"), sit(store, cell="b"), []
    while here.current is not None or there.current is not None:
        for window in (here, there):
            window.answer("next")
            if window.current is not None:
                assert here.current != there.current
                seen.append(window.current.id)
                assert window.answer("choose", 0)
    assert len(seen) == len(set(seen)) == 12


def test_what_was_chosen_for_later_and_answered_elsewhere_is_chosen_anew(store: LabelStore) -> None:
    """Between the choice and the showing another window may answer it."""
    other, calls = sit(store, choose=None, cell="b"), []

    def choose(pool: list[Comparison], asked: set[str]) -> tuple[Comparison, str] | None:
        found = last(pool, asked)
        if len(calls) == 1 and found is not None:  # chosen while an answer is saved
            store.record("ann", found[0].id, "choose", 1)
        calls.append(found)
        return found

    here = sit(store, choose, cell="a")
    assert here.answer("choose", 0)
    assert here.current == questions(12)[-3] != other.current and here.way == "random"


def test_an_item_that_comes_back_keeps_how_it_was_picked(store: LabelStore) -> None:
    session = sit(store)
    session.answer("choose", 0)
    second = session.current
    session.answer("tie")
    assert session.answer("undo") and session.current == second and session.way == "thompson"
    session.answer("choose", 1)
    assert ways(store) == ["random", "thompson"]
    # by a new kernel that lets nobody choose, too: changed, and taken back
    later = sit(store, choose=None)
    assert past.change(later, past.listed(later)[0]["answer"], "choose", 2)
    assert ways(store) == ["random", "thompson"] and len(store.events()) == 6
    assert later.answer("undo") and later.current == second and later.answer("skip")
    assert ways(store) == ["random", "thompson"]
    assert later.answer("choose", 0) and ways(store)[-1] == ""


def test_repeats_come_as_before(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.add(questions(30))
    session, repeats, count = sit(store, repeat_every=10), [], 0
    while session.current is not None:
        count += 1
        repeats += [count] if session.repeat else []
        assert session.answer("choose", session.order.index(2))
    assert repeats == [11, 22, 33] and count == 33
    assert len(session.labels()) == 30 and len(session.labels(repeats=True)) == 3


def test_a_click_still_writes_once_and_asks_the_model_once(store: LabelStore) -> None:
    written, asked = [], []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            written.append(id(connection.get_transaction()))

    session = sit(store, lambda pool, closed: asked.append(1) or last(pool, closed))
    for press in ("choose", "tie", "skip"):
        written.clear()
        asked.clear()
        assert session.answer(press, 0 if press == "choose" else None)
        assert len(set(written)) == 1 and len(asked) == 1, press
    assert store.claimed("ann") == {(session.current.id, False)}


@pytest.mark.filterwarnings("ignore:the next question was not chosen")
def test_labelling_goes_on_where_choosing_fails(store: LabelStore) -> None:
    def broken(pool: list[Comparison], asked: set[str]) -> None:
        raise RuntimeError("out of memory")

    session = sit(store, broken)
    assert session.answer("choose", 0) and session.current == questions(12)[1]
    assert ways(store) == [""] and session.picked() == set()
    again = sit(store, lambda pool, asked: (pool[0], "thompson"))  # one that was answered
    assert again.current == questions(12)[1] and again.way == ""
    with pytest.warns(RuntimeWarning, match="not chosen.*out of memory"):
        sit(store, broken)


def test_how_survives_export_import_and_merge(store: LabelStore, tmp_path: Path) -> None:
    session = sit(store)
    for _ in range(5):
        session.answer("choose", 0)
    exchange.export(store, tmp_path / "out.jsonl")
    loaded, merged = LabelStore(tmp_path / "loaded.db"), LabelStore(tmp_path / "merged.db")
    exchange.load(loaded, tmp_path / "out.jsonl")
    merged.append(store.contents())
    for other in (loaded, merged):
        assert ways(other) == ["random", "thompson", "thompson", "random", "thompson"]
        assert sit(other, choose=None).picked() == session.picked()
