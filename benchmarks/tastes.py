"""Simulated tastes of every kind, for `clicks.py`: what a labeler could want of a continuation.

A utility takes (query, text) and gives a number; a difference of 1 is one word of the kind wanted,
or about as much. Those in KEPT_ASIDE were written down before, and first run after, the features
and priors of `rlhf_helpers.clicks` had been chosen on the others.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from rlhf_helpers import labelers
from rlhf_helpers.records import Comparison

Utility = Callable[[str, str], float]


class Taste(NamedTuple):
    """A utility with its kind: manner, thing, prompt (what it has to do with it) or compound."""

    kind: str
    utility: Utility
    kept_aside: bool = False


THINGS = {
    "animals": """cat dog hedgehog pony fox gull goose hen otter seal crab fish heron mouse donkey
        goat sheep rabbit owl horse duck cow pig swan herring flounder sparrow pigeon wolf calf
        kitten puppy lamb""",
    "food": """bread cake pie soup stew apple pear plum cherry jam honey butter cheese milk tea
        coffee cocoa juice supper dinner lunch breakfast egg eggs potato potatoes onion biscuit
        biscuits bun buns pudding tart jelly sausage sausages ham bacon salt pepper sugar cream
        berry berries walnut chestnut chestnuts porridge toast lemon orange vanilla cinnamon ginger
        chocolate ate eat eaten tasted""",
    "loud": """shouted shout cried cry roared roar bellowed screamed scream shrieked yelled laughed
        laughing laugh burst clapped banged crashed bang crash rattled rattle thundered snapped
        gasped whistled sang""",
    "weather": """rain rained raining rainy wind windy sun sunny sunshine storm stormy snow snowed
        snowing fog foggy mist cloud clouds cloudy thunder lightning frost ice hail breeze weather
        shower drizzle""",
    "family": """mother father sister brother aunt uncle grandmother grandfather son daughter baby
        family parents cousin wife husband mum dad twins child children""",
    "water": """boat boats ship ships harbour harbor sea wave waves tide sail sails fisherman
        fishermen net nets beach shore pier rope anchor river bridge water pond lake""",
}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def things(name: str, sign: float = 1.0) -> Utility:
    """Count words of a list, with a plural s or without."""
    wanted = set(THINGS[name].split())
    return lambda q, t: sign * sum(w in wanted or w.rstrip("s") in wanted for w in words(t))


def all_tastes(comparisons: Sequence[Comparison]) -> dict[str, Taste]:
    """Make the tastes; names, rarity and the scales of compounds come from `comparisons`."""
    texts = [o for c in comparisons for o in c.options]
    inside = Counter(n for t in texts for n in re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", t))
    people = {name for name, count in inside.items() if count >= 3}
    seen = Counter(w for t in texts for w in words(t))
    total = sum(seen.values())

    def rarity(q: str, t: str) -> float:
        found = [-math.log((seen[w] + 1) / total) for w in words(t)]
        return 2 * sum(found) / max(1, len(found))

    def cast(q: str, t: str) -> set[str]:
        return set(re.findall(r"[A-Z][a-z]+", t)) & people

    def echo(q: str, t: str) -> float:
        return float(len({w for w in words(t) if len(w) > 4} & set(words(q))))

    single: dict[str, Utility] = {
        "sentiment": lambda q, t: labelers.sentiment(t),
        "dark": lambda q, t: -labelers.sentiment(t),
        "vivid": lambda q, t: labelers.descriptiveness(t),
        "dialogue": lambda q, t: float(t.count('"')),
        "short": lambda q, t: -float(len(words(t))),
        "rare words": rarity,
        "quiet": lambda q, t: things("loud", -1.0)(q, t) - t.count("!"),
        "people": lambda q, t: float(len(set(re.findall(r"\b[A-Z][a-z]+\b", t)))),
        "animals": things("animals"),
        "food": things("food"),
        "same people": lambda q, t: float(sum(1 if n in q else -1 for n in cast(q, t))),
        "questions": lambda q, t: 2.0 * t.count("?"),
        "long words": lambda q, t: 2 * sum(map(len, words(t))) / max(1, len(words(t))),
        "commas": lambda q, t: float(t.count(",")),
        "weather": things("weather"),
        "family": things("family"),
        "water": things("water"),
        "echo": echo,
        "new people": lambda q, t: float(sum(n not in q for n in cast(q, t))),
    }
    some = [(c.query, o) for c in comparisons[:500] for o in c.options]

    def scaled(name: str) -> Utility:
        values = torch.tensor([single[name](q, t) for q, t in some]).double()
        mean, deviation = values.mean().item(), values.std().item()
        return lambda q, t: (single[name](q, t) - mean) / deviation

    z = {n: scaled(n) for n in "dark dialogue vivid short sentiment animals weather".split()}
    kinds = {
        "manner": """sentiment dark vivid dialogue short people questions commas""".split(),
        "thing": "animals food quiet weather family water".split(),
        "prompt": ["same people", "echo", "new people"],
    }
    kinds["manner"] += ["rare words", "long words"]
    kept = "questions commas weather family water echo".split() + ["long words", "new people"]
    made = {
        n: Taste(kind, single[n], n in kept) for kind, names in kinds.items() for n in names
    }  # fmt: skip
    both: dict[str, tuple[Utility, bool]] = {
        "dark and dialogue": (lambda q, t: 2 * min(z["dark"](q, t), z["dialogue"](q, t)), False),
        "vivid but short": (lambda q, t: 1.5 * (z["vivid"](q, t) + z["short"](q, t)), False),
        "kind or animals": (lambda q, t: 2 * max(z["sentiment"](q, t), z["animals"](q, t)), False),
        "weather, no dialogue": (lambda q, t: 2 * (z["weather"](q, t) - z["dialogue"](q, t)), True),
        "dialogue and short": (lambda q, t: 2 * min(z["dialogue"](q, t), z["short"](q, t)), True),
    }
    return made | {n: Taste("compound", u, aside) for n, (u, aside) in both.items()}


def utilities(taste: Taste, comparisons: Sequence[Comparison]) -> torch.Tensor:
    """Compute the utility of every option: (N, K)."""
    rows = [[float(taste.utility(c.query, o)) for o in c.options] for c in comparisons]
    return torch.tensor(rows, dtype=torch.double)


def temperature(values: torch.Tensor, agreement: float) -> float:
    """Find the temperature at which choices between these utilities agree that often when repeated.

    values (N, K); bisection, as the expected sum of p squared falls with the temperature.
    """
    low, high = 1e-3, 100.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        mean = (values / middle).softmax(-1).square().sum(-1).mean().item()
        low, high = (middle, high) if mean > agreement else (low, middle)
    return low
