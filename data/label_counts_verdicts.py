"""What was asked before `make_label_counts.py` ran, and the words of its answers.

`CLAIMS` were written before any run of it. Each compares two rows of one measure, seed by seed, and
the interval of the mean difference over the seeds gives the word, as in `copying_verdicts`:

more / less           the whole 95 % interval lies on one side of 0
no difference seen    it contains 0 and lies within the margin
inconclusive          anything else, and whatever was run with a single seed

The seeds differ in which comparisons are labelled, by whom, and in how models start. The prompts of
the measurement are the same for all of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from copying_verdicts import interval, word

from rlhf_helpers import efficiency

QUESTION = (
    "How many labels does a taste need: by what learns from them, by the labelers' noise, by who "
    "chooses the questions, and for summaries beside style? Where summaries need more: does each "
    "label tell less, or is there more to be told?"
)


class Row(NamedTuple):
    """Which row: of the reward models, or of the tuned policies (`rounds` is not 0)."""

    task: str
    learner: str
    labels: int
    noise: str = "recorded"
    asking: str = "random"
    rounds: int = 0

    def fits(self, row: dict) -> bool:
        usual = self._field_defaults
        return all(row.get(name, usual.get(name)) == x for name, x in self._asdict().items())


class Claim(NamedTuple):
    """What is expected of `who` beside `than`; less than `margin` does not matter."""

    why: str
    measure: str
    who: Row
    than: Row
    expected: str
    margin: float


def _claims() -> tuple[Claim, ...]:
    style, vivid, posts = "sentiment", "descriptiveness", "tldr"
    best, bits, share = "best_noisy", "bits_foreseen", "share"
    none = "no difference seen"
    return (
        # what a prior buys, and what it costs
        Claim("few labels", best, Row(style, "few", 200), Row(style, "full", 200), "more", 0.03),
        Claim("many", best, Row(style, "full", 5_000), Row(style, "few", 1_000), "more", 0.03),
        Claim("few labels", bits, Row(posts, "few", 200), Row(posts, "full", 200), "more", 0.01),
        # the paper: 87.9 % of wins from 5,000 labels, 87.1 from 20,000; 51.9 and 78.2 from 200
        Claim("style levels off", best, Row(style, "full", 20_000), Row(style, "full", 5_000),
              none, 0.03),
        Claim("which style", best, Row(vivid, "full", 200), Row(style, "full", 200), "more", 0.03),
        # noise; FACTOR times the labels for the coin is what theory says
        Claim("noise costs", best, Row(style, "full", 1_000, "noiseless"),
              Row(style, "full", 1_000), "more", 0.03),
        Claim("a coin in 55 %", best, Row(style, "full", 1_000, "coin"), Row(style, "full", 1_000),
              "less", 0.03),
        Claim("made good by five times as many", bits, Row(style, "full", 5_000, "coin"),
              Row(style, "full", 1_000), none, 0.02),
        # who chooses the questions
        Claim("chosen questions", share, Row(style, "few", 200, asking="uncertain"),
              Row(style, "few", 200), "more", 0.03),
        Claim("chosen questions", share, Row(posts, "few", 200, asking="uncertain"),
              Row(posts, "few", 200), "more", 0.03),
        # summaries beside style
        Claim("a label tells as much", "bits_in_label", Row(posts, "full", 1_000),
              Row(style, "full", 1_000), none, 0.1),
        Claim("less is made of it", share, Row(posts, "full", 5_000), Row(style, "full", 5_000),
              "less", 0.03),
        Claim("summaries still climb", bits, Row(posts, "full", 20_000), Row(posts, "full", 5_000),
              "more", 0.01),
        # labels cure noise, not an instruction
        Claim("nearer to the labelers, further from ourselves", "share_ourselves",
              Row(posts, "full", 20_000), Row(posts, "full", 200), "less", 0.03),
        # policies; the paper: no difference for style, 3 points of ROUGE for summaries
        Claim("more labels, better policy", "wins_noisy", Row(style, "full", 5_000, rounds=1),
              Row(style, "full", 200, rounds=1), "more", 0.05),
        Claim("a taste of few clicks tunes too", "wins_noisy", Row(style, "few", 200, rounds=1),
              Row(style, "full", 200, rounds=1), "more", 0.05),
        Claim("online, style", "wins_noisy", Row(style, "full", 5_000, rounds=3),
              Row(style, "full", 5_000, rounds=1), none, 0.05),
        Claim("online, summaries", "wins_noisy", Row(posts, "full", 5_000, rounds=3),
              Row(posts, "full", 5_000, rounds=1), "more", 0.05),
    )  # fmt: skip


CLAIMS = _claims()


def verdicts(rows: Sequence[dict]) -> list[dict]:
    """Answer every claim whose rows are there, from the rows of all seeds."""
    answers = []
    for claim in CLAIMS:
        who, than = (_by_seed(rows, row, claim.measure) for row in (claim.who, claim.than))
        both = sorted(set(who) & set(than))
        if both:
            differences = [round(who[seed] - than[seed], 4) for seed in both]
            low, high = interval(differences)
            ends = [round(x, 4) for x in (low, high)] if math.isfinite(low) else None
            said = {
                "why": claim.why, "measure": claim.measure, "who": named(claim.who),
                "than": named(claim.than), "expected": claim.expected, "margin": claim.margin,
            }  # fmt: skip
            found = {"differences": differences, "interval": ends}
            answers.append(said | found | {"verdict": word(low, high, claim.margin)})
    return answers


def _by_seed(rows: Sequence[dict], wanted: Row, measure: str) -> dict[int, float]:
    found = {row["seed"]: row[measure] for row in rows if wanted.fits(row) and measure in row}
    return {seed: x[0] if isinstance(x, list) else x for seed, x in found.items()}


def named(row: Row) -> str:
    """Say in words which row it is."""
    parts = [row.task, "few-click model" if row.learner == "few" else "full fit"]
    parts.append(f"{row.labels:,} labels")
    parts += [row.noise] if row.noise != "recorded" else []
    parts += ["chosen questions"] if row.asking != "random" else []
    parts += [f"tuned, {'online' if row.rounds > 1 else 'offline'}"] if row.rounds else []
    return ", ".join(parts)


def curve(rows: Sequence[dict], measure: str, task: str, learner: str) -> list[tuple[int, float]]:
    """Average a measure over the seeds at every number of labels, drawn at random, as recorded."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if Row(task, learner, row["labels"]).fits(row) and row["labels"] and measure in row:
            x = row[measure]
            values.setdefault(row["labels"], []).append(x[0] if isinstance(x, list) else x)
    return [(n, statistics.mean(values[n])) for n in sorted(values)]


def sizes(rows: Sequence[dict]) -> list[dict]:
    """Take apart, for each task and learner, how many labels were needed to foresee half of what
    can be foreseen: (bits of labels paid until then) / (bits in a label).

    Between two tasks, labels needed differ by the product of two ratios: how much less a label
    tells (`bits_in_label`), and how many more bits had to be told (`bits_paid`). Also where the two
    learners cross. None is "never within the counts".
    """
    found = []
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = {name: curve(rows, "bits_foreseen", task, name) for name in ("few", "full")}
        (bits,) = {row["bits_in_label"] for row in rows if row["task"] == task and "share" in row}
        for learner, line in lines.items():
            if line:
                half = efficiency.labels_for(*zip(*line, strict=True), bits / 2)
                reached = math.isfinite(half)
                found.append({
                    "task": task, "learner": learner, "bits_in_label": bits,
                    "labels_for_half": round(half) if reached else None,
                    "bits_paid": round(half * bits, 1) if reached else None,
                })  # fmt: skip
        wins = [curve(rows, "best_noisy", task, name) for name in ("few", "full")]
        at = efficiency.crossing(*wins) if all(wins) else None
        found.append({"task": task, "full_overtakes_few_at": at and round(at)})
    return found
