"""Print stories, posts, reports or cards: python data/town/read.py stories 20 --start 100."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from town import cards, corpus  # noqa: E402


def main() -> None:
    """Print documents with their seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kind", choices=[*sorted(corpus.MAKERS), "cards"], nargs="?", default="stories"
    )
    parser.add_argument("count", type=int, nargs="?", default=10)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--split", default="train")
    args = parser.parse_args()
    for number in range(args.start, args.start + args.count):
        if args.kind == "cards":
            shown = cards.card(number, split=args.split)
            print(f"{number} {shown.prompt}", *shown.alternatives, "", sep="\n    - ")
            continue
        row = corpus.make(args.kind, args.split, number)
        print(f"{number} [{row.get('goal', '')}] {row['text']}")
        if "summary" in row:
            facts = {k: row[k] for k in corpus.FACTS[args.kind] if row[k]}
            print(f"  TL;DR: {row['summary']}\n  {facts}")
        print()


if __name__ == "__main__":
    main()
