"""Measure the bars and print them as a table: python data/town/measure.py --stories 10000."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

from town import corpus  # noqa: E402
from town.facts import FactReader  # noqa: E402
from town.files import load  # noqa: E402
from town.language import read  # noqa: E402
from town.tracker import Tracker  # noqa: E402
from town.words import sentences  # noqa: E402

VOCABULARY = 3072


def masked(names: re.Pattern[str], sentence: str) -> str:
    return names.sub("NAME", sentence)


def name_pattern() -> re.Pattern[str]:
    return re.compile(r"\b(" + "|".join(p.name for p in load().people) + r")\b")


def repetition(texts: list[str]) -> dict[str, float | str]:
    """Count how many sentences occur once, and the most frequent one of five words or more."""
    names = name_pattern()
    every = [masked(names, s) for text in texts for s in sentences(text)]
    counts = Counter(every)
    once = sum(n for n in counts.values() if n == 1) / len(every)
    longest = Counter({s: n for s, n in counts.items() if len(s.split()) >= 5}).most_common(1)[0]
    return {
        "once": once,
        "top": longest[1] / len(every),
        "top sentence": longest[0],
        "sentences": len(every),
    }


def choice(rows: list[dict], tokenizer: Tokenizer) -> float:
    """Return the nats of choice per token, as the generator itself counts them."""
    return sum(r["nats"] for r in rows) / sum(len(tokenizer.encode(r["text"]).ids) for r in rows)


def bpe(texts: list[str]) -> Tokenizer:
    """Train the byte-level tokenizer of the base model on texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def inventory() -> dict[str, int]:
    """Count what the word files hold."""
    words = load()
    verbs: set[str] = set()

    def walk(node) -> None:
        if node.kind == "verb":
            verbs.update(p.value.split(" ")[0] for p in node.parts if p.kind == "text")
        for part in node.parts:
            walk(part)

    for step in words.steps.values():
        for texts in step.said.values():
            for text in texts:
                walk(read(text))
    for person in words.people:
        walk(read(person.coda))
    modifiers = (
        {m for head, ms in words.qualities.items() for m in ms}
        | set(words.colours)
        | set(words.stuffs)
    )
    modifiers |= {s for t in words.things for s in t.sizes}
    speech = sum(len(v) for v in words.pools["speech"].values())
    speech += sum(len(t) for s in words.steps.values() for k, t in s.said.items() if k[0] == "q")
    speech += sum(
        len(v) for t in words.tempers.values() for k, v in t.items() if k.startswith(("say", "r"))
    )
    return {
        "goals": len(words.goals),
        "steps": len(words.steps),
        "verbs": len(verbs),
        "things": len(words.things),
        "places": len(words.places),
        "modifiers": len(modifiers),
        "lines of speech": speech,
        "people": len(words.people),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=10_000)
    parser.add_argument(
        "--checked", type=int, default=1_000, help="stories, posts and reports read by the checkers"
    )
    args = parser.parse_args()
    started = time.time()
    rows = [corpus.make("stories", "train", n) for n in range(args.stories)]
    seconds = time.time() - started
    test = [corpus.make("stories", "test", n) for n in range(max(50, args.stories // 10))]
    tokenizer = bpe([r["text"] for r in rows])
    table: list[tuple[str, str]] = [
        ("stories made", f"{len(rows)} in {seconds:.0f} s, none failed")
    ]
    found = repetition([r["text"] for r in rows])
    count = found["sentences"]
    table += [
        (
            "choice, nats a token",
            f"{choice(rows, tokenizer):.2f} (test split {choice(test, tokenizer):.2f})",
        ),
        ("choice, nats a sentence", f"{sum(r['nats'] for r in rows) / count:.1f}"),
        ("sentences that occur once, names masked", f"{found['once']:.2%}"),
        (
            "most frequent sentence of five words or more",
            f"{found['top']:.3%} {found['top sentence']}",
        ),
        (
            "sentences a story; words a sentence",
            f"{count / len(rows):.2f}; {sum(len(r['text'].split()) for r in rows) / count:.1f}",
        ),
    ]
    seen = {s for r in rows for s in sentences(r["text"])}
    late = [s for r in test for s in sentences(r["text"])]
    table.append(
        (
            "sentences of the test split that stand in train",
            f"{sum(s in seen for s in late) / len(late):.2%}",
        )
    )
    tracker, wrong, started = Tracker(), Counter(), time.time()
    checked = rows[: args.checked] + test[: args.checked // 4]
    for row in checked:
        wrong.update(kind for _, kind in tracker.violations(row["text"]))
    read_seconds = time.time() - started
    table.append(
        (
            f"violations in {len(checked)} stories, {read_seconds:.0f} s",
            str(dict(wrong)) if wrong else "none",
        )
    )
    reader = FactReader()
    for kind in ("posts", "reports"):
        papers = [corpus.make(kind, "train", n) for n in range(args.checked // 4)]
        good = sum(reader.accurate(r["summary"], r, kind) for r in papers)
        table.append(
            (f"references of {kind} that state only true facts", f"{good} of {len(papers)}")
        )
    table += [(f"word files: {name}", str(n)) for name, n in inventory().items()]
    for name, value in table:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
