"""The label store. Comparisons go in, every click is an event that stays, what stands now is one
row per answer.

One SQLite file by default, any database that SQLAlchemy speaks to by URL. Usable from every thread
and from many processes at once: notebook kernels deliver clicks on another thread than the cells.
`label_store` is the door, `events` the history and how histories are merged, `claims` what is on
whose screen; the tables are in `database`.
"""

from rlhf_helpers.labels.store.events import (
    ANSWERS,
    AlreadyAnswered,
    Contents,
    Event,
    Judgement,
    Progress,
    Sitting,
    Taken,
)
from rlhf_helpers.labels.store.label_store import LabelStore
from rlhf_helpers.labels.store.opening import StoreError

__all__ = [
    "ANSWERS",
    "AlreadyAnswered",
    "Contents",
    "Event",
    "Judgement",
    "LabelStore",
    "Progress",
    "Sitting",
    "StoreError",
    "Taken",
]
