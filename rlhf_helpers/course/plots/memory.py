"""The figure of memory: what PPO holds on each device, stacked, for several models and settings."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from rlhf_helpers.course.plots.style import COLOURS, GREY, STYLE, Table, records_of

HATCHES = ("", "///", "...", "\\\\\\", "xx", "--", "++")


@plt.rc_context(STYLE)
def memory_bars(
    table: Table,
    parts: Sequence[str],
    *,
    limits: Sequence[float] = (24, 80),
    ax: Axes | None = None,
) -> Axes:
    """Draw one bar per row of `memory.rows()` in GB, its `parts` stacked, with a line at each GPU
    size in `limits`.

    Activations and sampling take turns, so of the two only the larger is drawn; a bar's length is
    the row's `total`.
    """
    rows = records_of(table)
    ax = plt.subplots(figsize=(9.5, 0.32 * len(rows) + 1.3))[1] if ax is None else ax
    names = [f"{row['setting']}, {row['model']}" for row in rows]
    left = [0.0] * len(rows)
    for i, part in enumerate(parts):
        rival = {"activations": "sampling", "sampling": "activations"}.get(part)
        sizes = [0.0 if rival and row[part] < row[rival] else row[part] / 1e9 for row in rows]
        ax.barh(
            names,
            sizes,
            left=left,
            color=COLOURS[i % 6],
            hatch=HATCHES[i % 7],
            edgecolor="white",
            linewidth=0.5,
            label=part,
        )
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    for limit in limits:
        ax.axvline(limit, color=GREY, linestyle="--", linewidth=1.2)
        ax.annotate(
            f"{limit:g} GB",
            (limit, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=GREY,
        )
    ax.invert_yaxis()
    ax.set(xlabel="GB on each device")
    ax.legend(
        fontsize=8.5,
        ncols=4,
        loc="upper center",
        bbox_to_anchor=(0.4, -0.7 / (0.32 * len(rows) + 0.5)),
    )
    return ax
