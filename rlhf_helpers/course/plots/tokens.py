"""Figures of text: where we are in the pipeline, tokens in boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from rlhf_helpers.course.plots.style import BLUE, GREY, ORANGE, SKY, STYLE, towards

STAGES = (
    ("sample", "sample", "the model writes"),
    ("label", "label", "people choose"),
    ("reward", "reward model", "learns the choices"),
    ("ppo", "PPO", "tunes the model"),
    ("judge", "judge", "did it work?"),
)


@plt.rc_context(STYLE)
def pipeline(highlight: str = "all", *, ax: Axes | None = None) -> Axes:
    """Draw the five stages of the course, the current one filled and marked; several as
    `reward+ppo`, or `all`."""
    names = [name for name, _, _ in STAGES]
    here = set(names if highlight == "all" else highlight.split("+"))
    if unknown := here - set(names):
        raise ValueError(
            f"the pipeline has no stage {sorted(unknown)[0]!r}; there are {', '.join(names)}, or "
            "all"
        )
    ax = ax or plt.subplots(figsize=(8.6, 1.75))[1]
    for x, (name, title, line) in zip(np.arange(len(STAGES)) * 2.0, STAGES, strict=True):
        now = name in here
        ax.add_patch(
            FancyBboxPatch(
                (x, 0),
                1.5,
                0.8,
                boxstyle="round,pad=0,rounding_size=0.12",
                linewidth=2.4 if now else 1.1,
                facecolor=BLUE if now else "white",
                edgecolor=BLUE if now else GREY,
                gid=name,
            )
        )
        colour = "white" if now else "#222222"
        ax.text(
            x + 0.75,
            0.5,
            title,
            ha="center",
            va="center",
            color=colour,
            fontsize=11,
            fontweight="bold" if now else "normal",
        )
        ax.text(x + 0.75, 0.2, line, ha="center", va="center", color=colour, fontsize=9)
        if now and highlight != "all":
            ax.text(
                x + 0.75,
                0.98,
                "you are here \N{BLACK DOWN-POINTING TRIANGLE}",
                ha="center",
                fontsize=9,
                color=BLUE,
            )
        if x:
            _arrow(ax, (x - 0.47, 0.4), (x - 0.03, 0.4))
    _arrow(
        ax,
        (8.75, -0.05),
        (0.75, -0.05),
        linestyle="--",
        connectionstyle="arc,angleA=-90,angleB=-90,armA=22,armB=22,rad=8",
    )
    centred = {"ha": "center", "va": "center", "fontsize": 9, "color": GREY}
    plate = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    ax.text(4.75, -0.44, "the tuned model writes, people choose again", bbox=plate, **centred)
    ax.set(xlim=(-0.1, 9.6), ylim=(-0.62, 1.22), aspect="equal")
    ax.axis("off")
    return ax


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], **more: Any) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=GREY,
            linewidth=1.2,
            shrinkA=0,
            shrinkB=0,
            **more,
        )
    )


@plt.rc_context(STYLE)
def token_strip(
    tokens: Sequence[str] | Sequence[Sequence[str]], values: Any, *, titles: Sequence[str] = (),
    selected: str = "selected", width: int = 78, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw tokens as boxes and show what a mask selects, or a number for each.

    A bool per token: blue where True, grey and hatched where False. A number per token: written
    below it; above zero orange, below zero blue and hatched, stronger the further from 0. One
    sequence wraps after `width` letters; a batch (a list of sequences) keeps its columns, one row
    each, with `titles` at the left. Spaces show as a middle dot, line ends as an arrow.
    """
    rows, table = _token_rows(tokens, values)
    is_mask = table[0].dtype == bool
    batch = not isinstance(tokens[0], str)
    columns = (
        [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
        if batch
        else []
    )
    least = 2 if is_mask else 5  # letters that a box is wide at least
    boxes = _lay_out(rows, columns, width, least)
    lines = 1 + max(line for *_, line in boxes)
    letters, tall = max(x + w for _, _, x, w, _ in boxes), 1.0 if is_mask else 1.6
    margin = 1 + max(map(len, titles)) if titles else 0
    ax = (
        ax
        or plt.subplots(
            figsize=(max(3.0, 0.098 * (letters + margin) + 0.3), 0.38 * (tall + 0.25) * lines + 0.6)
        )[1]
    )
    biggest = (
        max(float(np.abs(row[np.isfinite(row)]).max(initial=0)) for row in table)
        if not is_mask
        else 1.0
    )
    for row, i, x, w, line in boxes:
        _box(ax, rows[row][i], table[row][i], (x, -line * (tall + 0.25)), w, tall, biggest or 1.0)
    for row, title in enumerate(titles):
        ax.text(
            -0.6,
            -row * (tall + 0.25) - 0.5,
            title,
            ha="right",
            va="center",
            fontsize=9,
            color="#222222",
            parse_math=False,
        )
    ax.set(xlim=(-margin - 0.2, letters + 0.2), ylim=(-lines * (tall + 0.25) - 0.1, 0.15))
    ax.axis("off")
    below = {"loc": "upper left", "bbox_to_anchor": (0, 0), "ncols": 2, "borderaxespad": 0.1}
    ax.legend(handles=_strip_key(is_mask, selected), fontsize=8.5, handlelength=1.6, **below)
    return ax


def _token_rows(tokens: Any, values: Any) -> tuple[list[list[str]], list[np.ndarray]]:
    """Bring one sequence or a batch into rows of readable tokens and rows of values."""
    single = isinstance(tokens[0], str)
    if hasattr(values, "tolist"):
        values = values.tolist()
    rows, table = ([tokens], [values]) if single else (list(tokens), list(values))
    if [len(row) for row in rows] != [len(row) for row in table]:
        raise ValueError(
            f"tokens have lengths {[len(r) for r in rows]}, their values "
            f"{[len(v) for v in table]}: one value for each token"
        )
    shown = {
        " ": "\N{MIDDLE DOT}",
        "\u0120": "\N{MIDDLE DOT}",
        "\n": "\N{DOWNWARDS ARROW WITH TIP LEFTWARDS}",
        "\u010a": "\N{DOWNWARDS ARROW WITH TIP LEFTWARDS}",
        "\t": "\N{RIGHTWARDS ARROW}",
    }
    arrays = [np.asarray(row) for row in table]
    kind = bool if all(a.dtype == bool for a in arrays) else float
    return [["".join(shown.get(c, c) for c in token) for token in row] for row in rows], [
        a.astype(kind) for a in arrays
    ]


def _lay_out(
    rows: list[list[str]], columns: list[int], width: int, least: int
) -> list[tuple[int, int, float, float, int]]:
    """Place every token: (row, number, x, width, line), in letters; without `columns` the tokens
    flow and wrap."""
    boxes = []
    for r, row in enumerate(rows):
        x, line = 0.0, r
        for i, token in enumerate(row):
            wide = max(columns[i] if columns else len(token), least) + 1.0
            if not columns and x + wide > width and x > 0:
                x, line = 0.0, line + 1
            boxes.append((r, i, x, wide, line))
            x += wide + 0.3
    return boxes


def _box(
    ax: Axes,
    token: str,
    value: Any,
    corner: tuple[float, float],
    wide: float,
    tall: float,
    biggest: float,
) -> None:
    """Draw one token, coloured and hatched by its value; `corner` is its upper left."""
    is_mask = isinstance(value, bool | np.bool_)
    if is_mask:
        face, hatch, ink = (BLUE, "", "white") if value else ("#F4F4F4", "////", GREY)
    else:
        share = 0.85 * min(1.0, abs(value) / biggest) if math.isfinite(value) else 0.0
        face, hatch, ink = (
            towards(ORANGE if value > 0 else SKY, share),
            "" if value >= 0 else "////",
            "#111111",
        )
    x, y = corner
    edge = ("#BBBBBB" if is_mask else "#5E7F93") if hatch else GREY
    ax.add_patch(
        Rectangle(
            (x, y - tall), wide, tall, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8
        )
    )
    plate = {"facecolor": face, "edgecolor": "none", "pad": 0.8} if hatch else None
    look = {"family": "DejaVu Sans Mono", "fontsize": 9, "color": ink, "bbox": plate}
    at = {"ha": "center", "va": "center", "parse_math": False}
    ax.text(x + wide / 2, y - 0.52, token, **at, **look)
    if not is_mask:
        ax.text(
            x + wide / 2,
            y - 1.22,
            f"{value:+.2f}",
            ha="center",
            va="center",
            fontsize=8.5,
            color=ink,
            bbox=plate,
        )


def _strip_key(is_mask: bool, selected: str) -> list[Rectangle]:
    """Make the patches of a strip's legend."""
    if is_mask:
        kinds = [(BLUE, "", selected), ("#F4F4F4", "////", f"not {selected}")]
    else:
        kinds = [(towards(ORANGE, 0.6), "", "above 0"), (towards(SKY, 0.6), "////", "below 0")]
    return [
        Rectangle((0, 0), 1, 1, facecolor=f, hatch=h, edgecolor=GREY, label=t) for f, h, t in kinds
    ]
