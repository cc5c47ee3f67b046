"""One labeler at work, without any widget: what is shown next, which answers count, when they are
saved.

A card draws what its session says and passes on what was pressed, with the token of the item that
it showed. An answer with an old token is ignored, so a double click never labels an item that
nobody has read. The item on the screen is claimed in the store, so another window of the same
labeler shows another one.
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

from rlhf_helpers.labels.orders import shuffled
from rlhf_helpers.labels.store import ANSWERS, AlreadyAnswered, LabelStore, Progress
from rlhf_helpers.records import Comparison, Label

KINDS = (*ANSWERS, "undo", "flag", "next")  # what a card may send
# nobody reads and answers faster: such an answer was meant for the item before
SETTLE_SECONDS = 0.15
IDLE_SECONDS = 180.0  # longer is a break, not thought: times are capped here
NOTE_LETTERS = 500  # of a remark on a bad text
REMEMBERED = 1_000  # items that are asked again come from so many latest answers
FRESH = 3  # the latest choices, which the labeler still remembers, are not asked again
SAID = {"tie": "Saved: cannot tell", "skip": "Saved: skipped"}


class Session:
    """One labeler at work on a task of a store, or on some `items` of it.

    Comparisons whose options all read the same are not asked; `left_out` counts them.
    `orders` fixes for some items (by id) the order of their options; the others are shuffled by
    labeler and item. `gold` names the right option of items whose answer is known. It is kept in
    the store; gold items measure attention, and no labels are read from them. `how` says for items
    that a model picked how it did; it is kept as the note of their answers. `cell` names the
    notebook's cell: when it runs again, its new session takes over from the old one, and the
    sessions of other cells go on.
    """

    def __init__(
        self, store: LabelStore, task: str, labeler: str, items: Sequence[Comparison] | None = None,
        *, repeat_every: int = 10, orders: Mapping[str, Sequence[int]] | None = None,
        gold: Mapping[str, int] | None = None, how: Mapping[str, str] | None = None,
        simulated: bool = False, cell: str = "", clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not labeler:
            raise ValueError("a session needs the name or pseudonym of its labeler")
        if not (store.progress(labeler, task).total if items is None else items):
            raise ValueError(
                f"{store.name} holds no comparisons of task {task!r}: add() some first"
            )
        self.store, self.task, self.labeler = store, task, labeler
        self.simulated, self.clock = simulated, clock
        self._total = -1  # comparisons of the task when `equal` was read
        self.items = None if items is None else {c.id: c for c in items if not c.has_equal_options}
        self.equal = {c.id for c in items or () if c.has_equal_options}
        if items is None:
            self._read_equal(store.progress(labeler, task).total)
        self.repeat_every, self.orders, self.how = repeat_every, orders or {}, how or {}
        self.gold = self._keep_gold(gold or {})
        self.message = self.error = ""
        self.pending: dict[str, Any] | None = None  # an answer that could not be saved yet
        # clicks arrive on another thread than the cells; whoever draws holds it too
        self.lock = threading.RLock()
        self.pace: list[float] = []  # seconds of the answers given here, newest last
        place = f"{socket.gethostname()}/{os.getpid()}/{cell}-"
        # a cell that runs again goes on with the item that its earlier card shows
        store.release(labeler, place)
        self.window = place + secrets.token_hex(4)
        self.refresh()

    def refresh(self, prefer: str | None = None) -> None:
        """Count again, and show the next item (`prefer`: this one, if it is still open)."""
        self.progress = self._count()
        self.current, self.repeat = self._take(prefer)
        self.order = self._order()
        # every answer must carry the token; `showing` outlives a flag
        self.token = self.showing = secrets.token_hex(8)
        self.shown_at = self.clock()

    @property
    def elsewhere(self) -> int:
        """The number of items that are still open, but in other windows of this labeler."""
        return self.progress.left if self.current is None else 0

    @property
    def left_out(self) -> int:
        """The number of comparisons that are not asked because their options are equal."""
        return len(self.equal)

    def answer(
        self, kind: str, slot: int | None = None, *, note: str = "", token: str | None = None,
        seconds: float | None = None
    ) -> bool:  # fmt: skip
        """Save an answer, show the next item, and return whether anything was saved.

        Kinds: choose (with a slot, from 0), tie, skip, undo. "flag" saves a remark (`note`) on the
        text in the slot, or on the whole comparison, which stays open; "next" saves nothing and
        looks for an item again. Without a token the answer is meant for what is shown now. What
        could not be saved is kept in `pending`, and `error` says why.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not an answer; use one of {', '.join(KINDS)}")
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
        """Take a message of the card; unlike `answer`, ignore one that is wrong, late or early."""
        kind, slot, ms, note = (message.get(name) for name in ("kind", "slot", "ms", "note"))
        is_time = isinstance(ms, int | float) and 0 <= ms < 1e9
        seconds = ms / 1000 if is_time else self.clock() - self.shown_at
        if message.get("token") != self.token or kind not in KINDS:
            return False
        if seconds < SETTLE_SECONDS and not self.pending:
            return False
        if isinstance(slot, bool) or not self._fits(str(kind), slot):
            return False
        note = note if isinstance(note, str) else ""
        return self.answer(str(kind), slot, note=note, token=self.token, seconds=seconds)

    def labels(self, *, repeats: bool = False) -> list[Label]:
        """Read this labeler's choices, without gold items; `repeats`: the second choices instead.

        Second choices are those for items that were asked again. A choice between equal options,
        which only comes from elsewhere, is left out: it says nothing.
        """
        labels = self.store.labels(self.task, self.labeler, repeats=repeats)
        labels = [x for x in labels if x.comparison_id not in self.equal]
        return [x for x in labels if self.items is None or x.comparison_id in self.items]

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

    def count(self) -> tuple[int, int]:
        """Count the answers given and those still to come, second answers among both.

        A count of comparisons stands still at one that is asked again, and so gives it away. How
        many come back is known only roughly beforehand: ties and skips put repeats off.
        """
        p = self.progress
        again = 0
        if self.repeat_every and self.current is not None:
            asked = p.total - p.skipped
            due = min(asked // self.repeat_every, asked - len(self.gold) - FRESH) - p.repeats
            again = max(0, due, int(self.repeat))
        return p.done + p.skipped + p.repeats, p.left + again

    def minutes_left(self) -> float | None:
        """Estimate from the median pace of this session; None before three answers are given."""
        if len(self.pace) < 3:
            return None
        return statistics.median(self.pace[-20:]) * self.count()[1] / 60

    # ---- saving ----------------------------------------------------------------------------------

    def _fits(self, kind: str, slot: Any) -> bool:
        return (slot is None and kind != "choose") or (
            isinstance(slot, int) and 0 <= slot < len(self.order)
        )

    def _save(self, kind: str, slot: int | None, took: float) -> tuple[bool, str, str | None]:
        """Write one answer to the store.

        Returns whether anything was saved, the message, and the item to show again, if there is
        one.
        """
        if kind == "undo":
            back = self.store.undo(self.labeler, self.task, among=self.items, holder=self.window)
            self.pace = self.pace[:-1]
            if back is None:
                return False, "There is nothing to take back.", None
            return True, "Taken back. Choose again.", back
        if kind == "next" or self.current is None:
            return False, "", None
        choice = None if slot is None or kind != "choose" else self.order[slot]
        try:
            # it was shown here for so long that another window was given it
            if not self._claim(self.current.id, self.repeat):
                return False, "Nothing was saved: another window of yours shows that one now.", None
            following = self._first_open(self._shown_elsewhere() | {self.current.id})
            self.store.record(
                self.labeler, self.current.id, kind, choice, self.order, took,
                note=self.how.get(self.current.id, ""), simulated=self.simulated,
                repeat=self.repeat, holder=self.window,
                following=None if following is None else following.id,
            )  # fmt: skip
        except AlreadyAnswered:
            return False, "You answered that one in another window; that answer stands.", None
        if kind != "skip":
            self.pace.append(took)
        return True, SAID.get(kind, f"Saved: option {(slot or 0) + 1}"), None

    def _flag(self, slot: int | None, note: str) -> bool:
        """Save a remark; the item stays, and its clock runs on. Options go by their own index."""
        assert self.current is not None
        about = "" if slot is None else f"option {self.order[slot]}: "
        # the browser may have cut a letter in half
        note = note.strip()[:NOTE_LETTERS].encode(errors="replace").decode()
        self.store.record(
            self.labeler, self.current.id, "flag", order=self.order, note=about + note
        )
        self.message = "Flagged, thank you. Please still choose, or skip."
        self.error, self.pending = "", None
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
                given, left = self.count()
                self.message = f"{message} ({given} of {given + left})."
        except Exception as error:
            self.error = f"The next comparison could not be read: {reason(error)}"
            self.pending = {"kind": "next", "slot": None}

    # ---- what is asked next ----------------------------------------------------------------------

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

        That is the preferred one, one that is due again, or the first that is open and in no other
        window.
        """
        if prefer is not None and prefer not in self.equal:
            # if the first answer stands, the second was taken back
            repeat = bool(self.store.answered(self.labeler, self.task, [prefer]))
            if self._claim(prefer, repeat):
                return self.store.get(prefer), repeat
        again = self._due_again()
        if again is not None and self._claim(again.id, repeat=True):
            return again, True
        taken = self._shown_elsewhere()
        while (item := self._first_open(taken)) is not None:
            if self._claim(item.id):
                return item, False
            taken.add(item.id)
        self.store.release(self.labeler, self.window)
        return None, False

    def _claim(self, comparison_id: str, repeat: bool = False) -> bool:
        return self.store.claim(self.labeler, comparison_id, self.window, repeat=repeat)

    def _shown_elsewhere(self) -> set[str]:
        claimed = self.store.claimed(self.labeler, but=self.window)
        return {i for i, repeat in claimed if not repeat}

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
        latest = [x for x in answered if x[1] != "skip"]
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


def reason(error: Exception) -> str:
    """Say briefly why something failed, without the SQL statement and what the card says itself."""
    said = str(getattr(error, "orig", None) or error).partition("; nothing was saved")[0]
    return said or type(error).__name__
