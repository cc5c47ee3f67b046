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

from rlhf_helpers.labels import frontend, past, place
from rlhf_helpers.labels.frontend import all_visible, visible
from rlhf_helpers.labels.sessions import Session, reason
from rlhf_helpers.labels.typed import Typed
from rlhf_helpers.records import Label

# What answers back is asked after each answer while the mirror is on. It reads what it needs from
# the session and hands what to show to the function that it is given, at once or later.
Listener = Callable[[Session, Callable[[Mapping[str, Any]], None]], None]


class CardBase(Typed):
    """A card: the session behind it, what it shows, and its answers."""

    session: Session
    question: str
    rubric: str
    ids: Mapping[str, str]  # for judging: stored id -> id of the pair as it was passed
    where: str  # the sentence that says where labels are saved
    # for judging: stored id -> names of options 0 and 1, told at the end
    sides: Mapping[str, tuple[str, str]]
    listener: Listener | None  # what answers back
    reflection: dict[str, Any] = {}  # what it said last
    reviewing = False  # whether past answers are listed

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
        self.reflect()
        return saved

    def past(self) -> list[dict[str, Any]]:
        """List your past answers, newest first; `change` takes their `answer`."""
        return past.listed(self.session)

    def change(self, answer: int, kind: str, slot: int | None = None) -> bool:
        """Put another answer in the place of a past one; the history keeps both."""
        changed = past.change(self.session, answer, kind, slot)
        self.draw()
        self.reflect()
        return changed

    def look(self, on: bool = True) -> None:
        """Switch the mirror on or off: after each answer, what the model expected and learned."""
        self.session.mirror = bool(on) and self.listener is not None
        self.draw()
        self.reflect()

    def reflect(self) -> None:
        """Ask what there is to show after an answer, if the mirror is on. It may come later, and
        from another thread; if it fails, labelling goes on. Where a model chooses what is asked, it
        is to learn in any case."""
        if self.listener is None or not (self.session.mirror or self.session.choose):
            return
        try:
            self.listener(self.session, self.show)
        except Exception as error:
            self.show({"state": "failed", "said": f"The mirror failed: {reason(error)}"})

    def show(self, reflection: Mapping[str, Any]) -> None:
        """Show what a listener says, in plain values as `static/mirror.js` draws them."""
        if self.session.mirror:
            self.reflection = all_visible(reflection)

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
            "done": given, "total": given + left, "minutes": s.minutes_left(),
            "undo": given > 0 or s.flags > 0, "was": self._was(),
            "mirror": None if self.listener is None else s.mirror, "reviewing": self.reviewing,
            "summary": self.summary() if item is None else [], "notes": self.notes(),
        }  # fmt: skip

    def _was(self) -> dict[str, Any] | None:
        """Say what was answered here before it was taken back, in terms of what is shown."""
        s = self.session
        if s.was is None:
            return None
        kind, choice = s.was
        return {"kind": kind, "slot": None if choice is None else s.order.index(choice)}

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
        history = s.store.events(s.task, s.labeler)
        undone = {e.undoes for e in history}
        if flags := sum(
            e.kind == "flag" and (s.items is None or e.comparison_id in s.items)
            for e in history
            if e.id not in undone
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

        _esm = frontend.script(*(frontend.STATIC / f"{x}.js" for x in ("mirror", "past", "card")))
        _css = frontend.style(frontend.STATIC / "mirror.css")
        view = traitlets.Dict().tag(sync=True)
        reflection = traitlets.Dict().tag(sync=True)
        answers = traitlets.List().tag(sync=True)  # the past ones, while they are listed

        def draw(self, heard: Any = None) -> None:
            with self.session.lock:  # or a click on another thread could mix two items in one scene
                if self.reviewing:
                    self.answers = self.past()
                self.view = {**self.describe(), "heard": heard}
            self._answer_anywhere()

        def show(self, reflection: Any) -> None:
            super().show(reflection)
            self._answer_anywhere()

        def _answer_anywhere(self) -> None:
            # From 7.4 on ipykernel answers in the thread that drew last. Clicks are to come in
            # JupyterLab's own, while a cell trains too.
            vars(self.comm).pop("_reply_subshell_id", None)

        def receive(self, _: Any, message: Any, __: Any) -> None:
            """Take a click or key, and confirm its number even if nothing changed.

            Without `heard` the card warns that the kernel does not answer. A click is saved and the
            next item drawn before the mirror thinks about it.
            """
            if not isinstance(message, dict):
                return
            kind, number = message.get("kind"), message.get("number")
            if kind == "review":
                self.reviewing = message.get("open") is True
            elif kind == "mirror":
                self.session.mirror = message.get("on") is True and self.listener is not None
            elif kind == "change":
                past.handle(self.session, message)
            else:
                self.session.handle(message)
            self.draw(heard=number)
            if kind != "review":
                self.reflect()

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
    sides: Mapping[str, tuple[str, str]] = {}, listener: Listener | None = None,
) -> Any:  # fmt: skip
    """Make a card, and draw it once it knows everything: a finished one shows its summary."""
    # what was asked is kept beside what was answered
    session.store.sit_down(session.labeler, session.task, question, rubric)
    way = frontend.way_to_ask()
    card: Any = _live_card()() if way == "live" else StillCard()
    card.session, card.question, card.rubric = session, question, rubric
    card.ids, card.sides, card.where = (
        ids,
        sides,
        place.saved_in(session.store.file, session.store.name),
    )
    card.listener = listener
    if way == "live":
        card.on_msg(card.receive)
    card.draw()
    return card
