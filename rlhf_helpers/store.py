"""Floor 1: the label store. Comparisons go in, every click is an event that stays, what stands now is one row per answer.

One SQLite file by default, any database that SQLAlchemy speaks to by URL. Usable from every thread and from many processes at once:
notebook kernels deliver clicks on another thread than the cells. The tables are in `database`.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from rlhf_helpers import database
from rlhf_helpers.database import StoreError, answers, claims, comparisons, events
from rlhf_helpers.records import Comparison, Label

__all__ = ["AlreadyAnswered", "Event", "LabelStore", "Progress", "StoreError"]
ANSWERS = ("choose", "tie", "skip")  # kinds of event that settle a comparison; "flag" only remarks on it
CLAIM_SECONDS = 600.0  # a window that shows an item longer than this has been left alone


class AlreadyAnswered(ValueError):
    """This labeler has answered this comparison, perhaps in another window; undo that answer first."""


class Progress(NamedTuple):
    """How far a labeler is: `done` counts choices and ties, `repeats` those that were asked a second time."""

    done: int
    skipped: int
    total: int
    repeats: int = 0

    @property
    def left(self) -> int:
        return self.total - self.done - self.skipped


class Event(NamedTuple):
    """One row of the history. `order` lists the comparison's own option indices as they stood on the screen."""

    comparison_id: str
    labeler: str
    kind: str
    choice: int | None = None
    order: tuple[int, ...] = ()
    seconds: float = 0.0
    created: float = 0.0  # seconds since 1970
    simulated: bool = False
    repeat: bool = False  # asked again, to see how consistent the labeler is
    note: str = ""
    undoes: int | None = None
    id: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns of the table, all but the number, which the database gives."""
        values = self._asdict()
        del values["id"]
        return values | {"shown": list(values.pop("order"))}


class LabelStore:
    """Comparisons and what people said of them, in one SQLite file (a path) or in a server database (an SQLAlchemy URL)."""

    def __init__(self, url_or_path: str | Path) -> None:
        text = str(url_or_path)
        url = sa.make_url(text) if "://" in text else sa.URL.create("sqlite", database=text)
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("labels in memory would be lost with the kernel: name a file, for instance 'labels.db'")
        self.name = url.render_as_string(hide_password=True) if "://" in text else text
        self._pid = os.getpid()
        self._engine = database.engine(url)
        database.prepare(self._engine, self.name)

    def __repr__(self) -> str:
        return f"LabelStore({self.name!r})"

    def add(self, items: Iterable[Comparison]) -> int:
        """Add comparisons to be asked, and return how many of them are new."""
        with self._transaction(write=True) as db:
            return _add(db, items)

    def comparisons(self, task: str | None = None) -> list[Comparison]:
        """Read the comparisons (of one task) in the order they were added."""
        query = sa.select(comparisons).order_by(comparisons.c.position)
        if task is not None:
            query = query.where(comparisons.c.task == task)
        with self._transaction() as db:
            return [_comparison(row) for row in db.execute(query)]

    def get(self, comparison_id: str) -> Comparison:
        """Read one comparison; raises KeyError if it is not here."""
        with self._transaction() as db:
            return _comparison(_find(db, comparison_id))

    def record(
        self, labeler: str, comparison_id: str, kind: str, choice: int | None = None, order: Sequence[int] = (),
        seconds: float = 0.0, note: str = "", simulated: bool = False, repeat: bool = False,
    ) -> int:  # fmt: skip
        """Write an event down for good and return its number; raises AlreadyAnswered on a second answer without an undo."""
        if kind not in (*ANSWERS, "flag"):
            raise ValueError(f"{kind!r} is no kind of event; use choose, tie, skip or flag (and undo() to take back)")
        given = Event(comparison_id, labeler, kind, choice, tuple(order), seconds, time.time(), simulated, repeat, note)
        with self._transaction(write=True) as db:
            row = _find(db, comparison_id)
            _check(given, len(row.options))
            number = db.execute(sa.insert(events).values(given.row())).inserted_primary_key[0]
            if kind in ANSWERS:
                try:
                    db.execute(sa.insert(answers).values(_standing(given, row.task, number)))
                except IntegrityError:
                    raise AlreadyAnswered(f"{labeler} has already answered comparison {comparison_id}: undo that first") from None
            return number

    def undo(self, labeler: str, task: str | None = None) -> str | None:
        """Take the labeler's latest standing answer (to one task) back; return its comparison, or None if there is nothing left."""
        latest = sa.select(answers.c.comparison_id, answers.c.event_id, answers.c.repeat).where(answers.c.labeler == labeler)
        if task is not None:
            latest = latest.where(answers.c.task == task)
        with self._transaction(write=True) as db:
            row = db.execute(latest.order_by(answers.c.event_id.desc()).limit(1)).first()
            if row is None:
                return None
            # On a server another window may have taken the same answer back a moment ago; once is enough.
            if db.execute(sa.delete(answers).where(answers.c.event_id == row.event_id)).rowcount:
                back = Event(row.comparison_id, labeler, "undo", created=time.time(), repeat=row.repeat, undoes=row.event_id)
                db.execute(sa.insert(events).values(back.row()))
            return row.comparison_id

    def labels(self, task: str | None = None, labeler: str | None = None, *, repeats: bool = False) -> list[Label]:
        """Read the choices that stand, oldest first. `repeats` gives the second answers to comparisons asked again, and only those."""
        chosen = [e for e in self.events(task, labeler, standing=True) if e.kind == "choose" and e.repeat == repeats]
        return [Label(e.comparison_id, e.labeler, int(e.choice or 0), e.seconds, e.created, e.simulated) for e in chosen]

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Add labels made elsewhere (all or none), and return how many are new; raises ValueError if one contradicts a label here."""
        now = time.time()
        given = [Event(x.comparison_id, x.labeler, "choose", x.choice, (), x.seconds, x.created or now, x.simulated) for x in labels]
        with self._transaction(write=True) as db:
            return _add_answers(db, given)

    def next(self, labeler: str, task: str, without: Iterable[str] = ()) -> Comparison | None:
        """Find the first comparison of the task that this labeler has not answered, or None when all are (but for those `without`)."""
        mine = sa.select(answers.c.comparison_id).where(
            answers.c.labeler == labeler, answers.c.comparison_id == comparisons.c.id, sa.not_(answers.c.repeat)
        )
        query = sa.select(comparisons).where(comparisons.c.task == task, ~mine.exists()).order_by(comparisons.c.position).limit(1)
        if without := list(without):
            query = query.where(comparisons.c.id.not_in(without))
        with self._transaction() as db:
            row = db.execute(query).first()
        return None if row is None else _comparison(row)

    def claim(self, labeler: str, comparison_id: str, holder: str, *, repeat: bool = False) -> bool:
        """Put an item on the screen of this window (`holder`: host/process/number), or return False if another one shows it now.

        A window claims one item at a time. Claims of windows that are gone, or older than CLAIM_SECONDS, count for nothing.
        """
        c, key = claims.c, {"labeler": labeler, "comparison_id": comparison_id, "repeat": repeat}
        same = sa.and_(*(c[name] == value for name, value in key.items()))
        try:
            with self._transaction(write=True) as db:
                row = db.execute(sa.select(c.holder, c.until).where(same)).first()
                if row is not None and row.holder != holder and _is_shown(*row):
                    return False
                db.execute(sa.delete(claims).where(sa.or_(same, c.holder == holder)))
                db.execute(sa.insert(claims).values(**key, holder=holder, until=time.time() + CLAIM_SECONDS))
                return True
        except IntegrityError:  # on a server another window may be a moment faster
            return False

    def claimed(self, labeler: str, but: str = "") -> set[tuple[str, bool]]:
        """Return the items on the labeler's screens just now, as (id, whether a repeat); not those of the holder `but`."""
        with self._transaction() as db:
            rows = db.execute(sa.select(claims).where(claims.c.labeler == labeler, claims.c.holder != but)).all()
        return {(row.comparison_id, row.repeat) for row in rows if _is_shown(row.holder, row.until)}

    def release(self, labeler: str, holders: str) -> None:
        """Drop the labeler's claims by every window whose name begins with `holders`."""
        with self._transaction(write=True) as db:
            db.execute(sa.delete(claims).where(claims.c.labeler == labeler, claims.c.holder.startswith(holders, autoescape=True)))

    def progress(self, labeler: str, task: str) -> Progress:
        """Count what this labeler has done, skipped and been asked again, and how many comparisons the task has."""
        counts = sa.select(answers.c.repeat, answers.c.kind, sa.func.count()).where(answers.c.labeler == labeler, answers.c.task == task)
        total = sa.select(sa.func.count()).select_from(comparisons).where(comparisons.c.task == task)
        with self._transaction() as db:
            rows = db.execute(counts.group_by(answers.c.repeat, answers.c.kind)).all()
            size = db.scalar(total) or 0
        first = {kind: n for repeat, kind, n in rows if not repeat}
        return Progress(
            first.get("choose", 0) + first.get("tie", 0), first.get("skip", 0), size, sum(n for repeat, _, n in rows if repeat)
        )

    def events(self, task: str | None = None, labeler: str | None = None, *, standing: bool = False) -> list[Event]:
        """Read the whole history, oldest first, or only the answers that stand, each with the order in which options were shown."""
        e = events.c
        columns = [e.shown if name == "order" else e[name] for name in Event._fields]
        query = sa.select(*columns).join(comparisons, comparisons.c.id == e.comparison_id).order_by(e.id)
        if standing:
            query = query.join(answers, answers.c.event_id == e.id)
        if task is not None:
            query = query.where(comparisons.c.task == task)
        if labeler is not None:
            query = query.where(e.labeler == labeler)
        with self._transaction() as db:
            return [Event(*row)._replace(order=tuple(row.shown)) for row in db.execute(query)]

    def export(self, path: str | Path) -> int:
        """Write JSON lines, one per comparison with the answers that stand, and return how many; the file appears only when complete."""
        path, by_id = Path(path), {}
        for event in self.events(standing=True):
            by_id.setdefault(event.comparison_id, []).append(_to_json(event))
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        items = self.comparisons()
        with partial.open("w", encoding="utf-8") as file:
            for c in items:
                line = {"id": c.id, "task": c.task, "query": c.query, "options": list(c.options), "source": c.source, "round": c.round}
                file.write(json.dumps(line | {"labels": by_id.get(c.id, [])}, ensure_ascii=False) + "\n")
        partial.replace(path)
        return len(items)

    def load(self, path: str | Path) -> tuple[int, int]:
        """Read what `export` wrote (all or nothing) and return the numbers of new comparisons and new answers."""
        items, given = _read_lines(Path(path))
        with self._transaction(write=True) as db:
            return _add(db, items), _add_answers(db, given)

    def close(self) -> None:
        """Close all connections; the store opens them again when it is used."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        if os.getpid() != self._pid:  # a forked child must not speak through its parent's connections
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        try:
            with self._engine.execution_options(write=write).begin() as db:
                yield db
        except DBAPIError as error:
            if (better := database.explain(error, self.name)) is not error:
                raise better from error
            raise


def _find(db: sa.Connection, comparison_id: str) -> sa.Row:
    row = db.execute(sa.select(comparisons).where(comparisons.c.id == comparison_id)).first()
    if row is None:
        raise KeyError(f"there is no comparison {comparison_id!r} in this store: add() it first")
    return row


def _is_shown(holder: str, until: float) -> bool:
    """Say whether a window may still show what it claimed: it is not too old, and its process lives (as far as this host can tell)."""
    host, process, _ = holder.rsplit("/", 2)
    if until < time.time() or host != socket.gethostname() or os.name == "nt":  # on Windows asking after a process would end it
        return until >= time.time()
    try:
        os.kill(int(process), 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _comparison(row: sa.Row) -> Comparison:
    return Comparison(row.task, row.query, tuple(row.options), row.source, row.round)


def _standing(a: Event, task: str, event_id: int) -> dict[str, Any]:
    key = {"labeler": a.labeler, "comparison_id": a.comparison_id, "repeat": a.repeat}
    return key | {"task": task, "kind": a.kind, "event_id": event_id}


def _check(a: Event, options: int) -> None:
    if not a.labeler or not isinstance(a.labeler, str):
        raise ValueError("an answer needs the name of its labeler")
    if a.kind == "choose":
        if not isinstance(a.choice, int) or isinstance(a.choice, bool) or not 0 <= a.choice < options:
            raise ValueError(f"choice {a.choice!r} for comparison {a.comparison_id}, which has options 0 to {options - 1}")
    elif a.choice is not None:
        raise ValueError(f"a {a.kind} has no choice, got {a.choice!r}")
    if a.order and sorted(a.order) != list(range(options)):
        raise ValueError(f"order {a.order} for comparison {a.comparison_id} must name each of its {options} options once")
    for name, value in (("seconds", a.seconds), ("created", a.created)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number from 0, got {value!r}")


def _add(db: sa.Connection, items: Iterable[Comparison]) -> int:
    fresh = {c.id: c for c in items}
    known = {row.id for row in db.execute(sa.select(comparisons.c.id))} if len(fresh) > 500 else _known(db, fresh)
    rows = [
        {"id": i, "task": c.task, "query": c.query, "options": list(c.options), "source": c.source, "round": c.round}
        for i, c in fresh.items() if i not in known
    ]  # fmt: skip
    if rows:
        db.execute(sa.insert(comparisons), rows)
    return len(rows)


def _known(db: sa.Connection, ids: Iterable[str]) -> set[str]:
    return {row.id for row in db.execute(sa.select(comparisons.c.id).where(comparisons.c.id.in_(list(ids))))}


def _add_answers(db: sa.Connection, given: Sequence[Event]) -> int:
    asked = {row.id: row for row in db.execute(sa.select(comparisons.c.id, comparisons.c.task, comparisons.c.options))}
    e = events.c
    current = sa.select(e.labeler, e.comparison_id, e.repeat, e.kind, e.choice).join(answers, answers.c.event_id == e.id)
    standing = {(r.labeler, r.comparison_id, r.repeat): (r.kind, r.choice) for r in db.execute(current)}
    # An answer that was taken back stays taken back, even if a file from before that is read again.
    taken_back = sa.select(e.labeler, e.comparison_id, e.kind, e.choice, e.created).where(e.id.in_(sa.select(e.undoes)))
    undone = {tuple(row) for row in db.execute(taken_back)}
    new: list[Event] = []
    for a in given:
        if a.comparison_id not in asked:
            raise ValueError(f"there is no comparison {a.comparison_id!r} in this store: add() it before its labels")
        _check(a, len(asked[a.comparison_id].options))
        key, said = (a.labeler, a.comparison_id, a.repeat), (a.kind, a.choice)
        if (a.labeler, a.comparison_id, a.kind, a.choice, a.created) in undone:
            continue
        if key not in standing:
            standing[key] = said
            new.append(a)
        elif standing[key] != said:
            raise ValueError(f"{a.labeler} answered comparison {a.comparison_id} with {standing[key]} here but {said} there")
    if new:
        returning = sa.insert(events).returning(events.c.id, sort_by_parameter_order=True)
        numbers = db.execute(returning, [a.row() for a in new]).scalars().all()
        db.execute(sa.insert(answers), [_standing(a, asked[a.comparison_id].task, n) for a, n in zip(new, numbers, strict=True)])
    return len(new)


def _to_json(event: Event) -> dict[str, Any]:
    values = event._asdict()
    return {name: values[name] for name in Event._fields if name not in ("comparison_id", "undoes", "id")}


def _read_lines(path: Path) -> tuple[list[Comparison], list[Event]]:
    """Parse a whole export before anything is written; raises ValueError with file, line number and reason."""
    items: list[Comparison] = []
    given: list[Event] = []
    with path.open("rb") as file:  # bytes, so that text in a wrong encoding is reported with its line too
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                comparison, labels = _parse(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                reason = f"{error} is missing" if type(error) is KeyError else str(error)
                raise ValueError(f"{path}, line {number}: {reason}; nothing was imported") from error
            items.append(comparison)
            given += labels
    return items, sorted(given, key=lambda event: event.created)


def _parse(record: Any) -> tuple[Comparison, list[Event]]:
    if not isinstance(record, dict) or not isinstance(record.get("labels", []), list):
        raise ValueError("expected an object with task, query, options and a list of labels")
    task, query, options = record["task"], record["query"], record["options"]
    if not (isinstance(task, str) and isinstance(query, str) and isinstance(options, list)):
        raise ValueError("task and query must be text, and options a list of texts")
    comparison = Comparison(task, query, tuple(options), str(record.get("source", "base")), int(record.get("round", 0)))
    if record.get("id", comparison.id) != comparison.id:
        raise ValueError(f"the id {record['id']!r} does not belong to this content: was the line edited by hand?")
    labels = [Event(comparison.id, **{"kind": "choose", **x, "order": tuple(x.get("order", ()))}) for x in record.get("labels", [])]
    for label in labels:
        if label.kind not in ANSWERS:
            raise ValueError(f"{label.kind!r} is no kind of answer; use {', '.join(ANSWERS)}")
        _check(label, len(options))
    return comparison, labels
