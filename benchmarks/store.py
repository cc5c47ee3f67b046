"""How long a labeler waits: a store with 100,000 comparisons and their labels, opened, asked for
the next item, and written to.

    python benchmarks/store.py            about a minute; prints the table of benchmarks/README.md
    python benchmarks/store.py --url postgresql+psycopg://...   on an empty server database
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

TASK = "sentiment"
LIMIT_MS = 50.0  # above this a person notices


def comparisons(count: int) -> list[Comparison]:
    """Make comparisons as long as real ones: a query of 32 words, four options of 24."""
    words = "the harbour was quiet and a small boat came slowly home with the evening tide ".split()
    text = [" ".join(words[(i + k) % len(words)] for k in range(32)) for i in range(len(words))]
    return [
        Comparison(
            TASK,
            f"{i} {text[i % len(words)]}",
            tuple(f" {i}.{k} {text[(i + k) % len(words)][:120]}" for k in range(4)),
        )
        for i in range(count)
    ]


def build(url: str, items: list[Comparison]) -> None:
    """Label nearly everything by one labeler, half by a second, and everything once more by eight
    others between them."""
    store = LabelStore(url)
    store.add(items)
    store.add_labels(
        [Label(c.id, "nearly all", i % 4, 5.0, simulated=True) for i, c in enumerate(items[:-100])]
    )
    store.add_labels(
        [Label(c.id, "half", i % 4, 5.0, simulated=True) for i, c in enumerate(items[::2])]
    )
    store.add_labels(
        [
            Label(c.id, f"one of eight, {i % 8}", i % 4, 5.0, simulated=True)
            for i, c in enumerate(items)
        ]
    )
    store.close()


def milliseconds(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the median and the worst wall-clock time of one call."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken), max(taken)


def measure(url: str, times: int, last: list[Comparison]) -> list[tuple[str, float, float]]:
    """Time every call; `last` are comparisons that "nearly all" has left to answer."""
    rows = [("opening", *milliseconds(lambda: LabelStore(url).close(), times))]
    store = LabelStore(url)
    for labeler in ("nothing", "half", "nearly all"):
        rows.append(
            (
                f"next item of who has done {labeler}",
                *milliseconds(partial(store.next, labeler, TASK), times),
            )
        )
        rows.append(
            (
                f"progress of who has done {labeler}",
                *milliseconds(partial(store.progress, labeler, TASK), times),
            )
        )

    def answer() -> None:
        item = store.next("nearly all", TASK)
        assert item is not None
        store.record("nearly all", item.id, "choose", 0, (0, 1, 2, 3), 5.0, simulated=True)

    rows.append(("next item and saving the answer", *milliseconds(answer, min(times, 50))))
    rows.append(("undo", *milliseconds(lambda: store.undo("nearly all", TASK), min(times, 50))))
    for name, items in (("of the whole store", None), (f"of a list of {len(last)}", last)):
        session = Session(store, TASK, "nearly all", items, simulated=True, clock=lambda: 0.0)
        click = partial(session.answer, "choose", 0)
        rows.append(
            (
                f"a click on a card {name}: saved, and the next item there",
                *milliseconds(click, min(times, 40)),
            )
        )
    store.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=50, help="calls of each kind (default 50)")
    parser.add_argument("--url", help="an empty server database, in the place of a temporary file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = args.url or str(Path(folder) / "labels.db")
        start = time.perf_counter()
        items = comparisons(args.comparisons)
        build(url, items)
        took = time.perf_counter() - start
        print(
            f"{args.comparisons:,} comparisons, {args.comparisons * 5 // 2 - 100:,} labels, "
            f"written in {took:.0f} s\n"
        )
        rows = measure(url, args.times, items[-40:])
    print("| | median, ms | worst, ms |\n|---|---|---|")
    for name, median, worst in rows:
        print(f"| {name} | {median:.1f} | {worst:.1f} |")
    if any(median > LIMIT_MS for _, median, _ in rows):
        sys.exit(f"slower than {LIMIT_MS:.0f} ms")


if __name__ == "__main__":
    main()
