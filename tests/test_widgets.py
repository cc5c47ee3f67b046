"""Sessions and cards without a browser: every answer goes the way of a click, and the store is read from outside."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rlhf_helpers import evaluation, labelers, widgets
from rlhf_helpers.records import Comparison
from rlhf_helpers.sessions import IDLE_SECONDS, Session
from rlhf_helpers.store import LabelStore
from rlhf_helpers.tasks import SENTIMENT


def questions(count: int, options: int = 4, task: str = "sentiment") -> list[Comparison]:
    return [Comparison(task, f"query {i}", tuple(f"option {i}.{k}" for k in range(options))) for i in range(count)]


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


@pytest.fixture(params=["live", "headless"])
def card(request: pytest.FixtureRequest, store: LabelStore, monkeypatch: pytest.MonkeyPatch):
    if request.param == "live":
        pytest.importorskip("anywidget")
        monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    else:
        monkeypatch.setenv("RLHF_HEADLESS", "1")
    return widgets.label(store, "sentiment", "ann")


def click(session: Session, kind: str, slot: int | None = None, **change: object) -> bool:
    return session.handle({"kind": kind, "slot": slot, "token": session.token, "ms": 1000, "number": 1} | change)


# ---- the session


def test_the_canonical_choice_and_the_order_are_stored(session: Session, store: LabelStore) -> None:
    item, order = session.current, session.order
    assert item is not None and sorted(order) == [0, 1, 2, 3]
    assert session.answer("choose", 2, seconds=3.0)
    (event,) = store.events()
    assert (event.comparison_id, event.choice, event.order, event.seconds) == (item.id, order[2], order, 3.0)
    assert session.labels()[0].choice == order[2] and session.message == "Saved: option 3."
    assert session.current == questions(12)[1] and session.progress.done == 1


def test_the_order_depends_on_labeler_and_item_only(store: LabelStore, session: Session) -> None:
    assert Session(store, "sentiment", "ann").order == session.order  # a restart
    seen = Counter()
    for i, c in enumerate(questions(12)):
        for name in "abcdefghijklmnopqrst":
            alone = Session(store, "sentiment", name, [c])
            seen[alone.order.index(0)] += 1
        if i == 0:
            assert len({Session(store, "sentiment", name, [c]).order for name in "abcdefghij"}) > 3
    assert sum(seen.values()) == 240 and all(40 <= seen[slot] <= 80 for slot in range(4))  # no option lives in one place


def test_tie_skip_undo_and_the_end(session: Session, store: LabelStore) -> None:
    first = session.current
    assert session.answer("tie") and session.answer("skip") and session.answer("choose", 0)
    assert session.progress == (2, 1, 12, 0)
    assert session.answer("undo") and session.answer("undo") and session.answer("undo")
    assert session.current == first and session.progress == (0, 0, 12, 0) and session.message == "Taken back. Choose again."
    assert not session.answer("undo") and session.message == "There is nothing to take back."
    for _ in range(12):
        assert session.answer("choose", 1)
    assert session.current is None and not session.answer("choose", 0) and not session.answer("tie")
    assert session.answer("undo") and session.current == questions(12)[-1]  # even after the last one
    assert [e.kind for e in store.events()][:6] == ["tie", "skip", "choose", "undo", "undo", "undo"]


def test_undone_items_are_shown_again_even_when_earlier_ones_were_added(store: LabelStore) -> None:
    session = Session(store, "sentiment", "ann", questions(12)[6:], repeat_every=0)
    session.answer("choose", 0)
    session = Session(store, "sentiment", "ann", repeat_every=0)  # now of the whole store: item 0 is open too
    assert session.current == questions(1)[0]
    session.answer("undo")
    assert session.current == questions(12)[6]


def test_old_tokens_double_clicks_and_nonsense_change_nothing(session: Session, store: LabelStore) -> None:
    token = session.token
    assert click(session, "choose", 0)
    assert not click(session, "choose", 0, token=token)  # the second half of a double click
    assert not click(session, "choose", 0, ms=80)  # nobody reads that fast
    bad = [{"kind": "like"}, {"kind": None}, {"slot": 4}, {"slot": -1}, {"slot": "0"}, {"slot": True}, {"slot": None}, {"token": None}]
    for change in bad:
        assert not session.handle({"kind": "choose", "slot": 0, "token": session.token, "ms": 1000} | change), change
    assert not session.handle({})
    assert len(store.events()) == 1 and session.progress.done == 1
    with pytest.raises(ValueError, match="slot 7 is not on the card"):
        session.answer("choose", 7)
    with pytest.raises(ValueError, match="'like' is no answer"):
        session.answer("like")


def test_time_is_measured_and_idle_time_capped(session: Session, store: LabelStore) -> None:
    session.clock.now += 7.0  # type: ignore[attr-defined]
    session.answer("choose", 0)
    session.clock.now += 3600.0  # type: ignore[attr-defined]
    session.answer("choose", 0)
    click(session, "choose", 0, ms=2500)
    assert not click(session, "choose", 0, ms=float("nan"))  # then our own clock counts, and it says: too soon
    assert [e.seconds for e in store.events()] == [7.0, IDLE_SECONDS, 2.5]
    assert session.minutes_left() == pytest.approx(7.0 * session.progress.left / 60)


def test_a_failed_save_is_said_and_kept_and_can_be_retried(session: Session, store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    token, item = session.token, session.current
    record = store.record

    def full(*_: object, **__: object) -> None:
        raise OSError("database or disk is full")

    monkeypatch.setattr(store, "record", full)
    assert not click(session, "choose", 1)
    assert session.error == "Not saved: database or disk is full" and session.message == ""
    assert session.pending == {"kind": "choose", "slot": 1} and session.current == item and session.token == token
    assert store.events() == []
    monkeypatch.setattr(store, "record", record)
    assert click(session, "choose", 1)
    assert session.error == "" and session.pending is None and len(store.events()) == 1


def test_saved_but_the_next_item_cannot_be_read(session: Session, store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(store, "progress", lost)
        token = session.token
        assert click(session, "choose", 0)  # it IS saved
        assert session.error.startswith("The next comparison could not be read") and session.pending == {"kind": "next", "slot": None}
        assert not click(session, "choose", 0, token=token)
    click(session, "next")
    assert session.error == "" and session.current == questions(2)[1] and len(store.events()) == 1


def test_two_windows_of_one_labeler(store: LabelStore) -> None:
    one, two = (Session(store, "sentiment", "ann", repeat_every=0) for _ in range(2))
    assert one.answer("choose", 0) and not two.answer("choose", 1)
    assert "another window" in two.message and two.current == one.current
    assert len(store.labels()) == 1


def test_repeats_come_back_in_another_order_and_change_no_label(tmp_path: Path) -> None:
    store = LabelStore(tmp_path / "labels.db")
    store.add(questions(30))
    session, asked, repeats = Session(store, "sentiment", "ann", repeat_every=10), [], []
    while session.current is not None:
        asked.append(session.current.id)
        if session.repeat:
            again = Session(store, "sentiment", "ann", repeat_every=10)  # a restart in the middle
            assert (again.current, again.order, again.repeat) == (session.current, session.order, True)
            repeats.append(len(asked))
            (first,) = [e for e in store.events() if e.comparison_id == session.current.id]
            assert first.order != session.order and session.current.id not in asked[-4:-1]
        session.answer("choose", session.order.index(2))  # always the same text, wherever it stands
    assert repeats == [11, 22, 33] and len(asked) == 33 and len(set(asked)) == 30
    assert len(session.labels()) == 30 and len(session.labels(repeats=True)) == 3
    assert labelers.agreement(session.labels(), session.labels(repeats=True)) == 1.0
    session.answer("undo")
    assert session.repeat and session.current.id == asked[-1]  # a repeat is undone like any other answer
    session.answer("undo")
    assert not session.repeat and session.current.id == asked[-2]


def test_a_session_over_some_items_keeps_to_them(store: LabelStore) -> None:
    session = Session(store, "sentiment", "ann", questions(12)[3:6], repeat_every=0)
    assert session.progress.total == 3 and session.current == questions(12)[3]
    while session.current:
        session.answer("choose", 0)
    assert session.progress == (3, 0, 3, 0) and len(session.labels()) == 3
    assert Session(store, "sentiment", "ann").progress == (3, 0, 12, 0)


def test_a_session_needs_a_name_and_something_to_ask(store: LabelStore) -> None:
    with pytest.raises(ValueError, match="who is labelling"):
        Session(store, "sentiment", "")
    with pytest.raises(ValueError, match="no comparisons of task 'tldr'"):
        Session(store, "tldr", "ann")


# ---- cards


def test_a_card_answers_without_a_browser(card, store: LabelStore) -> None:
    assert card.answer("choose", 0) and card.answer("tie") and card.answer("skip") and card.answer("undo")
    assert [(x.labeler, x.simulated) for x in card.labels()] == [("ann", False)]
    assert repr(card).startswith("ann on sentiment: 2 of 12 labelled") or "2 of 12" in card.picture()
    with sqlite3.connect(f"file:{store.name}?mode=ro", uri=True) as db:
        assert [row[0] for row in db.execute("select kind from events order by id")] == ["choose", "tie", "skip", "undo"]


def test_the_live_card_speaks_with_the_browser(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    card = widgets.label(store, SENTIMENT, "ann")
    view = card.view
    assert view["options"] == [questions(1)[0].options[i] for i in card.session.order] and view["total"] == 12
    card._handle_custom_msg({"kind": "choose", "slot": 1, "token": view["token"], "number": 1, "ms": 900}, [])
    assert card.view["heard"] == 1 and card.view["done"] == 1 and card.view["message"] == "Saved: option 2."
    card._handle_custom_msg({"kind": "choose", "slot": 1, "token": view["token"], "number": 2, "ms": 900}, [])
    assert card.view["heard"] == 2 and card.view["done"] == 1  # heard, and rightly ignored
    card._handle_custom_msg("nonsense", [])
    data, _ = card._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and "<ol>" in data["text/html"] and "1 of 12" in data["text/plain"]


def test_headless_never_needs_the_widget_packages(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["anywidget"] = sys.modules["ipywidgets"] = None  # as if they were not installed
from rlhf_helpers import widgets
from rlhf_helpers.records import Comparison
card = widgets.label([Comparison("sentiment", "q", ("a", "b"))], labeler="ann", store=sys.argv[1])
print(type(card).__name__, card.answer("choose", 1), len(card.labels()))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "l.db")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RLHF_HEADLESS": "1"})
    assert done.stdout.split() == ["StillCard", "True", "1"], done.stderr


def test_which_task_is_meant(tmp_path: Path, store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "runs"))
    assert widgets.label(store, labeler="ann").session.task == "sentiment"
    assert widgets.label(questions(2), labeler="ann").session.store.name == str(tmp_path / "runs" / "labels.db")
    store.add(questions(2, task="tldr"))
    for wrong in (lambda: widgets.label(store), lambda: widgets.label([])):
        with pytest.raises(ValueError, match="say which task"):
            wrong()
    with pytest.raises(ValueError, match="belong to sentiment, not to tldr"):
        widgets.label(questions(2), "tldr", store=store)


def test_judging_is_blind_and_apart_from_the_labels(store: LabelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    pairs, first_is_zero = questions(6, options=2), [True, True, True, False, False, False]
    card = widgets.judge(pairs, "ann", store=store, first_is_zero=first_is_zero, names=("tuned", "base"))
    shown = []
    while card.session.current is not None:
        scene = card.scene()
        assert "tuned" not in str(scene) and "base" not in str(scene)
        shown.append(card.session.order)
        card.answer("choose", card.session.order.index(0))  # option 0 each time: `first` in three pairs
    assert len(set(shown)) == 2  # the sides change
    assert [x.comparison_id for x in card.labels()] == [p.id for p in pairs]  # as they were passed
    assert evaluation.judge(pairs, first_is_zero, card.labels()).rate == 0.5
    assert card.summary() == ["Choices: 6. Cannot tell: 0. Skipped: 0.", "Preferred: tuned 3, base 3."]
    assert store.labels("sentiment") == [] and len(store.comparisons("sentiment")) == 12
    with pytest.raises(ValueError, match="exactly two"):
        widgets.judge(questions(2), "ann", store=store)


def test_hidden_characters_are_shown() -> None:
    assert widgets.visible("a\u202eb\x00c\u200bd\ud800") == "a[U+202E]b[U+0000]c[U+200B]d[U+D800]"
    assert widgets.visible("tab\tline\nend\r\n\r") == "tab\tline\nend\n[U+000D]"
    assert widgets.visible("naïve 東京 שלום مرحبا 🙂") == "naïve 東京 שלום مرحبا 🙂"


def test_the_picture_obeys_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    card = widgets.label([Comparison("sentiment", evil, (evil, "</li><b>"))], labeler="ann", store=tmp_path / "l.db", question="<i>?</i>")
    page = card._repr_html_()
    assert "<script" not in page and "<img" not in page and "<b>" not in page and "<i>" not in page and "\u202e" not in page
    assert "&lt;script&gt;" in page and "[U+202E]" in page
