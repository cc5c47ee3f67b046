"""Figures of a report on labelers: how fast, where on the screen, how consistent. Rows come from
`reports`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rlhf_helpers import evaluation
from rlhf_helpers.course.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    MARKERS,
    PALE,
    STYLE,
    Table,
    records_of,
)

HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")


@plt.rc_context(STYLE)
def labeler_pace(rows: Table, *, window: int = 15, ax: Axes | None = None) -> Axes:
    """Draw seconds per answer in the order of answering, smoothed by a running median; columns
    labeler, number, seconds."""
    groups = _by_labeler(rows)
    ax = ax or plt.subplots(figsize=(7.2, 3.8))[1]
    for i, (labeler, group) in enumerate(groups.items()):
        seconds = np.asarray([row["seconds"] for row in group], float)
        running = [np.median(seconds[max(0, k - window + 1) : k + 1]) for k in range(len(seconds))]
        ax.plot(
            [row["number"] for row in group],
            running,
            color=COLOURS[i % 6],
            linestyle=DASHES[i % 6],
            marker=MARKERS[i % 6],
            markevery=max(1, len(group) // 6),
            markersize=5,
            label=f"{labeler}: median {np.median(seconds):.1f} s",
        )
    ax.set(
        xlabel="answer",
        ylabel=f"seconds (median of the last {window})",
        ylim=(0, None),
        title="Pace of each labeler",
    )
    ax.legend(fontsize=8.5)
    return ax


@plt.rc_context(STYLE)
def labeler_positions(rows: Table, *, ax: Axes | None = None) -> Axes:
    """Draw for each labeler how often each place on the screen was chosen; columns labeler,
    position, share, even."""
    groups = _by_labeler(rows)
    ax = ax or plt.subplots(figsize=(1.6 + 1.3 * len(groups) + 2, 3.8))[1]
    widest = max(int(row["position"]) for group in groups.values() for row in group)
    width = 0.8 / widest
    for k in range(widest):
        place = [
            (i, row["share"])
            for i, group in enumerate(groups.values())
            for row in group
            if int(row["position"]) == k + 1
        ]
        x, shares = [i + (k - (widest - 1) / 2) * width for i, _ in place], [y for _, y in place]
        look = {"color": COLOURS[k % 6], "hatch": HATCHES[k % 6], "edgecolor": "white"}
        ax.bar(x, shares, width=width, label=f"place {k + 1}", **look)
    for i, group in enumerate(groups.values()):
        even, name = group[0]["even"], "no bias" if i == 0 else None
        ax.plot(
            [i - 0.45, i + 0.45],
            [even, even],
            color=BLACK,
            linestyle="--",
            linewidth=1.4,
            label=name,
        )
    ax.set_xticks(range(len(groups)), list(groups), color="#222222")
    ax.set(ylabel="share of choices", ylim=(0, None), title="Where each labeler clicks")
    ax.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


@plt.rc_context(STYLE)
def labeler_consistency(
    rows: Table,
    *,
    names: tuple[str, ...] = ("consistency", "attention", "agreement"),
    ax: Axes | None = None,
) -> Axes:
    """Draw shares with their 95 % intervals, one row per labeler; columns labeler, and for each
    name itself, `_low`, `_high`, `_count`."""
    rows = records_of(rows)
    ax = ax or plt.subplots(figsize=(7.2, 1.2 + 0.6 * len(rows)))[1]
    for k, name in enumerate(names):
        shift = (k - (len(names) - 1) / 2) * 0.22
        known = [(i, row) for i, row in enumerate(rows) if not math.isnan(row[name])]
        if known:
            values = np.asarray([row[name] for _, row in known])
            bars = (
                np.asarray(
                    [
                        [row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name]]
                        for _, row in known
                    ]
                )
                .clip(0)
                .T
            )
            ax.errorbar(
                values,
                [i + shift for i, _ in known],
                xerr=bars,
                fmt=MARKERS[k % 6],
                color=COLOURS[k % 6],
                capsize=3,
                markersize=6,
                linestyle="none",
                label=f"{name} ({min(r[f'{name}_count'] for _, r in known)} or more)",
            )
    labels = [
        f"{row['labeler']} (simulated)" if row.get("simulated") else str(row["labeler"])
        for row in rows
    ]
    ax.set_yticks(range(len(rows)), labels, color="#222222")
    ax.set(
        xlim=(-0.02, 1.02),
        xlabel="share of answers (bars: 95 % interval)",
        title="Consistency, attention, agreement",
    )
    ax.invert_yaxis()
    ax.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


@plt.rc_context(STYLE)
def running_hits(
    hits: Sequence[bool], options: int, *, ceiling: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw how often clicks were foreseen, up to each of them, with Wilson's 95 % interval.

    hits: whether the favourite was chosen, oldest first; chance is 1 / options. `ceiling`: between
    which shares the best possible accuracy lies.
    """
    found = [evaluation.wilson(sum(hits[:n]), n) for n in range(1, len(hits) + 1)]
    x = range(1, len(hits) + 1)
    ax = ax or plt.subplots(figsize=(6.5, 3.6))[1]
    band = {"color": PALE, "label": "95 % interval"}
    ax.fill_between(x, [f.low for f in found], [f.high for f in found], **band)
    ax.plot(x, [f.rate for f in found], color=BLUE, label="foreseen so far")
    ax.axhline(1 / options, color=GREY, linestyle=":", label=f"chance: 1/{options}")
    if ceiling is not None:
        for bound, label in zip(ceiling, ("the ceiling lies between these", None), strict=True):
            ax.axhline(bound, color=GREEN, linestyle="-.", linewidth=1.2, label=label)
    ax.set(xlabel="choices", ylabel="share foreseen", ylim=(0, 1), xlim=(1, max(2, len(hits))))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title("Each choice foretold before it was learned from")
    ax.legend(fontsize=8.5, loc="lower right", ncols=2)
    return ax


def _by_labeler(rows: Table) -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in records_of(rows):
        groups.setdefault(str(row["labeler"]), []).append(row)
    return groups
