"""What is read from a label store: labels, progress, the next comparison, verdicts. Functions of an
open connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from rlhf_helpers.labels.store import history
from rlhf_helpers.labels.store.events import Judgement, Progress, Sitting
from rlhf_helpers.labels.store.tables import (
    answers,
    comparisons,
    counters,
    events,
    labels,
    sessions,
    tasks,
)
from rlhf_helpers.records import Comparison, Label


def find_labels(
    db: sa.Connection, task: str | None, labeler: str | None, repeats: bool, gold: bool
) -> list[Label]:
    """Read the choices that stand, oldest first."""
    c = labels.c
    query = sa.select(
        c.comparison_id, c.labeler, c.choice, c.seconds, c.created, c.simulated, c.task
    ).order_by(c.event_id)
    query = query.where(c.repeat if repeats else sa.not_(c.repeat))
    if not gold:
        known = sa.select(comparisons.c.id).where(comparisons.c.gold.is_not(None))
        query = query.where(c.comparison_id.not_in(known))
    if task is not None:
        query = query.where(c.task == task)
    if labeler is not None:
        query = query.where(c.labeler == labeler)
    return [Label(*row) for row in db.execute(query)]


def gold_choices(db: sa.Connection, task: str | None) -> dict[str, int]:
    c = comparisons.c
    query = sa.select(c.id, c.gold).where(c.gold.is_not(None)).order_by(c.position)
    return dict(db.execute(query if task is None else query.where(c.task == task)).all())


def equal_options(db: sa.Connection, task: str) -> set[str]:
    """Name the comparisons of a task whose options all read the same."""
    query = sa.select(comparisons).where(comparisons.c.task == task)
    return {row.id for row in db.execute(query) if history.as_comparison(row).has_equal_options}


def latest_answer(
    db: sa.Connection, labeler: str, task: str | None, among: Collection[str] | None
) -> sa.Row | None:
    """Find the labeler's latest answer that stands."""
    a = answers.c
    query = sa.select(answers).where(a.labeler == labeler).order_by(a.event_id.desc())
    query = query if task is None else query.where(a.task == task)
    with db.execute(query if among is not None else query.limit(1)) as rows:
        return next((row for row in rows if among is None or row.comparison_id in among), None)


def latest_flag(
    db: sa.Connection, labeler: str, task: str, among: Collection[str] | None
) -> sa.Row | None:
    """Find the labeler's latest flag that was not withdrawn, if no standing answer came after."""
    e, undone = events.c, sa.select(events.c.undoes).where(events.c.undoes.is_not(None))
    query = sa.select(e.id, e.comparison_id).where(e.labeler == labeler, e.kind == "flag")
    query = query.join_from(events, comparisons).where(comparisons.c.task == task)
    answer = latest_answer(db, labeler, task, among)
    query = query.where(e.id > (answer.event_id if answer else 0), e.id.not_in(undone))
    rows = db.execute(query.order_by(e.id.desc())).all()
    return next((row for row in rows if among is None or row.comparison_id in among), None)


def answered(
    db: sa.Connection, labeler: str, task: str, among: Collection[str] | None, latest: int | None
) -> list[tuple[str, str, bool]]:
    """Read the answers that stand, as (comparison, kind, whether a repeat), oldest first."""
    a = answers.c
    query = sa.select(a.event_id, a.comparison_id, a.kind, a.repeat).where(a.labeler == labeler)
    # by these alone: asked for an order too, SQLite reads the whole task
    if among is not None and len(among) <= history.CHUNK:
        query = query.where(a.comparison_id.in_(list(among)))
    else:
        query = query.where(a.task == task).order_by(a.event_id.desc()).limit(latest)
    found = [row for row in sorted(db.execute(query).all()) if among is None or row[1] in among]
    return [tuple(row[1:]) for row in found[-(latest or 0) :]]


def next_open(
    db: sa.Connection, labeler: str, task: str, without: Iterable[str]
) -> Comparison | None:
    """Find the first comparison of the task that the labeler has not answered."""
    a, c, s = answers.c, comparisons.c, counters.c
    mine = sa.select(a.comparison_id).where(
        a.labeler == labeler, a.comparison_id == c.id, sa.not_(a.repeat)
    )
    start = db.scalar(sa.select(s.open_at).where(s.labeler == labeler, s.task == task)) or 0
    query = sa.select(comparisons).where(c.task == task, c.position >= start, ~mine.exists())
    if without := list(without):
        query = query.where(c.id.not_in(without))
    row = db.execute(query.order_by(c.position).limit(1)).first()
    return None if row is None else history.as_comparison(row)


def progress(db: sa.Connection, labeler: str, task: str) -> Progress:
    s = counters.c
    total = db.scalar(sa.select(tasks.c.total).where(tasks.c.name == task)) or 0
    mine = sa.select(s.done, s.skipped, s.repeats).where(s.labeler == labeler, s.task == task)
    row = db.execute(mine).first()
    return Progress(row.done, row.skipped, total, row.repeats) if row else Progress(0, 0, total)


def sittings(db: sa.Connection, labeler: str | None) -> list[Sitting]:
    """Read the sittings (of one labeler), oldest first."""
    query = sa.select(*(sessions.c[name] for name in Sitting._fields))
    query = query.order_by(sessions.c.started, sessions.c.id)
    if labeler is not None:
        query = query.where(sessions.c.labeler == labeler)
    return [Sitting(*row) for row in db.execute(query)]


def judgements(db: sa.Connection, task: str | None) -> list[Judgement]:
    """Read the verdicts that stand on blind pairs; a skipped pair has none."""
    systems = history.systems_of(db)
    stands = (answers.c.event_id.is_not(None), sa.not_(events.c.repeat), events.c.kind != "skip")
    return [
        Judgement(
            e.comparison_id, e.labeler, systems[e.comparison_id], e.choice, e.seconds, e.created,
            e.simulated
        )
        for e, _ in history.read(db, *stands, task=task)
        if e.comparison_id in systems
    ]  # fmt: skip
