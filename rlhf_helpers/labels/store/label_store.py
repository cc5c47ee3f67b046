"""The label store itself: every method is one transaction, on any thread, in any process."""

from __future__ import annotations

import secrets
import socket
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa

from rlhf_helpers.labels.store import claims, history, merging, queries
from rlhf_helpers.labels.store.events import (
    AlreadyAnswered,
    Contents,
    Event,
    Sitting,
    Taken,
    check,
    fits,
)
from rlhf_helpers.labels.store.reader import Reader
from rlhf_helpers.labels.store.tables import answers, events, sessions
from rlhf_helpers.records import Comparison, Label

BREAK_SECONDS = 1_800.0  # a longer break ends the sitting


class LabelStore(Reader):
    """Comparisons and their labels, in one SQLite file (a path) or a server database (a URL).

    URLs are SQLAlchemy's. Raises StoreError for a database that is not a label store. `Reader` has
    what is read.
    """

    def add(self, items: Iterable[Comparison]) -> int:
        """Add comparisons to be asked, and return how many of them are new."""
        with self._transaction(write=True) as db:
            return history.add(db, items)

    def set_gold(self, choices: Mapping[str, int | None]) -> None:
        """Say which option of comparisons (by id) is right, or None for one that is not gold.

        Answers to gold comparisons measure attention.
        """
        with self._transaction(write=True) as db:
            for comparison_id, choice in choices.items():
                history.set_gold(db, comparison_id, choice)

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

    def undo_flag(
        self, labeler: str, task: str, *, among: Collection[str] | None = None
    ) -> str | None:
        """Withdraw the labeler's latest flag, if no answer that stands came after it.

        Returns the id of its comparison, or None if there is no such flag.
        """
        with self._transaction(write=True) as db:
            flag = queries.latest_flag(db, labeler, task, among)
            if flag is None:
                return None
            undo = Event(
                flag.comparison_id, labeler, "undo", created=time.time(), undoes=flag.id
            )  # fmt: skip
            sitting = self._sit_down(db, undo, task)
            db.execute(sa.insert(events).values(undo._replace(session=sitting.id).row()))
        self._sittings[labeler, task] = sitting, undo.created
        return flag.comparison_id

    def change(
        self, labeler: str, answer: int, kind: str, choice: int | None = None, *,
        seconds: float = 0.0, note: str = "",
    ) -> int:  # fmt: skip
        """Put another answer in the place of one that stands, `answer` its event's number.

        The history keeps both. Raises AlreadyAnswered if that one stands no longer, because another
        window has changed it or taken it back.
        """
        with self._transaction(write=True) as db:
            mine = sa.and_(answers.c.event_id == answer, answers.c.labeler == labeler)
            row = db.execute(sa.select(answers).where(mine)).first()
            if row is None:
                raise AlreadyAnswered("that answer stands no longer: it was changed or taken back")
            ((before, _),), now = history.read(db, events.c.id == answer), time.time()
            new = before._replace(
                kind=kind, choice=choice, seconds=seconds, created=now, note=note, id=None
            )
            item = history.find(db, row.comparison_id)
            check(new, len(item.options))
            undo = Event(row.comparison_id, labeler, "undo", created=now, repeat=row.repeat)
            sitting = self._sit_down(db, undo, item.task)
            history.take_back(db, row, undo._replace(session=sitting.id))
            number = history.write(db, new._replace(session=sitting.id), item)
        self._sittings[labeler, item.task] = sitting, now
        return number

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

    def claim(self, labeler: str, comparison_id: str, holder: str, *, repeat: bool = False) -> bool:
        """Claim an item for a window, or return False if another window shows it now.

        `holder` names the window: host/process/number. A window claims one item at a time. Claims
        of windows that are gone, or were left alone for ten minutes, count for nothing.
        """
        with self._transaction(write=True) as db:
            return claims.claim(db, labeler, comparison_id, holder, repeat)

    def release(self, labeler: str, holders: str) -> None:
        """Drop the claims of every window of the labeler whose name begins with `holders`."""
        with self._transaction(write=True) as db:
            claims.release(db, labeler, holders)

    def sit_down(self, labeler: str, task: str, question: str = "", rubric: str = "") -> Sitting:
        """Begin a sitting, and keep the question and rubric that its labeler reads.

        Without it a sitting begins with the first answer.
        """
        sitting = _sitting(labeler, task, time.time(), question, rubric)
        with self._transaction(write=True) as db:
            db.execute(sa.insert(sessions).values(sitting._asdict()))
        self._sittings[labeler, task] = sitting, sitting.started
        return sitting

    def add_judgements(
        self, pairs: Iterable[Comparison], systems: Iterable[tuple[str, str]]
    ) -> int:
        """Add pairs to be judged blind, with the systems that wrote options 0 and 1.

        No card reads who wrote what. Returns how many pairs are new.
        """
        pairs = list(pairs)
        by_id = dict(zip((pair.id for pair in pairs), systems, strict=True))
        return self.append(Contents(pairs, systems=by_id), strict=True).comparisons

    def _sit_down(self, db: sa.Connection, event: Event, task: str) -> Sitting:
        """Return the sitting of an event: a new one at the beginning and after a long break."""
        before, latest = self._sittings.get((event.labeler, task), (None, 0.0))
        if before is not None and event.created - latest <= BREAK_SECONDS:
            return before
        question, rubric = (before.question, before.rubric) if before else ("", "")
        sitting = _sitting(event.labeler, task, event.created, question, rubric)
        db.execute(sa.insert(sessions).values(sitting._asdict()))
        return sitting


def _sitting(labeler: str, task: str, started: float, question: str, rubric: str) -> Sitting:
    version = str(sys.modules[__name__.partition(".")[0]].__version__)
    made = Sitting(
        secrets.token_hex(8), labeler, task, started, socket.gethostname(), version, question,
        rubric
    )  # fmt: skip
    fits(sessions, made._asdict())
    return made
