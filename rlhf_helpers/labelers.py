"""Who chooses: simulated labelers for style, collecting comparisons, agreement.

A simulated labeler has a utility (a number for a text) and noise: it chooses among the options with
probabilities softmax(utility / temperature). Every label it gives says `simulated`.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from rlhf_helpers import sampling, tasks
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Comparison, Label, Queries
from rlhf_helpers.tasks import DATA, Task

LEXICONS = Path(__file__).resolve().parent / "lexicons"
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


@cache
def lexicon(name: str) -> dict[str, frozenset[str]]:
    """Read a word list of general English: group name to words."""
    groups: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in (LEXICONS / f"{name}.txt").read_text(encoding="ascii").splitlines():
        if line.startswith("["):
            current = groups.setdefault(line.strip("[] \n"), set())
        elif not line.startswith("#"):
            current.update(line.split())
    return {group: frozenset(words) for group, words in groups.items()}


@cache
def _sentiment_weights() -> dict[str, float]:
    return {
        word: float(group)
        for group, words in lexicon("sentiment").items()
        if group[0] in "+-"
        for word in words
    }


def words(text: str) -> list[str]:
    return WORD.findall(text.lower().replace("\u2019", "'"))


def sentiment(text: str) -> float:
    """Score how positive a text is, from +2 to -2 a word.

    A word within three words after a negation counts the other way round; right after an
    intensifier such as "very" it counts half as much again. Nothing else is understood: "the storm
    was not the end of their joy" fools it. That is the point of a simulated labeler: we know
    exactly what it wants.
    """
    weights, groups = _sentiment_weights(), lexicon("sentiment")
    total, last_negation, last_intensifier = 0.0, -99, -99
    for i, word in enumerate(words(text)):
        if word in groups["negation"]:
            last_negation = i
        elif word in groups["intensifier"]:
            last_intensifier = i
        elif word in weights:
            sign = -1.0 if i - last_negation <= 3 else 1.0
            total += sign * weights[word] * (1.5 if i - last_intensifier == 1 else 1.0)
    return total


@cache
def _description_words() -> frozenset[str]:
    return frozenset().union(*lexicon("description").values())


def descriptiveness(text: str) -> float:
    """Score how physically descriptive a text is.

    One point for every word of colour, light, texture, material, sound or smell.
    """
    return float(sum(word in _description_words() for word in words(text)))


UTILITIES: dict[str, Callable[[str], float]] = {
    "sentiment": sentiment,
    "descriptiveness": descriptiveness,
}


def softmax(utilities: Sequence[float], temperature: float) -> list[float]:
    """Return the probabilities of a choice; temperature 0 takes the best, and ties are shared."""
    best = max(utilities)
    if temperature == 0:
        weights = [float(u == best) for u in utilities]
    else:
        weights = [math.exp((u - best) / temperature) for u in utilities]
    return [w / sum(weights) for w in weights]


@dataclass(frozen=True)
class SimulatedLabeler:
    """A labeler that chooses by softmax(utility / temperature); temperature 0 takes the best.

    The same labeler always gives the same answer to the same comparison.
    """

    name: str
    utility: Callable[[str], float]
    temperature: float = 1.0  # in units of utility; NOISE below gives the paper's agreement
    seed: int = 0

    def probabilities(self, options: Sequence[str]) -> list[float]:
        """Say how likely each option is to be chosen; ties at temperature 0 are shared."""
        return softmax([self.utility(option) for option in options], self.temperature)

    def choose(self, comparison: Comparison) -> int:
        """Choose an option; the draw depends on the labeler and the comparison alone."""
        digest = hashlib.sha256(f"{self.name} {self.seed} {comparison.id}".encode()).hexdigest()
        return random.Random(digest).choices(
            range(len(comparison.options)), self.probabilities(comparison.options)
        )[0]

    def label(self, comparisons: Iterable[Comparison]) -> list[Label]:
        """Label every comparison; the labels are marked as simulated."""
        return [Label(c.id, self.name, self.choose(c), simulated=True) for c in comparisons]


# Temperatures at which two simulated labelers choose the same of four samples of the bundled model
# about 38 % of the time, as two people did in the paper; measured by `tests/test_labelers.py`.
NOISE = {"sentiment": 1.6, "descriptiveness": 1.45}


def simulated(
    task: Task, name: str = "simulated", seed: int = 0, temperature: float | None = None
) -> SimulatedLabeler:
    """Make the simulated labeler of a style task, by default with the paper's noise."""
    if task.name not in UTILITIES:
        raise ValueError(
            f"there is no simulated labeler for {task.name!r}, only for {', '.join(UTILITIES)}"
        )
    return SimulatedLabeler(
        name, UTILITIES[task.name], NOISE[task.name] if temperature is None else temperature, seed
    )


def collect(
    policy: Policy, task: Task, queries: Queries, *, options: int = 4, seed: int = 0,
    source: str = "base", round: int = 0,
) -> list[Comparison]:  # fmt: skip
    """Sample `options` responses to every query and make comparisons of them, as text.

    Texts are truncated as a labeler sees them. A query whose samples all read the same asks
    nothing and is left out, so there may be fewer comparisons than queries. The samples depend on
    `seed` alone.
    """
    if options < 2:
        raise ValueError(f"{options} options leave nothing to choose from: ask for 2 or more")
    generator = torch.Generator(policy.device).manual_seed(seed)
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, generator, answers=options
    )
    texts = tasks.texts(task, rollout.responses, policy.tokenizer)
    groups = [tuple(texts[i : i + options]) for i in range(0, len(texts), options)]
    prompts = tasks.query_texts(queries, policy.tokenizer)
    made = [
        Comparison(task.name, p, g, source, round) for p, g in zip(prompts, groups, strict=True)
    ]
    return [comparison for comparison in made if not comparison.has_equal_options]


def recorded(task: Task) -> tuple[list[Comparison], list[Label]]:
    """Load the bundled comparisons of a task with their simulated labels.

    Raises FileNotFoundError if there are none.
    """
    from datasets import Dataset

    path = DATA / "recorded" / f"{task.name}_comparisons.parquet"
    if not path.exists():
        raise FileNotFoundError(
            f"no labels are recorded for {task.name!r}: run `python data/make_recorded.py` to make "
            "them again"
        )
    rows = Dataset.from_parquet(str(path)).to_list()
    comparisons = [
        Comparison(task.name, r["query"], tuple(r["options"]), r["source"], r["round"])
        for r in rows
    ]
    labels = [
        Label(c.id, r["labeler"], r["choice"], simulated=True)
        for c, r in zip(comparisons, rows, strict=True)
    ]
    return comparisons, labels


def agreement(first: Iterable[Label], second: Iterable[Label]) -> float:
    """Share of comparisons labelled by both on which both chose the same option.

    Raises ValueError if they share none.
    """
    by_id = {label.comparison_id: label.choice for label in first}
    same = [
        by_id[label.comparison_id] == label.choice
        for label in second
        if label.comparison_id in by_id
    ]
    if not same:
        raise ValueError(
            "the two labelers share no comparison, so their agreement cannot be measured"
        )
    return sum(same) / len(same)
