"""What all figures share: colours, line styles, and how a column is taken out of a table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Table = Any  # a list of dicts, or a pandas DataFrame

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
GREY, PALE = "#5A5A5A", "#E8E8E8"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

STYLE = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#222222",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "white",
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.7,
}


def records_of(table: Table) -> list[dict[str, Any]]:
    rows = table.to_dict("records") if hasattr(table, "to_dict") else [dict(row) for row in table]
    if not rows:
        raise ValueError("the table is empty: there is nothing to draw yet")
    return rows


def column_of(table: Table, name: str) -> np.ndarray:
    """Take one column of numbers; raises ValueError that lists the columns there are."""
    rows = records_of(table)
    if name not in rows[0]:
        raise ValueError(f"the table has no column {name!r}; it has {', '.join(map(str, rows[0]))}")
    return np.asarray([row.get(name, math.nan) for row in rows], float)


def steps_of(table: Table) -> np.ndarray:
    """Return the x of a training curve: episodes if they are known, else steps."""
    name = step_name(table)
    return (
        column_of(table, name)
        if name in records_of(table)[0]
        else np.arange(len(records_of(table)))
    )


def step_name(table: Table) -> str:
    return "episodes" if "episodes" in records_of(table)[0] else "step"


def towards(colour: str, share: float) -> tuple[float, ...]:
    """Mix white with a share of a colour."""
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return tuple(1 - share * (1 - c) for c in rgb)
