"""Past answers of a session: a list of them, and how one is changed. The history keeps both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf_helpers.labels.frontend import visible
from rlhf_helpers.labels.sessions import IDLE_SECONDS, Session, reason
from rlhf_helpers.labels.standing import picked_by
from rlhf_helpers.labels.store import ANSWERS, AlreadyAnswered, Event


def listed(session: Session) -> list[dict[str, Any]]:
    """List the answers that stand, newest first, in plain values; second answers are left out.

    Options stand in the order in which they were shown; `slot` is the chosen one.
    """
    s, rows = session, []
    standing = [e for e in s._standing() if not e.repeat and e.comparison_id not in s.equal]
    if s.items is None:
        items = {c.id: c for c in s.store.comparisons(s.task)}
    else:
        items = s.items
    for number, e in enumerate(standing, 1):
        item = items[e.comparison_id]
        order = _order(e, len(item.options))
        rows.append({
            "answer": e.id, "item": e.comparison_id, "number": number, "kind": e.kind,
            "slot": None if e.choice is None else order.index(e.choice),
            "prompt": visible(item.query.strip()),
            "options": [visible(item.options[i].strip()) for i in order],
        })  # fmt: skip
    return rows[::-1]


def change(
    session: Session, answer: int, kind: str, slot: int | None = None, *, seconds: float = 0.0
) -> bool:
    """Put another answer in the place of one that is listed; return whether anything was saved.

    Kinds: choose (with a slot of the list), tie, skip. `session.message` says what was done. The
    item that is shown now stays. Raises ValueError for what cannot be an answer.
    """
    with session.lock:
        found = [e for e in session._standing() if e.id == answer and not e.repeat]
        if not found:
            if _is_so_already(session, answer, kind, slot):
                return False
            session.message = (
                "Nothing was changed: that answer was changed or taken back elsewhere."
            )
            return False
        count = len(session.store.get(found[0].comparison_id).options)
        if kind not in ANSWERS or not _fits(kind, slot, count):
            raise ValueError(f"{kind!r} with slot {slot!r} is no answer among {count} options")
        choice = None if slot is None else _order(found[0], count)[slot]
        if (found[0].kind, found[0].choice) == (kind, choice):
            session.message = "That is your answer already."
            return False
        note = session.note(picked_by(found[0].note))
        try:
            session.store.change(
                session.labeler, answer, kind, choice, seconds=min(seconds, IDLE_SECONDS), note=note
            )
            session.latest = None
            session.progress = session._count()
        except AlreadyAnswered as error:
            session.message = f"Nothing was changed: {error}."
            return False
        except Exception as error:  # a full disk, a lock: the labeler must hear of it
            session.message = f"Not changed: {reason(error)}"
            return False
        what = {"tie": "cannot tell", "skip": "skipped"}.get(kind, f"option {(slot or 0) + 1}")
        session.message = f"Changed to: {what}. The history keeps your earlier answer."
        return True


def handle(session: Session, message: Mapping[str, Any]) -> bool:
    """Take a change that a card sends, as `change` does; ignore one that is wrong."""
    answer, kind, slot, ms = (message.get(name) for name in ("answer", "to", "slot", "ms"))
    if not isinstance(answer, int) or isinstance(answer, bool) or not isinstance(kind, str):
        return False
    seconds = ms / 1000 if isinstance(ms, int | float) and 0 <= ms < 1e9 else 0.0
    try:
        return change(session, answer, kind, slot, seconds=seconds)
    except ValueError:
        return False


def _is_so_already(session: Session, answer: int, kind: str, slot: int | None) -> bool:
    """Tell whether a change came twice, as the first answer was slow; its message stays."""
    events = {e.id: e for e in session.store.events(session.task, session.labeler)}
    if (old := events.get(answer)) is None:
        return False
    same = [
        e
        for e in session._standing()
        if e.comparison_id == old.comparison_id and not e.repeat and e.id > answer
    ]
    if not same or kind != same[0].kind:
        return False
    return slot is None or (same[0].order or ())[slot : slot + 1] == (same[0].choice,)


def _order(event: Event, count: int) -> tuple[int, ...]:
    """Return the options as they stood on the screen; an answer from elsewhere has no order."""
    return event.order or tuple(range(count))


def _fits(kind: str, slot: Any, count: int) -> bool:
    if kind != "choose":
        return slot is None
    return isinstance(slot, int) and not isinstance(slot, bool) and 0 <= slot < count
