"""Figures of failures: proxy and gold against distance, gold against proxy, four signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from rlhf_helpers import evaluation
from rlhf_helpers.course.plots.style import (
    BLACK,
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    PALE,
    STYLE,
    Table,
    column_of,
    records_of,
)


@plt.rc_context(STYLE)
def over_optimisation(
    points: Table, form: str, *, unit: str = "deviations of the base model's answers",
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw proxy and gold against d = sqrt(KL), a colour and a marker for each `series`.

    Columns: `kl_nats`, `proxy`, `gold`, and `series` where there are several. Gold is filled, with
    its fitted curve (`evaluation.fit_gold`, in this form) where there are points enough; proxy is
    hollow and dotted. A star marks the turning point, if it lies within what was measured; else
    the legend says where it would be.
    """
    ax = ax or plt.subplots(figsize=(6.8, 4.2))[1]
    for i, (name, rows) in enumerate(_by(points, "series").items()):
        rows = sorted(rows, key=lambda r: r["kl_nats"])
        colour, marker = COLOURS[i % 6], MARKERS[i % 6]
        kl, gold = (column_of(rows, c) for c in ("kl_nats", "gold"))
        d = np.sqrt(kl.clip(0))
        look = {"color": colour, "marker": marker, "markersize": 5.5}
        ax.plot(d, column_of(rows, "proxy"), ":", markerfacecolor="none", linewidth=1.2, **look)
        ax.plot(d, gold, linestyle="none", **look)
        label = f"{name}: gold" if name else "gold"
        if len(np.unique(kl[kl > 1e-6])) > 2:
            label += _fitted(ax, kl, gold, form, colour, DASHES[i % 6])
        ax.plot([], [], linestyle=DASHES[i % 6], label=label, **look)
    ax.plot([], [], ":", color=GREY, marker="o", markerfacecolor="none", label="proxy (hollow)")
    ax.axhline(0, color=GREY, linewidth=1, zorder=1)
    ax.set(xlabel="d, square root of the KL in nats", ylabel=unit)
    ax.set_title("What is maximised, and what is wanted")
    ax.legend(fontsize=8.5, loc="best")
    return ax


def _fitted(ax: Axes, kl: np.ndarray, gold: np.ndarray, form: str, colour: str, dash: Any) -> str:
    """Draw the fitted curve; return where it turns, in words."""
    start = gold[kl <= max(kl.min(), 1e-3)].mean()  # of the base model, where the curve begins
    curve = evaluation.fit_gold(torch.tensor(kl), torch.tensor(gold - start), form)
    x = np.linspace(0, np.sqrt(kl.max()), 200)
    ax.plot(x, start + curve.gold(torch.tensor(x**2)).numpy(), linestyle=dash, color=colour)
    if (turn := curve.turning_point()) is None:
        return ", no turning point"
    if turn[0] > kl.max():
        return f", would turn at {turn[0]:,.0f} nats" if turn[0] < 1e6 else ", no turn in sight"
    look = {"marker": "*", "markersize": 15, "markeredgecolor": BLACK}
    ax.plot([turn[0] ** 0.5], [start + turn[1]], color=colour, zorder=5, **look)
    return f", turns at {turn[0]:.1f} nats"


@plt.rc_context(STYLE)
def gold_against_proxy(
    points: Table, *, cloud: tuple[Any, Any] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw gold against proxy: what is wanted against what was paid for, a line for each `series`.

    Columns as in `over_optimisation`. `cloud`: proxies and golds of single answers, drawn as small
    dots with the line that fits them best. On the dashed diagonal the two agree.
    """
    ax = ax or plt.subplots(figsize=(6, 4.4))[1]
    groups = _by(points, "series")
    most = max(column_of(rows, "proxy").max() for rows in groups.values())
    if cloud is not None:
        x, y = (np.asarray(values, float).ravel() for values in cloud)
        ax.plot(x, y, ".", color="#BBBBBB", markersize=2, zorder=1, label="single base answers")
        slope, start = np.polyfit(x, y, 1)
        ends = np.array([x.min(), most])
        ax.plot(ends, start + slope * ends, "-", color=GREY, linewidth=1.2, label="their line")
    for i, (name, rows) in enumerate(groups.items()):
        look = {"color": COLOURS[i % 6], "marker": MARKERS[i % 6], "linestyle": DASHES[i % 6]}
        x, y = (column_of(rows, c) for c in ("proxy", "gold"))
        ax.plot(x, y, markersize=5.5, label=name or None, zorder=3, **look)
    ax.plot([0, most], [0, most], "--", color=BLACK, linewidth=1, label="gold = proxy")
    ax.axhline(0, color=GREY, linewidth=1, zorder=1)
    ax.set(xlabel="proxy: what the reward model says", ylabel="gold: what the reader wants")
    ax.set_title("The higher the proxy, the less it means")
    ax.legend(fontsize=8.5, loc="best")
    return ax


@plt.rc_context(STYLE)
def four_signs(cells: Table, *, fluency: str = "surprise_nats", ax: Axes | None = None) -> Axes:
    """Draw where four trainings end: how foreign their answers are to the base model, and the gold.

    Columns: `reward` and `kl` (the signs, +1 or -1, as in reward * r + kl * KL), `gold`, and
    `fluency`; rows of several seeds get several marks. A row without signs is the base model.
    """
    ax = ax or plt.subplots(figsize=(6.4, 4))[1]
    signs = [(1, -1), (-1, -1), (1, 1), (-1, 1)]
    base = [row for row in records_of(cells) if not row.get("reward")]
    for i, (reward, kl) in enumerate(signs):
        rows = [
            row for row in records_of(cells) if (row.get("reward"), row.get("kl")) == (reward, kl)
        ]
        if rows:
            x, y = column_of(rows, fluency), column_of(rows, "gold")
            name = f"{'+' if reward > 0 else '-'} reward, {'+' if kl > 0 else '-'} KL"
            look = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 9}
            ax.plot(x, y, linestyle="none", label=name, **look)
    if base:
        x, y = column_of(base, fluency).mean(), column_of(base, "gold").mean()
        ax.axvline(x, color=PALE, linewidth=6, zorder=0)
        ax.plot([x], [y], "x", color=BLACK, markersize=9, label="base model")
    ax.axhline(0, color=GREY, linewidth=1, zorder=1)
    ax.set(xlabel="surprise of the base model, nats per answer", ylabel="gold")
    ax.set_title("Two signs, four ends")
    ax.margins(0.15)
    ax.legend(fontsize=8.5, loc="best")
    return ax


def _by(points: Table, column: str) -> dict[str, Sequence[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in records_of(points):
        groups.setdefault(str(row.get(column, "")), []).append(row)
    return groups
