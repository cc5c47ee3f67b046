"""What a label store gives and takes: events of the history, progress, sittings, judgements; and
whether an event can be true."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from rlhf_helpers.labels.store.tables import events, sessions
from rlhf_helpers.records import Comparison

MOST = 2**31 - 1  # that an integer column of any database holds
LONGEST = 1e12  # seconds: 30,000 years
# kinds of event that settle a comparison; "flag" only remarks on it
ANSWERS = ("choose", "tie", "skip")


class AlreadyAnswered(ValueError):
    """This labeler has already answered this comparison, perhaps in another window."""


class Progress(NamedTuple):
    """How far a labeler is: `done` counts choices and ties, `repeats` second answers."""

    done: int
    skipped: int
    total: int
    repeats: int = 0

    @property
    def left(self) -> int:
        return self.total - self.done - self.skipped


class Event(NamedTuple):
    """One row of the history; `order` has the option indices as they stood on the screen."""

    comparison_id: str
    labeler: str
    kind: str
    choice: int | None = None  # of a flag: the option that it is about, if it is about one
    order: tuple[int, ...] = ()
    seconds: float = 0.0
    created: float = 0.0  # seconds since 1970
    simulated: bool = False
    repeat: bool = False  # asked again, to see how consistent the labeler is
    note: str = ""
    undoes: int | None = None
    session: str | None = None
    id: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the columns of the table, except the number, which the database assigns."""
        values = self._asdict()
        del values["id"]
        return values | {"shown": list(values.pop("order"))}

    @property
    def identity(self) -> Hashable:
        """What is the same for this event in every store that has it."""
        return self.labeler, self.comparison_id, self.kind, self.choice, self.repeat, self.created

    @property
    def said(self) -> str:
        return f"option {self.choice}" if self.kind == "choose" else self.kind


class Sitting(NamedTuple):
    """One labeler at work without a long break: a row of `sessions`, which events refer to."""

    id: str
    labeler: str
    task: str
    started: float  # seconds since 1970
    host: str = ""
    version: str = ""
    question: str = ""
    rubric: str = ""


class Judgement(NamedTuple):
    """A verdict on a blind pair, with the names of the systems; `choice` None is "cannot tell"."""

    comparison_id: str
    labeler: str
    systems: tuple[str, str]
    choice: int | None
    seconds: float
    created: float
    simulated: bool

    @property
    def winner(self) -> str | None:
        return None if self.choice is None else self.systems[self.choice]


class Contents(NamedTuple):
    """All that a store holds, to be written to a file or taken over by another store."""

    comparisons: Sequence[Comparison] = ()
    events: Sequence[Event] = ()
    sittings: Sequence[Sitting] = ()
    gold: Mapping[str, int] = {}  # right choice by comparison
    systems: Mapping[str, tuple[str, str]] = {}  # of a blind pair: who wrote its options


class Taken(NamedTuple):
    """How much was new in other contents, and in words the contradictions that were left out."""

    comparisons: int
    events: int
    conflicts: list[str]


def check(a: Event, options: int) -> None:
    """Raise ValueError for an event that cannot be about a comparison with so many options."""
    if not a.labeler or not isinstance(a.labeler, str):
        raise ValueError("an answer needs the name of its labeler")
    if a.kind not in (*ANSWERS, "flag", "undo"):
        raise ValueError(
            f"{a.kind!r} is not a kind of event; use choose, tie, skip or flag (and undo() to take "
            "back)"
        )
    if a.kind == "choose" or (a.kind == "flag" and a.choice is not None):
        if (
            not isinstance(a.choice, int)
            or isinstance(a.choice, bool)
            or not 0 <= a.choice < options
        ):
            raise ValueError(
                f"choice {a.choice!r} for comparison {a.comparison_id}, which has options 0 to "
                f"{options - 1}"
            )
    elif a.choice is not None:
        raise ValueError(f"a {a.kind} has no choice, got {a.choice!r}")
    if a.order and (
        any(type(i) is not int for i in a.order) or sorted(a.order) != list(range(options))
    ):
        raise ValueError(
            f"order {a.order} for comparison {a.comparison_id} must name each of its {options} "
            "options once"
        )
    if not (
        isinstance(a.simulated, bool) and isinstance(a.repeat, bool) and isinstance(a.note, str)
    ):
        raise ValueError(
            f"simulated and repeat must be true or false, and note text, got {a.simulated!r}, "
            f"{a.repeat!r}, {a.note!r}"
        )
    if (
        type(a.id) not in (int, type(None))
        or type(a.undoes) not in (int, type(None))
        or not isinstance(a.session, str | None)
    ):
        raise ValueError(
            f"id and undoes must be numbers of events, and session text, got {a.id!r}, "
            f"{a.undoes!r}, {a.session!r}"
        )
    _measures("seconds", a.seconds)
    _measures("created", a.created)
    fits(events, a.row())


def check_sitting(s: Sitting) -> None:
    """Raise ValueError for a sitting that cannot be true."""
    if not all(
        isinstance(x, str)
        for x in (s.id, s.labeler, s.task, s.host, s.version, s.question, s.rubric)
    ):
        raise ValueError("a sitting is described by texts, all but the time when it started")
    if not (s.id and s.labeler and s.task):
        raise ValueError("a sitting needs an id, a labeler and a task")
    _measures("started", s.started)
    fits(sessions, s._asdict())


def _measures(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LONGEST:
        raise ValueError(f"{name} must be a number from 0, got {str(value)[:30]}")


def fits(table: sa.Table, row: dict[str, Any]) -> None:
    """Raise ValueError for a text or number that its column cannot hold, on SQLite or a server."""
    for name, value in row.items():
        length = getattr(table.c[name].type, "length", None)
        if length and isinstance(value, str) and len(value) > length:
            raise ValueError(
                f"the {name} {value[:30]!r}... has {len(value)} letters; at most {length} can be "
                "stored"
            )
        if isinstance(value, str) and value.encode(errors="replace").decode() != value:
            raise ValueError(
                f"the {name} {value[:30]!r} is not Unicode text: it holds half of a letter"
            )
        if isinstance(value, int) and not -MOST <= value <= MOST:
            raise ValueError(
                f"the {name} is a number of {len(str(value))} digits; from {-MOST} to {MOST} can "
                "be stored"
            )
