"""Labels in files, of this program and of others. `read` and `load` take in, `write`, `export` and
`save_dataset` give away.

    openai    one JSON array: token ids `query`, `sample0` ... `sample3`, padded with 50259, and `best` (released with the paper)
    pairs     JSON lines: prompt, chosen, rejected; texts or lists of messages; the form that preference-tuning libraries read
    pairwise  JSON lines: prompt, first, second, choice ("first" or "second")
    csv       columns query, option_0, option_1, ..., choice (an index), and if known options (their number), labeler, seconds, ...

`store.LabelStore.add` and `add_labels` take what `read` gives. A whole store, with its history, is
written by `export` and taken over by `load`. `dataset`, `from_dataset` and `save_dataset` are for
the `datasets` library.
"""

from rlhf_helpers.labels.exchange.own import Loaded, export, load
from rlhf_helpers.labels.exchange.parquet import dataset, from_dataset, save_dataset
from rlhf_helpers.labels.exchange.reading import OPENAI_PAD, Fault, Read, read
from rlhf_helpers.labels.exchange.writing import as_pairs, labelled, write

__all__ = [
    "OPENAI_PAD", "Fault", "Loaded", "Read", "as_pairs", "dataset", "export", "from_dataset",
    "labelled", "load", "read", "save_dataset", "write",
]  # fmt: skip
