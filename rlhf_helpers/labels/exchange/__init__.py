"""Labels in files, of this program and of others: `read` and `load` take in, `write`, `export` and
`save_dataset` give away.

    openai    token ids `query`, `sample0`, `sample1`, ..., and `best` (released with the paper)
    pairs     prompt, chosen, rejected: texts or lists of messages, as preference-tuning libraries
              have them
    pairwise  prompt, first, second, choice ("first" or "second")
    csv       query, option_0, option_1, ..., choice (an index from 0)

Each may come as JSON lines, as a JSON array or as a table, compressed or not; a file of another
kind is named and refused, with the lines that read it. `records` gives the raw records of such a
file, and `from_dataset` reads rows that you make of them, or a `datasets.Dataset`.

`store.LabelStore.add` and `add_labels` take what `read` gives. A whole store, with its history, is
written by `export` and taken over by `load`.
"""

from rlhf_helpers.labels.exchange.openai import OPENAI_PAD
from rlhf_helpers.labels.exchange.own import Loaded, export, load
from rlhf_helpers.labels.exchange.parquet import dataset, from_dataset, save_dataset
from rlhf_helpers.labels.exchange.reading import Fault, Read, read, records
from rlhf_helpers.labels.exchange.writing import labelled, write

__all__ = [
    "OPENAI_PAD", "Fault", "Loaded", "Read", "dataset", "export", "from_dataset", "labelled",
    "load", "read", "records", "save_dataset", "write",
]  # fmt: skip
