"""Past answers: listed, changed, taken back; what is remembered of them; the mirror's mark."""

from pathlib import Path

import pytest
from test_sessions import click, questions

from rlhf_helpers.labels import past, reports
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import AlreadyAnswered, LabelStore


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    made = LabelStore(tmp_path / "labels.db")
    made.add(questions(12))
    return made


@pytest.fixture
def session(store: LabelStore) -> Session:
    return Session(store, "sentiment", "ann", repeat_every=0)


def test_the_list_shows_options_as_they_stood(session: Session) -> None:
    item, order = session.current, session.order
    session.answer("choose", 2)
    session.answer("tie")
    newest, first = past.listed(session)
    assert (newest["kind"], newest["slot"], newest["number"]) == ("tie", None, 2)
    assert (first["kind"], first["slot"], first["number"]) == ("choose", 2, 1)
    assert first["options"] == [item.options[i] for i in order] and first["prompt"] == item.query


def test_a_change_is_a_label_of_its_own_and_the_history_keeps_both(
    session: Session, store: LabelStore
) -> None:
    item, order = session.current, session.order
    session.answer("choose", 2, seconds=4.0)
    shown = session.current
    row = past.listed(session)[0]
    assert past.change(session, row["answer"], "choose", 0, seconds=9.0)
    assert session.current == shown and session.progress.done == 1  # the item shown now stays
    assert [x.choice for x in store.labels()] == [order[0]]
    kinds = [(e.kind, e.choice, e.undoes) for e in store.events()]
    assert kinds == [
        ("choose", order[2], None), ("undo", None, row["answer"]), ("choose", order[0], None),
    ]  # fmt: skip
    assert [e.seconds for e in store.events()] == [4.0, 0.0, 9.0]
    # to a skip, which is no label, and back; counters follow
    assert past.change(session, past.listed(session)[0]["answer"], "skip")
    assert session.progress[:2] == (0, 1) == store.progress("ann", "sentiment")[:2]
    assert past.change(session, past.listed(session)[0]["answer"], "tie")
    assert session.progress[:2] == (1, 0) and session.ties() == [item.id]


def test_the_same_answer_an_old_row_and_nonsense_change_nothing(
    session: Session, store: LabelStore
) -> None:
    session.answer("choose", 2)
    row = past.listed(session)[0]["answer"]
    assert not past.change(session, row, "choose", 2) and "already" in session.message
    for kind, slot in (
        ("choose", 4),
        ("choose", None),
        ("tie", 1),
        ("undo", None),
        ("choose", 1.0),
    ):
        with pytest.raises(ValueError, match="no answer"):
            past.change(session, row, kind, slot)
    assert len(store.events()) == 1
    other = Session(store, "sentiment", "ann", repeat_every=0, cell="other")
    assert past.change(other, row, "choose", 1)
    assert not past.change(session, row, "choose", 0)  # it stands no longer
    assert "elsewhere" in session.message and len(store.events()) == 3
    with pytest.raises(AlreadyAnswered, match="stands no longer"):
        store.change("ann", row, "tie")
    assert not past.change(Session(store, "sentiment", "ben"), row, "choose", 0)  # not ben's


def test_a_change_that_cannot_be_saved_is_said(
    session: Session, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.answer("choose", 2)

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "change", full)
    assert not past.change(session, past.listed(session)[0]["answer"], "tie")
    assert session.message == "Not changed: the disk is full" and len(store.events()) == 1


def test_a_changed_answer_travels_and_is_undone_as_any_other(
    session: Session, store: LabelStore, tmp_path: Path
) -> None:
    item = session.current
    session.answer("choose", 2)
    past.change(session, past.listed(session)[0]["answer"], "tie")
    there = LabelStore(tmp_path / "other.db")
    assert there.append(store.contents()).conflicts == []
    assert [e[2:4] for e in there.events()] == [e[2:4] for e in store.events()]
    assert there.answered("ann", "sentiment") == [(item.id, "tie", False)]
    assert session.answer("undo") and session.current == item and not past.listed(session)


def test_after_an_undo_the_old_choice_is_known_in_the_next_kernel_too(
    session: Session, store: LabelStore
) -> None:
    item, order = session.current, session.order
    assert session.was is None
    session.answer("choose", 1)
    assert session.was is None  # another item
    session.answer("undo")
    assert session.current == item and session.was == ("choose", order[1])
    again = Session(store, "sentiment", "ann", repeat_every=0)
    assert again.current == item and again.was == ("choose", order[1])
    again.answer("tie")
    again.answer("undo")
    assert again.was == ("tie", None)


def test_a_withdrawn_flag_counts_nowhere_and_travels(
    session: Session, store: LabelStore, tmp_path: Path
) -> None:
    item = session.current
    session.answer("flag", 1, note="cut off")
    session.answer("flag", note="rude")
    session.answer("undo")
    session.answer("choose", 0)
    assert [(e.kind, e.undoes) for e in store.events()] == [
        ("flag", None), ("flag", None), ("undo", 2), ("choose", None),
    ]  # fmt: skip
    counted = reports.per_labeler(store, "sentiment")[0]
    assert (counted["flags"], counted["undos"]) == (1, 0)
    there = LabelStore(tmp_path / "other.db")
    assert there.append(store.contents()).conflicts == []
    assert there.append(store.contents()).events == 0  # twice is harmless
    assert reports.per_labeler(there, "sentiment")[0]["flags"] == 1
    # an answer stands after the flag: the undo takes that back first
    session.answer("undo")
    assert session.current == item and session.message.startswith("Taken back")


def test_answers_come_in_the_order_in_which_they_were_given(store: LabelStore) -> None:
    items = questions(12)
    gold = {items[1].id: 0}
    session = Session(store, "sentiment", "ann", repeat_every=4, gold=gold)
    said: list[tuple[str, int | None]] = []
    for n in range(9):
        item, order, repeat = session.current, session.order, session.repeat
        kind = ("choose", "tie", "choose", "skip")[n % 4]
        session.answer(kind, 1 if kind == "choose" else None)
        given = session.latest
        assert given.comparison == item and given.order == order and given.kind == kind
        assert given.counts == (not repeat and item.id not in gold)
        if kind != "skip" and given.counts:
            said.append((item.id, order[1] if kind == "choose" else None))
    assert session.answers() == said and len(said) == 6
    session.answer("undo")
    assert session.latest is None and session.answers() == said[:-1]


def test_a_skipped_second_showing_is_over(store: LabelStore) -> None:
    """It came back at once, and for ever, and no answer to it was taken."""
    session = Session(store, "sentiment", "ann", repeat_every=2)
    while not session.repeat:
        session.answer("choose", 0)
    again = session.current
    assert session.answer("skip") and session.current != again
    while session.current is not None:
        assert session.answer("choose", 0)
    assert session.progress.left == 0 and session.count()[1] == 0


def test_that_the_mirror_was_on_is_kept_with_the_answer(store: LabelStore) -> None:
    items = questions(4)
    session = Session(store, "sentiment", "ann", items, how={items[1].id: "thompson"})
    session.answer("choose", 0)
    session.mirror = True
    session.answer("choose", 0)
    session.answer("tie")
    session.mirror = False
    session.answer("choose", 0)
    notes = [e.note for e in store.events()]
    assert notes == ["", "thompson; mirror", "mirror", ""]
    assert session.mirrored() == {items[1].id, items[2].id}
    assert past.change(session, past.listed(session)[1]["answer"], "choose", 1)
    assert session.mirrored() == {items[1].id}  # answered again, with the mirror off


def test_a_late_undo_of_the_card_withdraws_a_flag_once(session: Session, store: LabelStore) -> None:
    token = session.token
    assert click(session, "flag", note="x") and session.flags == 1
    assert not session.handle({"kind": "undo", "token": token, "ms": 900})  # an old token
    assert click(session, "undo") and session.flags == 0
    assert not click(session, "undo") and "nothing" in session.message
