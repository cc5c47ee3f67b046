"""Who labels in `make_label_counts.py`, and what they want: known exactly, as they are simulated.

The style tasks have the labelers of `labelers`; summaries have those of chapter 09, who are asked
for accuracy only and check facts as far as their effort goes (`summary_labelers.ACCURACY`).

recorded     as noisy as in all chapters: two of them choose alike about as often as people do
noiseless    the best of four, ties drawn
coin         a share COIN of the labels of `recorded` is drawn blindly
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch

from rlhf_helpers import evaluation, labelers, tasks
from rlhf_helpers.course import town
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.summary_labelers import ACCURACY, OURSELVES, SummaryLabeler

NOISES = ("recorded", "noiseless", "coin")
# A coin in a share c of the labels makes every difference between chances 1 - c times as large.
# What is left of the signal goes with the root of the labels, so this share should cost as much as
# FACTOR times fewer labels.
FACTOR = 5
COIN = 1 - FACTOR**-0.5


@dataclass(frozen=True)
class Truth:
    """What the labelers of a task want of a text, and how often they choose what."""

    task: str

    @cached_property
    def of_summaries(self) -> bool:
        return self.task not in labelers.UTILITIES

    def labels(self, asked: Sequence[Comparison], noise: str, seed: int) -> list[Label]:
        """Let a labeler choose; another seed is another labeler of the same kind."""
        found = self._labeler(noise, seed).label(asked)
        if noise != "coin":
            return found
        return [self._or_blind(c, x, seed) for c, x in zip(asked, found, strict=True)]

    def utilities(self, asked: Sequence[Comparison]) -> torch.Tensor:
        """Return what each option is worth to them, without any noise: (N, K)."""
        who = self._labeler("recorded", 0)
        if self.of_summaries:
            rows = [[who.mean_utility(c.query, o) for o in c.options] for c in asked]
        else:
            rows = [[who.utility(o) for o in c.options] for c in asked]
        return torch.tensor(rows, dtype=torch.double)

    def utilities_to_ourselves(self, asked: Sequence[Comparison]) -> torch.Tensor:
        """Return what summaries are worth to those who had them labelled, and wanted more than
        they asked for (`summary_labelers.OURSELVES`): (N, K)."""
        who = SummaryLabeler("ourselves", _facts(tasks.get(self.task).dataset), OURSELVES)
        rows = [[who.mean_utility(c.query, o) for o in c.options] for c in asked]
        return torch.tensor(rows, dtype=torch.double)

    def chances(self, asked: Sequence[Comparison]) -> torch.Tensor:
        """Return how often `recorded` labelers choose each option: (N, K)."""
        who = self._labeler("recorded", 0)
        if self.of_summaries:
            return torch.tensor([who.chances(c) for c in asked], dtype=torch.double)
        return torch.tensor([who.probabilities(c.options) for c in asked], dtype=torch.double)

    def wins(
        self, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str], seed: int
    ) -> dict[str, list[float]]:
        """Judge texts beside others, blind: share of wins and its 95 % interval, by a judge without
        noise (ties are half a win) and by one as noisy as the labelers, whom they do not know."""
        task = tasks.get(self.task)
        pairs, first_is_ours = evaluation.paired(task, prompts, ours, theirs, seed=seed)
        values = self.utilities(pairs)
        alike = {c.id for c, row in zip(pairs, values, strict=True) if row.amax() == row.amin()}
        sharp = [
            Label(c.id, "sharp", int(row.argmax()), simulated=True)
            for c, row in zip(pairs, values, strict=True)
        ]
        noisy = self._labeler("recorded", 1_000 + seed).label(pairs)
        found = {
            "sharp": evaluation.judge(pairs, first_is_ours, sharp, alike),
            "noisy": evaluation.judge(pairs, first_is_ours, noisy),
        }
        return {k: [round(x, 4) for x in (f.rate, f.low, f.high)] for k, f in found.items()}

    def _labeler(self, noise: str, seed: int) -> SummaryLabeler | labelers.SimulatedLabeler:
        if self.of_summaries:
            if noise != "recorded":
                raise ValueError(f"labelers of summaries are as recorded, not {noise!r}")
            return SummaryLabeler("accuracy", _facts(tasks.get(self.task).dataset), ACCURACY, seed)
        temperature = 0.0 if noise == "noiseless" else None
        return labelers.simulated(tasks.get(self.task), seed=seed, temperature=temperature)

    @staticmethod
    def _or_blind(asked: Comparison, label: Label, seed: int) -> Label:
        dice = random.Random(f"coin {seed} {asked.id}")
        if dice.random() >= COIN:
            return label
        choice = dice.randrange(len(asked.options))
        return Label(asked.id, label.labeler, choice, simulated=True)


@cache
def _facts(dataset: str):
    return town.facts(dataset)
