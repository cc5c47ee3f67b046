"""Floor 5: cards to label and to judge on, inside the notebook. Thin skins over `sessions.Session`, which decides everything.

The live card (`static/card.js`) draws the one `view` it is given and sends back what was pressed. Texts of models and of data sets
are shown as text and never as markup, with hidden characters made visible.
"""

from __future__ import annotations

import html
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlhf_helpers import runs
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.sessions import Session
from rlhf_helpers.store import LabelStore
from rlhf_helpers.tasks import Task

STATIC = Path(__file__).resolve().parent / "static"
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}  # Unicode's classes of control, format, separator, surrogate, private characters

# What is asked in each task, and a rubric to begin with; both can be replaced.
QUESTIONS = {
    "sentiment": "Which continuation is most positive and happy?",
    "descriptiveness": "Which continuation is most vividly descriptive?",
    "tldr": "Which summary is best?",
    "cnndm": "Which summary is best?",
}
_SUMMARY = "A good summary says the most important things of the text, and nothing that the text does not say. It can be read alone."
RUBRICS = {
    "sentiment": "Choose the text in which people feel best and things go well. Judge the feeling, not the style. "
    "If a text makes no sense, prefer another; if all are equally glad, say that you cannot tell.",
    "descriptiveness": "Choose the text that lets you see, hear, smell and touch most: colours, light, materials, sounds. "
    "Many plain facts are not a description; one exact detail can be.",
    "tldr": _SUMMARY,
    "cnndm": _SUMMARY,
}


def label(
    items: LabelStore | str | Path | Iterable[Comparison], task: Task | str | None = None, labeler: str = "me", *,
    store: LabelStore | str | Path | None = None, question: str | None = None, rubric: str | None = None, repeat_every: int = 10,
) -> Any:  # fmt: skip
    """Show the labelling card for all of a store's task, or for these comparisons (kept in `store`, by default labels.db in your runs).

    Returns the card at once. Every click is saved before the next item is shown; run the cell again to go on where you stopped.
    After every `repeat_every` answers one earlier item comes back, unmarked, in another order (0: never). `card.labels()` reads the
    labels; `card.answer("choose", 0)` labels without a browser. In a headless run (RLHF_HEADLESS=1) the card is a picture only.
    """
    where, name, these = _place(items, task, store)
    session = Session(where, name, labeler, these, repeat_every=repeat_every)
    return _card(session, question or QUESTIONS.get(name, "Which one is the best?"), RUBRICS.get(name, "") if rubric is None else rubric)


def judge(
    pairs: Iterable[Comparison], labeler: str = "me", *, store: LabelStore | str | Path | None = None, question: str | None = None,
    rubric: str | None = None, first_is_zero: Sequence[bool] = (), names: tuple[str, str] = ("first", "second"),
) -> Any:  # fmt: skip
    """Show the card for blind A/B pairs; the sides are random, and who is who is uncovered at the end if `first_is_zero` is given.

    The pairs are stored as a task of their own (`sentiment-judging`), so that they never mix with the labels a reward model learns
    from. `card.labels()` gives the labels with the ids of the pairs as they were passed, ready for `evaluation.judge`.
    """
    pairs = list(pairs)
    if not pairs or any(len(p.options) != 2 for p in pairs):
        raise ValueError("judging needs at least one pair, and pairs have exactly two options")
    stored = [replace(p, task=f"{p.task}-judging") for p in pairs]
    where, name, these = _place(stored, None, store)
    session = Session(where, name, labeler, these, repeat_every=0)
    task = pairs[0].task
    card = _card(session, question or QUESTIONS.get(task, "Which one is better?"), RUBRICS.get(task, "") if rubric is None else rubric)
    card.ids = {new.id: old.id for new, old in zip(stored, pairs, strict=True)}
    card.sides = {new.id: names if zero else names[::-1] for new, zero in zip(stored, first_is_zero, strict=False)}
    return card


def visible(text: str) -> str:
    """Show what would act in secret: control characters, direction overrides and invisible letters become marks such as [U+202E]."""
    plain = text.replace("\r\n", "\n")
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in HIDDEN and c not in "\n\t" else c for c in plain)


class Face:
    """What every card has, with or without a browser: the session behind it, the view it shows, and its answers."""

    session: Session
    question: str
    rubric: str
    ids: dict[str, str]  # for judging: stored id -> id of the pair as it was passed
    sides: dict[str, tuple[str, str]]  # for judging: stored id -> names of options 0 and 1, told at the end

    def __repr__(self) -> str:
        s = self.session
        return f"{s.labeler} on {s.task}: {s.progress.done} of {s.progress.total} labelled in {Path(s.store.name).name}"

    def answer(self, kind: str, slot: int | None = None) -> bool:
        """Answer what the card shows, as a click would: choose with a slot from 0, tie, skip, undo. Returns whether it was saved."""
        saved = self.session.answer(kind, slot)
        self.draw()
        return saved

    def labels(self) -> list[Label]:
        """Read the labels that stand, with the ids of the comparisons as they were passed."""
        labels = self.session.labels()
        return [replace(x, comparison_id=self.ids[x.comparison_id]) for x in labels if x.comparison_id in self.ids] if self.ids else labels

    def draw(self) -> None:
        """Bring the screen up to date, where there is one."""

    def scene(self) -> dict[str, Any]:
        """Describe what is to be seen now, in plain values; `card.js` draws exactly this."""
        s, p = self.session, self.session.progress
        item = s.current
        return {
            "state": "done" if item is None else "item",
            "token": s.token, "message": s.message, "error": s.error, "pending": s.pending,
            "task": s.task.replace("-", " "), "question": self.question, "rubric": self.rubric,
            "prompt": "" if item is None else visible(item.query.strip()),
            "options": [] if item is None else [visible(item.options[i].strip()) for i in s.order],
            "done": p.done + p.skipped, "total": p.total, "minutes": s.minutes_left(), "undo": p.done + p.skipped + p.repeats > 0,
            "summary": self.summary() if item is None else [],
        }  # fmt: skip

    def summary(self) -> list[str]:
        """Sum the work up in a few lines, for the end."""
        s, p = self.session, self.session.progress
        labels = {x.comparison_id: x.choice for x in s.labels()}
        lines = [f"Choices: {len(labels)}. Cannot tell: {p.done - len(labels)}. Skipped: {p.skipped}."]
        again = [x for x in s.labels(repeats=True) if x.comparison_id in labels]
        if again:
            same = sum(labels[x.comparison_id] == x.choice for x in again)
            lines.append(f"Shown a second time, in another order: {len(again)}. The same choice again: {same}.")
        if won := Counter(self.sides[i][choice] for i, choice in labels.items() if i in self.sides):
            names = dict.fromkeys(name for pair in self.sides.values() for name in pair)
            lines.append("Preferred: " + ", ".join(f"{name} {won[name]}" for name in names) + ".")
        return lines

    def picture(self) -> str:
        """Draw the card as plain HTML, for pages where nothing can be clicked."""
        v = self.scene()
        cells = "".join(
            f'<li style="margin:.4em 0;white-space:pre-wrap"><bdi>{html.escape(option)}</bdi></li>' for option in v["options"]
        )
        text = "".join(f"<p>{html.escape(line)}</p>" for line in v["summary"])
        prompt = f'<p style="white-space:pre-wrap"><bdi>{html.escape(v["prompt"])}</bdi></p>' if v["prompt"] else ""
        return (
            f'<div><p><strong>{html.escape(v["question"])}</strong> ({v["done"]} of {v["total"]} done; run the cell to label)</p>'
            f"{prompt}{f'<ol>{cells}</ol>' if cells else text}</div>"
        )


class StillCard(Face):
    """The card where no widget can be shown: a picture, `answer()` and `labels()`."""

    def _repr_html_(self) -> str:
        return self.picture()


@cache
def _live_card() -> type:
    """Make the class of the live card; here, because the notebook packages are not needed for anything else in this file."""
    import anywidget
    import traitlets

    class Card(Face, anywidget.AnyWidget):
        """The card in the browser (`static/card.js`). Python owns the state; JavaScript draws `view` and sends what was pressed."""

        _esm = (STATIC / "card.js").read_text(encoding="utf-8")
        _css = (STATIC / "card.css").read_text(encoding="utf-8")
        view = traitlets.Dict().tag(sync=True)

        def draw(self, heard: Any = None) -> None:
            self.view = {**self.scene(), "heard": heard}

        def receive(self, _: Any, message: Any, __: Any) -> None:
            """Take a click or key. `heard` goes back even if nothing changed: without it the card says that nobody listens."""
            if isinstance(message, dict):
                self.session.handle(message)
                self.draw(heard=message.get("number"))

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            bundle = super()._repr_mimebundle_(**kwargs)
            data, extra = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
            return {**data, "text/html": self.picture(), "text/plain": Face.__repr__(self)}, extra

    return Card


def _card(session: Session, question: str, rubric: str) -> Any:
    card: Any = StillCard() if headless() else _live_card()()
    card.session, card.question, card.rubric, card.ids, card.sides = session, question, rubric, {}, {}
    if not isinstance(card, StillCard):
        card.on_msg(card.receive)
    card.draw()
    return card


def headless() -> bool:
    """Say whether nobody is there to click: RLHF_HEADLESS is set, or the widget packages are not installed."""
    if os.environ.get("RLHF_HEADLESS", "0") not in ("", "0"):
        return True
    return find_spec("anywidget") is None


def _place(items: Any, task: Task | str | None, store: Any) -> tuple[LabelStore, str, list[Comparison] | None]:
    """Find the store and the task that are meant, and the comparisons if they were listed; these are added to the store."""
    name, these = getattr(task, "name", task), None
    if isinstance(items, LabelStore | str | Path):
        where = items if isinstance(items, LabelStore) else LabelStore(items)
        names = {name} if name else {c.task for c in where.comparisons()}
    else:
        these = list(items)
        where = store if isinstance(store, LabelStore) else LabelStore(store or runs.folder() / "labels.db")
        names = {c.task for c in these}
        if name and names - {name}:
            raise ValueError(f"these comparisons belong to {', '.join(sorted(names))}, not to {name}")
    if len(names) != 1:
        raise ValueError(f"say which task: there are {', '.join(sorted(names)) or 'none'} in {'the list' if these else where.name}")
    if these is not None:
        where.add(these)
    return where, str(names.pop()), these
