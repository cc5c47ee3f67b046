"""Figures of the tastes in a room; tables come from `course.room`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from rlhf_helpers.course.plots.style import BLUE, STYLE


@plt.rc_context(STYLE)
def taste_map(places: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw who would choose alike: people close together like the same answers."""
    ax = ax or plt.subplots(figsize=(6, 5))[1]
    ax.scatter(places.x, places.y, color=BLUE, s=36)
    for name, row in places.iterrows():
        ax.annotate(str(name), (row.x, row.y), xytext=(5, 4), textcoords="offset points")
    ax.set(aspect="equal", xticks=[], yticks=[], title="The tastes in this room")
    ax.margins(0.2)
    kept = places.attrs.get("kept")
    if kept is not None:
        ax.set_xlabel(f"close together: alike ({kept:.0%} of the differences can be drawn)")
    return ax


@plt.rc_context(STYLE)
def preferred(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often each person (row) prefers the picks of a taste (column) to another answer."""
    size = len(table)
    ax = ax or plt.subplots(figsize=(1.8 + 0.75 * size, 1.2 + 0.6 * size))[1]
    ax.imshow(table, cmap="RdBu", vmin=0, vmax=1)
    for i, row in enumerate(table.to_numpy()):
        for j, share in enumerate(row):
            colour = "white" if abs(share - 0.5) > 0.33 else "black"
            ax.text(j, i, f"{share:.0%}", ha="center", va="center", color=colour)
    ax.set_xticks(range(size), table.columns, rotation=30, ha="right")
    ax.set_yticks(range(size), table.index)
    ax.set(xlabel="picked by the taste of", ylabel="judged by", title="Whose picks do you prefer?")
    ax.grid(False)
    return ax
