"""How a label store is opened and read: every method is one transaction, on any thread, in any
process."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from rlhf_helpers.labels.store import claims, history, merging, opening, queries
from rlhf_helpers.labels.store.events import Contents, Event, Judgement, Progress, Sitting
from rlhf_helpers.labels.store.opening import StoreError
from rlhf_helpers.labels.store.tables import answers, comparisons, events, labelers
from rlhf_helpers.records import Comparison, Label


class Reader:
    """What can be read from a label store."""

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
        return f"{type(self).__name__}({self.name!r})"

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

    def gold(self, task: str | None = None) -> dict[str, int]:
        """Read the gold comparisons (of one task): the right choice by id."""
        with self._transaction() as db:
            return queries.gold_choices(db, task)

    def equal(self, task: str) -> set[str]:
        """Name the comparisons of a task whose options all read the same, and are never asked."""
        with self._transaction() as db:
            return queries.equal_options(db, task)

    def labels(
        self, task: str | None = None, labeler: str | None = None, *, repeats: bool = False,
        gold: bool = False
    ) -> list[Label]:  # fmt: skip
        """Read the choices that stand, oldest first; those on gold comparisons only with `gold`.

        `repeats` gives the second answers to comparisons that were asked again, and only those.
        """
        with self._transaction() as db:
            return queries.find_labels(db, task, labeler, repeats, gold)

    def contents(self, task: str | None = None) -> Contents:
        """Read everything (of one task), with the whole history."""
        with self._transaction() as db:
            return merging.contents(db, task)

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

    def claimed(self, labeler: str, but: str = "") -> set[tuple[str, bool]]:
        """Return the items that the labeler's windows show now, except `but`: (id, is a repeat)."""
        with self._transaction() as db:
            return claims.claimed(db, labeler, but)

    def labelers(self) -> list[str]:
        """Name everybody who has labelled here, in the order of their first answers."""
        with self._transaction() as db:
            return list(
                db.scalars(sa.select(labelers.c.name).order_by(labelers.c.created, labelers.c.name))
            )

    def sittings(self, labeler: str | None = None) -> list[Sitting]:
        """Read the sittings (of one labeler), oldest first."""
        with self._transaction() as db:
            return queries.sittings(db, labeler)

    def judgements(self, task: str | None = None) -> list[Judgement]:
        """Read the verdicts that stand on blind pairs; a skipped pair has none."""
        with self._transaction() as db:
            return queries.judgements(db, task)

    def history(self, labeler: str, comparison_id: str) -> list[Event]:
        """Read all that a labeler ever said of one comparison, oldest first."""
        mine = (events.c.labeler == labeler, events.c.comparison_id == comparison_id)
        with self._transaction() as db:
            return [event for event, _ in history.read(db, *mine)]

    def close(self) -> None:
        """Close all connections; the store opens them again when it is used."""
        self._engine.dispose()

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
