"""What was asked before `make_copying.py` ran, and the words of its answers.

`CLAIMS` were written before any run at full length, after trials of one seed and a thousand
episodes (those of notebook 09). Each compares two rows of one measure, seed by seed; the 95 %
interval of the mean difference (Student's t over the seeds) gives the word:

more / less           the whole interval lies on one side of 0
no difference seen    it contains 0 and lies within the margin
inconclusive          anything else, and whatever was run with a single seed
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

QUESTION = (
    "Labelers who are asked for accuracy only check copies at a glance and everything else with "
    "effort; they have no taste for copies. Does a summarizer tuned on them learn to copy, and "
    "what does it learn from other instructions?"
)


class Claim(NamedTuple):
    """What is expected of `who` beside `than`; less than `margin` does not matter."""

    measure: str
    who: str
    than: str
    expected: str
    margin: float


CLAIMS = (
    Claim("longest", "tuned", "zero-shot", "more", 2.0),
    Claim("longest", "tuned", "supervised", "more", 2.0),
    Claim("longest", "tuned", "supervised + tuned", "more", 2.0),
    Claim("longest", "supervised + tuned", "supervised", "more", 2.0),
    Claim("copied_sentences", "tuned", "supervised + tuned", "more", 0.05),
    Claim("accurate", "tuned", "zero-shot", "more", 0.05),
    Claim("accurate", "tuned", "supervised + tuned", "more", 0.05),
    # the paper's falls to almost nothing; our base model begins there
    Claim("copies_preamble", "tuned", "zero-shot", "no difference seen", 0.05),
    Claim("copies_beginning", "tuned", "zero-shot", "more", 0.05),
    Claim("wins_accuracy", "tuned", "zero-shot", "more", 0.05),
    Claim("wins_ourselves", "tuned", "zero-shot", "less", 0.05),
    Claim("longest", "tuned, own-words", "tuned", "less", 2.0),
    Claim("accurate", "tuned, own-words", "tuned", "less", 0.05),
    Claim("longest", "tuned, highlighted", "tuned", "less", 2.0),
    Claim("accurate", "tuned, own-words-highlighted", "tuned, own-words", "more", 0.05),
)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over seeds (Student's t); endless for a single one."""
    from scipy.stats import t

    mean, count = statistics.mean(differences), len(differences)
    if count < 2:
        return -math.inf, math.inf
    half = t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return mean - half, mean + half


def word(low: float, high: float, margin: float) -> str:
    """Return the verdict of an interval, in one of four words."""
    if low > 0 or high < 0:
        return "more" if low > 0 else "less"
    return "no difference seen" if -margin < low and high < margin else "inconclusive"


def verdicts(rows: Sequence[dict]) -> list[dict]:
    """Answer every claim whose rows are there, from the rows of all seeds."""
    found = {(row["who"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    answers = []
    for claim in CLAIMS:
        pairs = [(found.get((claim.who, s)), found.get((claim.than, s))) for s in seeds]
        values = [
            (a[claim.measure][0], b[claim.measure][0])
            for a, b in pairs
            if a and b and a.get(claim.measure) and b.get(claim.measure)
        ]
        if values:
            differences = [round(a - b, 4) for a, b in values]
            low, high = interval(differences)
            ends = [round(x, 4) for x in (low, high)] if math.isfinite(low) else None
            answer = word(low, high, claim.margin)
            answers.append(
                claim._asdict() | {"differences": differences, "interval": ends, "verdict": answer}
            )
    return answers
