"""What the answers of one labeler say that stand: labels, ties, and who was awake."""

from __future__ import annotations

from rlhf_helpers.labels.store import Event, LabelStore
from rlhf_helpers.records import Comparison, Label

MIRROR, JOIN = "mirror", "; "  # the note of an answer may say several things
RANDOM = "random"  # how an item was picked that a model might have picked


def picked_by(note: str) -> str:
    """Read how an item was picked off the note of an answer; "" if it was asked as it came."""
    return JOIN.join(said for said in note.split(JOIN) if said != MIRROR)


class Standing:
    """The answers of one labeler; `sessions.Session` adds the asking."""

    store: LabelStore
    task: str
    labeler: str
    items: dict[str, Comparison] | None
    equal: set[str]
    gold: dict[str, int]

    def labels(self, *, repeats: bool = False) -> list[Label]:
        """Read this labeler's choices, without gold items; `repeats`: the second choices instead.

        Second choices are those for items that were asked again. A choice between equal options,
        which only comes from elsewhere, is left out: it says nothing.
        """
        labels = self.store.labels(self.task, self.labeler, repeats=repeats)
        labels = [x for x in labels if x.comparison_id not in self.equal]
        return [x for x in labels if self.items is None or x.comparison_id in self.items]

    def answers(self) -> list[tuple[str, int | None]]:
        """Read the choices and ties that stand, as `clicks.learn` takes them.

        (comparison id, choice), None for "cannot tell", in the order in which they were given;
        without second answers, gold and equal items.
        """
        never = self.equal | set(self.gold)
        return [
            (e.comparison_id, e.choice)
            for e in self._standing()
            if e.kind in ("choose", "tie") and not e.repeat and e.comparison_id not in never
        ]

    def mirrored(self) -> set[str]:
        """Name the comparisons answered while the mirror was on: leave them out of what is
        measured on this labeler."""
        return {e.comparison_id for e in self._standing() if MIRROR in e.note.split(JOIN)}

    def picked(self) -> set[str]:
        """Name the comparisons that a model picked, and not chance: they are harder or easier than
        others, so leave them out of what is measured too."""
        return {e.comparison_id for e in self._standing() if picked_by(e.note) not in ("", RANDOM)}

    def _standing(self) -> list[Event]:
        events = self.store.events(self.task, self.labeler, standing=True)
        return [e for e in events if self.items is None or e.comparison_id in self.items]

    def undecided_repeats(self) -> int:
        """Count the second answers that say "cannot tell" to what was chosen from before."""
        found = self.store.answered(self.labeler, self.task, self.items)
        return sum(kind == "tie" for _, kind, repeat in found if repeat)

    def ties(self) -> list[str]:
        """Name the comparisons answered with "cannot tell", without gold and equal items."""
        found = self.store.answered(self.labeler, self.task, self.items)
        never = self.equal | set(self.gold)
        return [i for i, kind, repeat in found if kind == "tie" and not repeat and i not in never]

    def attention(self) -> tuple[int, int]:
        """Count the gold items answered correctly, and the gold items answered at all."""
        standing = self.store.events(self.task, self.labeler, standing=True) if self.gold else []
        given = [
            e
            for e in standing
            if e.comparison_id in self.gold and not e.repeat and e.kind != "skip"
        ]
        return sum(e.choice == self.gold[e.comparison_id] for e in given), len(given)
