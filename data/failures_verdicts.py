"""What was asked before `make_failures.py` ran, and the words of its answers.

`CLAIMS` were written before any run. Each compares two rows of one measure, seed by seed, and is
answered by the interval and in the words of `copying_verdicts`: more, less, no difference seen,
inconclusive. Gold and proxy are in deviations of the base model's answers, KL and surprise in nats
per answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from copying_verdicts import Claim, interval, word

QUESTION = (
    "A reward model of few, some or many labels is maximised, by choosing among answers and by "
    "PPO. Up to which distance does what the reader wants grow with it, what breaks first, and "
    "which remedies help?"
)
BEST = "best of 128"
LATE, MANY, THIRD = "some labels, no price", "many labels, no price", "a third of the way"

CLAIMS = (
    # proxy and gold
    Claim("gold", LATE, f"{LATE}, {THIRD}", "less", 0.25),
    Claim("gold", MANY, f"{MANY}, {THIRD}", "less", 0.25),
    Claim("gold", LATE, "base", "less", 0.25),
    Claim("gold", f"many labels, {BEST}", f"some labels, {BEST}", "more", 0.1),
    Claim("gold", f"some labels, {BEST}", f"few labels, {BEST}", "more", 0.1),
    Claim("gap", f"some labels, {BEST}", f"many labels, {BEST}", "more", 0.1),
    # a low price shortens the way and does not change where it leads
    Claim("kl_nats", "some labels, a low price", LATE, "less", 2.0),
    Claim("gold", "some labels, a low price", f"{LATE}, at the KL of a low price",
          "no difference seen", 0.25),
    # four signs
    Claim("gold", "plus reward, minus KL", "base", "more", 0.1),
    Claim("gold", "minus reward, minus KL", "base", "less", 0.1),
    Claim("surprise_nats", "minus reward, minus KL", "base", "no difference seen", 5.0),
    Claim("surprise_nats", "minus reward, plus KL", "minus reward, minus KL", "more", 5.0),
    Claim("surprise_nats", "plus reward, plus KL", "plus reward, minus KL", "more", 5.0),
    # labelers with a habit
    Claim("words", "first, shortest first", "fair", "less", 1.0),
    Claim("words", "first, shuffled", "fair", "no difference seen", 1.0),
    Claim("words", "longer", "fair", "more", 1.0),
    Claim("words", "longer, length removed", "fair", "no difference seen", 1.0),
    # remedies, each against nothing done about some labels
    Claim("gold", MANY, LATE, "more", 0.25),
    Claim("gold", "KL target", LATE, "more", 0.25),
    Claim("gold", "ensemble", LATE, "more", 0.25),
    Claim("gold", "stopped by a judge", LATE, "more", 0.25),
    Claim("gold", "taste, lower bound", "taste", "no difference seen", 0.25),
)  # fmt: skip


def verdicts(rows: Sequence[dict]) -> list[dict]:
    """Answer every claim whose rows are there, from the rows of all seeds.

    rows: `who`, `seed`, and the measures as plain numbers (None where there is none).
    """
    found = {(row["who"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    answers = []
    for claim in CLAIMS:
        pairs = [(found.get((claim.who, s), {}), found.get((claim.than, s), {})) for s in seeds]
        pairs = [(a.get(claim.measure), b.get(claim.measure)) for a, b in pairs]
        differences = [round(a - b, 4) for a, b in pairs if a is not None and b is not None]
        if differences:
            low, high = interval(differences)
            ends = [round(x, 4) for x in (low, high)] if math.isfinite(low) else None
            answer = {"verdict": word(low, high, claim.margin)}
            answers.append(
                claim._asdict() | {"differences": differences, "interval": ends} | answer
            )
    return answers
