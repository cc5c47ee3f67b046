"""Labelling by typing, where no widget can be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlhf_helpers.labels import frontend
from rlhf_helpers.labels.frontend import visible
from rlhf_helpers.labels.sessions import Session

KEYS = (
    "t cannot tell, s skip, u undo, f flag (with a note: f not a sentence), ? how to choose, q stop"
)


class Typed:
    """A card that can be answered by typing."""

    session: Session
    question: str
    rubric: str

    def answer(self, kind: str, slot: int | None = None, note: str = "") -> bool:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError

    def notes(self) -> list[str]:
        raise NotImplementedError

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
