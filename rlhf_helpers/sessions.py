"""Floor 2: one labeler at work, without any widget: what is shown, in which order, whether an answer counts, when it is saved.

Cards (`widgets`) draw what a session says and pass on what was pressed, with the token of what they showed. An answer with an old
token is ignored, so a second window or a double click can never label an item that nobody has read.
"""

from __future__ import annotations

import random
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.store import AlreadyAnswered, LabelStore, Progress

KINDS = ("choose", "tie", "skip", "undo", "next")  # what a card may send
SETTLE_SECONDS = 0.15  # nobody reads and answers faster: such an answer was meant for the item before
IDLE_SECONDS = 180.0  # longer is a coffee, not thought: times are capped here


class Session:
    """One labeler at work on one task of a store, or on some `items` of it: what is shown now, and what an answer does."""

    def __init__(
        self, store: LabelStore, task: str, labeler: str, items: Sequence[Comparison] | None = None, *, repeat_every: int = 10,
        simulated: bool = False, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not labeler:
            raise ValueError("say who is labelling: a name or a pseudonym")
        self.items = None if items is None else {c.id: c for c in items}
        if not (store.progress(labeler, task).total if items is None else self.items):
            raise ValueError(f"{store.name} holds no comparisons of task {task!r}: add() some first")
        self.store, self.task, self.labeler, self.simulated, self.clock = store, task, labeler, simulated, clock
        self.repeat_every = repeat_every
        self.message = self.error = ""
        self.pending: dict[str, Any] | None = None  # an answer that could not be saved yet
        self._lock = threading.RLock()
        self.pace: list[float] = []  # seconds of the answers given here, newest last
        self.refresh()

    def refresh(self, prefer: str | None = None) -> None:
        """Look up where the labeler stands and show the next item (`prefer`: this one, if it is still open)."""
        self.progress, following = self._look_up()
        again = self._due_again()
        self.repeat = again is not None
        if again is not None or prefer is not None:
            self.current: Comparison | None = again or self.store.get(str(prefer))
        else:
            self.current = following
        self.order = self._order()
        self.token = secrets.token_hex(8)  # of this showing; every answer must carry it
        self.shown_at = self.clock()

    def answer(self, kind: str, slot: int | None = None, *, token: str | None = None, seconds: float | None = None) -> bool:
        """Save an answer (choose with a slot from 0, tie, skip, undo), then show the next item. Returns whether it was saved.

        Without a token it is meant for what is shown now. What could not be saved is kept in `pending`, with the reason in `error`.
        The kind "next" saves nothing and looks for the next item again.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no answer; use one of {', '.join(KINDS)}")
        with self._lock:  # clicks arrive on another thread than the cells
            if (token is not None and token != self.token) or (self.current is None and kind in ("choose", "tie", "skip")):
                return False
            if kind == "choose" and (not isinstance(slot, int) or not 0 <= slot < len(self.order)):
                raise ValueError(f"slot {slot!r} is not on the card, which shows {len(self.order)} options, from slot 0")
            took = min(self.clock() - self.shown_at if seconds is None else seconds, IDLE_SECONDS)
            try:
                saved, message, back = self._save(kind, slot, took)
            except Exception as error:  # a full disk, a lock, a lost server: the labeler must hear of all of them
                self.message, self.error, self.pending = "", f"Not saved: {reason(error)}", {"kind": kind, "slot": slot}
                return False
            self._move_on(message, back)
            return saved

    def handle(self, message: Mapping[str, Any]) -> bool:
        """Take a message of the card. Unlike `answer` it trusts nothing: a wrong, late or too early message changes nothing."""
        kind, slot, ms = message.get("kind"), message.get("slot"), message.get("ms")
        seconds = ms / 1000 if isinstance(ms, int | float) and 0 <= ms < 1e9 else self.clock() - self.shown_at
        if message.get("token") != self.token or kind not in KINDS or (seconds < SETTLE_SECONDS and not self.pending):
            return False
        if kind == "choose" and (isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < len(self.order)):
            return False
        return self.answer(str(kind), slot, token=self.token, seconds=seconds)

    def labels(self, *, repeats: bool = False) -> list[Label]:
        """Read this labeler's choices from the store; `repeats` gives the second choices for items that came back."""
        labels = self.store.labels(self.task, self.labeler, repeats=repeats)
        return labels if self.items is None else [label for label in labels if label.comparison_id in self.items]

    def minutes_left(self) -> float | None:
        """Estimate from the median pace of this sitting; None until three answers are given."""
        if len(self.pace) < 3:
            return None
        return statistics.median(self.pace[-20:]) * self.progress.left / 60

    def _save(self, kind: str, slot: int | None, took: float) -> tuple[bool, str, str | None]:
        """Write one answer to the store; return whether anything was saved, what to say, and the item to show again."""
        if kind == "next" or self.current is None and kind != "undo":
            return False, "", None
        if kind == "undo":
            back = self.store.undo(self.labeler, self.task)
            self.pace = self.pace[:-1]
            return back is not None, "There is nothing to take back." if back is None else "Taken back. Choose again.", back
        choice = None if slot is None or kind != "choose" else self.order[slot]
        try:
            self.store.record(
                self.labeler, self.current.id, kind, choice, self.order, took, simulated=self.simulated, repeat=self.repeat
            )  # fmt: skip
        except AlreadyAnswered:
            return False, "You answered that one in another window; that answer stands.", None
        if kind != "skip":
            self.pace.append(took)
        return True, {"tie": "Saved: cannot tell.", "skip": "Saved: skipped."}.get(kind, f"Saved: option {(slot or 0) + 1}."), None

    def _move_on(self, message: str, back: str | None) -> None:
        self.message, self.error, self.pending = message, "", None
        self.token = secrets.token_hex(8)  # from here on the answer is safe, and must not be given twice
        try:
            self.refresh(prefer=back)
        except Exception as error:
            self.error, self.pending = f"The next comparison could not be read: {reason(error)}", {"kind": "next", "slot": None}

    def _look_up(self) -> tuple[Progress, Comparison | None]:
        """Ask the store how far the labeler is and which item is the first one open."""
        if self.items is None:
            progress = self.store.progress(self.labeler, self.task)
            return progress, self.store.next(self.labeler, self.task) if progress.left else None
        mine = [e for e in self.store.events(self.task, self.labeler, standing=True) if e.comparison_id in self.items]
        first = {e.comparison_id: e.kind for e in mine if not e.repeat}
        skipped = sum(kind == "skip" for kind in first.values())
        progress = Progress(len(first) - skipped, skipped, len(self.items), len(mine) - len(first))
        return progress, next((c for i, c in self.items.items() if i not in first), None)

    def _order(self) -> tuple[int, ...]:
        """Shuffle the options by labeler and item: the same after a restart, another for another person, another when asked again."""
        if self.current is None:
            return ()
        size = len(self.current.options)
        first = tuple(random.Random(f"{self.labeler} {self.current.id}").sample(range(size), size))
        return first[1:] + first[:1] if self.repeat else first

    def _due_again(self) -> Comparison | None:
        """After every `repeat_every` answers pick an earlier choice to ask again, unmarked; a restart picks the same one."""
        if not self.repeat_every or self.progress.done // self.repeat_every <= self.progress.repeats:
            return None
        seen = {label.comparison_id for label in self.labels(repeats=True)}
        chosen = [label.comparison_id for label in self.labels()[:-3] if label.comparison_id not in seen]  # not the ones still in mind
        if not chosen:
            return None
        return self.store.get(random.Random(f"{self.labeler} {self.task} {self.progress.repeats}").choice(chosen))


def reason(error: Exception) -> str:
    """Say in a few words why something failed (a database's own words, without the statement it was busy with)."""
    return str(getattr(error, "orig", None) or error) or type(error).__name__
