"""Opening a label store: the engine, the tables, the journal, and errors in plain words.

SQLite keeps a rollback journal here (`journal_mode = DELETE`) and no write-ahead log. After a
commit the one file holds everything and nothing is beside it, so a download, a mail attachment or a
copy of the file has every label that was shown as saved. A write-ahead log would keep new labels in
`labels.db-wal`, which such copies leave behind, and it does not work on network file systems.
"""

from __future__ import annotations

import random
import secrets
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

from rlhf_helpers.labels.store import leftovers
from rlhf_helpers.labels.store.tables import VIEW, meta, tables

SCHEMA = 3  # raise it with every change of the tables
APPLICATION = "rlhf_helpers labels"
SQLITE_MAGIC = b"SQLite format 3\x00"  # what a file of SQLite begins with
WAIT_SECONDS = 10.0  # for another writer


class StoreError(RuntimeError):
    """A database that is not a label store this version can use, or that cannot be written just
    now."""


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
    """Make the tables where there are none, and see to it that the one file holds everything.

    Raises StoreError for a database that is not a label store, and leaves it as it is.
    """
    is_file = engine.dialect.name == "sqlite"
    if is_file:
        path = Path(str(engine.url.database))
        _make_folder(path)
        leftovers.set_aside(path)
    try:
        with engine.begin() as db:
            is_new = not _verify(db, name)
        if is_new:
            _create(engine, name)
        if is_file:
            _leave_log(engine)
    except OperationalError as error:
        if (better := explain(error, name)) is not error:
            raise better from error
        raise StoreError(
            f"cannot open {name} ({error.orig}): is it in a folder you may write to, and not "
            "locked?"
        ) from error
    except DBAPIError as error:
        raise explain(error, name) from error


_WAY_OUT = (
    "it was not changed. Move it away or name another file; an export can be read with "
    "exchange.load()"
)
_REASONS = {  # what a database says, and what to say instead
    ("not a database", "malformed"): (
        "{name} is not a label store, or it is damaged ({word}); " + _WAY_OUT
    ),
    ("locked", "lock timeout"): (
        "{name} is locked by another program ({word}); nothing was saved. Close the program that "
        "has it open, then try again"
    ),
    ("is full", "disk I/O", "No space left"): (
        "the disk of {name} is full or failing ({word}); nothing was saved. Make room, then try "
        "again"
    ),
    ("readonly", "read-only", "unable to open"): (
        "{name} cannot be written ({word}); is it in a folder you may write to?"
    ),
    ("connection", "terminat"): (
        "the server of {name} cannot be reached ({word}); nothing was saved. Try again when it is "
        "back"
    ),
}


def explain(error: DBAPIError, name: str) -> Exception:
    """Turn a database's error into one that names the store and says what to do, if it is known."""
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


def _create(engine: sa.Engine, name: str) -> None:
    """Make the tables in one transaction, unless another process makes them at the same time."""
    try:
        with engine.execution_options(write=engine.dialect.name == "sqlite").begin() as db:
            if _verify(db, name):  # looked at again, now that nobody else can be doing it too
                return
            tables.create_all(db)
            db.execute(sa.text(VIEW))
            values = {"application": APPLICATION, "schema": str(SCHEMA)}
            db.execute(sa.insert(meta), [{"key": k, "value": v} for k, v in values.items()])
            if engine.dialect.name == "sqlite":  # tells whether a journal is this store's own
                db.exec_driver_sql(f"PRAGMA user_version = {secrets.randbelow(2**31 - 1) + 1}")
    except (ProgrammingError, IntegrityError, OperationalError):
        # on a server there is no row to lock yet, so another process may have made them first
        with engine.begin() as db:
            if not _verify(db, name):
                raise


def _verify(db: sa.Connection, name: str) -> bool:
    """Tell whether the tables of a label store are there, False for an empty database.

    Raises StoreError for a database of another program or another version.
    """
    found = set(sa.inspect(db).get_table_names())
    if not found:
        return False
    values: dict[str, str] = {}
    if "meta" in found:
        columns = {c["name"] for c in sa.inspect(db).get_columns("meta")}
        if columns == {"key", "value"}:
            values = {row.key: row.value for row in db.execute(sa.select(meta))}
    if values.get("application") != APPLICATION:
        raise StoreError(
            f"{name} is a database, but not one of labels (tables: "
            f"{', '.join(sorted(found)[:5])}); {_WAY_OUT}"
        )
    if values["schema"] != str(SCHEMA):
        raise StoreError(
            f"{name} was written by another version of rlhf_helpers (its schema is "
            f"{values['schema']}, this version reads {SCHEMA}); it was not changed. Open it with "
            "that version, or name another file"
        )
    return True


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url, connect_args={"timeout": WAIT_SECONDS, "check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # Python's sqlite3 must not begin transactions of its own
        connection.execute("PRAGMA foreign_keys = ON")
        # A committed label survives a power cut, not only a killed kernel. EXTRA also waits until
        # the removal of the journal is on the disk: a journal that came back would undo the commit.
        connection.execute("PRAGMA synchronous = EXTRA")
        # the file changes only while a transaction commits, never in the middle of a long one
        connection.execute("PRAGMA cache_spill = OFF")

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


def _leave_log(engine: sa.Engine) -> None:
    """Move what a write-ahead log holds into the file itself, and keep a rollback journal."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        raw = engine.raw_connection()
        cursor = raw.cursor()
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                cursor.execute("PRAGMA journal_mode = DELETE")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise OperationalError("PRAGMA journal_mode = DELETE", None, error) from error
        finally:
            # what is left open here, a statement in a kept traceback too, blocks the next attempt
            cursor.close()
            raw.close()
            engine.dispose()
        time.sleep(random.uniform(0.01, 0.1))
