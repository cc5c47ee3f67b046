"""Make the documents of a split, each from its own seed, and write them as parquet with their fingerprints."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from town.chance import Chance
from town.narrator import Tale
from town.simulation import happen

SEED = 2019
SIZES = {
    "stories": {"train": 24_000, "validation": 1_000, "test": 1_000},
    "posts": {"train": 10_000, "validation": 500, "test": 500},
    "reports": {"train": 8_000, "validation": 500, "test": 500},
}


def story(split: str, number: int | str) -> dict:
    """Make one story with the moods and descriptions of its sentences."""
    chance = Chance(f"{SEED} stories {split} {number}")
    happening = happen(chance, split)
    tale = Tale(happening, chance, split)
    rows = tale.tell()
    people = {k: p.name for k, p in happening.people.items()}
    cast = people | {"thing": happening.thing.noun, "place": happening.places[0].noun}
    return {
        "text": " ".join(row["text"] for row in rows),
        "goal": happening.goal.name,
        "moods": " ".join(row["mood"] for row in rows),
        "descriptions": " ".join(row["description"] for row in rows),
        "steps": " ".join(row["step"] for row in rows),
        "cast": json.dumps(cast),
        "nats": round(chance.nats, 3),
    }


MAKERS = {"stories": story}
FACTS: dict[str, tuple[str, ...]] = {}


def make(kind: str, split: str, number: int | str) -> dict:
    return MAKERS[kind](split, number)
