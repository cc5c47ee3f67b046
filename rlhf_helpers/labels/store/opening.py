"""Opening a label store: the engine, tables made or brought up to date, and errors in plain
words."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

from rlhf_helpers.labels.store.tables import (
    VIEW,
    answers,
    claims,
    comparisons,
    events,
    judgements,
    labelers,
    meta,
    recount,
    sessions,
    standings,
    tables,
    tasks,
)

# raise it with every change of the tables, and say in MIGRATIONS how an older file gets there
SCHEMA = 3
APPLICATION = "rlhf_helpers labels"
WAIT_SECONDS = 10.0  # for another writer


class StoreError(RuntimeError):
    """A database that is not a label store this version can use, or that cannot be written just
    now."""


# ---- older files ---------------------------------------------------------------------------------


def _to_3(db: sa.Connection) -> None:
    for table in (tasks, labelers, sessions, standings, judgements):
        table.create(db)
    db.execute(sa.text("ALTER TABLE comparisons ADD COLUMN gold INTEGER"))
    db.execute(
        sa.text("ALTER TABLE events ADD COLUMN session VARCHAR(32) REFERENCES sessions (id)")
    )
    for index in answers.indexes:  # it had other columns
        index.drop(db)
        index.create(db)
    e, a = events.c, answers.c
    simulated = sa.func.min(sa.case((e.simulated, 1), else_=0)) == 1
    people = sa.select(e.labeler, sa.func.min(e.created), simulated).group_by(e.labeler)
    db.execute(sa.insert(labelers).from_select(list(labelers.c), people))
    c = comparisons.c
    db.execute(
        sa.insert(tasks).from_select(
            list(tasks.c), sa.select(c.task, sa.func.count()).group_by(c.task)
        )
    )
    for labeler, task in db.execute(sa.select(a.labeler, a.task).distinct()).all():
        recount(db, labeler, task)
    db.execute(sa.text(VIEW))


MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {  # from each older schema to the next
    1: lambda db: claims.create(db),
    2: _to_3,
}


# ---- opening -------------------------------------------------------------------------------------


def engine(url: sa.URL) -> sa.Engine:
    """Make the engine of a label store; nothing is opened yet. One writer at a time, with SQLite
    and on a server."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    try:
        made = sa.create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{url.drivername} needs the package {error.name}: pip install 'psycopg[binary]' for "
            "PostgreSQL"
        ) from error

    @sa.event.listens_for(made, "begin")
    def _begin(db: sa.Connection) -> None:
        # the row is a lock: what follows sees all that was written before
        if db.get_execution_options().get("write"):
            if made.dialect.name == "postgresql":
                db.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS:.0f}s'")
            db.execute(sa.select(meta.c.value).where(meta.c.key == "application").with_for_update())

    return made


def prepare(engine: sa.Engine, name: str) -> None:
    """Make the tables where there are none; raises StoreError for a database that is not a label
    store, and leaves it alone."""
    if engine.dialect.name == "sqlite":
        _make_folder(Path(str(engine.url.database)))
    try:
        with engine.begin() as db:
            known = _verify(db, name)
        if known < SCHEMA:
            _bring_up_to_date(engine, name, known)
        if engine.dialect.name == "sqlite":
            _use_log(engine)
    except OperationalError as error:
        if (better := explain(error, name)) is not error:
            raise better from error
        raise StoreError(
            f"cannot open {name} ({error.orig}): is it in a folder you may write to, and not "
            "locked?"
        ) from error
    except DBAPIError as error:
        raise explain(error, name) from error


_WAY_OUT = "it was not changed. Move it away or name another file; an export made earlier can be read with exchange.load()"
_REASONS = {  # a database's own words, and what to say instead
    ("not a database", "malformed"): "{name} is no label store, or a damaged one ({word}); "
    + _WAY_OUT,
    (
        "locked",
        "lock timeout",
    ): "{name} is locked by another program ({word}); nothing was saved. Close what has it open, then try again",
    (
        "is full",
        "disk I/O",
        "No space left",
    ): "the disk of {name} is full or failing ({word}); nothing was saved. Make room, try again",
    (
        "readonly",
        "read-only",
        "unable to open",
    ): "{name} cannot be written ({word}); is it in a folder you may write to?",
    (
        "connection",
        "terminat",
    ): "the server of {name} cannot be reached ({word}); nothing was saved. Try again when it is back",
}


def explain(error: DBAPIError, name: str) -> Exception:
    """Turn a database's word for a damaged, locked, full, read-only or lost store into an error
    that names it and the way out."""
    word = str(error.orig).strip()
    if isinstance(error, DataError):
        return StoreError(f"{name} cannot hold this text or number ({word}); nothing was saved")
    if not isinstance(error, IntegrityError):
        for words, message in _REASONS.items():
            if any(w in word for w in words):
                return StoreError(message.format(name=name, word=word))
    return error


def _make_folder(path: Path) -> None:
    if path.is_dir():
        raise StoreError(
            f"{path} is a folder: name a file in it, for instance {path / 'labels.db'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder of {path} ({error.strerror}): name a place you may write to"
        ) from error


def _bring_up_to_date(engine: sa.Engine, name: str, known: int) -> None:
    """Make the tables, or change those of an older schema step by step, in one transaction."""
    # there is no row to lock yet, so another process may make the same tables
    if known == 0 and engine.dialect.name != "sqlite":
        try:
            with engine.begin() as db:
                _create(db)
        except (ProgrammingError, IntegrityError, OperationalError):
            with engine.begin() as db:
                if _verify(db, name) != SCHEMA:
                    raise
        return
    with engine.execution_options(write=True).begin() as db:
        known = _verify(db, name)  # looked at again, now that nobody else can be doing it too
        if known == 0:
            _create(db)
        for schema in range(known or SCHEMA, SCHEMA):
            MIGRATIONS[schema](db)
        db.execute(sa.update(meta).where(meta.c.key == "schema").values(value=str(SCHEMA)))


def _create(db: sa.Connection) -> None:
    tables.create_all(db)
    db.execute(sa.text(VIEW))
    db.execute(
        sa.insert(meta),
        [{"key": "application", "value": APPLICATION}, {"key": "schema", "value": str(SCHEMA)}],
    )


def _verify(db: sa.Connection, name: str) -> int:
    """Return the schema of the tables, 0 if there are none; raises StoreError for somebody else's
    database or one of a later version."""
    found = set(sa.inspect(db).get_table_names())
    if not found:
        return 0
    values: dict[str, str] = {}
    if "meta" in found and {c["name"] for c in sa.inspect(db).get_columns("meta")} == {
        "key",
        "value",
    }:
        values = {row.key: row.value for row in db.execute(sa.select(meta))}
    if values.get("application") != APPLICATION:
        raise StoreError(
            f"{name} is a database, but not one of labels (tables: "
            f"{', '.join(sorted(found)[:5])}); {_WAY_OUT}"
        )
    if int(values["schema"]) > SCHEMA:
        raise StoreError(
            f"{name} was written by a newer rlhf_helpers (schema {values['schema']}, this one "
            f"knows {SCHEMA}): update, or name another file"
        )
    return int(values["schema"])


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's sqlite3 must not begin transactions of its own
        connection.execute("PRAGMA foreign_keys = ON")
        # a committed label survives a power cut, not only a killed kernel
        connection.execute("PRAGMA synchronous = FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("write"):
            _take_turn(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _take_turn(connection: sa.Connection) -> None:
    """Begin to write at once: a reader that turns into a writer halfway would fail instead of
    waiting.

    SQLite's own waiting sleeps up to a tenth of a second, so that among eight busy writers one may
    starve; this asks far more often.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    connection.exec_driver_sql("PRAGMA busy_timeout = 10")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.001, 0.01))
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000:.0f}")


def _use_log(engine: sa.Engine) -> None:
    """Turn the write-ahead log on, once the file is known to be ours: readers then never wait for a
    writer."""
    raw = engine.raw_connection()
    try:
        if raw.cursor().execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:  # SQLite does not wait here by itself
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise OperationalError("PRAGMA journal_mode = WAL", None, error) from error
                time.sleep(0.02)
    finally:
        raw.close()
