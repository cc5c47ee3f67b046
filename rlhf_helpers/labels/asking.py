"""What a labeler is asked next: the first comparison that is open and in no other window, or the
one of those that a model chooses, or an earlier one once more."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

from rlhf_helpers.labels.orders import shuffled
from rlhf_helpers.labels.store import LabelStore, Progress
from rlhf_helpers.records import Comparison

REMEMBERED = 1_000  # items that are asked again come from so many latest answers
FRESH = 3  # the latest choices, which the labeler still remembers, are not asked again
# picks one of some comparisons, but none with these ids, and says how: "random", "thompson"
Choose = Callable[[Sequence[Comparison], Collection[str]], tuple[Comparison, str] | None]


class Asking:
    """The queue of one labeler; `sessions.Session` adds the answers."""

    store: LabelStore
    task: str
    labeler: str
    window: str  # under which items are claimed
    items: dict[str, Comparison] | None
    equal: set[str]
    gold: dict[str, int]
    orders: Mapping[str, Sequence[int]]
    repeat_every: int
    progress: Progress
    current: Comparison | None
    repeat: bool
    choose: Choose | None
    way: str  # how the current item was picked
    _total: int
    _answered: dict[str, str]
    _following: tuple[Comparison, str] | None  # chosen and claimed when the last answer was saved

    def _count(self) -> Progress:
        if self.items is not None:
            mine = self.store.answered(self.labeler, self.task, self.items)
            self._answered = {i: kind for i, kind, repeat in mine if not repeat}
            skipped = sum(kind == "skip" for kind in self._answered.values())
            done, repeats = len(self._answered) - skipped, len(mine) - len(self._answered)
            return Progress(done, skipped, len(self.items), repeats)
        p = self.store.progress(self.labeler, self.task)
        self._read_equal(p.total)
        if not self.equal:
            return p
        # labels from elsewhere may answer what is not asked here
        kinds = [
            kind
            for _, kind, repeat in self.store.answered(self.labeler, self.task, self.equal)
            if not repeat
        ]
        skipped = kinds.count("skip")
        done = p.done - (len(kinds) - skipped)
        return Progress(done, p.skipped - skipped, p.total - self.left_out, p.repeats)

    def _read_equal(self, total: int) -> None:
        """Find the comparisons with equal options; again after some were added to the task."""
        if total != self._total:
            self.equal, self._total = self.store.equal(self.task), total

    def _take(self, prefer: str | None) -> tuple[Comparison | None, bool]:
        """Claim and return the next item, and whether it is asked again.

        That is the preferred one, one that is due again, or one that is open and in no other
        window.
        """
        chosen, self._following, self.way = self._following, None, ""
        if prefer is not None and prefer not in self.equal:
            # if the first answer stands, the second was taken back
            repeat = bool(self.store.answered(self.labeler, self.task, [prefer]))
            if self._claim(prefer, repeat):
                return self.store.get(prefer), repeat
        again = self._due_again()
        if again is not None and self._claim(again.id, repeat=True):
            return again, True
        taken = self._shown_elsewhere()
        if chosen is None or chosen[0].id in taken or chosen[0].id in self._answered:
            chosen = self._pick(taken)
        while chosen is not None:
            if self._claim(chosen[0].id):
                self.way = chosen[1]
                return chosen[0], False
            taken.add(chosen[0].id)
            chosen = self._pick(taken)
        self.store.release(self.labeler, self.window)
        return None, False

    def _claim(self, comparison_id: str, repeat: bool = False) -> bool:
        return self.store.claim(self.labeler, comparison_id, self.window, repeat=repeat)

    def _shown_elsewhere(self) -> set[str]:
        claimed = self.store.claimed(self.labeler, but=self.window)
        return {i for i, repeat in claimed if not repeat}

    def _pick(self, taken: set[str]) -> tuple[Comparison, str] | None:
        """Pick an open item that is not taken, and say how: by `choose`, or else the first one."""
        if self.choose is not None and self.items is not None:
            closed = taken | set(self._answered)
            try:
                chosen = self.choose(list(self.items.values()), closed)
                if chosen is not None and chosen[0].id not in closed:
                    return chosen[0], chosen[1]
            except Exception as error:  # labelling goes on, and the note says that nobody chose
                said = f"the next question was not chosen: {error!r}"
                warnings.warn(said, RuntimeWarning, stacklevel=2)
        first = self._first_open(taken)
        return None if first is None else (first, "")

    def _first_open(self, taken: set[str]) -> Comparison | None:
        if self.items is not None:
            items = self.items.items()
            return next((c for i, c in items if i not in self._answered and i not in taken), None)
        if not self.progress.left:
            return None
        return self.store.next(self.labeler, self.task, without=taken | self.equal)

    def _order(self) -> tuple[int, ...]:
        """Order the options: as given or shuffled, and otherwise when an item is asked again."""
        if self.current is None:
            return ()
        given = tuple(self.orders.get(self.current.id, ()))
        first = given or shuffled(self.labeler, self.current)
        return first[1:] + first[:1] if self.repeat else first

    def _due_again(self) -> Comparison | None:
        """Pick an earlier choice to ask again, if `repeat_every` answers followed the last repeat.

        A restart picks the same. Nothing on the card marks it.
        """
        if not 0 < self.repeat_every <= self.progress.done:
            return None
        answered = self.store.answered(self.labeler, self.task, self.items, REMEMBERED)
        latest = [x for x in answered if x[1] != "skip" or x[2]]  # a second showing is over then
        if any(repeat for _, _, repeat in latest[-self.repeat_every :]):
            return None
        never = {i for i, _, repeat in latest if repeat} | set(self.gold) | self.equal
        chosen = [i for i, kind, repeat in latest if kind == "choose" and not repeat][:-FRESH]
        if not (chosen := [i for i in chosen if i not in never]):
            return None
        seed = f"{self.labeler} {self.task} {self.progress.repeats}"
        return self.store.get(random.Random(seed).choice(chosen))

    def _keep_gold(self, gold: Mapping[str, int]) -> dict[str, int]:
        """Write gold items to the store; return all gold items that it has among these items."""
        for name, right in gold.items():
            item = self.store.get(name) if self.items is None else self.items.get(name)
            if item is None or name in self.equal:
                raise ValueError(f"gold item {name!r} is not among the comparisons to be asked")
            if not 0 <= right < len(item.options):
                raise ValueError(
                    f"gold item {name!r}: its right option is {right}, but there are options 0 to "
                    f"{len(item.options) - 1}"
                )
        if gold:
            self.store.set_gold(gold)
        known = self.store.gold(self.task)
        return {i: right for i, right in known.items() if self.items is None or i in self.items}
