"""How much a line leaves to choose: lines that say more in fewer words come oftener."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from statistics import median

from .files import load
from .language import Node, read

OPEN = {  # nats in slots that are no list, roughly
    "person": 3.0,
    "clothes": 3.0,
    "feat": 2.0,
    "spot": 2.5,
    "animal": 1.0,
    "address": 3.5,
    "loot": 3.0,
    "feel+": 2.5,
    "feel-": 2.5,
    "P": 0.3,
}
BOUND_WORDS = {"o": 2.0, "X": 1.0, "S": 1.0, "Q": 1.5, "dish": 1.5, "part": 1.0, "opart": 3.0}
ALPHA = 0.7
PER_WORD = 1.3
TOP = 3.0  # a line too frequent is what a tuned model opens with, one too rare is no variety
MOST = 2.5  # nats that one list may lend a line: goods and numbers are no merit of it


def choice(node: Node) -> float:
    """Return about how many nats the writing of a template takes."""
    if node.kind == "text":
        return 0.0
    if node.kind == "all":
        return sum(map(choice, node.parts))
    if node.kind == "slot":
        entries = load().lists.get(node.value)
        if not entries:
            return OPEN.get(node.value, 0.0)
        inside = sum(choice(read(e)) for e in entries) / len(entries)
        return min(MOST, math.log(len(entries)) + inside)
    return math.log(len(node.parts)) + sum(map(choice, node.parts)) / len(node.parts)


def length(text: str) -> float:
    """Count the words of a template: a slot stands for as many as it is likely to have."""
    flat = re.sub(r"\(([^|()]*)\|[^()]*\)", r"\1", text)
    slots = re.findall(r"\{(\w+)[^}]*\}", flat)
    return len(re.sub(r"\{[^}]*\}", " ", flat).split()) + sum(
        1 + BOUND_WORDS.get(s, 1.0) for s in slots
    )


@cache
def worth(text: str) -> float:
    """Return the weight of a line among others."""
    return math.exp(ALPHA * max(-12.0, min(6.0, choice(read(text)) - PER_WORD * length(text))))


def level(weights: Mapping[str, float]) -> dict[str, float]:
    """Keep the weights of a pool of lines within `TOP` times and 1 / `TOP` of the middle one."""
    middle = median(weights.values())
    return {t: max(middle / TOP, min(w, middle * TOP)) for t, w in weights.items()}
