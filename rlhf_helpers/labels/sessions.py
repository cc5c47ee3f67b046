"""One labeler at work, without any widget: what is shown, in which order, whether an answer counts,
when it is saved.

Cards draw what a session says and pass on what was pressed, with the token of what they showed. An
answer with an old token is ignored, so a double click can never label an item that nobody has read.
What is on the screen is claimed in the store, so that another window of the same labeler shows
something else.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_helpers.labels.store import ANSWERS, AlreadyAnswered, LabelStore, Progress
from rlhf_helpers.records import Comparison, Label

KINDS = (*ANSWERS, "undo", "flag", "next")  # what a card may send
# nobody reads and answers faster: such an answer was meant for the item before
SETTLE_SECONDS = 0.15
IDLE_SECONDS = 180.0  # longer is a coffee, not thought: times are capped here
NOTE_LETTERS = 500  # of a remark on a bad text
REMEMBERED = 1_000  # answers back from the latest: from these come the items that are asked again


class Session:
    """One labeler at work on one task of a store, or on some `items` of it: what is shown now, and
    what an answer does.

    `orders` says for some items (by id) in which order their options stand; the others are shuffled
    by labeler and item. `gold` names the right option of items whose answer is known, and is kept
    in the store: they measure attention, and no labels are read from them. `cell` names the
    notebook's cell: when it runs again its new session takes the place of the old one, and leaves
    other cells alone.
    """

    def __init__(
        self, store: LabelStore, task: str, labeler: str, items: Sequence[Comparison] | None = None,
        *, repeat_every: int = 10, orders: Mapping[str, Sequence[int]] | None = None,
        gold: Mapping[str, int] | None = None, simulated: bool = False, cell: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not labeler:
            raise ValueError("say who is labelling: a name or a pseudonym")
        self.items = None if items is None else {c.id: c for c in items}
        if not (store.progress(labeler, task).total if items is None else self.items):
            raise ValueError(
                f"{store.name} holds no comparisons of task {task!r}: add() some first"
            )
        self.store, self.task, self.labeler, self.simulated, self.clock = (
            store,
            task,
            labeler,
            simulated,
            clock,
        )
        self.repeat_every, self.orders, self.gold = (
            repeat_every,
            orders or {},
            self._keep_gold(gold or {}),
        )
        self.message = self.error = ""
        self.pending: dict[str, Any] | None = None  # an answer that could not be saved yet
        # clicks arrive on another thread than the cells; who draws holds it too
        self.lock = threading.RLock()
        self.pace: list[float] = []  # seconds of the answers given here, newest last
        place = f"{socket.gethostname()}/{os.getpid()}/{cell}-"
        # a cell that runs again goes on with the item that its earlier card shows
        store.release(labeler, place)
        self.window = place + secrets.token_hex(4)
        self.refresh()

    def refresh(self, prefer: str | None = None) -> None:
        """Look up where the labeler stands and show the next item (`prefer`: this one, if it is
        still open)."""
        self.progress = self._count()
        self.current, self.repeat = self._take(prefer)
        self.order = self._order()
        # every answer must carry the token; `showing` outlives a flag
        self.token = self.showing = secrets.token_hex(8)
        self.shown_at = self.clock()

    @property
    def elsewhere(self) -> int:
        """Count the items that are still open, but on another window of this labeler."""
        return self.progress.left if self.current is None else 0

    def answer(
        self, kind: str, slot: int | None = None, *, note: str = "", token: str | None = None,
        seconds: float | None = None
    ) -> bool:  # fmt: skip
        """Save an answer (choose with a slot from 0, tie, skip, undo), then show the next item.
        Returns whether it was saved.

        "flag" saves a remark (`note`) on the text in the slot, or on the whole comparison, which
        stays to be answered; "next" saves nothing and looks for an item again. Without a token the
        answer is meant for what is shown now. What could not be saved is kept in `pending`, with
        the reason in `error`.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no answer; use one of {', '.join(KINDS)}")
        with self.lock:
            if (token is not None and token != self.token) or (
                self.current is None and kind not in ("undo", "next")
            ):
                return False
            if not self._fits(kind, slot):
                raise ValueError(
                    f"slot {slot!r} is not on the card, which shows {len(self.order)} options, "
                    "from slot 0"
                )
            took = min(self.clock() - self.shown_at if seconds is None else seconds, IDLE_SECONDS)
            try:
                if kind == "flag":
                    return self._flag(slot, note)
                saved, message, back = self._save(kind, slot, took)
            # a full disk, a lock, a lost server: the labeler must hear of all of them
            except Exception as error:
                self.message, self.error = "", f"Not saved: {reason(error)}"
                self.pending = {"kind": kind, "slot": slot, "note": note}
                return False
            self._move_on(message, back)
            return saved

    def handle(self, message: Mapping[str, Any]) -> bool:
        """Take a message of the card. Unlike `answer` it trusts nothing: a wrong, late or too early
        message changes nothing."""
        kind, slot, ms, note = (message.get(name) for name in ("kind", "slot", "ms", "note"))
        seconds = (
            ms / 1000
            if isinstance(ms, int | float) and 0 <= ms < 1e9
            else self.clock() - self.shown_at
        )
        if (
            message.get("token") != self.token
            or kind not in KINDS
            or (seconds < SETTLE_SECONDS and not self.pending)
        ):
            return False
        if isinstance(slot, bool) or not self._fits(str(kind), slot):
            return False
        return self.answer(
            str(kind),
            slot,
            note=note if isinstance(note, str) else "",
            token=self.token,
            seconds=seconds,
        )

    def labels(self, *, repeats: bool = False) -> list[Label]:
        """Read this labeler's choices from the store, without gold items; `repeats` gives the
        second choices for items that came back."""
        labels = self.store.labels(self.task, self.labeler, repeats=repeats)
        return [x for x in labels if self.items is None or x.comparison_id in self.items]

    def ties(self) -> list[str]:
        """Name the comparisons of which this labeler could not tell, without gold items."""
        found = self.store.answered(self.labeler, self.task, self.items)
        return [
            i for i, kind, repeat in found if kind == "tie" and not repeat and i not in self.gold
        ]

    def attention(self) -> tuple[int, int]:
        """Count the gold items answered as they should be, and the gold items answered at all."""
        standing = self.store.events(self.task, self.labeler, standing=True) if self.gold else []
        given = [
            e
            for e in standing
            if e.comparison_id in self.gold and not e.repeat and e.kind != "skip"
        ]
        return sum(e.choice == self.gold[e.comparison_id] for e in given), len(given)

    def minutes_left(self) -> float | None:
        """Estimate from the median pace of this sitting; None until three answers are given."""
        if len(self.pace) < 3:
            return None
        return statistics.median(self.pace[-20:]) * self.progress.left / 60

    # ---- saving ----------------------------------------------------------------------------------

    def _fits(self, kind: str, slot: Any) -> bool:
        return (slot is None and kind != "choose") or (
            isinstance(slot, int) and 0 <= slot < len(self.order)
        )

    def _save(self, kind: str, slot: int | None, took: float) -> tuple[bool, str, str | None]:
        """Write one answer to the store; return whether anything was saved, what to say, and the
        item to show again."""
        if kind == "next" or self.current is None and kind != "undo":
            return False, "", None
        if kind == "undo":
            back = self.store.undo(self.labeler, self.task, among=self.items)
            self.pace = self.pace[:-1]
            return (
                back is not None,
                "There is nothing to take back." if back is None else "Taken back. Choose again.",
                back,
            )
        choice = None if slot is None or kind != "choose" else self.order[slot]
        try:
            # shown here for so long that another window was given it
            if not self._claim(self.current.id, self.repeat):
                return (
                    False,
                    "That one is in another window of yours by now, so nothing was saved here.",
                    None,
                )
            self.store.record(
                self.labeler, self.current.id, kind, choice, self.order, took,
                simulated=self.simulated, repeat=self.repeat
            )  # fmt: skip
        except AlreadyAnswered:
            return False, "You answered that one in another window; that answer stands.", None
        if kind != "skip":
            self.pace.append(took)
        return (
            True,
            {"tie": "Saved: cannot tell", "skip": "Saved: skipped"}.get(
                kind, f"Saved: option {(slot or 0) + 1}"
            ),
            None,
        )

    def _flag(self, slot: int | None, note: str) -> bool:
        """Write a remark down; the item stays, and so does the time since it was shown. Options are
        named by their own index."""
        about = "" if slot is None else f"option {self.order[slot]}: "
        # the browser may have cut a letter in half
        note = note.strip()[:NOTE_LETTERS].encode(errors="replace").decode()
        self.store.record(
            self.labeler, self.current.id, "flag", order=self.order, note=about + note
        )  # type: ignore[union-attr]
        self.message, self.error, self.pending = (
            "Flagged, thank you. Please still choose, or skip.",
            "",
            None,
        )
        self.token = secrets.token_hex(8)
        return True

    def _move_on(self, message: str, back: str | None) -> None:
        self.message, self.error, self.pending = message, "", None
        # from here on the answer is safe, and must not be given twice
        self.token = secrets.token_hex(8)
        try:
            self.refresh(prefer=back)
            # with the count, or a screen reader would not hear the second of two equal choices
            if message.startswith("Saved"):
                self.message = f"{message} ({self.progress.done + self.progress.skipped} of {self.progress.total})."
        except Exception as error:
            self.error, self.pending = (
                f"The next comparison could not be read: {reason(error)}",
                {"kind": "next", "slot": None},
            )

    # ---- what is asked next ----------------------------------------------------------------------

    def _count(self) -> Progress:
        if self.items is None:
            return self.store.progress(self.labeler, self.task)
        mine = self.store.answered(self.labeler, self.task, self.items)
        self._answered = {i: kind for i, kind, repeat in mine if not repeat}
        skipped = sum(kind == "skip" for kind in self._answered.values())
        return Progress(
            len(self._answered) - skipped, skipped, len(self.items), len(mine) - len(self._answered)
        )

    def _take(self, prefer: str | None) -> tuple[Comparison | None, bool]:
        """Claim and return the next item: the preferred one, one that comes back, or the first that
        is open and in no other window."""
        if prefer is not None:
            # what was taken back was the second answer
            repeat = bool(self.store.answered(self.labeler, self.task, [prefer]))
            if self._claim(prefer, repeat):
                return self.store.get(prefer), repeat
        elsewhere = self.store.claimed(self.labeler, but=self.window)
        again = self._due_again()
        if (
            again is not None
            and (again.id, True) not in elsewhere
            and self._claim(again.id, repeat=True)
        ):
            return again, True
        taken = {i for i, repeat in elsewhere if not repeat}
        while (item := self._first_open(taken)) is not None:
            if self._claim(item.id):
                return item, False
            taken.add(item.id)
        self.store.release(self.labeler, self.window)
        return None, False

    def _claim(self, comparison_id: str, repeat: bool = False) -> bool:
        return self.store.claim(self.labeler, comparison_id, self.window, repeat=repeat)

    def _first_open(self, taken: set[str]) -> Comparison | None:
        if self.items is None:
            return (
                self.store.next(self.labeler, self.task, without=taken)
                if self.progress.left
                else None
            )
        return next(
            (c for i, c in self.items.items() if i not in self._answered and i not in taken), None
        )

    def _order(self) -> tuple[int, ...]:
        """Shuffle the options by labeler and item: the same after a restart, another for another
        person, another when asked again."""
        if self.current is None:
            return ()
        size = len(self.current.options)
        first = tuple(self.orders.get(self.current.id, ())) or tuple(
            random.Random(f"{self.labeler} {self.current.id}").sample(range(size), size)
        )  # fmt: skip
        return first[1:] + first[:1] if self.repeat else first

    def _due_again(self) -> Comparison | None:
        """When `repeat_every` answers followed the last repeat pick an earlier choice to ask again,
        unmarked; a restart picks the same."""
        if not 0 < self.repeat_every <= self.progress.done:
            return None
        latest = [
            x
            for x in self.store.answered(self.labeler, self.task, self.items, REMEMBERED)
            if x[1] != "skip"
        ]
        if any(repeat for _, _, repeat in latest[-self.repeat_every :]):
            return None
        seen = {i for i, _, repeat in latest if repeat} | set(self.gold)
        # not the ones still in mind
        chosen = [i for i, kind, repeat in latest if kind == "choose" and not repeat][:-3]
        if not (chosen := [i for i in chosen if i not in seen]):
            return None
        return self.store.get(
            random.Random(f"{self.labeler} {self.task} {self.progress.repeats}").choice(chosen)
        )

    def _keep_gold(self, gold: Mapping[str, int]) -> dict[str, int]:
        """Write gold items into the store, and return all that it has of them among the items."""
        for name, right in gold.items():
            item = self.store.get(name) if self.items is None else self.items.get(name)
            if item is None:
                raise ValueError(
                    f"gold item {name!r} is not among the comparisons to be asked: put it there too"
                )
            if not 0 <= right < len(item.options):
                raise ValueError(
                    f"gold item {name!r}: its right option is {right}, but there are options 0 to "
                    f"{len(item.options) - 1}"
                )
        if gold:
            self.store.set_gold(gold)
        return {
            i: right
            for i, right in self.store.gold(self.task).items()
            if self.items is None or i in self.items
        }


def balanced_sides(
    labeler: str, pairs: Sequence[Comparison], first: Sequence[int] = ()
) -> dict[str, tuple[int, int]]:
    """Order the sides of pairs so that option `first` (0 unless given) stands on the left in half
    of them, in no pattern.

    Of every two neighbours in the list one has it left and one right; chance, fixed by labeler and
    content, says which.
    """
    orders: dict[str, tuple[int, int]] = {}
    for i, pair in enumerate(pairs):
        heads = random.Random(f"{labeler} {pairs[i - i % 2].id}").random() < 0.5
        left = first[i] if i < len(first) else 0
        if heads == bool(i % 2):
            left = 1 - left
        orders[pair.id] = (left, 1 - left)
    return orders


def reason(error: Exception) -> str:
    """Say in a few words why something failed: without the statement a database was busy with, and
    without what the card says itself."""
    return (
        str(getattr(error, "orig", None) or error).partition("; nothing was saved")[0]
        or type(error).__name__
    )
