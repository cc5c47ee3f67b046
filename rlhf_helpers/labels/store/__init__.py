"""The label store: every click is an event that stays, and each answer that stands is one row.

It is one SQLite file by default, or any database of SQLAlchemy's by URL. Threads and processes may
share it: notebook kernels deliver clicks on another thread than the cells. `label_store` has the
class; `opening` the engine and the journal, `tables` the schema, `events` the records, `history`
what is written, `queries` what is read, `merging` how stores are merged, `claims` what each
window shows.
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
