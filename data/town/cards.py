"""Cards for labelling: the beginning of a story and continuations that all follow from it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

from .chance import Chance
from .corpus import SEED
from .narrator import Tale
from .simulation import again, happen


@dataclass(frozen=True)
class Card:
    """A prompt (one to three sentences) and how it may go on, cut after so many words."""

    prompt: str
    alternatives: tuple[str, ...]


def card(number: int, alternatives: int = 4, words: int = 20, split: str = "train") -> Card:
    """Tell story `number` up to its second event at most; then let it go on in several ways."""
    chance = Chance(f"{SEED} stories {split} {number}")
    tale = Tale(happen(chance, split), chance, split)
    told = 1 + number % 2
    rows = [row for i in range(told) for row in tale.chapter(i, i)]
    out = []
    for way in range(alternatives):
        other = copy.deepcopy(tale)
        other.chance = Chance(f"{SEED} card {number} {way}")
        again(other.happening, told, other.chance)
        text = " ".join(row["text"] for row in other.tell(told))
        out.append(cut(text, words))
    return Card(" ".join(row["text"] for row in rows), tuple(out))


def cut(text: str, words: int) -> str:
    """Keep so many words, as a model that stops after so many tokens does."""
    found = re.findall(r"\S+\s*", text)
    return "".join(found[:words]).rstrip()
