"""One labeler at work, without any widget: what is shown next, which answers count, when they are
saved.

A card draws what its session says and passes on what was pressed, with the token of the item that
it showed. An answer with an old token is ignored, so a double click never labels an item that
nobody has read. The item on the screen is claimed in the store, so another window of the same
labeler shows another one.
"""

from __future__ import annotations

import os
import secrets
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_helpers.labels.asking import FRESH, Asking, Choose
from rlhf_helpers.labels.standing import JOIN, MIRROR, Standing, picked_by
from rlhf_helpers.labels.store import ANSWERS, AlreadyAnswered, LabelStore
from rlhf_helpers.records import Comparison

KINDS = (*ANSWERS, "undo", "flag", "next")  # what a card may send
# nobody reads and answers faster: such an answer was meant for the item before
SETTLE_SECONDS = 0.15
IDLE_SECONDS = 180.0  # longer is a break, not thought: times are capped here
NOTE_LETTERS = 500  # of a remark on a bad text
SAID = {"tie": "Saved: cannot tell", "skip": "Saved: skipped"}


class Given(NamedTuple):
    """An answer just given: `choice` is the comparison's own index, `order` what was shown, and
    `counts` says that labels are read from it, as from no second answer and no gold item."""

    comparison: Comparison
    kind: str
    choice: int | None
    order: tuple[int, ...]
    counts: bool


class Session(Asking, Standing):
    """One labeler at work on a task of a store, or on some `items` of it.

    Comparisons whose options all read the same are not asked; `left_out` counts them.
    `orders` fixes for some items (by id) the order of their options; the others are shuffled by
    labeler and item. `gold` names the right option of items whose answer is known. It is kept in
    the store; gold items measure attention, and no labels are read from them. `how` says for items
    that a model picked how it did, and `choose` picks each next one (`asking.Choose`) of those that
    are there now. How is kept as the note of the answer, and so is that the mirror was on
    (`mirror`), which may sway who looks into it. `cell` names the notebook's cell: when it runs
    again, its new session takes over from the old one, and the sessions of other cells go on.
    """

    def __init__(
        self, store: LabelStore, task: str, labeler: str, items: Sequence[Comparison] | None = None,
        *, repeat_every: int = 10, orders: Mapping[str, Sequence[int]] | None = None,
        gold: Mapping[str, int] | None = None, how: Mapping[str, str] | None = None,
        choose: Choose | None = None, simulated: bool = False, cell: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not labeler:
            raise ValueError("a session needs the name or pseudonym of its labeler")
        if not (store.progress(labeler, task).total if items is None else items):
            raise ValueError(
                f"{store.name} holds no comparisons of task {task!r}: add() some first"
            )
        if items is None and choose is not None:
            items = store.comparisons(task)
        self.store, self.task, self.labeler = store, task, labeler
        self.simulated, self.clock = simulated, clock
        self.choose, self._following, self._answered = choose, None, {}
        self._total = -1  # comparisons of the task when `equal` was read
        self.items = None if items is None else {c.id: c for c in items if not c.has_equal_options}
        self.equal = {c.id for c in items or () if c.has_equal_options}
        if items is None:
            self._read_equal(store.progress(labeler, task).total)
        self.repeat_every, self.orders, self.how = repeat_every, orders or {}, how or {}
        self.gold = self._keep_gold(gold or {})
        self.mirror = False
        self.latest: Given | None = None  # what a mirror speaks of
        self.flags = 0  # on what is shown now, and not withdrawn
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
        self.was, way = self._said_before()
        self.way, self.flags = way or self.way, 0
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
        text in the slot, or on the whole comparison, which stays open, and an undo just after it
        withdraws it; "next" saves nothing and looks for an item again. Without a token the answer
        is meant for what is shown now. What could not be saved is kept in `pending`, and `error`
        says why.
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
                if kind == "undo" and self._withdraw():
                    return True
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
        self.latest = None
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
            following = self._pick(self._shown_elsewhere() | {self.current.id})
            self.store.record(
                self.labeler, self.current.id, kind, choice, self.order, took,
                note=self.note(self.way), simulated=self.simulated,
                repeat=self.repeat, holder=self.window,
                following=None if following is None else following[0].id,
            )  # fmt: skip
            self._following = following if self.choose is not None else None
        except AlreadyAnswered:
            return False, "You answered that one in another window; that answer stands.", None
        counts = not self.repeat and self.current.id not in self.gold
        self.latest = Given(self.current, kind, choice, self.order, counts)
        if kind != "skip":
            self.pace.append(took)
        return True, SAID.get(kind, f"Saved: option {(slot or 0) + 1}"), None

    def note(self, way: str) -> str:
        """Say what is kept with an answer: how its item was picked, whether the mirror was on."""
        return JOIN.join(filter(None, (way, MIRROR if self.mirror else "")))

    def _flag(self, slot: int | None, note: str) -> bool:
        """Save a remark; the item stays, and its clock runs on."""
        assert self.current is not None
        # the browser may have cut a letter in half
        note = note.strip()[:NOTE_LETTERS].encode(errors="replace").decode()
        choice = None if slot is None else self.order[slot]
        self.store.record(
            self.labeler, self.current.id, "flag", choice, order=self.order, note=note
        )
        what = "Flagged" if slot is None else f"Flagged option {slot + 1}"
        self._stay(f"{what}, thank you. Please still choose, or skip.")
        self.flags += 1
        return True

    def _withdraw(self) -> bool:
        """Withdraw the flag that is what was done last, if it is one."""
        if self.store.undo_flag(self.labeler, self.task, among=self.items) is None:
            return False
        self._stay("Flag withdrawn.")
        self.flags = max(0, self.flags - 1)
        return True

    def _stay(self, message: str) -> None:
        self.message, self.error, self.pending = message, "", None
        self.token = secrets.token_hex(8)

    def _said_before(self) -> tuple[tuple[str, int | None] | None, str]:
        """Read what was said of the item that is shown before it was taken back, as (kind, choice),
        None if it was never answered; and how it was picked first, "" if nobody says."""
        if self.current is None:
            return None, ""
        said = self.store.history(self.labeler, self.current.id)
        undone = {e.undoes for e in said if e.kind == "undo"}
        before = [
            e for e in said if e.id in undone and e.kind in ANSWERS and e.repeat == self.repeat
        ]
        ways = [self.how.get(self.current.id, "")]
        ways += [picked_by(e.note) for e in said if e.kind in ANSWERS]
        was = (before[-1].kind, before[-1].choice) if before else None
        return was, next(filter(None, ways), "")

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


def reason(error: Exception) -> str:
    """Say briefly why something failed, without the SQL statement and what the card says itself."""
    said = str(getattr(error, "orig", None) or error).partition("; nothing was saved")[0]
    return said or type(error).__name__
