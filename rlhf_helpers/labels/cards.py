"""Cards to label and to judge on, inside the notebook. Thin skins over `sessions.Session`, which
decides everything.

The live card (`static/card.js`) draws the one `view` it is given and sends back what was pressed.
Texts of models and of data sets are shown as text and never as markup, with hidden characters made
visible.
"""

from __future__ import annotations

import html
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from rlhf_helpers.labels import frontend, place
from rlhf_helpers.labels.frontend import QUESTIONS, RUBRICS, visible
from rlhf_helpers.labels.sessions import Session, balanced_sides
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label

KEYS = (
    "t cannot tell, s skip, u undo, f flag (with a note: f not a sentence), ? how to choose, q stop"
)


def label(
    items: LabelStore | str | Path | Iterable[Comparison], task: Any = None,
    labeler: str | None = None, *, store: LabelStore | str | Path | None = None,
    question: str | None = None, rubric: str | None = None, repeat_every: int = 10,
    gold: Mapping[str, int] | None = None,
) -> Any:  # fmt: skip
    """Show the labelling card for all of a store's task, or for these comparisons (kept in `store`,
    by default labels.db in your runs).

    Returns the card at once. Every click is saved before the next item is shown; run the cell again
    to go on where you stopped. `labeler` is your own pseudonym (`me()`) unless named. After every
    `repeat_every` answers one earlier item comes back, unmarked, in another order (0: never).
    `gold` names the right option of items (by id) whose answer is known; the store keeps it. They
    measure attention, and no labels are read from them. `card.answer("choose", 0)` labels without a
    browser and `card.ask()` by typing, which a terminal does of itself. In a headless run
    (RLHF_HEADLESS=1) the card is a picture only.
    """
    where, name, these = _place(items, task, store)
    session = Session(
        where,
        name,
        labeler or me(),
        these,
        repeat_every=repeat_every,
        gold=gold,
        cell=frontend.cell(),
    )
    rubric = RUBRICS.get(name, "") if rubric is None else rubric
    return _met(_card(session, question or QUESTIONS.get(name, "Which one is the best?"), rubric))


def judge(
    pairs: Iterable[Comparison], labeler: str | None = None, *,
    store: LabelStore | str | Path | None = None, question: str | None = None,
    rubric: str | None = None, first_is_zero: Sequence[bool] = (),
    names: tuple[str, str] = ("first", "second"),
) -> Any:  # fmt: skip
    """Show the card for blind A/B pairs; who is who is uncovered at the end if `first_is_zero` is
    given, one bool per pair.

    The sides are random and balanced: the first stands on the left in half of the pairs (without
    `first_is_zero`: option 0). The pairs are stored as a task of their own (`sentiment-judging`),
    so that they never mix with the labels a reward model learns from. Every verdict is saved before
    the next pair is shown; run the cell again to go on where you stopped. `card.labels()` gives the
    labels and `card.ties()` the pairs of which you could not tell, with the ids of the pairs as
    they were passed, ready for `evaluation.judge`. With `first_is_zero` the store also keeps who
    wrote what, apart from what a card reads: `store.judgements()` gives every verdict uncovered.
    """
    pairs, labeler = list(pairs), labeler or me()
    if not pairs or any(len(p.options) != 2 for p in pairs):
        raise ValueError("judging needs at least one pair, and pairs have exactly two options")
    if len(first_is_zero) not in (0, len(pairs)):
        raise ValueError(
            f"first_is_zero says of {len(first_is_zero)} pairs who wrote option 0, but there are "
            f"{len(pairs)}"
        )
    stored = [replace(p, task=f"{p.task}-judging") for p in pairs]
    where, name, these = _place(stored, None, store)
    # Of two equal texts it makes no difference who wrote which, so they are kept the same way each
    # time.
    systems = [
        names if zero or p.options[0] == p.options[1] else names[::-1]
        for p, zero in zip(pairs, first_is_zero, strict=False)
    ]
    if systems:
        try:
            where.add_judgements(stored, systems)
        except ValueError as error:
            raise ValueError(
                f"{error}. Name the models as before, or name another store"
            ) from error
    sides = balanced_sides(labeler, stored, [0 if zero else 1 for zero in first_is_zero])
    session = Session(
        where, name, labeler, these, repeat_every=0, orders=sides, cell=frontend.cell()
    )
    task = pairs[0].task
    rubric = RUBRICS.get(task, "") if rubric is None else rubric
    ids = {new.id: old.id for new, old in zip(stored, pairs, strict=True)}
    wrote = {new.id: both for new, both in zip(stored, systems, strict=False)}
    return _met(
        _card(session, question or QUESTIONS.get(task, "Which one is better?"), rubric, ids, wrote)
    )


def me(pseudonym: str = "") -> str:
    """Return the name that your labels carry, kept in labeler.txt in your runs; `pseudonym` chooses
    it, otherwise one is made up.

    It is made up by chance, because files of two people who have one name cannot be merged. A
    headless run is "me", and keeps nothing.
    """
    file = place.folder() / "labeler.txt"
    if not pseudonym.strip() and file.exists():
        return file.read_text(encoding="utf-8").strip()
    if not pseudonym.strip() and frontend.headless():
        return "me"
    name = pseudonym.strip() or f"labeler-{secrets.token_hex(3)}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name + "\n", encoding="utf-8")
    return name


class Face:
    """What every card has, with or without a browser: the session behind it, the view it shows, and
    its answers."""

    session: Session
    question: str
    rubric: str
    ids: Mapping[str, str]  # for judging: stored id -> id of the pair as it was passed
    # for judging: stored id -> names of options 0 and 1, told at the end
    sides: Mapping[str, tuple[str, str]]

    def __repr__(self) -> str:
        s = self.session
        return f"{s.labeler} on {s.task}: {s.progress.done} of {s.progress.total} labelled in {Path(s.store.name).name}"

    def answer(self, kind: str, slot: int | None = None, note: str = "") -> bool:
        """Answer what the card shows, as a click would: choose with a slot from 0, tie, skip, undo,
        flag. Returns whether it was saved."""
        saved = self.session.answer(kind, slot, note=note)
        self.draw()
        return saved

    def labels(self) -> list[Label]:
        """Read the labels that stand, with the ids of the comparisons as they were passed."""
        labels = self.session.labels()
        return (
            [
                replace(x, comparison_id=self.ids[x.comparison_id])
                for x in labels
                if x.comparison_id in self.ids
            ]
            if self.ids
            else labels
        )

    def ties(self) -> list[str]:
        """Name the comparisons of which the labeler could not tell, by their ids as they were
        passed."""
        return [self.ids.get(i, i) for i in self.session.ties()]

    def draw(self) -> None:
        """Bring the screen up to date, where there is one."""

    def scene(self) -> dict[str, Any]:
        """Describe what is to be seen now, in plain values; `card.js` draws exactly this."""
        s, p = self.session, self.session.progress
        item = s.current
        return {
            "state": "item" if item is not None else "elsewhere" if s.elsewhere else "done",
            "elsewhere": s.elsewhere, "token": s.token, "showing": s.showing, "message": s.message,
            "error": s.error, "pending": s.pending, "task": visible(s.task.replace("-", " ")),
            "question": visible(self.question), "rubric": visible(self.rubric),
            "prompt": "" if item is None else visible(item.query.strip()),
            "options": [] if item is None else [visible(item.options[i].strip()) for i in s.order],
            "done": p.done + p.skipped, "total": p.total, "minutes": s.minutes_left(),
            "undo": p.done + p.skipped + p.repeats > 0,
            "summary": self.summary() if item is None else [],
        }  # fmt: skip

    def summary(self) -> list[str]:
        """Sum the work up in a few lines, for the end."""
        s, p = self.session, self.session.progress
        labels = {x.comparison_id: x.choice for x in s.labels()}
        right, checked = s.attention()
        lines = [
            f"Choices: {len(labels)}. Cannot tell: {p.done - checked - len(labels)}. Skipped: "
            f"{p.skipped}."
        ]
        again = [x for x in s.labels(repeats=True) if x.comparison_id in labels]
        if again:
            same = sum(labels[x.comparison_id] == x.choice for x in again)
            lines.append(
                f"Shown a second time, in another order: {len(again)}. The same choice again: "
                f"{same}."
            )
        if checked:
            lines.append(f"Questions with a known answer: {checked}. Answered that way: {right}.")
        if flags := sum(
            e.kind == "flag" and (s.items is None or e.comparison_id in s.items)
            for e in s.store.events(s.task, s.labeler)
        ):
            lines.append(f"Remarks on bad texts: {flags}.")
        if won := Counter(self.sides[i][choice] for i, choice in labels.items() if i in self.sides):
            names = dict.fromkeys(name for pair in self.sides.values() for name in pair)
            lines.append("Preferred: " + ", ".join(f"{name} {won[name]}" for name in names) + ".")
        return lines

    def picture(self) -> str:
        """Draw the card as plain HTML, for pages where nothing can be clicked."""
        v = self.scene()
        cells = "".join(
            f'<li style="margin:.4em 0;white-space:pre-wrap"><bdi>{html.escape(option)}</bdi></li>'
            for option in v["options"]
        )
        text = "".join(f"<p>{html.escape(line)}</p>" for line in v["summary"])
        prompt = (
            f'<p style="white-space:pre-wrap"><bdi>{html.escape(v["prompt"])}</bdi></p>'
            if v["prompt"]
            else ""
        )
        way = "run the cell to label, or call <code>ask()</code> on the card to type"
        return (
            f"<div><p><strong>{html.escape(v['question'])}</strong> ({v['done']} of {v['total']} "
            f"done; {way})</p>"
            f"{prompt}{f'<ol>{cells}</ol>' if cells else text}</div>"
        )

    def ask(self, read: Callable[[str], str] = input) -> None:
        """Label by typing, where no widget can be shown; ends with q, at the end of the items, or
        where nobody can type."""
        print(
            f"\n{visible(self.question)}  Type a number and Enter; {KEYS}. Each answer is saved at "
            "once."
        )
        while (view := self.scene())["state"] == "item":
            print(_printed(view))
            try:
                said = read("> ").strip()
            # no more input, Ctrl-C, a kernel without a keyboard
            except (EOFError, KeyboardInterrupt, NotImplementedError, OSError):
                break
            if said.lower() in ("q", "quit"):
                break
            print(self._typed(said, len(view["options"])))
        print("\n".join(view["summary"] or ["Stopped; what you answered is saved."]))
        if view["state"] == "elsewhere":
            print("The rest is in another window of yours.")

    def _typed(self, said: str, options: int) -> str:
        """Do what was typed, and say how it went."""
        word, _, note = said.partition(" ")
        kind = {"t": "tie", "s": "skip", "u": "undo"}.get(word.lower())
        if word.isdecimal() and 1 <= int(word) <= options:
            self.answer("choose", int(word) - 1)
        elif kind:
            self.answer(kind)
        elif word.lower() == "f":
            self.answer("flag", note=note)
        elif word == "?":
            return visible(self.rubric) or "There is no rubric."
        else:
            return f"That is none of 1 to {options}; {KEYS}."
        return self.session.error or self.session.message


class StillCard(Face):
    """The card where no widget can be shown: a picture, `answer()` and `labels()`."""

    def _repr_html_(self) -> str:
        return self.picture()


@cache
def _live_card() -> type:
    """Make the class of the live card; here, because the notebook packages are not needed for
    anything else in this file."""
    import anywidget
    import traitlets

    class Card(Face, anywidget.AnyWidget):
        """The card in the browser (`static/card.js`). Python owns the state; JavaScript draws
        `view` and sends what was pressed."""

        _esm = frontend.script(frontend.STATIC / "card.js")
        _css = frontend.style(frontend.STATIC / "card.css")
        view = traitlets.Dict().tag(sync=True)

        def draw(self, heard: Any = None) -> None:
            with self.session.lock:  # or a click on another thread could mix two items in one scene
                self.view = {**self.scene(), "heard": heard}
            # From 7.4 on ipykernel answers in the thread that drew last. Clicks are to come in
            # JupyterLab's own, while a cell trains too.
            vars(self.comm).pop("_reply_subshell_id", None)

        def receive(self, _: Any, message: Any, __: Any) -> None:
            """Take a click or key. `heard` goes back even if nothing changed: without it the card
            says that nobody listens."""
            if isinstance(message, dict):
                self.session.handle(message)
                self.draw(heard=message.get("number"))

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            bundle = super()._repr_mimebundle_(**kwargs)
            data, extra = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {**data, "text/html": self.picture(), "text/plain": Face.__repr__(self)}, extra

    return Card


def _card(
    session: Session, question: str, rubric: str, ids: Mapping[str, str] = {},
    sides: Mapping[str, tuple[str, str]] = {}
) -> Any:  # fmt: skip
    """Make a card, and draw it when it knows everything: one that is finished tells its summary at
    once."""
    # what was asked is kept beside what was answered
    session.store.sit_down(session.labeler, session.task, question, rubric)
    way = frontend.way_to_ask()
    card: Any = _live_card()() if way == "live" else StillCard()
    card.session, card.question, card.rubric, card.ids, card.sides = (
        session,
        question,
        rubric,
        ids,
        sides,
    )
    if way == "live":
        card.on_msg(card.receive)
    card.draw()
    return card


def _met(card: Any) -> Any:
    """Where no widget can be shown and somebody can type, ask at once."""
    if frontend.way_to_ask() == "typed":
        card.ask()
    return card


def _printed(view: Mapping[str, Any]) -> str:
    """Write the item for a terminal; hidden characters are marks already, so that no text can move
    the cursor."""
    options = [f"  {i}  {option}" for i, option in enumerate(view["options"], 1)]
    return "\n".join(["", f"[{view['done'] + 1} of {view['total']}]", view["prompt"], "", *options])


def _place(items: Any, task: Any, store: Any) -> tuple[LabelStore, str, list[Comparison] | None]:
    """Find the store and the task that are meant, and the comparisons if they were listed; these
    are added to the store."""
    name, these = getattr(task, "name", task), None
    if isinstance(items, LabelStore | str | Path):
        where = items if isinstance(items, LabelStore) else LabelStore(items)
        names = {name} if name else {c.task for c in where.comparisons()}
    else:
        these = list(items)
        where = (
            store
            if isinstance(store, LabelStore)
            else LabelStore(store or place.folder() / "labels.db")
        )
        names = {c.task for c in these}
        if name and names - {name}:
            raise ValueError(
                f"these comparisons belong to {', '.join(sorted(names))}, not to {name}"
            )
    if len(names) != 1:
        raise ValueError(
            f"say which task: there are {', '.join(sorted(names)) or 'none'} in "
            f"{'the list' if these else where.name}"
        )
    if these is not None:
        where.add(these)
    return where, str(names.pop()), these
