"""Write the corpus of Saltmere: stories, posts that ask for advice, newspaper reports (`make
data`).

Every document has its own random stream, seeded by kind, split and number, so that the same text
comes out on any machine and a split can grow without changing the others. Facts are kept beside
posts and reports as columns, so that a summary can be checked exactly.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

from grammar import Frame, World

DATA = Path(__file__).resolve().parent
SEED = 2019
SIZES = {
    "stories": {"train": 24_000, "validation": 1_000, "test": 1_000},
    "posts": {"train": 10_000, "validation": 500, "test": 500},
    "reports": {"train": 8_000, "validation": 500, "test": 500},
}
MOODS = {"bright": 0.32, "plain": 0.36, "dark": 0.32}
DESCRIPTIONS = {"spare": 0.5, "vivid": 0.5}
POST_FACTS = ("who", "name", "what", "when", "where", "amount", "want")
REPORT_FACTS = ("person", "name", "event", "day", "site", "count", "cause", "next")


def draw(weights: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def story(world: World, rng: random.Random) -> dict:
    """Make one paragraph of 4-9 sentences: open, develop, turn, end, with interludes between; mood
    and description drawn per sentence."""
    scene = rng.choice(sorted(world.scenes))
    cast = world.cast(rng)
    parts = (
        ["open"]
        + ["develop"] * rng.randint(1, 3)
        + ["turn"] * rng.randint(1, 2)
        + ["end"] * rng.randint(1, 2)
    )
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        if len(parts) < 9:
            parts.insert(rng.randint(1, len(parts) - 1), "interlude")
    lines, moods, descriptions, used = [], [], [], set()
    for part in parts:
        mood, description = draw(MOODS, rng), draw(DESCRIPTIONS, rng)
        pool = world.interludes if part == "interlude" else world.scenes[scene]
        frame = rng.choice(
            [f for f in pool if f.tags == (part, mood, description) and f not in used]
        )
        used.add(frame)
        lines.append(world.fill(frame, cast, rng))
        moods.append(mood)
        descriptions.append(description)
    kept = {k: cast[k] for k in ("A", "B", "obj", "obj+", "place", "animal", "food", "boat")}
    return {
        "text": " ".join(lines),
        "scene": scene,
        "moods": " ".join(moods),
        "descriptions": " ".join(descriptions),
        "cast": json.dumps(kept),
    }


def fact_slots(frame: Frame, kinds: tuple[str, ...]) -> set[str]:
    return {s.lower() for s in frame.slots} & set(kinds)


def cover(frames: list[Frame], facts: set[str], told: set[str], rng: random.Random) -> list[Frame]:
    """Choose frames that together tell every fact still untold, each telling something new and
    nothing outside `facts`."""
    chosen: list[Frame] = []
    while missing := facts - told:
        tells = {f: fact_slots(f, POST_FACTS + REPORT_FACTS) for f in frames}
        fitting = [
            f for f in frames if f not in chosen and tells[f] <= facts and tells[f] & missing
        ]
        if not fitting:
            raise ValueError(f"no frame tells {sorted(missing)} within {sorted(facts)}")
        frame = rng.choice(fitting)
        chosen.append(frame)
        told = told | tells[frame]
    return chosen


def places_news(frame: Frame) -> bool:
    return {"what", "where"} <= set(frame.slots)


def tagged(frames: list[Frame], *tags: str) -> list[Frame]:
    return [f for f in frames if f.tags == tags]


def interleave(told: list[str], filler: list[str], rng: random.Random) -> list[str]:
    out = list(told)
    for line in filler:
        out.insert(rng.randint(1, len(out)), line)
    return out


def post(world: World, rng: random.Random) -> dict:
    """Make a post: a plea for advice with four to six facts, then `TL;DR:` and a reference (a
    quarter copy a sentence)."""
    optional = rng.sample(["name", "when", "where", "amount", "want"], rng.randint(2, 4))
    facts = {"who", "what", *optional}
    bound = {
        slot: rng.choice(world.slot_list(slot, "post")) for slot in POST_FACTS if slot in facts
    }

    def write(frame: Frame) -> str:
        return world.fill(frame, bound, rng, "post")

    firsts = [f for f in tagged(world.posts, "fact", "first") if fact_slots(f, POST_FACTS) <= facts]
    first = rng.choice(firsts)
    rest = cover(tagged(world.posts, "fact"), facts, fact_slots(first, POST_FACTS), rng)
    preamble = [write(f) for f in rng.sample(tagged(world.posts, "preamble"), rng.randint(0, 2))]
    filler = [write(f) for f in rng.sample(tagged(world.posts, "filler"), rng.randint(0, 2))]
    frames = [first, *rest]
    told = [write(f) for f in frames]
    body = preamble + interleave(told, filler, rng)
    copied = rng.random() < 0.25
    summaries = [f for f in tagged(world.posts, "summary") if fact_slots(f, POST_FACTS) <= facts]
    chosen = rng.choice(summaries)
    # the place is that of a last talk, say, and not of the news
    if places_news(chosen) and not any(map(places_news, frames)):
        chosen = rng.choice([f for f in summaries if not places_news(f)])
    summary = told[0] if copied else write(chosen)
    row = {"text": " ".join(body), "summary": summary, "copied": copied}
    return row | {fact: bound.get(fact, "") for fact in POST_FACTS}


def report(world: World, rng: random.Random) -> dict:
    """Make a newspaper report with a lead, facts and a highlight of two sentences; some start with
    an irrelevant preamble."""
    lead = rng.choice(tagged(world.reports, "lead"))
    facts = fact_slots(lead, REPORT_FACTS) | {"person", "event"}
    optional = [fact for fact in REPORT_FACTS if fact not in facts]
    facts |= set(rng.sample(optional, min(len(optional), rng.randint(5, 6) - len(facts))))
    bound = {
        slot: rng.choice(world.slot_list(slot, "report")) for slot in REPORT_FACTS if slot in facts
    }

    def write(frame: Frame) -> str:
        return world.fill(frame, bound, rng, "report")

    def fitting(*tags: str) -> list[Frame]:
        return [f for f in tagged(world.reports, *tags) if fact_slots(f, REPORT_FACTS) <= facts]

    told = [
        write(f)
        for f in [
            lead,
            *cover(tagged(world.reports, "fact"), facts, fact_slots(lead, REPORT_FACTS), rng),
        ]
    ]
    preamble = [
        write(f) for f in rng.sample(tagged(world.reports, "preamble"), rng.choice([0, 0, 1, 2]))
    ]
    filler = [write(f) for f in rng.sample(tagged(world.reports, "filler"), rng.randint(0, 2))]
    first = rng.choice(fitting("highlight", "first"))
    seconds = [
        f
        for f in fitting("highlight", "second")
        if fact_slots(f, REPORT_FACTS) - fact_slots(first, REPORT_FACTS)
    ]
    copied = rng.random() < 0.25
    highlight = [
        told[0] if copied else write(first),
        write(rng.choice(seconds or fitting("highlight", "second"))),
    ]
    row = {
        "text": " ".join(preamble + interleave(told, filler, rng)),
        "summary": " ".join(highlight),
        "copied": copied,
    }
    return row | {fact: bound.get(fact, "") for fact in REPORT_FACTS}


MAKERS: dict[str, Callable[[World, random.Random], dict]] = {
    "stories": story,
    "posts": post,
    "reports": report,
}


def make_split(world: World, kind: str, split: str, size: int, taken: set[str]) -> list[dict]:
    """Make `size` rows whose texts are not in `taken` (which grows), each from its own seed."""
    rows, number = [], 0
    while len(rows) < size:
        row = MAKERS[kind](world, random.Random(f"{SEED} {kind} {split} {number}"))
        number += 1
        if row["text"] not in taken:
            taken.add(row["text"])
            rows.append(row)
    return rows


def digest(rows: list[dict]) -> str:
    """Hash rows as canonical JSON lines: the same on every machine, whatever wrote the parquet
    file."""
    return hashlib.sha256(
        "\n".join(json.dumps(r, sort_keys=True) for r in rows).encode()
    ).hexdigest()


def main() -> None:
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "corpus")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    world, hashes = World(), {}
    for kind, splits in SIZES.items():
        taken: set[str] = set()
        for split, size in splits.items():
            rows = make_split(world, kind, split, size, taken)
            hashes[f"{kind}-{split}"] = digest(rows)
            pd.DataFrame(rows).to_parquet(
                out / f"{kind}-{split}.parquet",
                compression="zstd",
                compression_level=19,
                index=False,
            )
            print(
                f"{kind} {split}: {size} documents, {sum(len(r['text']) for r in rows):,} "
                "characters"
            )
    (out / "hashes.json").write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
