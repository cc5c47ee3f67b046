"""Labels by people for online training: what the store holds, or a word that somebody has to label
first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label


class MoreLabels(RuntimeError):
    """Training waits for people: label what is in the store, then run the same cell again."""


@dataclass(frozen=True)
class People:
    """An `ask` that takes what people (one of them, or all) have labelled in the store; raises
    MoreLabels while some are missing.

    The comparisons are in the store by then, so that `cards.label(store, task)` shows them;
    training goes on where it stopped. With one labeler, the labels of others teach nothing.
    """

    store: LabelStore
    labeler: str | None = None

    def __call__(self, comparisons: Sequence[Comparison]) -> list[Label]:
        wanted = {c.id for c in comparisons}
        labels = [x for x in self.store.labels(labeler=self.labeler) if x.comparison_id in wanted]
        # a skip is an answer too
        answered = wanted & {
            e.comparison_id for e in self.store.events(labeler=self.labeler, standing=True)
        }
        if missing := len(wanted - answered):
            raise MoreLabels(
                f"{missing} of {len(wanted)} comparisons wait in {self.store.name} for a label: "
                "show them with cards.label, "
                "then run this again; training goes on from its last checkpoint"
            )
        return labels
