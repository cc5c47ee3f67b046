"""What every card is: what it shows, its answers, its summary; with a browser or without one.

The live card (`static/card.js`) draws the one `view` it is given and sends back what was pressed.
Texts of models and of data sets are shown as text and never as markup, with hidden characters made
visible.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from rlhf_helpers.labels import frontend, place
from rlhf_helpers.labels.frontend import visible
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Label

KEYS = (
    "t cannot tell, s skip, u undo, f flag (with a note: f not a sentence), ? how to choose, q stop"
)


class CardBase:
    """A card: the session behind it, what it shows, and its answers."""

    session: Session
    question: str
    rubric: str
    ids: Mapping[str, str]  # for judging: stored id -> id of the pair as it was passed
    where: str  # the sentence that says where labels are saved
    # for judging: stored id -> names of options 0 and 1, told at the end
    sides: Mapping[str, tuple[str, str]]

    def __repr__(self) -> str:
        s = self.session
        count, file = f"{s.progress.done} of {s.progress.total}", Path(s.store.name).name
        return f"{s.labeler} on {s.task}: {count} labelled in {file}"

    def answer(self, kind: str, slot: int | None = None, note: str = "") -> bool:
        """Answer what the card shows, as a click would, and return whether it was saved.

        Kinds: choose (with a slot, from 0), tie, skip, undo, flag (with a note).
        """
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
        """Name the comparisons without a preference, by their ids as they were passed.

        Those are the ones answered with "cannot tell" and, when judging, the pairs of equal texts
        up to the last answer: they are ties that nobody needs to be asked about.
        """
        ties = set(self.session.ties())
        if not self.ids:
            return self.session.ties()
        ties |= self._equal_pairs()
        return [passed for stored, passed in self.ids.items() if stored in ties]

    def _equal_pairs(self) -> set[str]:
        s = self.session
        answered = {i for i, _, _ in s.store.answered(s.labeler, s.task, s.items)}
        last = max((n for n, i in enumerate(self.ids) if i in answered), default=-1)
        is_over = s.progress.left == 0
        return {i for n, i in enumerate(self.ids) if i in s.equal and (is_over or n < last)}

    def draw(self) -> None:
        """Bring the screen up to date, where there is one."""

    def describe(self) -> dict[str, Any]:
        """Describe what the card shows now, in plain values; `card.js` draws exactly this."""
        s, item = self.session, self.session.current
        given, left = s.count()
        return {
            "state": "item" if item is not None else "elsewhere" if s.elsewhere else "done",
            "elsewhere": s.elsewhere, "token": s.token, "showing": s.showing, "message": s.message,
            "error": s.error, "pending": s.pending, "task": visible(s.task.replace("-", " ")),
            "question": visible(self.question), "rubric": visible(self.rubric),
            "prompt": "" if item is None else visible(item.query.strip()),
            "options": [] if item is None else [visible(item.options[i].strip()) for i in s.order],
            "done": given, "total": given + left, "minutes": s.minutes_left(), "undo": given > 0,
            "summary": self.summary() if item is None else [], "notes": self.notes(),
        }  # fmt: skip

    def notes(self) -> list[str]:
        """Say where the labels are saved, and how many comparisons were left out."""
        lines, left_out = [visible(self.where)], self.session.left_out
        if left_out == 1:
            lines.append("1 comparison with equal options was left out.")
        elif left_out:
            lines.append(f"{left_out} comparisons with equal options were left out.")
        return lines

    def summary(self) -> list[str]:
        """Sum up the work in a few lines, for the end."""
        s, p = self.session, self.session.progress
        labels = {x.comparison_id: x.choice for x in s.labels()}
        right, checked = s.attention()
        lines = [
            f"Choices: {len(labels)}. Cannot tell: {p.done - checked - len(labels)}. Skipped: "
            f"{p.skipped}."
        ]
        again = [x for x in s.labels(repeats=True) if x.comparison_id in labels]
        undecided = s.undecided_repeats()
        if again or undecided:
            same = sum(labels[x.comparison_id] == x.choice for x in again)
            lines.append(
                f"Shown a second time, in another order: {len(again) + undecided}. The same choice "
                f"again: {same}. Cannot tell the second time: {undecided}."
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
        return lines + self.notes()[1:]

    def picture(self) -> str:
        """Draw the card as plain HTML, for pages where nothing can be clicked."""
        v = self.describe()
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
        # a saved notebook keeps this picture, so it does not name your folders
        left_out = "".join(f"<p>{html.escape(line)}</p>" for line in v["notes"][1:] if cells)
        way = "run the cell to label, or call <code>answer_by_typing()</code> on the card to type"
        return (
            f"<div><p><strong>{html.escape(v['question'])}</strong> ({v['done']} of {v['total']} "
            f"done; {way})</p>"
            f"{prompt}{f'<ol>{cells}</ol>' if cells else text}{left_out}</div>"
        )

    def answer_by_typing(self, read: Callable[[str], str] = input) -> None:
        """Label by typing, until q is typed, all is answered, or nobody can type."""
        print(
            f"\n{visible(self.question)}  Type a number and Enter; {KEYS}. Each answer is saved at "
            f"once. {' '.join(self.notes())}"
        )
        while (view := self.describe())["state"] == "item":
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
        """Do what was typed, and return the message for it."""
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


class StillCard(CardBase):
    """The card where no widget can be shown: a picture, `answer()` and `labels()`."""

    def _repr_html_(self) -> str:
        return self.picture()


@cache
def _live_card() -> type:
    """Make the class of the live card; here, because the notebook packages are not needed for
    anything else in this file."""
    import anywidget
    import traitlets

    class Card(CardBase, anywidget.AnyWidget):
        """The card in the browser (`static/card.js`). Python owns the state; JavaScript draws
        `view` and sends what was pressed."""

        _esm = frontend.script(frontend.STATIC / "card.js")
        _css = frontend.style(frontend.STATIC / "card.css")
        view = traitlets.Dict().tag(sync=True)

        def draw(self, heard: Any = None) -> None:
            with self.session.lock:  # or a click on another thread could mix two items in one scene
                self.view = {**self.describe(), "heard": heard}
            # From 7.4 on ipykernel answers in the thread that drew last. Clicks are to come in
            # JupyterLab's own, while a cell trains too.
            vars(self.comm).pop("_reply_subshell_id", None)

        def receive(self, _: Any, message: Any, __: Any) -> None:
            """Take a click or key, and confirm its number even if nothing changed.

            Without `heard` the card warns that the kernel does not answer.
            """
            if isinstance(message, dict):
                self.session.handle(message)
                self.draw(heard=message.get("number"))

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            bundle = super()._repr_mimebundle_(**kwargs)
            data, extra = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {
                **data,
                "text/html": self.picture(),
                "text/plain": CardBase.__repr__(self),
            }, extra

    return Card


def make(
    session: Session, question: str, rubric: str, ids: Mapping[str, str] = {},
    sides: Mapping[str, tuple[str, str]] = {}
) -> Any:  # fmt: skip
    """Make a card, and draw it once it knows everything: a finished one shows its summary."""
    # what was asked is kept beside what was answered
    session.store.sit_down(session.labeler, session.task, question, rubric)
    way = frontend.way_to_ask()
    card: Any = _live_card()() if way == "live" else StillCard()
    card.session, card.question, card.rubric = session, question, rubric
    card.ids, card.sides, card.where = ids, sides, saved_in(session.store)
    if way == "live":
        card.on_msg(card.receive)
    card.draw()
    return card


def saved_in(store: LabelStore) -> str:
    """Say where a store keeps its labels, and what to mind there."""
    said = f"Labels are saved in {store.file or store.name}"
    if store.file is None or not (kind := place.network_disk(store.file)):
        return f"{said}."
    return (
        f"{said}, on a network disk ({kind}): have it open in one place at a time, and hand in the "
        "file that `hand_in` writes, not this one."
    )


def ask_if_typed(card: Any) -> Any:
    """Begin to ask at once where no widget can be shown but somebody can type."""
    if frontend.way_to_ask() == "typed":
        card.answer_by_typing()
    return card


def _printed(view: Mapping[str, Any]) -> str:
    """Write the item for a terminal; hidden characters are marks already, so that no text can move
    the cursor."""
    options = [f"  {i}  {option}" for i, option in enumerate(view["options"], 1)]
    return "\n".join(["", f"[{view['done'] + 1} of {view['total']}]", view["prompt"], "", *options])
