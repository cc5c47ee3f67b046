"""The one place where anything is chosen: seeded, and counted in nats."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A seeded random stream that adds up how much was chosen."""

    def __init__(self, seed: str):
        self.random = random.Random(seed)
        self.nats = 0.0

    def pick(self, options: Sequence[T], counted: bool = True) -> T:
        """Choose evenly among options, of which some may be equal; count it, unless told not to."""
        chosen = options[self.random.randrange(len(options))]
        if counted:
            self.nats += math.log(len(options) / options.count(chosen))
        return chosen

    def flip(self, p: float) -> bool:
        """Say yes with probability p."""
        yes = self.random.random() < p
        self.nats -= math.log(p if yes else 1 - p)
        return yes

    def draw(self, weights: Mapping[T, float]) -> T:
        """Choose by weight."""
        options = list(weights)
        total = sum(weights.values())
        at, chosen = self.random.random() * total, options[-1]
        for option in options:
            at -= weights[option]
            if at < 0:
                chosen = option
                break
        self.nats -= math.log(weights[chosen] / total)
        return chosen
