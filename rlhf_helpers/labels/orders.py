"""The order in which the options of a comparison stand on the screen."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rlhf_helpers.records import Comparison


def shuffled(labeler: str, comparison: Comparison) -> tuple[int, ...]:
    """Shuffle the options by labeler and comparison: the same order after every restart."""
    size = len(comparison.options)
    return tuple(random.Random(f"{labeler} {comparison.id}").sample(range(size), size))


def balanced_sides(
    labeler: str, pairs: Sequence[Comparison], first: Sequence[int] = ()
) -> dict[str, tuple[int, int]]:
    """Order the options of pairs so that option `first` (or 0) is on the left in half of them.

    Of every two neighbours in the list one has it on the left and one on the right. Which one is
    random, but fixed by the labeler and the content.
    """
    orders: dict[str, tuple[int, int]] = {}
    for i, pair in enumerate(pairs):
        heads = random.Random(f"{labeler} {pairs[i - i % 2].id}").random() < 0.5
        left = first[i] if i < len(first) else 0
        if heads == bool(i % 2):
            left = 1 - left
        orders[pair.id] = (left, 1 - left)
    return orders
