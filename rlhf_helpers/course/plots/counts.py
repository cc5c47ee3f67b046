"""Figures of what labels buy: learning curves by number of labels, and bits still to be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from rlhf_helpers import efficiency
from rlhf_helpers.course.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    DASHES,
    GREY,
    MARKERS,
    ORANGE,
    STYLE,
    Table,
    records_of,
    towards,
)


@plt.rc_context(STYLE)
def label_curves(
    rows: Table, *, value: str = "wins against the base model",
    paper: Mapping[str, Mapping[int, float]] | None = None,
    cross: tuple[str, str] | None = None, own: tuple[str, float, float, float, float] | None = None,
    lines: Mapping[str, float] | None = None, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw shares by number of labels on a logarithmic axis, a line for each `series`.

    Columns: `series`, `labels`, `share`; rows with the same series and number of labels (seeds) are
    averaged, with a bar from the lowest to the highest. A single one may have `low` and `high`.
    paper: its numbers, {name: {labels: share}}, hollow and grey. cross: the labels from which the
    second series lies above the first are marked, if it ever does. own: one point more, (name,
    labels, share, low, high). lines: {name: share} as horizontal lines.
    """
    ax = ax or plt.subplots(figsize=(7.2, 4.2))[1]
    curves = _means(records_of(rows))
    for i, (name, points) in enumerate(curves.items()):
        x, y = [p[0] for p in points], [p[1] for p in points]
        bars = [[p[1] - p[2] for p in points], [p[3] - p[1] for p in points]]
        look = {"color": COLOURS[i % 6], "linestyle": DASHES[i % 6], "marker": MARKERS[i % 6]}
        ax.errorbar(x, y, yerr=bars, capsize=3, markersize=6, label=name, **look)
    for i, (name, numbers) in enumerate((paper or {}).items()):
        look = {"color": GREY, "linestyle": DASHES[(i + 2) % 6], "marker": MARKERS[(i + 3) % 6]}
        values = list(numbers.values())
        ax.plot(list(numbers), values, linewidth=1.2, mfc="white", label=f"paper: {name}", **look)
    for i, (name, share) in enumerate((lines or {}).items()):
        ax.axhline(share, color=GREY, linewidth=1.2, linestyle=DASHES[(i + 3) % 6], label=name)
    if own is not None:
        name, labels, share, low, high = own
        bar = [[share - low], [high - share]]
        look = {"fmt": "*", "color": BLACK, "markersize": 13, "capsize": 4, "zorder": 5}
        ax.errorbar([labels], [share], yerr=bar, label=name, **look)
    if cross is not None:
        _mark_crossing(ax, *([p[:2] for p in curves[name]] for name in cross))
    counts = sorted({p[0] for points in curves.values() for p in points})
    counts = sorted({*counts, *(n for numbers in (paper or {}).values() for n in numbers)})
    ax.set(xscale="log", xlabel="labels (each step to the right multiplies them)", ylabel=value)
    ax.set_xticks(shown := _thinned(counts), [f"{n:,}" for n in shown])
    ax.minorticks_off()
    ax.legend(fontsize=8.5, loc="best")
    return ax


@plt.rc_context(STYLE)
def bits_still_told(
    counts: Sequence[int], foreseen: Sequence[float], in_a_label: float, *, ax: Axes | None = None
) -> Axes:
    """Draw the bits that a model foresees of a label by the number of labels it has learned from,
    below the bits that are in one; hatched between them, what the next label could still tell."""
    ax = ax or plt.subplots(figsize=(6.6, 3.4))[1]
    top = [in_a_label] * len(counts)
    look = {"facecolor": towards(ORANGE, 0.35), "hatch": "///", "edgecolor": "white"}
    ax.fill_between(counts, foreseen, top, label="still to be told", **look)
    ax.plot(counts, foreseen, "o-", color=BLUE, label="foreseen")
    ax.axhline(in_a_label, color=BLACK, linestyle="--", label=f"in a label: {in_a_label:.2f}")
    ax.set(xscale="log", xlabel="labels", ylabel="bits a label", ylim=(min(0, *foreseen), None))
    ax.set_xticks(shown := _thinned(counts), [f"{n:,}" for n in shown])
    ax.minorticks_off()
    ax.legend(fontsize=8.5, loc="best")
    return ax


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float, float, float]]]:
    """Average the rows of each series and number of labels: (labels, mean, low, high) in order."""
    groups: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for row in rows:
        if not math.isnan(row["share"]):
            groups.setdefault(str(row["series"]), {}).setdefault(int(row["labels"]), []).append(row)
    curves = {}
    for name, by_count in groups.items():
        curves[name] = []
        for count in sorted(by_count):
            shares = [row["share"] for row in by_count[count]]
            ends = by_count[count][0] if len(shares) == 1 else {}
            low, high = ends.get("low", min(shares)), ends.get("high", max(shares))
            curves[name].append((count, sum(shares) / len(shares), low, high))
    return curves


def _mark_crossing(
    ax: Axes, first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    at = efficiency.crossing(first, second)
    if at is not None:
        ax.axvline(at, color=GREY, linestyle=":", linewidth=1.4)
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        words = f"they cross at {round(at, 2 - len(str(int(at)))):,.0f}"
        ax.annotate(words, (at, 0.02), xytext=(4, 0), fontsize=8.5, color=GREY, **place)


def _thinned(counts: Sequence[int]) -> list[int]:
    """Leave out ticks that would touch: those less than 1.7 times the one before."""
    kept: list[int] = []
    for count in counts:
        if not kept or count >= 1.7 * kept[-1]:
            kept.append(count)
    return kept
