"""The language of the word files: (a|b) choose, [a] or nothing, {slot}, <verb/verb> inflected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, eq=False)
class Node:
    """A piece of a template: "text", "slot", "verb", "any" (of its parts) or "all" (of them)."""

    kind: str
    value: str = ""
    parts: tuple[Node, ...] = ()


def split_top(text: str, separator: str) -> list[str]:
    """Split at separators that stand outside all brackets."""
    parts, depth, current = [], 0, ""
    for c in text:
        depth += (c in "({[<") - (c in ")}]>")
        if c == separator and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += c
    return [*parts, current]


def closing(text: str, start: int) -> int:
    """Find the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "({[<") - (text[i] in ")}]>")
        if depth == 0:
            return i
    raise ValueError(f"no closing bracket: {text}")


@cache
def read(text: str) -> Node:
    """Parse a template."""
    parts: list[Node] = []
    for piece in _pieces(text):
        if piece[0] not in "({[<":
            parts.append(Node("text", piece))
        elif piece[0] == "(":
            parts.append(Node("any", parts=tuple(map(read, split_top(piece[1:-1], "|")))))
        elif piece[0] == "[":
            parts.append(Node("any", parts=(read(piece[1:-1]), read(""))))
        elif piece[0] == "<":
            parts.append(Node("verb", parts=tuple(map(read, split_top(piece[1:-1], "/")))))
        else:
            parts.append(Node("slot", piece[1:-1]))
    return parts[0] if len(parts) == 1 else Node("all", text, tuple(parts))


def _pieces(text: str) -> list[str]:
    found, i = [], 0
    while i < len(text):
        if text[i] in "({[<":
            end = closing(text, i) + 1
        else:
            match = re.compile(r"[({\[<]").search(text, i)
            end = match.start() if match else len(text)
        found.append(text[i:end])
        i = end
    return found
