"""How a check talks: call the student's function safely, say a verdict in one line, return whether it was right."""

from __future__ import annotations

from typing import Any


def say(done: bool, message: str) -> bool:
    """Print a verdict and return it."""
    print(("Right: " if done else "Not yet: ") + message)
    return done


def ask(answer: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Call the student's function; return its value, and a sentence if there is none to judge."""
    if answer is None or answer is ...:
        return None, "not solved yet. The cell above is waiting for you."
    try:
        value = answer(*arguments)
    except Exception as error:  # a student's slip must not stop the notebook
        return None, f"your function stopped with {type(error).__name__}: {error}"
    if value is None or value is ...:
        return None, "not solved yet (your function returns nothing; is there a `return`?)."
    return value, None
