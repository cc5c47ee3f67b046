"""Figures of results: calibration, reward against KL, win rates, scores, where labelers click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rlhf_helpers import evaluation
from rlhf_helpers.course.plots.curves import smooth
from rlhf_helpers.course.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    RED,
    SKY,
    STYLE,
    Table,
    column_of,
    records_of,
    towards,
)


@plt.rc_context(STYLE)
def calibration(
    probabilities: Any, outcomes: Any, *, bins: int = 10, ax: Axes | None = None
) -> Axes:
    """Compare what the model expects with what was chosen, in bins of equally many; bars are
    Wilson's 95 % intervals.

    probabilities: of each option to be chosen, any shape; outcomes: 1 where it was, 0 where not,
    same shape.
    """
    p, y = np.asarray(probabilities, float).ravel(), np.asarray(outcomes, float).ravel()
    if len(p) != len(y) or not len(p):
        raise ValueError(
            f"{len(p)} probabilities and {len(y)} outcomes: give as many of one as of the other"
        )
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    expected = [p[rows].mean() for rows in parts]
    found = [evaluation.wilson(y[rows].sum(), len(rows)) for rows in parts]
    gap = sum(abs(e - f.rate) * f.total for e, f in zip(expected, found, strict=True)) / len(p)
    ax = ax or plt.subplots(figsize=(4.6, 4.4))[1]
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    look = {"fmt": "o", "color": BLUE, "markersize": 5.5, "capsize": 3, "elinewidth": 1.3}
    label = f"{len(p) // len(parts)} options each"
    ax.errorbar(expected, [f.rate for f in found], yerr=_whiskers(found), label=label, **look)
    ax.set(xlabel="expected by the model (probability)", ylabel="chosen (share)")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set_title(f"Calibration: off by {gap:.3f} on average")
    ax.legend(loc="upper left", fontsize=8.5)
    return ax


@plt.rc_context(STYLE)
def reward_against_kl(
    rows: Table,
    *,
    bound: Table | None = None,
    unit: str = "reward model's units",
    ax: Axes | None = None,
) -> Axes:
    """Draw score against KL, one point per row of `evaluation.measure`, and the frontier: what no
    other point beats.

    Columns `score`, `kl_nats_per_response` (or `kl_nats`); if there: `model` names the point,
    `score_standard_error` gives it a bar, and `series` splits the rows into lines of their own
    (gold against proxy) in the place of the frontier. `bound`: rows of the optimum
    (`evaluation.reweighted`), a black line.
    """
    rows = records_of(rows)
    ax = ax or plt.subplots(figsize=(6.6, 4.2))[1]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("series", "")), []).append(
            row | {"kl_nats_per_response": _kl(row)}
        )
    for i, (name, group) in enumerate(groups.items()):
        group.sort(key=_kl)
        bars = [row.get("score_standard_error", 0.0) for row in group]
        ax.errorbar(
            [_kl(r) for r in group],
            column_of(group, "score"),
            yerr=bars if any(bars) else None,
            label=name,
            color=COLOURS[i % 6],
            fmt=MARKERS[i % 6],
            linestyle=DASHES[i % 6] if name else "none",
            markersize=6.5,
            capsize=2.5,
        )
    if bound is not None:
        line = sorted(records_of(bound), key=_kl)
        ax.plot(
            [_kl(r) for r in line],
            column_of(line, "score"),
            color=BLACK,
            linewidth=2.4,
            zorder=1,
            label="optimum, by reweighting",
        )
    elif set(groups) == {""}:
        best = evaluation.frontier(groups[""])
        x, y = [r["kl_nats_per_response"] for r in best], [r["score"] for r in best]
        ax.plot(x, y, color=GREY, linestyle="--", linewidth=1.2, zorder=1, label="frontier")
    for row in rows:
        if row.get("model"):
            ax.annotate(
                str(row["model"]),
                (_kl(row), row["score"]),
                xytext=(7, -11),
                textcoords="offset points",
                fontsize=8.5,
            )
    ax.set(
        xlabel="KL from the reference (nats per response)",
        ylabel=f"score ({unit})",
        title="Reward bought with KL",
    )
    ax.margins(x=0.12, y=0.12)
    ax.legend(fontsize=8.5, loc="best")
    return ax


@plt.rc_context(STYLE)
def learning_curves(
    rows: Table, *, unit: str = "reward model's units", ax: Axes | None = None
) -> Axes:
    """Draw score by episodes, one line per `series`: the smoothed mean of its rows, and a band from
    the lowest to the highest of several.

    Columns: `series`, `curve` (the score of every step), `batch` (episodes in a step).
    """
    ax = ax or plt.subplots(figsize=(6.6, 4.2))[1]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in records_of(rows):
        groups.setdefault(str(row["series"]), []).append(row)
    for i, (name, group) in enumerate(groups.items()):
        curves = np.array([smooth(row["curve"]) for row in group])  # (runs, steps)
        episodes = group[0]["batch"] * np.arange(1, curves.shape[1] + 1)
        ax.plot(episodes, curves.mean(0), color=COLOURS[i % 6], linestyle=DASHES[i % 6], label=name)
        if len(group) > 1:
            ax.fill_between(
                episodes,
                curves.min(0),
                curves.max(0),
                color=COLOURS[i % 6],
                alpha=0.15,
                linewidth=0,
            )
    ax.set(xlabel="episodes", ylabel=f"score ({unit})", title="Learning curves (running means)")
    ax.legend(fontsize=8.5, loc="best")
    return ax


@plt.rc_context(STYLE)
def win_rates(rows: Table, *, against: str = "the base model", ax: Axes | None = None) -> Axes:
    """Draw a bar per row with Wilson's 95 % interval and the line at 50 %.

    Columns: `model`, and either `wins` and `total` or `win_rate`, `low` and `high`.
    """
    rows = [_with_interval(row) for row in records_of(rows)]
    ax = ax or plt.subplots(figsize=(7.2, 0.9 + 0.55 * len(rows)))[1]
    for i, row in enumerate(rows):
        rate, low, high = row["win_rate"], row["low"], row["high"]
        ax.barh(i, rate, height=0.62, color=SKY, edgecolor=BLUE, linewidth=1.0, zorder=2)
        ax.errorbar(
            rate,
            i,
            xerr=[[rate - low], [high - rate]],
            color=BLACK,
            capsize=4,
            elinewidth=1.4,
            zorder=3,
        )
        ax.text(1.03, i, f"{rate:.0%}  ({low:.0%} to {high:.0%})", va="center", fontsize=9)
    ax.axvline(0.5, color=RED, linestyle="--", linewidth=1.5, zorder=4)
    above_the_line(ax, 0.5, "no better: 50 %")
    ax.set(xlim=(0, 1), xlabel=f"share of pairs preferred to {against} (bars: 95 % interval)")
    ax.set_yticks(range(len(rows)), [str(row["model"]) for row in rows], color="#222222")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    return ax


@plt.rc_context(STYLE)
def score_histogram(
    before: Any, after: Any, *, names: tuple[str, str] = ("before", "after"), bins: int = 30,
    penalty: float | None = None, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Draw how two sets of scores are spread, with the mean of each, and the penalty if given."""
    both = [np.asarray(values, float).ravel() for values in (before, after)]
    edges = np.histogram_bin_edges(np.concatenate(both), bins)
    ax = ax or plt.subplots(figsize=(6.6, 3.4))[1]
    for values, name, colour, hatch, style in zip(
        both, names, (GREY, BLUE), ("////", ""), ("--", "-"), strict=True
    ):
        share = np.histogram(values, edges)[0] / len(values)
        face = "none" if hatch else towards(colour, 0.35)
        look = {"facecolor": face, "hatch": hatch, "edgecolor": colour, "linewidth": 0}
        ax.stairs(share, edges, fill=True, alpha=0.65, **look)
        ax.stairs(
            share,
            edges,
            color=colour,
            linewidth=1.6,
            linestyle=style,
            label=f"{name} (mean {values.mean():+.2f})",
        )
        ax.axvline(values.mean(), color=colour, linestyle=style, linewidth=1.2)
    ax.set(xlabel="score (reward model's units)", ylabel="share of responses")
    ax.set_title("Scores of the responses", pad=6 if penalty is None else 18)
    if penalty is not None:
        ax.axvline(penalty, color=RED, linestyle=":", linewidth=1.5)
        above_the_line(ax, penalty, f"penalty: {penalty:g}")
    ax.legend(fontsize=9)
    return ax


def above_the_line(ax: Axes, x: float, words: str) -> None:
    """Name a vertical line, just above the axes."""
    at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "xytext": (0, 3)}
    ax.annotate(words, (x, 1), ha="center", fontsize=8.5, color=RED, **at)


@plt.rc_context(STYLE)
def label_positions(counts: Mapping[Any, int] | Sequence[int], *, ax: Axes | None = None) -> Axes:
    """Draw how often each position on the card was chosen, with Wilson's 95 % intervals and the
    line of no position bias.

    counts: {name: how often}, or the counts of positions 1, 2, ... in order.
    """
    table = (
        dict(counts) if isinstance(counts, Mapping) else {i + 1: n for i, n in enumerate(counts)}
    )
    total = sum(table.values())
    if not total:
        raise ValueError(
            "there are no labels to count yet: label some comparisons first (notebook 02)"
        )
    shares = [evaluation.wilson(count, total) for count in table.values()]
    ax = ax or plt.subplots(figsize=(5.4, 3.4))[1]
    ax.bar(range(len(table)), [s.rate for s in shares], width=0.62, color=SKY, edgecolor=BLUE)
    ax.errorbar(
        range(len(table)),
        [s.rate for s in shares],
        yerr=_whiskers(shares),
        fmt="none",
        color=BLACK,
        capsize=4,
        elinewidth=1.4,
    )
    even = 1 / len(table)
    ax.axhline(even, color=RED, linestyle="--", linewidth=1.5, label=f"no bias: {even:.0%} each")
    ax.set(
        xlabel="position on the card",
        ylabel=f"share of {total} choices",
        title="Where the chosen answer stood",
    )
    ax.set_xticks(range(len(table)), [str(name) for name in table])
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.set_ylim(0, 1.25 * max(s.high for s in shares))
    ax.legend(fontsize=9, loc="upper right")
    return ax


def _kl(row: Mapping[str, Any]) -> float:
    return row["kl_nats_per_response"] if "kl_nats_per_response" in row else row["kl_nats"]


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    """Add win rate and interval to a row that only has wins and total."""
    if {"win_rate", "low", "high"} <= set(row):
        return row
    found = evaluation.wilson(row["wins"], row["total"])
    return row | {"win_rate": found.rate, "low": found.low, "high": found.high}


def _whiskers(rates: Sequence[evaluation.Proportion]) -> list[list[float]]:
    """Return how far each interval reaches below and above its rate."""
    return [[max(0.0, r.rate - r.low) for r in rates], [max(0.0, r.high - r.rate) for r in rates]]
