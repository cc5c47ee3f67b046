"""How much a model's answers differ, and whether they stay with their prompts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from .files import load
from .tracker import Tracker
from .words import sentences

LOST = {"people", "thing", "place"}  # the violations that lose somebody or something


@cache
def _names() -> re.Pattern[str]:
    words = load()
    known = {p.name for p in words.people} | {t.noun for t in words.things}
    longest = sorted(known, key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, longest)) + r")\b")


def masked(text: str) -> str:
    """Put one mark in the place of every name and every thing: what is left is the sentence."""
    return _names().sub("*", text.strip())


def variety(answers: Sequence[str]) -> dict[str, float]:
    """Measure how much answers differ.

    Shares of all answers, names and things masked: `different`, those that are left when each is
    counted once; `most_frequent`; `most_frequent_opening`, by the first four words (an opening can
    come back with another trade or mood behind it). `distinct_2`: different pairs of neighbouring
    words within answers, names as they are, over all such pairs.
    """
    counts = Counter(map(masked, answers))
    openings = Counter(" ".join(masked(a).split()[:4]) for a in answers)
    pairs = [pair for answer in answers for pair in pairwise(answer.split())]
    return {
        "different": len(counts) / len(answers),
        "most_frequent": counts.most_common(1)[0][1] / len(answers),
        "most_frequent_opening": openings.most_common(1)[0][1] / len(answers),
        "distinct_2": len(set(pairs)) / max(1, len(pairs)),
    }


def follows(tracker: Tracker, prompts: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Return the share of answers whose sentences the grammar can read, and of these the share
    that keep the people, the thing and the place of their prompt; an empty answer is not read."""
    readable = kept = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        said = sentences(answer.strip())
        if said and all(map(tracker.recogniser.well_formed, said)):
            readable += 1
            wrong = {kind for _, kind in tracker.continues(prompt.strip(), answer.strip())}
            kept += not LOST & wrong
    return {"readable": readable / len(answers), "kept": kept / max(1, readable)}
