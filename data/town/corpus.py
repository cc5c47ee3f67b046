"""Make documents, each from its own seed; write the splits as parquet with their fingerprints."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from town.chance import Chance  # noqa: E402
from town.narrator import Tale  # noqa: E402
from town.papers import POST_FACTS, REPORT_FACTS, post, report  # noqa: E402
from town.simulation import happen  # noqa: E402

DATA = Path(__file__).resolve().parent.parent
SEED = 2019
SIZES = {
    "stories": {"train": 20_000, "validation": 1_000, "test": 1_000},
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


MAKERS = {
    "stories": story,
    "posts": lambda split, number: post(f"{SEED} posts {split} {number}", split),
    "reports": lambda split, number: report(f"{SEED} reports {split} {number}", split),
}
# long pages: repeats are found over a whole column
SMALL = {
    "compression": "zstd", "compression_level": 19, "use_dictionary": False,
    "data_page_size": 1 << 30,
}  # fmt: skip
FACTS: dict[str, tuple[str, ...]] = {"stories": (), "posts": POST_FACTS, "reports": REPORT_FACTS}


def make(kind: str, split: str, number: int | str) -> dict:
    return MAKERS[kind](split, number)


def make_split(kind: str, split: str, size: int, taken: set[str]) -> list[dict]:
    """Make `size` documents whose texts are not in `taken` (which grows)."""
    rows, number = [], 0
    while len(rows) < size:
        row = make(kind, split, number)
        number += 1
        if row["text"] not in taken:
            taken.add(row["text"])
            rows.append(row)
    return rows


def digest(rows: list[dict]) -> str:
    """Hash rows as canonical JSON lines: the same on every machine."""
    return hashlib.sha256(
        "\n".join(json.dumps(r, sort_keys=True) for r in rows).encode()
    ).hexdigest()


def main() -> None:
    """Write every split of every kind, and the fingerprints."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "corpus")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for kind, splits in SIZES.items():
        taken: set[str] = set()
        for split, size in splits.items():
            rows = make_split(kind, split, size, taken)
            hashes[f"{kind}-{split}"] = digest(rows)
            path = out / f"{kind}-{split}.parquet"
            pd.DataFrame(rows).to_parquet(path, index=False, **SMALL)
            print(
                f"{kind} {split}: {size} documents,",
                f"{sum(len(r['text']) for r in rows):,} characters",
            )
    (out / "hashes.json").write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
