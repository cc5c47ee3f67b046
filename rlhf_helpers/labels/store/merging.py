"""How the contents of another label store are taken over.

Functions of an open connection, inside one write transaction: all or nothing.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

import sqlalchemy as sa

from rlhf_helpers.labels.store.events import ANSWERS, Contents, Event, Sitting, Taken, check
from rlhf_helpers.labels.store.history import (
    add,
    answer_row,
    as_comparison,
    chunks,
    find,
    introduce,
    read,
    set_gold,
    set_systems,
    systems_of,
)
from rlhf_helpers.labels.store.tables import answers, comparisons, events, recount, sessions


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

    An event that this store already has is left alone, even if it was taken back since, so doing it
    twice is harmless. An undo counts if the answer that it takes back stands here, and is by the
    same labeler on the same comparison. Where the two contradict each other, this store stands and
    the contradiction is reported.
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
    said = {(e.id, e.labeler, e.comparison_id, e.repeat): e for e in given if e.kind != "undo"}
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
            if (target := said.get((e.undoes, *key))) is None:
                conflicts.append(
                    f"{e.labeler} takes back event {e.undoes}, which is no answer of {e.labeler} "
                    f"to {e.comparison_id}"
                )
                continue
            number = known.get(target.identity)
            if number is None or not _stands(db, target.kind, number):
                continue
            if target.kind != "flag":
                db.execute(sa.delete(answers).where(answers.c.event_id == number))
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


def _stands(db: sa.Connection, kind: str, number: int) -> bool:
    """Tell whether an answer, or a flag, was not taken back here."""
    if kind == "flag":
        return db.scalar(sa.select(events.c.id).where(events.c.undoes == number)) is None
    return db.scalar(sa.select(answers.c.event_id).where(answers.c.event_id == number)) is not None


def _flush(
    db: sa.Connection,
    pending: list[Event],
    asked: dict[str, sa.Row],
    known: dict[Hashable, int | None],
) -> None:
    """Write the pending events, and keep their numbers."""
    if not pending:
        return
    returning = sa.insert(events).returning(events.c.id, sort_by_parameter_order=True)
    numbers = db.execute(returning, [e.row() for e in pending]).scalars().all()
    known.update((e.identity, n) for e, n in zip(pending, numbers, strict=True))
    rows = [
        answer_row(e, asked[e.comparison_id].task, n)
        for e, n in zip(pending, numbers, strict=True)
        if e.kind in ANSWERS
    ]
    if rows:
        db.execute(sa.insert(answers), rows)
    pending.clear()


def _items(db: sa.Connection, given: Sequence[Event]) -> list[sa.Row]:
    """Read the comparisons of the events; raises ValueError for one that is not here."""
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
    """Read the events here of these labelers and comparisons.

    Returns their numbers by identity, and the answers that stand.
    """
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


def _introduce(db: sa.Connection, given: Sequence[Event], asked: dict[str, sa.Row]) -> None:
    """Add the labelers and sittings of the events where they are new.

    A sitting that is not described begins with its first event.
    """
    first: dict[str, Event] = {}
    for e in given:
        if e.session is not None:
            first.setdefault(e.session, e)
    by_labeler: dict[str, list[Event]] = {}
    for e in given:
        by_labeler.setdefault(e.labeler, []).append(e)
    for labeler, theirs in by_labeler.items():
        introduce(
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
