"""The tables of a label store, and the counters that are kept beside them."""

from __future__ import annotations

import sqlalchemy as sa

tables = sa.MetaData()
# SQLite counts up only in a column of type INTEGER
_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

meta = sa.Table(
    "meta", tables,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(80), nullable=False),
)  # fmt: skip

comparisons = sa.Table(
    "comparisons", tables,
    sa.Column("position", _number, primary_key=True),  # the order in which they came, and are asked
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("task", sa.String(80), nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("source", sa.String(200), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("gold", sa.Integer),  # the right choice of a comparison that measures attention
    sa.Index("comparisons_by_task", "task", "position", "id"),
)  # fmt: skip

labelers = sa.Table(
    "labelers", tables,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("created", sa.Double, nullable=False),  # seconds since 1970
    sa.Column("simulated", sa.Boolean, nullable=False),
)  # fmt: skip

sessions = sa.Table(
    "sessions", tables,
    sa.Column("id", sa.String(32), primary_key=True),  # random, so that stores can be merged
    sa.Column("labeler", sa.String(120), nullable=False),
    sa.Column("task", sa.String(80), nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),  # of this package
    sa.Column("question", sa.Text, nullable=False),  # as the labeler read them
    sa.Column("rubric", sa.Text, nullable=False),
)  # fmt: skip

events = sa.Table(
    "events",
    tables,
    sa.Column("id", _number, primary_key=True),
    sa.Column("labeler", sa.String(120), nullable=False),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("choice", sa.Integer),  # index into the comparison's own options
    # own indices in the order in which they stood on the screen
    sa.Column("shown", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    # asked again, to see how consistent the labeler is
    sa.Column("repeat", sa.Boolean, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("undoes", sa.ForeignKey("events.id")),
    sa.Column("session", sa.ForeignKey("sessions.id")),
    sa.Index("events_by_labeler", "labeler", "comparison_id"),
    sqlite_autoincrement=True,
)

answers = sa.Table(
    "answers",
    tables,
    sa.Column("labeler", sa.String(120), primary_key=True),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), primary_key=True),
    sa.Column("repeat", sa.Boolean, primary_key=True),
    # these two are copies, so that counting reads one table
    sa.Column("task", sa.String(80), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("event_id", sa.ForeignKey("events.id"), nullable=False, unique=True),
    sa.Index("answers_by_task", "labeler", "task", "event_id"),
)

judgements = sa.Table(
    "judgements", tables,
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), primary_key=True),
    sa.Column("system_0", sa.String(200), nullable=False),  # who wrote option 0
    sa.Column("system_1", sa.String(200), nullable=False),
)  # fmt: skip

tasks = sa.Table(
    "tasks", tables,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("total", sa.Integer, nullable=False),  # comparisons of the task
)  # fmt: skip

counters = sa.Table(
    "standings",  # the name in files that exist
    tables,
    sa.Column("labeler", sa.String(120), primary_key=True),
    sa.Column("task", sa.String(80), primary_key=True),
    sa.Column("done", sa.Integer, nullable=False),  # choices and ties
    sa.Column("skipped", sa.Integer, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False),
    # no comparison of the task before this position is left to answer
    sa.Column("open_at", _number, nullable=False),
)

claims = sa.Table(
    "claims",
    tables,
    sa.Column("labeler", sa.String(120), primary_key=True),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), primary_key=True),
    sa.Column("repeat", sa.Boolean, primary_key=True),
    # the window: host/process/number
    sa.Column("holder", sa.String(200), nullable=False, index=True),
    # seconds since 1970; after that anybody may have it
    sa.Column("until", sa.Double, nullable=False),
)

labels = sa.Table(  # a view, so it is not among the `tables` that are made
    "labels", sa.MetaData(),
    *(
        sa.Column(c.name, c.type)
        for c in (
            events.c.comparison_id, events.c.labeler, answers.c.task, events.c.choice,
            events.c.shown, events.c.seconds, events.c.created, events.c.simulated,
            events.c.repeat, events.c.session,
        )
    ),
    sa.Column("event_id", _number),
)  # fmt: skip
VIEW = """CREATE VIEW labels AS SELECT e.comparison_id, e.labeler, a.task, e.choice, e.shown,
e.seconds, e.created, e.simulated, e.repeat, e.session, e.id AS event_id
FROM answers a JOIN events e ON e.id = a.event_id WHERE a.kind = 'choose'"""


# ---- counters ------------------------------------------------------------------------------------


def first_open(db: sa.Connection, labeler: str, task: str, start: int = 0) -> int:
    """Return the position of the first comparison from `start` that the labeler has not answered;
    one past the end if there is none."""
    mine = sa.select(answers.c.comparison_id).where(
        answers.c.labeler == labeler,
        answers.c.comparison_id == comparisons.c.id,
        sa.not_(answers.c.repeat),
    )
    c = comparisons.c
    query = (
        sa.select(c.position)
        .where(c.task == task, c.position >= start, ~mine.exists())
        .order_by(c.position)
        .limit(1)
    )
    found = db.scalar(query)
    return (db.scalar(sa.select(sa.func.max(c.position))) or 0) + 1 if found is None else found


def recount(db: sa.Connection, labeler: str, task: str) -> None:
    """Count a labeler's standing answers to a task again from the answers themselves."""
    a = answers.c
    rows = db.execute(
        sa.select(a.repeat, a.kind, sa.func.count())
        .where(a.labeler == labeler, a.task == task)
        .group_by(a.repeat, a.kind)
    )
    counts = {(bool(repeat), kind): number for repeat, kind, number in rows}
    row = {
        "done": counts.get((False, "choose"), 0) + counts.get((False, "tie"), 0),
        "skipped": counts.get((False, "skip"), 0),
        "repeats": sum(n for (repeat, _), n in counts.items() if repeat),
        "open_at": first_open(db, labeler, task),
    }
    db.execute(sa.delete(counters).where(counters.c.labeler == labeler, counters.c.task == task))
    db.execute(sa.insert(counters).values(labeler=labeler, task=task, **row))
