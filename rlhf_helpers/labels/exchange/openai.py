"""The format `openai`, released with the paper: one JSON array of token ids `query`, `sample0`,
`sample1`, ..., padded with 50259, and `best`, the index of the chosen sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TextIO

from transformers import PreTrainedTokenizerBase

from rlhf_helpers.labels.exchange.files import Refused
from rlhf_helpers.labels.exchange.pairs import Parsed
from rlhf_helpers.labels.exchange.tables import index
from rlhf_helpers.records import Comparison, Label

OPENAI_PAD = 50_259  # outside GPT-2's vocabulary


def parse(record: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Parsed:
    """Read one comparison with the tokenizer that made its ids."""
    names = [name for name in record if name.startswith("sample") and name[6:].isdecimal()]
    names.sort(key=lambda name: int(name[6:]))  # sample10 is the last
    if names and names[0] != "sample0":
        raise Refused(f"the samples are counted from {names[0]}; they must begin with sample0")
    if names != [f"sample{k}" for k in range(len(names))]:
        raise ValueError(f"a sample is missing: there are {', '.join(names)}")
    rows = [record["query"], *(record[name] for name in names)]
    if any(not isinstance(row, list) or any(type(t) is not int for t in row) for row in rows):
        raise ValueError("query and samples must be lists of token ids")
    rows = [[t for t in row if t != OPENAI_PAD] for row in rows]
    if strange := [t for row in rows for t in row if not 0 <= t < len(tokenizer)]:
        raise ValueError(
            f"token id {strange[0]} is not in this tokenizer's vocabulary of {len(tokenizer):,}: "
            "is it GPT-2's?"
        )
    query, *options = tokenizer.batch_decode(rows)
    return query, options, index(record["best"]), {}


def write(
    file: TextIO,
    rows: Sequence[tuple[Comparison, Label]],
    tokenizer: PreTrainedTokenizerBase | None,
) -> int:
    """Write token ids; raises ValueError for a tokenizer that does not give the same texts back."""
    if tokenizer is None:
        raise ValueError("the openai format holds token ids: pass a tokenizer (GPT-2's)")
    texts = [[c.query, *c.options] for c, _ in rows]
    ids = [[tokenizer(t, add_special_tokens=False)["input_ids"] for t in each] for each in texts]
    for before, row in zip(texts, ids, strict=True):
        if before != tokenizer.batch_decode(row) or any(OPENAI_PAD in tokens for tokens in row):
            raise ValueError(
                f"this tokenizer does not give {before[0][:40]!r} and its options back as they "
                "were: use GPT-2's, or another format"
            )
    wide = max((len(row[0]) for row in ids), default=0)
    long = max((len(tokens) for row in ids for tokens in row[1:]), default=0)
    records = [
        {"query": _padded(row[0], wide)}
        | {f"sample{k}": _padded(tokens, long) for k, tokens in enumerate(row[1:])}
        | {"best": label.choice}
        for row, (_, label) in zip(ids, rows, strict=True)
    ]
    json.dump(records, file)
    return len(records)


def _padded(tokens: list[int], width: int) -> list[int]:
    return tokens + [OPENAI_PAD] * (width - len(tokens))
