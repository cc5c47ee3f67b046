"""The format `pairwise`: prompt, first, second, choice ("first" or "second")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from rlhf_helpers.labels.exchange import dialogue, files
from rlhf_helpers.labels.exchange.pairs import Parsed
from rlhf_helpers.records import Comparison, Label

_SIDES = ("first", "second")


def parse(record: dict[str, Any]) -> Parsed:
    """Read one comparison of two replies."""
    if record["choice"] not in _SIDES:
        raise ValueError(f'choice {record["choice"]!r} must be "first" or "second"')
    if record["prompt"] is None:
        raise ValueError("the prompt is missing")
    query, *options = dialogue.split(
        record["prompt"], record["first"], record["second"], repeated=False
    )
    return query, options, _SIDES.index(record["choice"]), record


def write(file: TextIO, rows: Sequence[tuple[Comparison, Label]]) -> int:
    """Write JSON lines; raises ValueError for a comparison that has not two options."""
    files.write_lines(file, [_record(comparison, label) for comparison, label in rows])
    return len(rows)


def _record(c: Comparison, x: Label) -> dict[str, Any]:
    if len(c.options) != 2:
        raise ValueError(
            f"comparison {c.id} has {len(c.options)} options; pairwise holds two: write it as pairs"
        )
    return {
        "prompt": c.query,
        "first": c.options[0],
        "second": c.options[1],
        "choice": _SIDES[x.choice],
        "source": c.source,
        "round": c.round,
        "labeler": x.labeler,
        "seconds": x.seconds,
        "created": x.created,
        "simulated": x.simulated,
    }
