"""The door of the label store: every method is one transaction, on any thread, in any process."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from rlhf_helpers.labels.store import claims, history, opening
from rlhf_helpers.labels.store.events import (
    Contents,
    Event,
    Judgement,
    Progress,
    Sitting,
    Taken,
    check,
    fits,
)
from rlhf_helpers.labels.store.opening import StoreError
from rlhf_helpers.labels.store.tables import (
    answers,
    comparisons,
    events,
    labelers,
    labels,
    sessions,
    standings,
    tasks,
)
from rlhf_helpers.records import Comparison, Label

BREAK_SECONDS = 1_800.0  # who comes back after a longer break begins another sitting


class LabelStore:
    """Comparisons and what people said of them, in one SQLite file (a path) or in a server database
    (an SQLAlchemy URL)."""

    def __init__(self, url_or_path: str | Path) -> None:
        text = str(url_or_path)
        url = sa.make_url(text) if "://" in text else sa.URL.create("sqlite", database=text)
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError(
                "labels in memory would be lost with the kernel: name a file, for instance "
                "'labels.db'"
            )
        self.name = url.render_as_string(hide_password=True) if "://" in text else text
        self._pid = os.getpid()
        # with the time of the latest event
        self._sittings: dict[tuple[str, str], tuple[Sitting, float]] = {}
        self._engine = opening.engine(url)
        opening.prepare(self._engine, self.name)
        self._file = (
            Path(str(url.database)).resolve() if url.get_backend_name() == "sqlite" else None
        )
        self._inode = self._file and self._file.stat().st_ino

    def __repr__(self) -> str:
        return f"LabelStore({self.name!r})"

    # ---- what is asked ---------------------------------------------------------------------------

    def add(self, items: Iterable[Comparison]) -> int:
        """Add comparisons to be asked, and return how many of them are new."""
        with self._transaction(write=True) as db:
            return history.add(db, items)

    def comparisons(self, task: str | None = None) -> list[Comparison]:
        """Read the comparisons (of one task) in the order they were added."""
        query = sa.select(comparisons).order_by(comparisons.c.position)
        if task is not None:
            query = query.where(comparisons.c.task == task)
        with self._transaction() as db:
            return [history.as_comparison(row) for row in db.execute(query)]

    def get(self, comparison_id: str) -> Comparison:
        """Read one comparison; raises KeyError if it is not here."""
        with self._transaction() as db:
            return history.as_comparison(history.find(db, comparison_id))

    def set_gold(self, choices: Mapping[str, int | None]) -> None:
        """Say of comparisons (by id) which option is right, or None: not gold any more. Labelers'
        answers to gold measure attention."""
        with self._transaction(write=True) as db:
            for comparison_id, choice in choices.items():
                history.set_gold(db, comparison_id, choice)

    def gold(self, task: str | None = None) -> dict[str, int]:
        """Read the gold comparisons (of one task): the right choice by id."""
        query = (
            sa.select(comparisons.c.id, comparisons.c.gold)
            .where(comparisons.c.gold.is_not(None))
            .order_by(comparisons.c.position)
        )
        with self._transaction() as db:
            return dict(
                db.execute(query if task is None else query.where(comparisons.c.task == task)).all()
            )

    # ---- what is answered ------------------------------------------------------------------------

    def record(
        self, labeler: str, comparison_id: str, kind: str, choice: int | None = None,
        order: Sequence[int] = (), seconds: float = 0.0, note: str = "", simulated: bool = False,
        repeat: bool = False,
    ) -> int:  # fmt: skip
        """Write an event down for good and return its number; raises AlreadyAnswered on a second
        answer without an undo.

        Kinds: choose (with `choice`), tie, skip, and "flag" with a `note`, which remarks on a text
        and leaves the comparison open.
        """
        if kind == "undo":
            raise ValueError(
                "'undo' is no kind of event to record; undo() takes the latest answer back"
            )
        given = Event(
            comparison_id,
            labeler,
            kind,
            choice,
            tuple(order),
            seconds,
            time.time(),
            simulated,
            repeat,
            note,
        )
        with self._transaction(write=True) as db:
            item = history.find(db, comparison_id)
            check(given, len(item.options))
            sitting = self._sit_down(db, given, item.task)
            number = history.write(db, given._replace(session=sitting.id), item)
        self._sittings[labeler, item.task] = sitting, given.created
        return number

    def undo(
        self, labeler: str, task: str | None = None, *, among: Collection[str] | None = None
    ) -> str | None:
        """Take the labeler's latest standing answer (to one task, or `among` some comparisons)
        back.

        Returns its comparison, or None if there is nothing left.
        """
        a = answers.c
        latest = sa.select(answers).where(a.labeler == labeler).order_by(a.event_id.desc())
        latest = latest if task is None else latest.where(a.task == task)
        with self._transaction(write=True) as db:
            with db.execute(latest if among is not None else latest.limit(1)) as rows:
                row = next(
                    (row for row in rows if among is None or row.comparison_id in among), None
                )
            if row is None:
                return None
            undo = Event(row.comparison_id, labeler, "undo", created=time.time(), repeat=row.repeat)
            sitting = self._sit_down(db, undo, row.task)
            history.take_back(db, row, undo._replace(session=sitting.id))
        self._sittings[labeler, row.task] = sitting, undo.created
        return row.comparison_id

    def labels(
        self, task: str | None = None, labeler: str | None = None, *, repeats: bool = False,
        gold: bool = False
    ) -> list[Label]:  # fmt: skip
        """Read the choices that stand, oldest first, to learn from: without those on gold
        comparisons, unless `gold`.

        `repeats` gives the second answers to comparisons asked again, and only those.
        """
        c = labels.c
        query = sa.select(
            c.comparison_id, c.labeler, c.choice, c.seconds, c.created, c.simulated, c.task
        ).order_by(c.event_id)
        query = query.where(c.repeat if repeats else sa.not_(c.repeat))
        if not gold:
            query = query.where(
                c.comparison_id.not_in(
                    sa.select(comparisons.c.id).where(comparisons.c.gold.is_not(None))
                )
            )
        if task is not None:
            query = query.where(c.task == task)
        if labeler is not None:
            query = query.where(c.labeler == labeler)
        with self._transaction() as db:
            return [Label(*row) for row in db.execute(query)]

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Add labels made elsewhere (all or none), and return how many are new; raises ValueError
        if one contradicts a label here."""
        given = [
            Event(
                x.comparison_id,
                x.labeler,
                "choose",
                x.choice,
                (),
                x.seconds,
                x.created,
                x.simulated,
            )
            for x in labels
        ]
        return self.append(Contents(events=given), strict=True).events

    def contents(self, task: str | None = None) -> Contents:
        """Read everything (of one task): comparisons, the whole history, sittings, gold, and who
        wrote the options of blind pairs."""
        with self._transaction() as db:
            return history.contents(db, task)

    def append(self, contents: Contents, *, strict: bool = False) -> Taken:
        """Take over the contents of another store (all or none). What is here stands;
        contradictions are left out and reported.

        Harmless to repeat, and an answer that its labeler took back stays taken back. `strict`
        makes a contradiction a ValueError.
        """
        with self._transaction(write=True) as db:
            taken = history.append(db, contents)
            if strict and taken.conflicts:
                raise ValueError(f"{taken.conflicts[0]}; nothing was added")
        return taken

    def events(
        self, task: str | None = None, labeler: str | None = None, *, standing: bool = False
    ) -> list[Event]:
        """Read the whole history, oldest first, or only the answers that stand, each with the order
        in which options were shown."""
        where = [] if labeler is None else [events.c.labeler == labeler]
        if standing:
            where.append(answers.c.event_id.is_not(None))
        with self._transaction() as db:
            return [event for event, _ in history.read(db, *where, task=task)]

    def answered(
        self, labeler: str, task: str, among: Collection[str] | None = None,
        latest: int | None = None
    ) -> list[tuple[str, str, bool]]:  # fmt: skip
        """Read a labeler's answers that stand (to some comparisons; the `latest` so many):
        comparison, kind, whether a repeat, in order."""
        a = answers.c
        query = sa.select(a.event_id, a.comparison_id, a.kind, a.repeat).where(a.labeler == labeler)
        # by these alone: asked for an order too, SQLite reads the whole task
        if among is not None and len(among) <= history.CHUNK:
            query = query.where(a.comparison_id.in_(list(among)))
        else:
            query = query.where(a.task == task).order_by(a.event_id.desc()).limit(latest)
        with self._transaction() as db:
            rows = sorted(db.execute(query).all())
        return [tuple(row[1:]) for row in rows if among is None or row.comparison_id in among][
            -(latest or 0) :
        ]

    # ---- what is next, and how far ---------------------------------------------------------------

    def next(self, labeler: str, task: str, without: Iterable[str] = ()) -> Comparison | None:
        """Find the first comparison of the task that this labeler has not answered, or None when
        all are (but for those `without`)."""
        a, c, s = answers.c, comparisons.c, standings.c
        mine = sa.select(a.comparison_id).where(
            a.labeler == labeler, a.comparison_id == c.id, sa.not_(a.repeat)
        )
        with self._transaction() as db:
            start = db.scalar(sa.select(s.open_at).where(s.labeler == labeler, s.task == task)) or 0
            query = (
                sa.select(comparisons)
                .where(c.task == task, c.position >= start, ~mine.exists())
                .order_by(c.position)
                .limit(1)
            )
            if without := list(without):
                query = query.where(c.id.not_in(without))
            row = db.execute(query).first()
        return None if row is None else history.as_comparison(row)

    def progress(self, labeler: str, task: str) -> Progress:
        """Tell what this labeler has done, skipped and been asked again, and how many comparisons
        the task has."""
        s = standings.c
        with self._transaction() as db:
            total = db.scalar(sa.select(tasks.c.total).where(tasks.c.name == task)) or 0
            row = db.execute(
                sa.select(s.done, s.skipped, s.repeats).where(s.labeler == labeler, s.task == task)
            ).first()
        return Progress(row.done, row.skipped, total, row.repeats) if row else Progress(0, 0, total)

    def claim(self, labeler: str, comparison_id: str, holder: str, *, repeat: bool = False) -> bool:
        """Put an item on the screen of this window (`holder`: host/process/number), or return False
        if another one shows it now.

        A window claims one item at a time. Claims of windows that are gone, or were left alone for
        ten minutes, count for nothing.
        """
        with self._transaction(write=True) as db:
            return claims.claim(db, labeler, comparison_id, holder, repeat)

    def claimed(self, labeler: str, but: str = "") -> set[tuple[str, bool]]:
        """Return the items on the labeler's screens just now, as (id, whether a repeat); not those
        of the holder `but`."""
        with self._transaction() as db:
            return claims.claimed(db, labeler, but)

    def release(self, labeler: str, holders: str) -> None:
        """Drop the labeler's claims by every window whose name begins with `holders`."""
        with self._transaction(write=True) as db:
            claims.release(db, labeler, holders)

    # ---- who, when, and blind judging ------------------------------------------------------------

    def labelers(self) -> list[str]:
        """Name who has labelled here, in the order in which they came."""
        with self._transaction() as db:
            return list(
                db.scalars(sa.select(labelers.c.name).order_by(labelers.c.created, labelers.c.name))
            )

    def sit_down(self, labeler: str, task: str, question: str = "", rubric: str = "") -> Sitting:
        """Begin a sitting, and keep the question and rubric that its labeler reads; without it one
        begins with the first answer."""
        sitting = Sitting(
            secrets.token_hex(8),
            labeler,
            task,
            time.time(),
            socket.gethostname(),
            _version(),
            question,
            rubric,
        )
        fits(sessions, sitting._asdict())
        with self._transaction(write=True) as db:
            db.execute(sa.insert(sessions).values(sitting._asdict()))
        self._sittings[labeler, task] = sitting, sitting.started
        return sitting

    def sittings(self, labeler: str | None = None) -> list[Sitting]:
        """Read when people sat down to label (one of them, or all), oldest first."""
        query = sa.select(*(sessions.c[name] for name in Sitting._fields)).order_by(
            sessions.c.started, sessions.c.id
        )
        with self._transaction() as db:
            return [
                Sitting(*row)
                for row in db.execute(
                    query if labeler is None else query.where(sessions.c.labeler == labeler)
                )
            ]

    def add_judgements(
        self, pairs: Iterable[Comparison], systems: Iterable[tuple[str, str]]
    ) -> int:
        """Add pairs to be judged blind, and who wrote their options 0 and 1, which no card reads;
        return how many pairs are new."""
        pairs = list(pairs)
        by_id = dict(zip((pair.id for pair in pairs), systems, strict=True))
        return self.append(Contents(pairs, systems=by_id), strict=True).comparisons

    def judgements(self, task: str | None = None) -> list[Judgement]:
        """Read the verdicts that stand on blind pairs, with the sides uncovered; a skipped pair
        gives none."""
        with self._transaction() as db:
            systems = history.systems_of(db)
            found = history.read(
                db,
                answers.c.event_id.is_not(None),
                sa.not_(events.c.repeat),
                events.c.kind != "skip",
                task=task,
            )
            return [
                Judgement(e.comparison_id, e.labeler, systems[e.comparison_id], e.choice, e.seconds, e.created, e.simulated) for e,
                _ in found if e.comparison_id in systems
            ]  # fmt: skip

    def close(self) -> None:
        """Close all connections; the store opens them again when it is used."""
        self._engine.dispose()

    def _sit_down(self, db: sa.Connection, event: Event, task: str) -> Sitting:
        """Return the sitting that an event belongs to; after a long break, or at the beginning, it
        is a new one."""
        before, latest = self._sittings.get((event.labeler, task), (None, 0.0))
        if before is not None and event.created - latest <= BREAK_SECONDS:
            return before
        question, rubric = (before.question, before.rubric) if before else ("", "")
        sitting = Sitting(
            secrets.token_hex(8),
            event.labeler,
            task,
            event.created,
            socket.gethostname(),
            _version(),
            question,
            rubric,
        )
        fits(sessions, sitting._asdict())
        db.execute(sa.insert(sessions).values(sitting._asdict()))
        return sitting

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        # a forked child must not speak through its parent's connections
        if os.getpid() != self._pid:
            self._engine.dispose(close=False)
            self._pid, self._sittings = os.getpid(), {}
        if self._file is not None and (
            not self._file.exists() or self._file.stat().st_ino != self._inode
        ):
            raise StoreError(
                f"{self.name} was moved, deleted or replaced while it was open; nothing was saved. "
                "Open the store again"
            )
        try:
            with self._engine.execution_options(write=write).begin() as db:
                yield db
        except DBAPIError as error:
            if (better := opening.explain(error, self.name)) is not error:
                raise better from error
            raise


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)
