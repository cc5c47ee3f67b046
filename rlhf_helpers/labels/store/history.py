"""How the history of a label store is written and read, and how the history of another store is
taken over.

Functions of an open connection. A write transaction has the database to itself, so what is read
first is still true when it is written.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from rlhf_helpers.labels.store.events import (
    ANSWERS,
    AlreadyAnswered,
    Contents,
    Event,
    Sitting,
    Taken,
    check,
    fits,
)
from rlhf_helpers.labels.store.tables import (
    answers,
    comparisons,
    events,
    first_open,
    judgements,
    labelers,
    recount,
    sessions,
    standings,
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


def know(db: sa.Connection, labeler: str, created: float, simulated: bool) -> None:
    """Write a labeler down who is new."""
    if db.scalar(sa.select(labelers.c.name).where(labelers.c.name == labeler)) is None:
        db.execute(sa.insert(labelers).values(name=labeler, created=created, simulated=simulated))


def write(db: sa.Connection, event: Event, item: sa.Row) -> int:
    """Write an event of any kind but undo, and return its number; raises AlreadyAnswered on a
    second answer."""
    a = answers.c
    same = sa.and_(
        a.labeler == event.labeler, a.comparison_id == event.comparison_id, a.repeat == event.repeat
    )
    if event.kind in ANSWERS and db.scalar(sa.select(a.event_id).where(same)) is not None:
        raise AlreadyAnswered(
            f"{event.labeler} has already answered comparison {event.comparison_id}: undo that "
            "first"
        )
    know(db, event.labeler, event.created, event.simulated)
    number = db.execute(sa.insert(events).values(event.row())).inserted_primary_key[0]
    if event.kind in ANSWERS:
        db.execute(sa.insert(answers).values(_answer(event, item.task, number)))
        _count(db, event.labeler, item, event.kind, event.repeat, +1)
    return number


def take_back(db: sa.Connection, answer: sa.Row, undo: Event) -> None:
    """Remove a standing answer, and write down that it was taken back."""
    db.execute(sa.delete(answers).where(answers.c.event_id == answer.event_id))
    db.execute(sa.insert(events).values(undo._replace(undoes=answer.event_id).row()))
    _count(db, undo.labeler, find(db, undo.comparison_id), answer.kind, answer.repeat, -1)


def _answer(a: Event, task: str, number: int) -> dict[str, Any]:
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
    """Bring the counters up to date after one answer was given (step 1) or taken back (-1)."""
    s = standings.c
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
    db.execute(sa.update(standings).where(mine).values(**changes))


# ---- gold items and blind pairs ------------------------------------------------------------------


def set_gold(db: sa.Connection, comparison_id: str, choice: int | None) -> None:
    """Write down which option of a comparison is right, or None; raises ValueError for an option
    that is not there."""
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
    """Write down who wrote the options of a blind pair."""
    count = len(find(db, comparison_id).options)
    if count != 2:
        raise ValueError(f"comparison {comparison_id} has {count} options; judging is for pairs")
    row = {"comparison_id": comparison_id, "system_0": systems[0], "system_1": systems[1]}
    fits(judgements, row)
    db.execute(sa.insert(judgements).values(row))


# ---- the contents of another store ---------------------------------------------------------------


def contents(db: sa.Connection, task: str | None = None) -> Contents:
    """Read everything (of one task)."""
    query = sa.select(comparisons).order_by(comparisons.c.position)
    rows = db.execute(query if task is None else query.where(comparisons.c.task == task)).all()
    ids, history = {row.id for row in rows}, [event for event, _ in read(db, task=task)]
    used = {e.session for e in history}
    columns = [sessions.c[name] for name in Sitting._fields]
    sittings = [
        Sitting(*row)
        for row in db.execute(sa.select(*columns).order_by(sessions.c.started, sessions.c.id))
        if row.id in used
    ]
    gold = {row.id: row.gold for row in rows if row.gold is not None}
    return Contents(
        [as_comparison(r) for r in rows],
        history,
        sittings,
        gold,
        {i: s for i, s in systems_of(db).items() if i in ids},
    )


def append(db: sa.Connection, given: Contents) -> Taken:
    """Take over what is new, event by event in their order.

    An event that is here already is left alone, even if it was taken back since, so doing it twice
    is harmless. An undo counts if what it takes back stands here, and is an answer of the same
    labeler to the same question. Where something here says otherwise, it stands, and that is
    reported.
    """
    new = add(db, given.comparisons)
    for chunk in chunks(given.sittings):
        here = set(
            db.scalars(
                sa.select(sessions.c.id).where(sessions.c.id.in_([sitting.id for sitting in chunk]))
            )
        )
        if rows := [sitting._asdict() for sitting in chunk if sitting.id not in here]:
            db.execute(sa.insert(sessions), rows)
    count, conflicts = _append_events(db, given.events)
    for comparison_id, choice in given.gold.items():
        before = find(db, comparison_id).gold
        if before is None:
            set_gold(db, comparison_id, choice)
        elif before != choice:
            conflicts.append(
                f"the gold choice of comparison {comparison_id} is {before} here but {choice} there"
            )
    known = systems_of(db)
    for comparison_id, systems in given.systems.items():
        before = known.setdefault(comparison_id, systems)
        if before is systems:
            set_systems(db, comparison_id, systems)
        elif tuple(before) != tuple(systems):
            conflicts.append(
                f"the options of {comparison_id} are by {' and '.join(before)} here but by "
                f"{' and '.join(systems)} there"
            )
    return Taken(new, count, conflicts)


def _append_events(db: sa.Connection, given: Sequence[Event]) -> tuple[int, list[str]]:
    asked = {row.id: row for row in _items(db, given)}
    known, standing = _have(db, given)
    answered = {(e.id, e.labeler, e.comparison_id, e.repeat): e for e in given if e.kind in ANSWERS}
    conflicts: list[str] = []
    pending: list[Event] = []
    count = 0
    _introduce(db, given, asked)
    for e in given:
        key = (e.labeler, e.comparison_id, e.repeat)
        check(e, len(asked[e.comparison_id].options))
        if e.identity in known:
            continue
        if e.kind == "undo":
            _flush(db, pending, asked, known)  # what it takes back may be among them
            if (target := answered.get((e.undoes, *key))) is None:
                conflicts.append(
                    f"{e.labeler} takes back event {e.undoes}, which is no answer of {e.labeler} "
                    f"to {e.comparison_id}"
                )
                continue
            number = known.get(target.identity)
            if (
                number is None
                or not db.execute(sa.delete(answers).where(answers.c.event_id == number)).rowcount
            ):
                continue
            del standing[key]
            pending.append(e._replace(undoes=number))
        elif e.kind in ANSWERS and key in standing:
            if (standing[key].kind, standing[key].choice) != (e.kind, e.choice):
                conflicts.append(
                    f"{e.labeler} answered comparison {e.comparison_id} with {standing[key].said} "
                    f"here but {e.said} there"
                )
            continue
        else:
            pending.append(e)
            if e.kind in ANSWERS:
                standing[key] = e
        known[e.identity] = None
        count += 1
    _flush(db, pending, asked, known)
    for labeler, task in sorted(
        {(e.labeler, asked[e.comparison_id].task) for e in given if e.kind != "flag"}
    ):
        recount(db, labeler, task)
    return count, conflicts


def _flush(
    db: sa.Connection,
    pending: list[Event],
    asked: dict[str, sa.Row],
    known: dict[Hashable, int | None],
) -> None:
    """Write the events that wait, and note their numbers."""
    if not pending:
        return
    returning = sa.insert(events).returning(events.c.id, sort_by_parameter_order=True)
    numbers = db.execute(returning, [e.row() for e in pending]).scalars().all()
    known.update((e.identity, n) for e, n in zip(pending, numbers, strict=True))
    rows = [
        _answer(e, asked[e.comparison_id].task, n)
        for e, n in zip(pending, numbers, strict=True)
        if e.kind in ANSWERS
    ]
    if rows:
        db.execute(sa.insert(answers), rows)
    pending.clear()


def _items(db: sa.Connection, given: Sequence[Event]) -> list[sa.Row]:
    """Read what the events are about; raises ValueError for a comparison that is not here."""
    c, ids = comparisons.c, list(dict.fromkeys(e.comparison_id for e in given))
    rows = [
        row
        for chunk in chunks(ids)
        for row in db.execute(sa.select(c.id, c.task, c.options).where(c.id.in_(chunk)))
    ]
    if missing := set(ids) - {row.id for row in rows}:
        raise ValueError(
            f"there is no comparison {min(missing)!r} in this store: add() it before its labels"
        )
    return rows


def _have(
    db: sa.Connection, given: Sequence[Event]
) -> tuple[dict[Hashable, int | None], dict[tuple[str, str, bool], Event]]:
    """Read what is here of these labelers and comparisons: number by identity, and the answers that
    stand."""
    known: dict[Hashable, int | None] = {}
    standing: dict[tuple[str, str, bool], Event] = {}
    pairs = sorted({(e.labeler, e.comparison_id) for e in given})
    for chunk in chunks(pairs):
        who, what = sorted({labeler for labeler, _ in chunk}), sorted({item for _, item in chunk})
        for event, stands in read(db, events.c.labeler.in_(who), events.c.comparison_id.in_(what)):
            known[event.identity] = event.id
            if stands:
                standing[event.labeler, event.comparison_id, event.repeat] = event
    return known, standing


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


def _introduce(db: sa.Connection, given: Sequence[Event], asked: dict[str, sa.Row]) -> None:
    """Write down the labelers and sittings of the events where they are new; a sitting not
    described begins with its first event."""
    first: dict[str, Event] = {}
    for e in given:
        if e.session is not None:
            first.setdefault(e.session, e)
    by_labeler: dict[str, list[Event]] = {}
    for e in given:
        by_labeler.setdefault(e.labeler, []).append(e)
    for labeler, theirs in by_labeler.items():
        know(
            db,
            labeler,
            min(e.created for e in theirs) or time.time(),
            all(e.simulated for e in theirs),
        )
    for chunk in chunks(first):
        here = set(db.scalars(sa.select(sessions.c.id).where(sessions.c.id.in_(chunk))))
        rows = [
            Sitting(i, first[i].labeler, asked[first[i].comparison_id].task, first[i].created)
            for i in chunk
            if i not in here
        ]
        if rows:
            db.execute(sa.insert(sessions), [row._asdict() for row in rows])
