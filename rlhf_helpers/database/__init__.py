"""Floor 0: the tables of the label store, and how its database is opened. Imports nothing of this package.

    comparisons   what is asked; the id is a hash of the content, so adding twice is harmless
    events        append-only history: choose, tie, skip, flag, undo (an undo points at the event it takes back)
    answers       what stands now: at most one row per labeler and comparison (and one more if it was asked again)
    labels        a view for people who read SQL: the choices that stand
    labelers, sessions     who labelled; each sitting with its host, version, question and rubric
    judgements    blind pairs: which system wrote which option, apart from what a card reads
    tasks, standings       counters, so that "next" and "how far" take the same time for ten comparisons and for a million
    claims        what is on a labeler's screen just now, so that a second window of hers shows something else

A file that is not ours is never written to: it is looked at first, and turned away with an error that names it.
"""

from rlhf_helpers.database.opening import SCHEMA, StoreError, engine, explain, prepare
from rlhf_helpers.database.tables import (
    answers,
    claims,
    comparisons,
    events,
    first_open,
    judgements,
    labelers,
    labels,
    recount,
    sessions,
    standings,
    tasks,
)

__all__ = [
    "SCHEMA", "StoreError", "engine", "explain", "prepare", "answers", "claims", "comparisons", "events", "first_open", "judgements",
    "labelers", "labels", "recount", "sessions", "standings", "tasks",
]  # fmt: skip
