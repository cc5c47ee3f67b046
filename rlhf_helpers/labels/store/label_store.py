"""The label store itself: every method is one transaction, on any thread, in any process."""

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

from rlhf_helpers.labels.store import claims, history, merging, opening, queries
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
from rlhf_helpers.labels.store.tables import answers, comparisons, events, labelers, sessions
from rlhf_helpers.records import Comparison, Label

BREAK_SECONDS = 1_800.0  # a longer break ends the sitting


class LabelStore:
    """Comparisons and their labels, in one SQLite file (a path) or a server database (a URL).

    URLs are SQLAlchemy's. Raises StoreError for a database that is not a label store.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        text = os.path.expanduser(str(url_or_path))  # ~ is the home folder
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
        self.file = (
            Path(str(url.database)).resolve() if url.get_backend_name() == "sqlite" else None
        )
        self._inode = self.file and self.file.stat().st_ino

    def __repr__(self) -> str:
        return f"LabelStore({self.name!r})"

    # ---- comparisons -----------------------------------------------------------------------------

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
        """Say which option of comparisons (by id) is right, or None for one that is not gold.

        Answers to gold comparisons measure attention.
        """
        with self._transaction(write=True) as db:
            for comparison_id, choice in choices.items():
                history.set_gold(db, comparison_id, choice)

    def gold(self, task: str | None = None) -> dict[str, int]:
        """Read the gold comparisons (of one task): the right choice by id."""
        with self._transaction() as db:
            return queries.gold_choices(db, task)

    def equal(self, task: str) -> set[str]:
        """Name the comparisons of a task whose options all read the same, and are never asked."""
        with self._transaction() as db:
            return queries.equal_options(db, task)

    # ---- answers ---------------------------------------------------------------------------------

    def record(
        self, labeler: str, comparison_id: str, kind: str, choice: int | None = None,
        order: Sequence[int] = (), seconds: float = 0.0, note: str = "", simulated: bool = False,
        repeat: bool = False, holder: str = "", following: str | None = None,
    ) -> int:  # fmt: skip
        """Save an event and return its number; raises AlreadyAnswered for a second answer.

        Kinds: choose (with `choice`), tie, skip, and "flag", whose `note` is a remark on a bad text
        and leaves the comparison open. A window (`holder`) may claim the comparison that it shows
        next (`following`) in the same transaction, so that one click waits for the disk once.
        """
        if kind == "undo":
            raise ValueError("an undo is not recorded: undo() takes the latest answer back")
        given = Event(
            comparison_id, labeler, kind, choice, tuple(order), seconds, time.time(), simulated,
            repeat, note
        )  # fmt: skip
        with self._transaction(write=True) as db:
            item = history.find(db, comparison_id)
            check(given, len(item.options))
            sitting = self._sit_down(db, given, item.task)
            number = history.write(db, given._replace(session=sitting.id), item)
            if following is not None:
                claims.claim(db, labeler, following, holder, repeat=False)
        self._sittings[labeler, item.task] = sitting, given.created
        return number

    def undo(
        self, labeler: str, task: str | None = None, *, among: Collection[str] | None = None,
        holder: str = "",
    ) -> str | None:  # fmt: skip
        """Take back the labeler's latest answer (of one task, or `among` some comparisons).

        Returns the id of its comparison, or None if there is nothing to take back. A window
        (`holder`) claims that comparison in the same transaction.
        """
        with self._transaction(write=True) as db:
            row = queries.latest_answer(db, labeler, task, among)
            if row is None:
                return None
            undo = Event(row.comparison_id, labeler, "undo", created=time.time(), repeat=row.repeat)
            sitting = self._sit_down(db, undo, row.task)
            history.take_back(db, row, undo._replace(session=sitting.id))
            if holder:
                claims.claim(db, labeler, row.comparison_id, holder, row.repeat)
        self._sittings[labeler, row.task] = sitting, undo.created
        return row.comparison_id

    def labels(
        self, task: str | None = None, labeler: str | None = None, *, repeats: bool = False,
        gold: bool = False
    ) -> list[Label]:  # fmt: skip
        """Read the choices that stand, oldest first; those on gold comparisons only with `gold`.

        `repeats` gives the second answers to comparisons that were asked again, and only those.
        """
        with self._transaction() as db:
            return queries.find_labels(db, task, labeler, repeats, gold)

    def add_labels(self, labels: Iterable[Label]) -> int:
        """Add labels made elsewhere (all or none), and return how many are new.

        Raises ValueError if one contradicts a label in this store.
        """
        given = [
            Event(
                x.comparison_id, x.labeler, "choose", x.choice, (), x.seconds, x.created,
                x.simulated
            )
            for x in labels
        ]  # fmt: skip
        return self.append(Contents(events=given), strict=True).events

    def contents(self, task: str | None = None) -> Contents:
        """Read everything (of one task), with the whole history."""
        with self._transaction() as db:
            return merging.contents(db, task)

    def append(self, contents: Contents, *, strict: bool = False) -> Taken:
        """Take over the contents of another store (all or none).

        What is in this store stands; contradictions are left out and reported, or raise ValueError
        if `strict`. Repeating it is harmless: an answer that its labeler took back stays taken
        back.
        """
        with self._transaction(write=True) as db:
            taken = merging.append(db, contents)
            if strict and taken.conflicts:
                raise ValueError(f"{taken.conflicts[0]}; nothing was added")
        return taken

    def events(
        self, task: str | None = None, labeler: str | None = None, *, standing: bool = False
    ) -> list[Event]:
        """Read the whole history, oldest first, or only the answers that stand (`standing`)."""
        where = [] if labeler is None else [events.c.labeler == labeler]
        if standing:
            where.append(answers.c.event_id.is_not(None))
        with self._transaction() as db:
            return [event for event, _ in history.read(db, *where, task=task)]

    def answered(
        self, labeler: str, task: str, among: Collection[str] | None = None,
        latest: int | None = None
    ) -> list[tuple[str, str, bool]]:  # fmt: skip
        """Read a labeler's answers that stand, oldest first.

        Each is (comparison, kind, whether a repeat). They can be limited to some comparisons
        (`among`) and to the `latest` so many.
        """
        with self._transaction() as db:
            return queries.answered(db, labeler, task, among, latest)

    # ---- what is next ----------------------------------------------------------------------------

    def next(self, labeler: str, task: str, without: Iterable[str] = ()) -> Comparison | None:
        """Find the first comparison of the task that this labeler has not answered, or None.

        Those in `without` are passed over.
        """
        with self._transaction() as db:
            return queries.next_open(db, labeler, task, without)

    def progress(self, labeler: str, task: str) -> Progress:
        """Count what this labeler has done, skipped and been asked again, and the task's total."""
        with self._transaction() as db:
            return queries.progress(db, labeler, task)

    def claim(self, labeler: str, comparison_id: str, holder: str, *, repeat: bool = False) -> bool:
        """Claim an item for a window, or return False if another window shows it now.

        `holder` names the window: host/process/number. A window claims one item at a time. Claims
        of windows that are gone, or were left alone for ten minutes, count for nothing.
        """
        with self._transaction(write=True) as db:
            return claims.claim(db, labeler, comparison_id, holder, repeat)

    def claimed(self, labeler: str, but: str = "") -> set[tuple[str, bool]]:
        """Return the items that the labeler's windows show now, except `but`: (id, is a repeat)."""
        with self._transaction() as db:
            return claims.claimed(db, labeler, but)

    def release(self, labeler: str, holders: str) -> None:
        """Drop the claims of every window of the labeler whose name begins with `holders`."""
        with self._transaction(write=True) as db:
            claims.release(db, labeler, holders)

    # ---- who, when, and blind judging ------------------------------------------------------------

    def labelers(self) -> list[str]:
        """Name everybody who has labelled here, in the order of their first answers."""
        with self._transaction() as db:
            return list(
                db.scalars(sa.select(labelers.c.name).order_by(labelers.c.created, labelers.c.name))
            )

    def sit_down(self, labeler: str, task: str, question: str = "", rubric: str = "") -> Sitting:
        """Begin a sitting, and keep the question and rubric that its labeler reads.

        Without it a sitting begins with the first answer.
        """
        sitting = _sitting(labeler, task, time.time(), question, rubric)
        with self._transaction(write=True) as db:
            db.execute(sa.insert(sessions).values(sitting._asdict()))
        self._sittings[labeler, task] = sitting, sitting.started
        return sitting

    def sittings(self, labeler: str | None = None) -> list[Sitting]:
        """Read the sittings (of one labeler), oldest first."""
        with self._transaction() as db:
            return queries.sittings(db, labeler)

    def add_judgements(
        self, pairs: Iterable[Comparison], systems: Iterable[tuple[str, str]]
    ) -> int:
        """Add pairs to be judged blind, with the systems that wrote options 0 and 1.

        No card reads who wrote what. Returns how many pairs are new.
        """
        pairs = list(pairs)
        by_id = dict(zip((pair.id for pair in pairs), systems, strict=True))
        return self.append(Contents(pairs, systems=by_id), strict=True).comparisons

    def judgements(self, task: str | None = None) -> list[Judgement]:
        """Read the verdicts that stand on blind pairs; a skipped pair has none."""
        with self._transaction() as db:
            return queries.judgements(db, task)

    def close(self) -> None:
        """Close all connections; the store opens them again when it is used."""
        self._engine.dispose()

    def _sit_down(self, db: sa.Connection, event: Event, task: str) -> Sitting:
        """Return the sitting of an event: a new one at the beginning and after a long break."""
        before, latest = self._sittings.get((event.labeler, task), (None, 0.0))
        if before is not None and event.created - latest <= BREAK_SECONDS:
            return before
        question, rubric = (before.question, before.rubric) if before else ("", "")
        sitting = _sitting(event.labeler, task, event.created, question, rubric)
        db.execute(sa.insert(sessions).values(sitting._asdict()))
        return sitting

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        # a forked child must not speak through its parent's connections
        if os.getpid() != self._pid:
            self._engine.dispose(close=False)
            self._pid, self._sittings = os.getpid(), {}
        if self.file is not None and (
            not self.file.exists() or self.file.stat().st_ino != self._inode
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


def _sitting(labeler: str, task: str, started: float, question: str, rubric: str) -> Sitting:
    version = str(sys.modules[__name__.partition(".")[0]].__version__)
    made = Sitting(
        secrets.token_hex(8), labeler, task, started, socket.gethostname(), version, question,
        rubric
    )  # fmt: skip
    fits(sessions, made._asdict())
    return made
