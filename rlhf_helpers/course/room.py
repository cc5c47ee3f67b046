"""The tastes in a room: who would choose alike, and whose model others would like to read.

agreement   between tastes, on the same answers
places      a map: people whose rewards agree stand close together
preferred   how often each person prefers what another's taste would pick to a random answer

A taste of sixty clicks is half guess, so even two sittings of one person agree only in part:
`reliability` says how far, and the map is to be read with that in mind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rlhf_helpers.clicks import Taste
from rlhf_helpers.records import Comparison, Label


def agreement(tastes: Mapping[str, Taste], comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Correlate what each pair of tastes thinks of the same options.

    Each option's reward is taken less the mean of its comparison, as only differences within a
    comparison are ever chosen by. Returns (S, S), 1 on the diagonal. Raises ValueError for fewer
    than two tastes.
    """
    if len(tastes) < 2:
        raise ValueError(f"agreement needs two tastes or more, and there are {len(tastes)}")
    rows = np.stack([_within(taste, comparisons).ravel() for taste in tastes.values()])
    return pd.DataFrame(np.corrcoef(rows), index=list(tastes), columns=list(tastes))


def _within(taste: Taste, comparisons: Sequence[Comparison]) -> np.ndarray:
    rewards = taste.rewards(comparisons)
    return (rewards - rewards.mean(1, keepdim=True)).double().numpy()


def reliability(
    fit: Callable[[Sequence[Label]], Taste], labels: Sequence[Label],
    comparisons: Sequence[Comparison],
) -> float:  # fmt: skip
    """Estimate how well a taste from all labels would agree with one from as many others.

    The correlation r of the tastes of every other label, stepped up to the full number by Spearman
    and Brown: 2 r / (1 + r). `fit` makes a taste of labels. Raises ValueError below four labels.
    """
    if len(labels) < 4:
        raise ValueError(f"half of {len(labels)} labels says nothing: four are the least")
    halves = {name: fit(part) for name, part in (("a", labels[::2]), ("b", labels[1::2]))}
    r = agreement(halves, comparisons).loc["a", "b"]
    return float(2 * r / (1 + r))


def places(agreement: pd.DataFrame) -> pd.DataFrame:
    """Place each person on a plane: distances as near as can be to sqrt(2 (1 - r)).

    Classical scaling (Torgerson 1952). Returns columns x and y; the attribute `kept` is the share
    of the squared distances that two directions show.
    """
    names, r = list(agreement.index), agreement.to_numpy()
    squared = 2 * (1 - r)
    centre = np.eye(len(r)) - 1 / len(r)
    values, vectors = np.linalg.eigh(-0.5 * centre @ squared @ centre)
    values, vectors = values.clip(min=0)[::-1], vectors[:, ::-1]
    found = pd.DataFrame(vectors[:, :2] * np.sqrt(values[:2]), index=names, columns=["x", "y"])
    found.attrs["kept"] = float(values[:2].sum() / max(values.sum(), 1e-12))
    return found


def preferred(tastes: Mapping[str, Taste], comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Say how often a judge (row) prefers what a taste (column) picks to another option.

    Of each comparison the taste picks its favourite; the judge's share is that of the other options
    which the judge likes less, ties half. One half is indifference; the diagonal is what a person
    gets of a taste of their own.
    """
    rewards = {name: _within(taste, comparisons) for name, taste in tastes.items()}
    table = {}
    for writer, own in rewards.items():
        pick = own.argmax(1)
        table[writer] = {}
        for judge, liked in rewards.items():
            mine = np.take_along_axis(liked, pick[:, None], 1)
            below, same = (liked < mine).sum(1), (liked == mine).sum(1) - 1
            table[writer][judge] = float(((below + same / 2) / (liked.shape[1] - 1)).mean())
    return pd.DataFrame(table).loc[list(tastes), list(tastes)]
