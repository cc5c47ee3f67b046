"""What the widgets share: questions, rubrics, untrusted text made safe to show, where we run."""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STATIC = Path(__file__).resolve().parent / "static"
# Unicode's classes of control, format, separator, surrogate, private characters
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}

# What is asked in each task, and a rubric to begin with; both can be replaced.
QUESTIONS = {
    "sentiment": "Which continuation is most positive and happy?",
    "descriptiveness": "Which continuation is most vividly descriptive?",
    "tldr": "Which summary is best?",
    "cnndm": "Which summary is best?",
}
_SUMMARY = (
    "A good summary says the most important things of the text, and nothing that the text does not "
    "say. It can be read alone."
)
RUBRICS = {
    "sentiment": (
        "Choose the text in which people feel best and things go well. Judge the feeling, not the "
        "style. If a text makes no sense, prefer another; if all are equally happy, say that you "
        "cannot tell."
    ),
    "descriptiveness": (
        "Choose the text that lets you see, hear, smell and touch most: colours, light, materials, "
        "sounds. Many plain facts are not a description; one exact detail can be."
    ),
    "tldr": _SUMMARY,
    "cnndm": _SUMMARY,
}


def visible(text: str) -> str:
    """Replace control and invisible characters with marks such as [U+202E]."""
    plain = text.replace("\r\n", "\n")
    return "".join(
        f"[U+{ord(c):04X}]" if unicodedata.category(c) in HIDDEN and c not in "\n\t" else c
        for c in plain
    )


def all_visible(values: Any) -> Any:
    """Do the same to every text in plain values, dicts and lists."""
    if isinstance(values, str):
        return visible(values)
    if isinstance(values, Mapping):
        return {str(key): all_visible(value) for key, value in values.items()}
    return [all_visible(x) for x in values] if isinstance(values, list | tuple) else values


def headless() -> bool:
    """Tell whether nobody is there to click: RLHF_HEADLESS is set."""
    return os.environ.get("RLHF_HEADLESS", "0") not in ("", "0")


def in_kernel() -> bool:
    """Tell whether this is the kernel of a notebook, and not a terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def cell() -> str:
    """Name the running cell of the notebook, the same each time; "" where that is not known."""
    if not in_kernel():
        return ""
    sent = sys.modules["IPython"].get_ipython().get_parent().get("metadata", {})
    return hashlib.sha256(str(sent["cellId"]).encode()).hexdigest()[:12] if "cellId" in sent else ""


def way_to_ask() -> str:
    """Choose between "live" (a widget), "typed" (a text prompt) and "still" (nobody is there)."""
    if headless():
        return "still"
    if find_spec("anywidget") is not None and (in_kernel() or not sys.stdin.isatty()):
        return "live"
    return "typed" if in_kernel() or sys.stdin.isatty() else "still"


def script(*paths: Path) -> str:
    """Read a widget's JavaScript, preceded by what all widgets share."""
    return "\n".join(file.read_text(encoding="utf-8") for file in (STATIC / "common.js", *paths))


def style(path: Path) -> str:
    """Read a widget's style sheet, which builds on the card's."""
    return "\n".join(
        file.read_text(encoding="utf-8") for file in dict.fromkeys((STATIC / "card.css", path))
    )
