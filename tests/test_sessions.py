"""Sessions without any widget: every answer goes the way of a click, and the store is read from
outside."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_helpers import labelers
from rlhf_helpers.labels import cards
from rlhf_helpers.labels.orders import balanced_sides
from rlhf_helpers.labels.people import People
from rlhf_helpers.labels.sessions import IDLE_SECONDS, Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison


def questions(count: int, options: int = 4, task: str = "sentiment") -> list[Comparison]:
    return [
        Comparison(task, f"query {i}", tuple(f"option {i}.{k}" for k in range(options)))
        for i in range(count)
    ]


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    made = LabelStore(tmp_path / "labels.db")
    made.add(questions(12))
    return made


@pytest.fixture
def session(store: LabelStore) -> Session:
    return Session(store, "sentiment", "ann", repeat_every=0, clock=Clock())


def click(session: Session, kind: str, slot: int | None = None, **change: object) -> bool:
    return session.handle(
        {"kind": kind, "slot": slot, "token": session.token, "ms": 1000, "number": 1} | change
    )


def test_the_canonical_choice_and_the_order_are_stored(session: Session, store: LabelStore) -> None:
    item, order = session.current, session.order
    assert item is not None and sorted(order) == [0, 1, 2, 3]
    assert session.answer("choose", 2, seconds=3.0)
    (event,) = store.events()
    assert (event.comparison_id, event.choice, event.order, event.seconds) == (
        item.id,
        order[2],
        order,
        3.0,
    )
    assert (
        session.labels()[0].choice == order[2] and session.message == "Saved: option 3 (1 of 12)."
    )
    assert session.current == questions(12)[1] and session.progress.done == 1


def test_how_an_item_was_picked_is_kept_with_its_answer(store: LabelStore) -> None:
    """Held-out measures use items asked at random only, so the store must know which those are."""
    items = questions(3)
    how = {items[0].id: "thompson", items[2].id: "random"}
    session = Session(store, "sentiment", "ann", items, repeat_every=0, how=how)
    for kind in ("choose", "tie", "choose"):
        assert session.answer(kind, 0 if kind == "choose" else None)
    notes = {e.comparison_id: e.note for e in store.events(standing=True)}
    assert notes == how | {items[1].id: ""}


def test_the_order_depends_on_labeler_and_item_only(store: LabelStore, session: Session) -> None:
    assert Session(store, "sentiment", "ann").order == session.order  # a restart
    seen = Counter()
    for i, c in enumerate(questions(12)):
        for name in "abcdefghijklmnopqrst":
            alone = Session(store, "sentiment", name, [c])
            seen[alone.order.index(0)] += 1
        if i == 0:
            assert len({Session(store, "sentiment", name, [c]).order for name in "abcdefghij"}) > 3
    # no option lives in one place
    assert sum(seen.values()) == 240 and all(40 <= seen[slot] <= 80 for slot in range(4))


def test_tie_skip_undo_and_the_end(session: Session, store: LabelStore) -> None:
    first = session.current
    assert session.answer("tie") and session.answer("skip") and session.answer("choose", 0)
    assert session.progress == (2, 1, 12, 0)
    assert session.answer("undo") and session.answer("undo") and session.answer("undo")
    assert (
        session.current == first
        and session.progress == (0, 0, 12, 0)
        and session.message == "Taken back. Choose again."
    )
    assert not session.answer("undo") and session.message == "There is nothing to take back."
    for _ in range(12):
        assert session.answer("choose", 1)
    assert session.current is None and not session.answer("choose", 0) and not session.answer("tie")
    # even after the last one
    assert session.answer("undo") and session.current == questions(12)[-1]
    assert [e.kind for e in store.events()][:6] == ["tie", "skip", "choose", "undo", "undo", "undo"]


def test_undone_items_are_shown_again_even_when_earlier_ones_were_added(store: LabelStore) -> None:
    session = Session(store, "sentiment", "ann", questions(12)[6:], repeat_every=0)
    session.answer("choose", 0)
    # now of the whole store: item 0 is open too
    session = Session(store, "sentiment", "ann", repeat_every=0)
    assert session.current == questions(1)[0]
    session.answer("undo")
    assert session.current == questions(12)[6]


def test_old_tokens_double_clicks_and_nonsense_change_nothing(
    session: Session, store: LabelStore
) -> None:
    token = session.token
    assert click(session, "choose", 0)
    assert not click(session, "choose", 0, token=token)  # the second half of a double click
    assert not session.answer("choose", 0, token=token)  # two messages on two threads
    assert not click(session, "choose", 0, ms=80)  # nobody reads that fast
    bad = [
        {"kind": "like"},
        {"kind": None},
        {"slot": 4},
        {"slot": -1},
        {"slot": "0"},
        {"slot": True},
        {"slot": None},
        {"token": None},
    ]
    for change in bad:
        assert not session.handle(
            {"kind": "choose", "slot": 0, "token": session.token, "ms": 1000} | change
        ), change
    assert not session.handle({})
    assert len(store.events()) == 1 and session.progress.done == 1
    with pytest.raises(ValueError, match="slot 7 is not on the card"):
        session.answer("choose", 7)
    with pytest.raises(ValueError, match="'like' is not an answer"):
        session.answer("like")


def test_time_is_measured_and_idle_time_capped(session: Session, store: LabelStore) -> None:
    session.clock.now += 7.0  # type: ignore[attr-defined]
    session.answer("choose", 0)
    session.clock.now += 3600.0  # type: ignore[attr-defined]
    session.answer("choose", 0)
    click(session, "choose", 0, ms=2500)
    # then our own clock counts, and it says: too soon
    assert not click(session, "choose", 0, ms=float("nan"))
    assert [e.seconds for e in store.events()] == [7.0, IDLE_SECONDS, 2.5]
    assert session.minutes_left() == pytest.approx(7.0 * session.count()[1] / 60)


def test_two_equal_choices_are_announced_twice(session: Session) -> None:
    """A live region is silent about a text that does not change, so the second of two equal choices
    was not heard."""
    said = [session.answer("choose", 1) and session.message for _ in range(3)]
    assert said == [
        "Saved: option 2 (1 of 12).",
        "Saved: option 2 (2 of 12).",
        "Saved: option 2 (3 of 12).",
    ]


def test_a_failed_save_is_said_and_kept_and_can_be_retried(
    session: Session, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, item = session.token, session.current
    record = store.record

    def full(*_: object, **__: object) -> None:
        raise OSError("database or disk is full")

    monkeypatch.setattr(store, "record", full)
    assert not click(session, "choose", 1)
    assert session.error == "Not saved: database or disk is full" and session.message == ""
    assert (
        session.pending == {"kind": "choose", "slot": 1, "note": ""}
        and session.current == item
        and session.token == token
    )
    assert store.events() == []
    monkeypatch.setattr(store, "record", record)
    assert click(session, "choose", 1)
    assert session.error == "" and session.pending is None and len(store.events()) == 1


def test_saved_but_the_next_item_cannot_be_read(
    session: Session, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(store, "progress", lost)
        token = session.token
        assert click(session, "choose", 0)  # it IS saved
        assert session.error.startswith(
            "The next comparison could not be read"
        ) and session.pending == {"kind": "next", "slot": None}
        assert not click(session, "choose", 0, token=token)
    click(session, "next")
    assert session.error == "" and session.current == questions(2)[1] and len(store.events()) == 1


OTHER_WINDOW = """
import sys
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
session = Session(LabelStore(sys.argv[1]), "sentiment", "ann", repeat_every=0)
for line in sys.stdin:
    asked = session.current and session.current.query
    kind = line.strip()
    saved = kind != "look" and session.answer(kind, 0 if kind == "choose" else None)
    now = session.current and session.current.query
    print(asked, saved, now, session.message, sep="|", flush=True)
"""


@pytest.fixture
def other(store: LabelStore):
    """Another notebook: a session of the same labeler in a process of its own; call it with what to
    press there."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_WINDOW, store.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def press(kind: str) -> list[str]:
        process.stdin.write(kind + "\n")
        process.stdin.flush()
        return process.stdout.readline().rstrip("\n").split("|")

    press.process = process
    yield press
    process.stdin.close()
    assert process.wait(30) is not None


def test_two_notebooks_never_show_one_labeler_the_same_item(store: LabelStore, other) -> None:
    seen = [other("look")[0]]
    here = Session(store, "sentiment", "ann", repeat_every=0)
    while here.current is not None and len(seen) < 20:
        assert here.current.query not in seen
        seen.append(here.current.query)
        assert here.answer("choose", 0)
        _, saved, following, _ = other("choose")
        assert saved == "True"
        if following != "None":
            assert following not in seen
            seen.append(following)
    assert sorted(seen) == sorted(c.query for c in questions(12)) and len(store.labels()) == 12


def test_the_last_item_may_be_in_another_window(store: LabelStore, other) -> None:
    theirs = other("look")[0]
    here = Session(store, "sentiment", "ann", repeat_every=0)
    for _ in range(11):
        assert here.current.query != theirs and here.answer("skip")
    assert (
        here.current is None
        and here.elsewhere == 1
        and not here.answer("next")
        and here.elsewhere == 1
    )
    other.process.kill()  # that kernel dies: what it showed is free again
    other.process.wait()
    here.answer("next")
    assert (
        here.current.query == theirs
        and here.elsewhere == 0
        and here.answer("choose", 0)
        and here.elsewhere == 0
    )


def test_an_undo_here_takes_back_what_was_answered_there(store: LabelStore, other) -> None:
    first = other("choose")[0]
    here = Session(store, "sentiment", "ann", repeat_every=0)
    assert here.answer("undo") and here.current.query == first and here.answer("choose", 0)


def test_a_cell_that_runs_again_shows_the_same_item_and_its_old_card_saves_nothing(
    store: LabelStore,
) -> None:
    old = Session(store, "sentiment", "ann", repeat_every=0)
    new = Session(store, "sentiment", "ann", repeat_every=0)
    assert new.current == old.current
    assert (
        not old.answer("choose", 1)
        and "another window" in old.message
        and old.current == questions(2)[1]
    )
    assert store.events() == [] and new.answer("choose", 0)
    assert len(store.labels()) == 1


def test_two_cells_of_one_notebook_show_different_items(store: LabelStore) -> None:
    """A second card took the first one's item away, and both showed it."""
    one, two = (
        Session(store, "sentiment", "ann", repeat_every=0, cell=cell) for cell in ("one", "two")
    )
    assert one.current == questions(1)[0] and two.current == questions(2)[1]
    assert one.answer("choose", 0) and two.answer("choose", 0) and one.current != two.current
    # the first cell runs again
    again = Session(store, "sentiment", "ann", repeat_every=0, cell="one")
    assert again.current == one.current and again.answer("choose", 0) and two.answer("choose", 0)
    assert len(store.labels()) == 4


def test_an_answer_given_elsewhere_stands(store: LabelStore) -> None:
    session = Session(store, "sentiment", "ann", repeat_every=0)
    store.record("ann", session.current.id, "tie")  # by a window that knows nothing of claims
    assert (
        not session.answer("choose", 1)
        and session.message == "You answered that one in another window; that answer stands."
    )
    assert session.current == questions(2)[1] and store.labels() == []


def test_repeats_come_back_in_another_order_and_change_no_label(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.add(questions(30))
    session, asked, repeats = Session(store, "sentiment", "ann", repeat_every=10), [], []
    while session.current is not None:
        asked.append(session.current.id)
        if session.repeat:
            again = Session(store, "sentiment", "ann", repeat_every=10)  # a restart in the middle
            assert (again.current, again.order, again.repeat) == (
                session.current,
                session.order,
                True,
            )
            session = again
            repeats.append(len(asked))
            (first,) = [e for e in store.events() if e.comparison_id == session.current.id]
            assert first.order != session.order and session.current.id not in asked[-4:-1]
        session.answer("choose", session.order.index(2))  # always the same text, wherever it stands
    assert repeats == [11, 22, 33] and len(asked) == 33 and len(set(asked)) == 30
    assert len(session.labels()) == 30 and len(session.labels(repeats=True)) == 3
    assert labelers.agreement(session.labels(), session.labels(repeats=True)) == 1.0
    session.answer("undo")
    # a repeat is undone like any other answer
    assert session.repeat and session.current.id == asked[-1]
    session.answer("undo")
    assert not session.repeat and session.current.id == asked[-2]


def test_a_repeat_that_is_taken_back_is_asked_again_whatever_comes_back_now(
    store: LabelStore,
) -> None:
    """With other repeats, or none, it was shown as if it were new, and no answer was taken."""
    session = Session(store, "sentiment", "ann", repeat_every=4)
    while not session.repeat:
        session.answer("choose", 0)
    asked, order = session.current, session.order
    session.answer("choose", 0)
    for every in (0, 7):
        session = Session(store, "sentiment", "ann", repeat_every=every)
        assert session.answer("undo") and (session.current, session.repeat, session.order) == (
            asked,
            True,
            order,
        )
        assert session.answer("choose", 1) and session.progress == (4, 0, 12, 1)


def test_repeats_turned_on_late_come_one_at_a_time(tmp_path: Path) -> None:
    """After forty labels ten of them came back in a row."""
    store = LabelStore(tmp_path / "labels.db")
    store.add(questions(60))
    session = Session(store, "sentiment", "ann", repeat_every=0)
    for _ in range(40):
        session.answer("choose", 0)
    session, repeats = Session(store, "sentiment", "ann", repeat_every=4), []
    for _ in range(12):
        repeats.append(session.repeat)
        session.answer("choose", 0)
    assert [i for i, repeat in enumerate(repeats) if repeat] == [0, 5, 10]


def test_the_count_does_not_stand_still_at_a_repeat(store: LabelStore) -> None:
    """ "(4 of 12)" was said twice, and the second time gave the repeat away."""
    session = Session(store, "sentiment", "ann", repeat_every=4)
    counts, said, repeats = [session.count()], [], 0
    while session.current is not None:
        repeats += session.repeat
        session.answer("choose", 0)
        counts.append(session.count())
        said.append(session.message)
    assert repeats == 3 and counts == [(n, 15 - n) for n in range(16)]
    assert [text.partition("(")[2] for text in said] == [f"{n} of 15)." for n in range(1, 16)]


def test_nothing_is_left_when_fewer_came_back_than_expected(store: LabelStore) -> None:
    """Ties are never asked again, so what was expected does not come."""
    session = Session(store, "sentiment", "ann", repeat_every=4)
    for n in range(12):
        assert session.count() == (n, 15 - n)
        session.answer("tie")
    assert session.current is None and session.count() == (12, 0)


def test_what_was_undecided_when_it_came_back_does_not_come_back_for_ever(
    store: LabelStore,
) -> None:
    session = Session(store, "sentiment", "ann", repeat_every=4)
    while session.current is not None:
        assert session.answer("tie" if session.repeat else "choose", None if session.repeat else 0)
    assert session.progress == (12, 0, 12, 3) and len(store.events()) == 15


def test_a_click_reads_no_history_of_other_items(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each click read every event that the labeler had ever left in the store."""
    session = Session(store, "sentiment", "ann", questions(12)[:6], repeat_every=2)
    monkeypatch.setattr(store, "events", None)
    monkeypatch.setattr(store, "labels", None)
    while session.progress.left > 1:
        assert session.answer("choose", 0)
    assert session.progress.repeats == 1


def test_a_session_over_some_items_keeps_to_them(store: LabelStore) -> None:
    session = Session(store, "sentiment", "ann", questions(12)[3:6], repeat_every=0)
    assert session.progress.total == 3 and session.current == questions(12)[3]
    while session.current:
        session.answer("choose", 0)
    assert session.progress == (3, 0, 3, 0) and len(session.labels()) == 3
    assert Session(store, "sentiment", "ann").progress == (3, 0, 12, 0)


def test_undo_takes_back_only_what_this_card_asks(store: LabelStore) -> None:
    """Once it took back the latest answer of the task, whichever card had asked: a label of an
    earlier sitting was gone unseen."""
    mine, others = questions(12)[:2], questions(12)[6:]
    session = Session(store, "sentiment", "ann", mine, repeat_every=0)
    assert session.answer("choose", 0)
    for c in others:  # in another notebook
        store.record("ann", c.id, "choose", 1)
    assert session.answer("undo") and session.current == mine[0]
    assert not session.answer("undo") and session.message == "There is nothing to take back."
    assert {x.comparison_id for x in store.labels()} == {c.id for c in others}


def test_a_session_needs_a_name_and_something_to_ask(store: LabelStore) -> None:
    with pytest.raises(ValueError, match="needs the name or pseudonym"):
        Session(store, "sentiment", "")
    with pytest.raises(ValueError, match="no comparisons of task 'tldr'"):
        Session(store, "tldr", "ann")


def test_a_flag_is_a_remark_and_the_item_stays(session: Session, store: LabelStore) -> None:
    item, order, token, showing = session.current, session.order, session.token, session.showing
    session.clock.now += 5.0  # type: ignore[attr-defined]
    assert click(session, "flag", 2, note="  not a sentence  ") and click(
        session, "flag", note="x" * 900
    )
    assert (
        session.current == item
        and session.token != token
        and session.showing == showing
        and session.progress.done == 0
    )
    # sent again, because the first answer was slow
    assert not click(session, "flag", 1, token=token)
    assert session.answer("choose", 0)
    one, two, choice = store.events()
    assert [e.kind for e in store.events()] == ["flag", "flag", "choose"] and store.labels()[
        0
    ].comparison_id == item.id
    assert one.note == "not a sentence" and one.order == order and one.choice == order[2]
    assert two.note == "x" * 500 and choice.seconds == 5.0  # flagging does not stop the clock
    for bad in ({"slot": 9}, {"slot": True}, {"slot": "1"}):
        assert not click(session, "flag", **bad)
    # half of a letter
    assert (
        click(session, "flag", note="x" * 499 + "\ud83d")
        and store.events()[-1].note == "x" * 499 + "?"
    )
    assert click(session, "flag", note=["no text"]) and store.events()[-1].note == ""
    shown = session.current
    for _ in range(2):  # an undo withdraws the latest flag; the answer before the flags stands
        assert click(session, "undo") and session.message == "Flag withdrawn."
        assert session.current == shown and len(store.labels()) == 1
    assert session.answer("undo") and session.current == item and len(store.labels()) == 0
    assert session.answer("undo") and session.message == "Flag withdrawn."  # the one before it


def test_gold_items_measure_attention_and_teach_nothing(store: LabelStore) -> None:
    asked = questions(12)
    gold = {asked[1].id: 3, asked[4].id: 0, asked[6].id: 2, asked[7].id: 1}
    session = Session(store, "sentiment", "ann", repeat_every=3, gold=gold)
    while session.current is not None:
        right = gold.get(session.current.id, 0)
        if session.current == asked[6]:
            session.answer("tie")  # whoever cannot tell did not see it
        elif session.current == asked[7]:
            session.answer("skip")
        else:
            wanted = 1 if session.current == asked[4] else right
            session.answer("choose", session.order.index(wanted))
    assert session.attention() == (1, 3)
    assert {x.comparison_id for x in session.labels()} == {c.id for c in asked} - set(gold)
    again = {x.comparison_id for x in session.labels(repeats=True)}
    assert again and not again & set(gold)
    # the store knows them from now on
    assert store.gold() == gold and Session(store, "sentiment", "ann").attention() == (1, 3)
    assert (
        not {x.comparison_id for x in store.labels()} & set(gold)
        and len(store.labels(gold=True)) == len(store.labels()) + 2
    )
    with pytest.raises(ValueError, match="right option is 4, but there are options 0 to 3"):
        Session(store, "sentiment", "ann", gold={asked[0].id: 4})
    with pytest.raises(ValueError, match="is not among the comparisons"):
        Session(store, "sentiment", "ann", asked[:2], gold={asked[5].id: 0})


def test_gold_items_do_not_come_back(store: LabelStore) -> None:
    asked = questions(12)
    gold = {c.id: 0 for c in asked[:9]}
    session, again = Session(store, "sentiment", "ann", repeat_every=1, gold=gold), []
    while session.current is not None:
        again += [session.current] if session.repeat else []
        session.answer("choose", 0)
    # the other three are the latest, which do not come back either
    assert again == [] and session.progress == (12, 0, 12, 0)


def test_gold_items_of_the_store_count_too(store: LabelStore) -> None:
    asked = questions(3)
    store.set_gold({asked[0].id: 2})
    session = Session(store, "sentiment", "ann", asked, gold={asked[1].id: 1})
    assert session.gold == {asked[0].id: 2, asked[1].id: 1}
    session.answer("choose", session.order.index(2))
    assert session.attention() == (1, 1) and session.labels() == []
    assert Session(store, "sentiment", "ben", asked[1:]).gold == {asked[1].id: 1}


def test_sides_are_balanced_and_follow_no_pattern() -> None:
    pairs = questions(200, options=2)
    first = [i % 3 % 2 for i in range(200)]  # which option is the first model's, in no order either
    left = [
        balanced_sides("ann", pairs, first)[p.id][0] == f for p, f in zip(pairs, first, strict=True)
    ]
    assert sum(left) == 100 and all(left[i] != left[i + 1] for i in range(0, 200, 2))
    assert 30 <= sum(left[::2]) <= 70  # the first of two neighbours: by chance
    assert (
        balanced_sides("ann", pairs, first)
        == balanced_sides("ann", pairs, first)
        != balanced_sides("ben", pairs, first)
    )
    assert sum(order == (0, 1) for order in balanced_sides("ann", pairs).values()) == 100


def test_an_order_that_is_given_is_kept(store: LabelStore) -> None:
    asked = questions(3)
    session = Session(store, "sentiment", "ann", asked, orders={asked[0].id: (3, 1, 0, 2)})
    assert (
        session.order == (3, 1, 0, 2)
        and session.answer("choose", 0)
        and store.labels()[0].choice == 3
    )
    assert sorted(session.order) == [0, 1, 2, 3]


# ---- comparisons whose options are equal ---------------------------------------------------------

ALIKE = [Comparison("sentiment", f"alike {i}", (" same", "same\n", "same")) for i in range(3)]
PARTLY = Comparison("sentiment", "partly alike", ("same", "same", "other"))


@pytest.mark.parametrize("listed", [False, True])
def test_comparisons_with_equal_options_are_never_asked(tmp_path: Path, listed: bool) -> None:
    """44 of 82 comparisons of a tuned policy had equal options, and people were asked them."""
    store, (first, second) = LabelStore(tmp_path / "labels.db"), questions(2)
    items = [ALIKE[0], first, ALIKE[1], PARTLY, second, ALIKE[2]]
    store.add(items)
    session = Session(store, "sentiment", "ann", items if listed else None, repeat_every=0)
    assert session.left_out == 3 and session.progress == (0, 0, 3, 0)
    asked = []
    while session.current is not None:
        asked.append(session.current)
        session.answer("choose", 0)
    # where only some are equal, the choice still tells something
    assert asked == [first, PARTLY, second]
    assert session.progress == (3, 0, 3, 0) and session.elsewhere == 0
    session.answer("undo")
    assert session.current == second and session.progress.left == 1


def test_comparisons_with_equal_options_that_are_added_later_are_not_asked_either(
    tmp_path: Path,
) -> None:
    """They were shown after an online round, and the next card said "Cannot tell: -1"."""
    store, (first, second, third) = LabelStore(tmp_path / "labels.db"), questions(3)
    store.add([first])
    session = Session(store, "sentiment", "ann", repeat_every=0)
    store.add([ALIKE[0], second])
    store.record("ann", ALIKE[0].id, "choose", 0)  # in a program that asks everything
    asked = []
    while session.current is not None:
        asked.append(session.current)
        session.answer("choose", 0)
        if len(asked) == 2:
            store.add([ALIKE[1], third])
            session.answer("next")
    assert asked == [first, second, third] and session.left_out == 2
    assert session.progress == (3, 0, 3, 0)
    assert [x.comparison_id for x in session.labels()] == [first.id, second.id, third.id]
    again = cards.label(store, "sentiment", labeler="ann", repeat_every=0)
    assert not any("-1" in line for line in again.summary())


def test_answers_to_equal_options_from_elsewhere_do_not_end_a_session_early(
    tmp_path: Path,
) -> None:
    store, asked = LabelStore(tmp_path / "labels.db"), questions(3)
    store.add([*ALIKE, *asked])
    store.record("ann", ALIKE[0].id, "choose", 0)
    store.record("ann", ALIKE[1].id, "skip")
    session = Session(store, "sentiment", "ann", repeat_every=1)
    assert session.progress == (0, 0, 3, 0)
    seen = []
    while session.current is not None and len(seen) < 20:
        seen.append(session.current.query)
        session.answer("choose", 0)
    assert set(seen) == {c.query for c in asked} and session.progress[:3] == (3, 0, 3)


def test_a_session_of_nothing_but_equal_options_is_over(tmp_path: Path) -> None:
    session = Session(LabelStore(tmp_path / "labels.db"), "sentiment", "ann", ALIKE)
    assert session.current is None and session.left_out == 3 and session.elsewhere == 0


def test_a_gold_item_has_options_that_differ(store: LabelStore) -> None:
    store.add(ALIKE)
    with pytest.raises(ValueError, match="is not among the comparisons to be asked"):
        Session(store, "sentiment", "ann", gold={ALIKE[0].id: 1})


def test_online_training_does_not_wait_for_equal_options(store: LabelStore) -> None:
    store.add(ALIKE)
    first = questions(1)[0]
    store.record("ann", first.id, "choose", 2)
    assert [x.choice for x in People(store)([*ALIKE, first])] == [2]


# ---- one click, one wait for the disk ------------------------------------------------------------


def test_a_click_writes_once(session: Session, store: LabelStore) -> None:
    """Each commit waits for the disk. The answer, and the claim of what is shown next, are one."""
    written = []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def note(connection, cursor, statement, *_) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE"):
            written.append(id(connection.get_transaction()))

    for press in ("choose", "tie", "skip", "undo"):
        written.clear()
        assert session.answer(press, 0 if press == "choose" else None)
        assert written and len(set(written)) == 1, press
    assert store.claimed("ann") == {(session.current.id, False)}
