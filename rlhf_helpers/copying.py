"""How much of a summary is copied from its source, and from where.

fragments       the stretches that a summary shares with its source, longest first from the left
measure         coverage, density, longest span, novelty, where it was copied from: one summary
average         the same over many, each with an interval
read            sources and summaries from a file

Source: Grusky, Naaman, Artzi 2018 (Newsroom), section 4; novelty as in the paper's figure of
copied n-grams and sentences. Words are compared without capitals and punctuation.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
SENTENCE = re.compile(r"(?<=[.!?\"])\s+(?=[\"A-Z])")
COLUMNS = ("source", "summary")


class Fragment(NamedTuple):
    """A stretch of words that stands in both texts: where it begins in each, and how long it is."""

    summary_at: int
    source_at: int
    length: int


def words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text)]


def fragments(source: Sequence[str], summary: Sequence[str]) -> list[Fragment]:
    """Find what a summary takes from its source, reading it from the left and taking the longest
    stretch that begins at each place.

    Both are lists of words; of equally long stretches the first in the source counts.
    """
    places: dict[str, list[int]] = {}
    for j, word in enumerate(source):
        places.setdefault(word, []).append(j)
    found, i = [], 0
    while i < len(summary):
        best = Fragment(i, 0, 0)
        for j in places.get(summary[i], []):
            length = 1
            while (
                i + length < len(summary)
                and j + length < len(source)
                and summary[i + length] == source[j + length]
            ):
                length += 1
            if length > best.length:
                best = Fragment(i, j, length)
        found += [best] if best.length else []
        i += max(1, best.length)
    return found


class Copying(NamedTuple):
    """What one summary takes from its source; shares from 0 to 1.

    coverage: of its words that stand in a shared stretch. density: mean length of the stretch that
    a word of it stands in (0 for words of its own); one copied sentence of n words has density n.
    longest: words of the longest stretch. novel_1 to novel_4: of its n-grams that the source does
    not have (nan if it is too short for one). copied_sentences: that stand in the source word for
    word. copied_from: where in the source the longest stretch begins, 0 its first word, 1 its last
    (nan if there is none). words: its length.
    """

    coverage: float
    density: float
    longest: float
    novel_1: float
    novel_2: float
    novel_3: float
    novel_4: float
    copied_sentences: float
    copied_from: float
    words: float


def measure(source: str, summary: str) -> Copying:
    """Measure what a summary takes from its source; raises ValueError if it has no words."""
    theirs, own = words(source), words(summary)
    if not own:
        raise ValueError(f"a summary without words cannot have copied any: {summary!r}")
    taken = fragments(theirs, own)
    longest = max(taken, key=lambda f: f.length, default=Fragment(0, 0, 0))
    sentences = [s for part in SENTENCE.split(summary) if (s := words(part))]
    return Copying(
        sum(f.length for f in taken) / len(own),
        sum(f.length**2 for f in taken) / len(own),
        longest.length,
        *(novelty(theirs, own, n) for n in (1, 2, 3, 4)),
        statistics.mean(contains(theirs, s) for s in sentences),
        longest.source_at / max(1, len(theirs) - 1) if taken else math.nan,
        len(own),
    )


def novelty(source: Sequence[str], summary: Sequence[str], n: int) -> float:
    """Return the share of the summary's n-grams that the source does not have; nan without any."""
    theirs = set(zip(*(source[i:] for i in range(n)), strict=False))
    own = list(zip(*(summary[i:] for i in range(n)), strict=False))
    return sum(gram not in theirs for gram in own) / len(own) if own else math.nan


def contains(source: Sequence[str], sentence: Sequence[str]) -> bool:
    """Say whether a sentence stands in the source, word for word."""
    n = len(sentence)
    return any(list(source[i : i + n]) == list(sentence) for i in range(len(source) - n + 1))


class Mean(NamedTuple):
    """A mean over summaries with the half-width of its 95 % interval (normal approximation)."""

    value: float
    plus_minus: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.plus_minus:.2f}"


def average(sources: Sequence[str], summaries: Sequence[str]) -> dict[str, Mean]:
    """Average every field of `Copying` over summaries; what is nan in one is left out of its mean.

    Raises ValueError unless there are as many sources as summaries, at least one.
    """
    if len(sources) != len(summaries) or not summaries:
        raise ValueError(f"{len(sources)} sources and {len(summaries)} summaries: give pairs")
    rows = [measure(a, b) for a, b in zip(sources, summaries, strict=True)]
    out = {}
    for name, column in zip(Copying._fields, zip(*rows, strict=True), strict=True):
        values = [x for x in column if not math.isnan(x)]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else math.nan
            half = 1.96 * deviation / math.sqrt(len(values))
            out[name] = Mean(statistics.mean(values), half, len(values))
    return out


def read(path: Path) -> tuple[list[str], list[str]]:
    """Read sources and summaries from a CSV file or JSON lines with these two columns.

    Raises ValueError that names the line if one is missing or empty.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
    else:
        rows = [_json(path, n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        for column in COLUMNS:
            if not isinstance(row, dict) or not isinstance(row.get(column), str):
                raise ValueError(f"{path}, record {number}: it has no text called {column!r}")
        if not words(row["summary"]):
            raise ValueError(f"{path}, record {number}: its summary has no words")
    if not rows:
        raise ValueError(f"{path} has no records: each needs a source and a summary")
    return [row["source"] for row in rows], [row["summary"] for row in rows]


def _json(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
