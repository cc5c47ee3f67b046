"""Labels by people for online training, from a label store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label


class MoreLabels(RuntimeError):
    """Training waits for people: label what is in the store, then run the same again."""


@dataclass(frozen=True)
class People:
    """A source of labels for `online.tune`: what people have answered in a store.

    Called with comparisons, it puts them into the store, so that `cards.label(store, task)` shows
    them, and raises MoreLabels until each has an answer; to skip one is an answer too. Those whose
    options are all equal are never asked, and not waited for. With a `labeler`, only that person's
    answers count; without, everybody's do. An answer that was taken back is missing, one that was
    changed counts as it is now.
    """

    store: LabelStore
    labeler: str | None = None

    def __call__(self, comparisons: Sequence[Comparison]) -> list[Label]:
        self.store.add(comparisons)
        wanted = {c.id for c in comparisons if not c.has_equal_options}
        labels = [x for x in self.store.labels(labeler=self.labeler) if x.comparison_id in wanted]
        standing = self.store.events(labeler=self.labeler, standing=True)
        if missing := wanted - {event.comparison_id for event in standing}:
            who = f" of {self.labeler}" if self.labeler else ""
            raise MoreLabels(
                f"{len(missing)} of {len(wanted)} comparisons in {self.store.name} wait for an "
                f"answer{who}: give it with cards.label or `python -m rlhf_helpers label`, then "
                "run the same again; training continues from its last checkpoint"
            )
        return labels
