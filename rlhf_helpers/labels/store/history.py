"""How comparisons and events are written to a label store, and how its history is read.

Functions of an open connection. A write transaction has the database to itself, so what it has read
is still true when it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from rlhf_helpers.labels.store.events import (
    ANSWERS,
    AlreadyAnswered,
    Event,
    fits,
)
from rlhf_helpers.labels.store.tables import (
    answers,
    comparisons,
    counters,
    events,
    first_open,
    judgements,
    labelers,
    recount,
    tasks,
)
from rlhf_helpers.records import Comparison

CHUNK = 500  # rows asked for in one statement


# ---- comparisons ---------------------------------------------------------------------------------


def as_comparison(row: sa.Row) -> Comparison:
    return Comparison(row.task, row.query, tuple(row.options), row.source, row.round)


def find(db: sa.Connection, comparison_id: str) -> sa.Row:
    row = db.execute(sa.select(comparisons).where(comparisons.c.id == comparison_id)).first()
    if row is None:
        raise KeyError(f"there is no comparison {comparison_id!r} in this store: add() it first")
    return row


def add(db: sa.Connection, items: Iterable[Comparison]) -> int:
    """Write the comparisons that are new, and return how many."""
    fresh, count = {c.id: c for c in items}, 0
    for chunk in chunks(fresh):
        known = set(db.scalars(sa.select(comparisons.c.id).where(comparisons.c.id.in_(chunk))))
        rows = []
        for i in chunk:
            if i not in known:
                c = fresh[i]
                rows.append(
                    {
                        "id": i,
                        "task": c.task,
                        "query": c.query,
                        "options": list(c.options),
                        "source": c.source,
                        "round": c.round,
                    }
                )
                fits(comparisons, rows[-1])
        if rows:
            db.execute(sa.insert(comparisons), rows)
            count += len(rows)
            for task in {row["task"] for row in rows}:
                more = sum(row["task"] == task for row in rows)
                if not db.execute(
                    sa.update(tasks).where(tasks.c.name == task).values(total=tasks.c.total + more)
                ).rowcount:
                    db.execute(sa.insert(tasks).values(name=task, total=more))
    return count


def chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    values = list(values)
    return (values[i : i + CHUNK] for i in range(0, len(values), CHUNK))


# ---- one event -----------------------------------------------------------------------------------


def introduce(db: sa.Connection, labeler: str, created: float, simulated: bool) -> None:
    """Add the labeler if this is a new one."""
    if db.scalar(sa.select(labelers.c.name).where(labelers.c.name == labeler)) is None:
        db.execute(sa.insert(labelers).values(name=labeler, created=created, simulated=simulated))


def write(db: sa.Connection, event: Event, item: sa.Row) -> int:
    """Write an event other than an undo, and return its number.

    Raises AlreadyAnswered for a second answer.
    """
    a = answers.c
    same = sa.and_(
        a.labeler == event.labeler, a.comparison_id == event.comparison_id, a.repeat == event.repeat
    )
    if event.kind in ANSWERS and db.scalar(sa.select(a.event_id).where(same)) is not None:
        raise AlreadyAnswered(
            f"{event.labeler} has already answered comparison {event.comparison_id}: undo that "
            "first"
        )
    introduce(db, event.labeler, event.created, event.simulated)
    number = db.execute(sa.insert(events).values(event.row())).inserted_primary_key[0]
    if event.kind in ANSWERS:
        db.execute(sa.insert(answers).values(answer_row(event, item.task, number)))
        _count(db, event.labeler, item, event.kind, event.repeat, +1)
    return number


def take_back(db: sa.Connection, answer: sa.Row, undo: Event) -> None:
    """Remove an answer that stands, and record that it was taken back."""
    db.execute(sa.delete(answers).where(answers.c.event_id == answer.event_id))
    db.execute(sa.insert(events).values(undo._replace(undoes=answer.event_id).row()))
    _count(db, undo.labeler, find(db, undo.comparison_id), answer.kind, answer.repeat, -1)


def answer_row(a: Event, task: str, number: int) -> dict[str, Any]:
    return {
        "labeler": a.labeler,
        "comparison_id": a.comparison_id,
        "repeat": a.repeat,
        "task": task,
        "kind": a.kind,
        "event_id": number,
    }


def _count(
    db: sa.Connection, labeler: str, item: sa.Row, kind: str, repeat: bool, step: int
) -> None:
    """Update the counters after one answer was given (step 1) or taken back (step -1)."""
    s = counters.c
    mine = sa.and_(s.labeler == labeler, s.task == item.task)
    open_at = db.scalar(sa.select(s.open_at).where(mine))
    if open_at is None:
        recount(db, labeler, item.task)
        return
    name = "repeats" if repeat else "skipped" if kind == "skip" else "done"
    changes: dict[str, Any] = {name: s[name] + step}
    if not repeat and step > 0 and item.position == open_at:
        changes["open_at"] = first_open(db, labeler, item.task, open_at)
    elif not repeat and step < 0:
        changes["open_at"] = min(open_at, item.position)
    db.execute(sa.update(counters).where(mine).values(**changes))


# ---- gold items and blind pairs ------------------------------------------------------------------


def set_gold(db: sa.Connection, comparison_id: str, choice: int | None) -> None:
    """Record which option of a comparison is right, or None for a comparison that is not gold."""
    count = len(find(db, comparison_id).options)
    if choice is not None and not 0 <= choice < count:
        raise ValueError(
            f"gold choice {choice!r} for comparison {comparison_id}, which has options 0 to "
            f"{count - 1}"
        )
    db.execute(sa.update(comparisons).where(comparisons.c.id == comparison_id).values(gold=choice))


def systems_of(db: sa.Connection) -> dict[str, tuple[str, str]]:
    return {
        row.comparison_id: (row.system_0, row.system_1) for row in db.execute(sa.select(judgements))
    }


def set_systems(db: sa.Connection, comparison_id: str, systems: tuple[str, str]) -> None:
    """Record which systems wrote the options of a blind pair."""
    count = len(find(db, comparison_id).options)
    if count != 2:
        raise ValueError(f"comparison {comparison_id} has {count} options; judging is for pairs")
    row = {"comparison_id": comparison_id, "system_0": systems[0], "system_1": systems[1]}
    fits(judgements, row)
    db.execute(sa.insert(judgements).values(row))


# ---- the history ---------------------------------------------------------------------------------


def read(db: sa.Connection, *where: Any, task: str | None = None) -> Iterator[tuple[Event, bool]]:
    """Yield (event, whether it is an answer that stands), oldest first."""
    e = events.c
    columns = [e.shown if name == "order" else e[name] for name in Event._fields]
    stands = answers.c.event_id.is_not(None).label("stands")
    joined = events.outerjoin(answers, answers.c.event_id == e.id)
    if task is not None:
        joined = joined.join(
            comparisons, sa.and_(comparisons.c.id == e.comparison_id, comparisons.c.task == task)
        )
    for *row, is_standing in db.execute(
        sa.select(*columns, stands).select_from(joined).where(*where).order_by(e.id)
    ):
        event = Event(*row)
        yield event._replace(order=tuple(event.order)), bool(is_standing)
