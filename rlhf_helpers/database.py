"""Floor 0: the tables of the label store, and how its database is opened. Imports nothing of this package.

    comparisons   what is asked; the id is a hash of the content, so adding twice is harmless
    events        append-only history: choose, tie, skip, flag, undo (an undo points at the event it takes back)
    answers       what stands now: at most one row per labeler and comparison (and one more if it was asked again)
    claims        what is on a labeler's screen just now, so that a second window of hers shows something else

A file that is not ours is never written to: it is looked at first, and turned away with an error that names it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

SCHEMA = 2  # raise it with every change of the tables below, and say in MIGRATIONS how an older file gets there
APPLICATION = "rlhf_helpers labels"
WAIT_SECONDS = 10.0  # for another writer

tables = sa.MetaData()
_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only in a column of type INTEGER

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
    sa.Index("comparisons_by_task", "task", "position", "id"),
)  # fmt: skip

events = sa.Table(
    "events", tables,
    sa.Column("id", _number, primary_key=True),
    sa.Column("labeler", sa.String(120), nullable=False),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("choice", sa.Integer),  # index into the comparison's own options
    sa.Column("shown", sa.JSON, nullable=False),  # own indices in the order in which they stood on the screen
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("created", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("repeat", sa.Boolean, nullable=False),  # asked again, to see how consistent the labeler is
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("undoes", sa.ForeignKey("events.id")),
    sa.Index("events_by_labeler", "labeler", "comparison_id"),
    sqlite_autoincrement=True,
)  # fmt: skip

answers = sa.Table(
    "answers", tables,
    sa.Column("labeler", sa.String(120), primary_key=True),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), primary_key=True),
    sa.Column("repeat", sa.Boolean, primary_key=True),
    sa.Column("task", sa.String(80), nullable=False),  # these two are copies, so that counting reads nothing but the index
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("event_id", sa.ForeignKey("events.id"), nullable=False, unique=True),
    sa.Index("answers_by_task", "labeler", "task", "repeat", "kind"),
)  # fmt: skip

claims = sa.Table(
    "claims", tables,
    sa.Column("labeler", sa.String(120), primary_key=True),
    sa.Column("comparison_id", sa.ForeignKey("comparisons.id"), primary_key=True),
    sa.Column("repeat", sa.Boolean, primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False, index=True),  # the window: host/process/number
    sa.Column("until", sa.Float, nullable=False),  # seconds since 1970; after that anybody may have it
)  # fmt: skip

MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {  # from each older schema to the next
    1: lambda db: claims.create(db),
}


class StoreError(RuntimeError):
    """A file or database that is not a label store this version can use."""


def engine(url: sa.URL) -> sa.Engine:
    """Make the engine of a label store; nothing is opened yet."""
    return _sqlite_engine(url) if url.get_backend_name() == "sqlite" else sa.create_engine(url, pool_pre_ping=True)


def prepare(engine: sa.Engine, name: str) -> None:
    """Make the tables where there are none; raises StoreError for a database that is not a label store, and leaves it alone."""
    if engine.dialect.name == "sqlite":
        _make_folder(Path(str(engine.url.database)))
    try:
        with engine.begin() as db:
            known = _verify(db, name)
        if known < SCHEMA:
            with engine.execution_options(write=True).begin() as db:
                _bring_up_to_date(db, _verify(db, name))  # looked at again, now that nobody else can be doing it too
        if engine.dialect.name == "sqlite":
            _use_log(engine)
    except OperationalError as error:
        raise StoreError(f"cannot open {name} ({error.orig}): is it in a folder you may write to, and not locked?") from error
    except DBAPIError as error:
        raise explain(error, name) from error


def explain(error: DBAPIError, name: str) -> Exception:
    """Turn SQLite's word for a damaged or foreign file into an error that names the file and the way out."""
    if any(word in str(error.orig) for word in ("not a database", "malformed")):
        return StoreError(f"{name} is no label store, or a damaged one ({error.orig}); {_WAY_OUT}")
    return error


_WAY_OUT = "it was not changed. Move it away or name another file; an export made earlier can be read with load()"


def _make_folder(path: Path) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file in it, for instance {path / 'labels.db'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder of {path} ({error.strerror}): name a place you may write to") from error


def _bring_up_to_date(db: sa.Connection, known: int) -> None:
    """Make the tables, or change those of an older schema step by step; all of it in the caller's transaction."""
    if known == 0:
        tables.create_all(db)
        db.execute(sa.insert(meta), [{"key": "application", "value": APPLICATION}, {"key": "schema", "value": str(SCHEMA)}])
        return
    for schema in range(known, SCHEMA):
        MIGRATIONS[schema](db)
    db.execute(sa.update(meta).where(meta.c.key == "schema").values(value=str(SCHEMA)))


def _verify(db: sa.Connection, name: str) -> int:
    """Return the schema of the tables, 0 if there are none; raises StoreError for somebody else's database or one of a later version."""
    found = set(sa.inspect(db).get_table_names())
    if not found:
        return 0
    values: dict[str, str] = {}
    if "meta" in found and {c["name"] for c in sa.inspect(db).get_columns("meta")} == {"key", "value"}:
        values = {row.key: row.value for row in db.execute(sa.select(meta))}
    if values.get("application") != APPLICATION:
        raise StoreError(f"{name} is a database, but not one of labels (tables: {', '.join(sorted(found)[:5])}); {_WAY_OUT}")
    if int(values["schema"]) > SCHEMA:
        raise StoreError(
            f"{name} was written by a newer rlhf_helpers (schema {values['schema']}, this one knows {SCHEMA}): update, or name another file"
        )
    return int(values["schema"])


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's sqlite3 must not begin transactions of its own
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a committed label survives a power cut, not only a killed kernel

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A writer takes its turn at once: a reader that turns into a writer halfway would fail instead of waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

    return engine


def _use_log(engine: sa.Engine) -> None:
    """Turn the write-ahead log on, once the file is known to be ours: readers then never wait for a writer."""
    raw = engine.raw_connection()
    try:
        if raw.cursor().execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except Exception as error:  # SQLite does not wait here by itself
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    finally:
        raw.close()
