"""Floor 5: one function per figure. Each takes plain tables (lists of dicts, or pandas) and returns matplotlib Axes.

Colours are those of Okabe and Ito, told apart by readers with every kind of colour vision; nothing is told by colour alone: lines differ
in style, bars in hatching, points in shape. In a notebook end the cell with `;` to show the figure and not the name of its axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from rlhf_helpers import evaluation

Table = Any  # a list of dicts, or a pandas DataFrame

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")  # fmt: skip
GREY, PALE = "#5A5A5A", "#E8E8E8"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")

STYLE = {
    "figure.facecolor": "white", "figure.constrained_layout.use": True, "figure.dpi": 100, "font.size": 10, "font.family": "DejaVu Sans",
    "axes.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": "#222222",
    "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.7, "xtick.color": GREY, "ytick.color": GREY,
    "legend.framealpha": 0.9, "legend.edgecolor": "white", "lines.linewidth": 1.8, "hatch.linewidth": 0.7,
}  # fmt: skip

STAGES = (
    ("sample", "sample", "the model writes"),
    ("label", "label", "people choose"),
    ("reward", "reward model", "learns the choices"),
    ("ppo", "PPO", "tunes the model"),
    ("judge", "judge", "did it work?"),
)

CURVES = (  # the column of the metrics, the title, the unit, where a guide line stands
    ("score", "Score", "reward model's units", 0.0),
    ("kl_nats_per_response", "KL from the reference", "nats per response", None),
    ("beta", "KL coefficient (beta)", "reward per nat", None),
    ("entropy_nats_per_response", "Entropy", "nats per response", None),
    ("policy_loss", "Policy loss", "advantage units", 0.0),
    ("value_loss", "Value loss", "rescaled reward, squared", None),
    ("clip_fraction", "Clip fraction", "share of tokens", None),
    ("value_explained_variance", "Explained variance", "of the value; 1 is perfect", 0.0),
)


# ---- where we are --------------------------------------------------------------------------------------------------------


@plt.rc_context(STYLE)
def pipeline(highlight: str = "all", *, ax: Axes | None = None) -> Axes:
    """Draw the five stages of the course, the current one filled and marked; several as `reward+ppo`, or `all`."""
    names = [name for name, _, _ in STAGES]
    here = set(names if highlight == "all" else highlight.split("+"))
    if unknown := here - set(names):
        raise ValueError(f"the pipeline has no stage {sorted(unknown)[0]!r}; there are {', '.join(names)}, or all")
    ax = ax or plt.subplots(figsize=(8.6, 1.75))[1]
    for x, (name, title, line) in zip(np.arange(len(STAGES)) * 2.0, STAGES, strict=True):
        now = name in here
        ax.add_patch(FancyBboxPatch((x, 0), 1.5, 0.8, boxstyle="round,pad=0,rounding_size=0.12", linewidth=2.4 if now else 1.1,
                                    facecolor=BLUE if now else "white", edgecolor=BLUE if now else GREY, gid=name))  # fmt: skip
        colour = "white" if now else "#222222"
        ax.text(x + 0.75, 0.5, title, ha="center", va="center", color=colour, fontsize=11, fontweight="bold" if now else "normal")
        ax.text(x + 0.75, 0.2, line, ha="center", va="center", color=colour, fontsize=8)
        if now and highlight != "all":
            ax.text(x + 0.75, 0.98, "you are here \N{BLACK DOWN-POINTING TRIANGLE}", ha="center", fontsize=8, color=BLUE)
        if x:
            _arrow(ax, (x - 0.47, 0.4), (x - 0.03, 0.4))
    _arrow(ax, (8.75, -0.05), (0.75, -0.05), linestyle="--", connectionstyle="arc,angleA=-90,angleB=-90,armA=22,armB=22,rad=8")
    ax.text(4.75, -0.44, "the tuned model writes, people choose again", ha="center", va="center", fontsize=8, color=GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    ax.set(xlim=(-0.1, 9.6), ylim=(-0.62, 1.22), aspect="equal")
    ax.axis("off")
    return ax


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], **more: Any) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=GREY, linewidth=1.2, shrinkA=0, shrinkB=0, **more))


@plt.rc_context(STYLE)
def token_strip(
    tokens: Sequence[str] | Sequence[Sequence[str]], values: Any, *, titles: Sequence[str] = (), selected: str = "selected",
    width: int = 78, ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Draw tokens as boxes and show what a mask selects, or a number for each.

    A bool per token: blue where True, grey and hatched where False. A number per token: written below it; above zero orange, below zero
    blue and hatched, stronger the further from 0. One sequence wraps after `width` letters; a batch (a list of sequences) keeps its
    columns, one row each, with `titles` at the left. Spaces show as a middle dot, line ends as an arrow.
    """
    rows, table = _token_rows(tokens, values)
    is_mask = table[0].dtype == bool
    batch = not isinstance(tokens[0], str)
    columns = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))] if batch else []
    least = 2 if is_mask else 5  # letters that a box is wide at least
    boxes = _lay_out(rows, columns, width, least)
    lines = 1 + max(line for *_, line in boxes)
    letters, tall = max(x + w for _, _, x, w, _ in boxes), 1.0 if is_mask else 1.6
    margin = 1 + max(map(len, titles)) if titles else 0
    ax = ax or plt.subplots(figsize=(max(3.0, 0.098 * (letters + margin) + 0.3), 0.38 * (tall + 0.25) * lines + 0.6))[1]
    biggest = max(float(np.abs(row[np.isfinite(row)]).max(initial=0)) for row in table) if not is_mask else 1.0
    for row, i, x, w, line in boxes:
        _box(ax, rows[row][i], table[row][i], (x, -line * (tall + 0.25)), w, tall, biggest or 1.0)
    for row, title in enumerate(titles):
        ax.text(-0.6, -row * (tall + 0.25) - 0.5, title, ha="right", va="center", fontsize=9, color="#222222", parse_math=False)
    ax.set(xlim=(-margin - 0.2, letters + 0.2), ylim=(-lines * (tall + 0.25) - 0.1, 0.15))
    ax.axis("off")
    ax.legend(handles=_strip_key(is_mask, selected), loc="upper left", bbox_to_anchor=(0, 0), ncols=2, fontsize=8.5, handlelength=1.6,
              borderaxespad=0.1)  # fmt: skip
    return ax


def _token_rows(tokens: Any, values: Any) -> tuple[list[list[str]], list[np.ndarray]]:
    """Bring one sequence or a batch into rows of readable tokens and rows of values."""
    single = isinstance(tokens[0], str)
    if hasattr(values, "tolist"):
        values = values.tolist()
    rows, table = ([tokens], [values]) if single else (list(tokens), list(values))
    if [len(row) for row in rows] != [len(row) for row in table]:
        raise ValueError(f"tokens have lengths {[len(r) for r in rows]}, their values {[len(v) for v in table]}: one value for each token")
    shown = {" ": "\N{MIDDLE DOT}", "\u0120": "\N{MIDDLE DOT}", "\n": "\N{DOWNWARDS ARROW WITH TIP LEFTWARDS}",
             "\u010a": "\N{DOWNWARDS ARROW WITH TIP LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW}"}  # fmt: skip
    arrays = [np.asarray(row) for row in table]
    kind = bool if all(a.dtype == bool for a in arrays) else float
    return [["".join(shown.get(c, c) for c in token) for token in row] for row in rows], [a.astype(kind) for a in arrays]


def _lay_out(rows: list[list[str]], columns: list[int], width: int, least: int) -> list[tuple[int, int, float, float, int]]:
    """Place every token: (row, number, x, width, line), in letters; without `columns` the tokens flow and wrap."""
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


def _box(ax: Axes, token: str, value: Any, corner: tuple[float, float], wide: float, tall: float, biggest: float) -> None:
    """Draw one token, coloured and hatched by its value; `corner` is its upper left."""
    is_mask = isinstance(value, bool | np.bool_)
    if is_mask:
        face, hatch, ink = (BLUE, "", "white") if value else ("#F4F4F4", "////", GREY)
    else:
        share = 0.85 * min(1.0, abs(value) / biggest) if math.isfinite(value) else 0.0
        face, hatch, ink = _towards(ORANGE if value > 0 else SKY, share), "" if value >= 0 else "////", "#111111"
    x, y = corner
    edge = ("#BBBBBB" if is_mask else "#5E7F93") if hatch else GREY
    ax.add_patch(Rectangle((x, y - tall), wide, tall, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8))
    plate = {"facecolor": face, "edgecolor": "none", "pad": 0.8} if hatch else None
    ax.text(x + wide / 2, y - 0.52, token, ha="center", va="center", family="DejaVu Sans Mono", fontsize=9, color=ink, bbox=plate,
            parse_math=False)  # fmt: skip
    if not is_mask:
        ax.text(x + wide / 2, y - 1.22, f"{value:+.2f}", ha="center", va="center", fontsize=7.5, color=ink, bbox=plate)


def _towards(colour: str, share: float) -> tuple[float, ...]:
    """Mix white with a share of a colour."""
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return tuple(1 - share * (1 - c) for c in rgb)


def _strip_key(is_mask: bool, selected: str) -> list[Rectangle]:
    """Make the patches of a strip's legend."""
    if is_mask:
        kinds = [(BLUE, "", selected), ("#F4F4F4", "////", f"not {selected}")]
    else:
        kinds = [(_towards(ORANGE, 0.6), "", "above 0"), (_towards(SKY, 0.6), "////", "below 0")]
    return [Rectangle((0, 0), 1, 1, facecolor=f, hatch=h, edgecolor=GREY, label=t) for f, h, t in kinds]


# ---- training ------------------------------------------------------------------------------------------------------------


@plt.rc_context(STYLE)
def training_curves(metrics: Table | Mapping[str, Table], *, kl_target: float | None = None) -> list[Axes]:
    """Draw the eight curves by which PPO is judged, one line per run: give `ppo.tune`'s metrics, or {name: metrics} to compare runs."""
    runs = dict(metrics) if isinstance(metrics, Mapping) else {"": metrics}
    figure, grid = plt.subplots(2, 4, figsize=(12, 5.0), sharex=True)
    for ax, (column, title, unit, guide) in zip(grid.flat, CURVES, strict=True):
        if column == "kl_nats_per_response" and kl_target is not None:
            guide = kl_target
            ax.annotate("target", (0.01, kl_target), xycoords=("axes fraction", "data"), va="bottom", fontsize=8.5, color=GREY)
        if guide is not None:
            ax.axhline(guide, color=GREY, linewidth=1, linestyle=":", zorder=1)
        for i, (name, table) in enumerate(runs.items()):
            ax.plot(_steps(table), _column(table, column), color=COLOURS[i % 6], linestyle=DASHES[i % 6], label=name)
        ax.set(title=title, ylabel=unit)
    for ax in grid[1]:
        ax.set_xlabel(_step_name(next(iter(runs.values()))))
    if len(runs) > 1:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(runs))
    return list(grid.flat)


@plt.rc_context(STYLE)
def reward_fit(history: Table, *, options: int = 4, held_out: float | None = None, ceiling: float | None = None) -> list[Axes]:
    """Draw the loss with chance (ln K) and the smoothed accuracy with chance (1/K); `held_out` and `ceiling` add two lines."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), sharex=True)
    steps = _steps(history)
    panels = ((left, "loss", "nats per choice", math.log(options), f"chance: ln {options} = {math.log(options):.2f}"),
              (right, "accuracy", "share of choices predicted", 1 / options, f"chance: 1/{options}"))  # fmt: skip
    for ax, column, unit, chance, words in panels:
        values = _column(history, column)
        ax.plot(steps, values, color=SKY, linewidth=0.8, alpha=0.55, label="each batch")
        ax.plot(steps, smooth(values), color=BLUE, linewidth=2.2, label="running mean")
        ax.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, label=words)
        ax.set(xlabel="step", ylabel=unit, title=f"{column.capitalize()} on the training choices")
    for value, words, style in ((held_out, "held-out choices", "--"), (ceiling, "ceiling: how well any model can do", "-.")):
        if value is not None:
            right.axhline(value, color=RED if style == "--" else GREEN, linestyle=style, linewidth=1.6, label=f"{words} ({value:.2f})")
    right.set_ylim(0, 1)
    left.legend(fontsize=8.5, loc="lower left")
    right.legend(fontsize=8.5, loc="upper left")
    return [left, right]


def smooth(values: Sequence[float], window: int | None = None) -> np.ndarray:
    """Take the mean over the steps around each (a tenth of the run unless given); shorter windows at the ends."""
    values = np.asarray(values, float)
    half = (window or max(3, len(values) // 10)) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = (np.clip(np.arange(len(values)) + shift, 0, len(values)) for shift in (-half, half + 1))
    return (total[high] - total[low]) / (high - low)


# ---- judgements ----------------------------------------------------------------------------------------------------------


@plt.rc_context(STYLE)
def calibration(probabilities: Any, outcomes: Any, *, bins: int = 10, ax: Axes | None = None) -> Axes:
    """Compare what the model expects with what was chosen, in bins of equally many; bars are Wilson's 95 % intervals.

    probabilities: of each option to be chosen, any shape; outcomes: 1 where it was, 0 where not, same shape.
    """
    p, y = np.asarray(probabilities, float).ravel(), np.asarray(outcomes, float).ravel()
    if len(p) != len(y) or not len(p):
        raise ValueError(f"{len(p)} probabilities and {len(y)} outcomes: give as many of one as of the other")
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    expected = [p[rows].mean() for rows in parts]
    found = [evaluation.win_rate(y[rows].sum(), len(rows)) for rows in parts]
    gap = sum(abs(e - f.rate) * f.total for e, f in zip(expected, found, strict=True)) / len(p)
    ax = ax or plt.subplots(figsize=(4.6, 4.4))[1]
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect")
    ax.errorbar(expected, [f.rate for f in found], yerr=_whiskers(found), fmt="o", color=BLUE, markersize=5.5, capsize=3,
                elinewidth=1.3, label=f"{len(p) // len(parts)} options each")  # fmt: skip
    ax.set(xlabel="expected by the model (probability)", ylabel="chosen (share)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
           title=f"Calibration: off by {gap:.3f} on average")  # fmt: skip
    ax.legend(loc="upper left", fontsize=8.5)
    return ax


@plt.rc_context(STYLE)
def reward_against_kl(rows: Table, *, ax: Axes | None = None) -> Axes:
    """Draw score against KL, one point per row of `evaluation.measure`, and the frontier: what no other point beats.

    Columns `score`, `kl_nats_per_response` (or `kl_nats`); if there: `model` names the point, `score_standard_error` gives it a bar, and
    `series` splits the rows into lines of their own (gold against proxy) in the place of the frontier.
    """
    rows = _records(rows)
    ax = ax or plt.subplots(figsize=(6.6, 4.2))[1]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get("series", "")), []).append(row | {"kl_nats_per_response": _kl(row)})
    for i, (name, group) in enumerate(groups.items()):
        group.sort(key=_kl)
        bars = [row.get("score_standard_error", 0.0) for row in group]
        ax.errorbar([_kl(r) for r in group], _column(group, "score"), yerr=bars if any(bars) else None, label=name, color=COLOURS[i % 6],
                    fmt=MARKERS[i % 6], linestyle=DASHES[i % 6] if name else "none", markersize=6.5, capsize=2.5)  # fmt: skip
    if set(groups) == {""}:
        best = evaluation.frontier(groups[""])
        ax.plot([r["kl_nats_per_response"] for r in best], [r["score"] for r in best], color=GREY, linestyle="--", linewidth=1.2,
                zorder=1, label="frontier")  # fmt: skip
    for row in rows:
        if row.get("model"):
            ax.annotate(str(row["model"]), (_kl(row), row["score"]), xytext=(7, -11), textcoords="offset points", fontsize=8.5)
    ax.set(xlabel="KL from the reference (nats per response)", ylabel="score (reward model's units)", title="Reward bought with KL")
    ax.margins(x=0.12, y=0.12)
    ax.legend(fontsize=8.5, loc="lower right")
    return ax


@plt.rc_context(STYLE)
def win_rates(rows: Table, *, against: str = "the base model", ax: Axes | None = None) -> Axes:
    """Draw a bar per row with Wilson's 95 % interval and the line at 50 %.

    Columns: `model`, and either `wins` and `total` or `win_rate`, `low` and `high`.
    """
    rows = [_with_interval(row) for row in _records(rows)]
    ax = ax or plt.subplots(figsize=(7.2, 0.9 + 0.55 * len(rows)))[1]
    for i, row in enumerate(rows):
        rate, low, high = row["win_rate"], row["low"], row["high"]
        ax.barh(i, rate, height=0.62, color=SKY, edgecolor=BLUE, linewidth=1.0, zorder=2)
        ax.errorbar(rate, i, xerr=[[rate - low], [high - rate]], color=BLACK, capsize=4, elinewidth=1.4, zorder=3)
        ax.text(1.03, i, f"{rate:.0%}  ({low:.0%} to {high:.0%})", va="center", fontsize=9)
    ax.axvline(0.5, color=RED, linestyle="--", linewidth=1.5, zorder=4)
    ax.annotate("no better: 50 %", (0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
                fontsize=8.5, color=RED)  # fmt: skip
    ax.set(xlim=(0, 1), xlabel=f"share of pairs preferred to {against} (bars: 95 % interval)")
    ax.set_yticks(range(len(rows)), [str(row["model"]) for row in rows], color="#222222")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.grid(axis="y", visible=False)
    ax.invert_yaxis()
    return ax


@plt.rc_context(STYLE)
def score_histogram(
    before: Any, after: Any, *, names: tuple[str, str] = ("before", "after"), bins: int = 30, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """Draw how the scores of two models' responses are spread, with the mean of each."""
    both = [np.asarray(values, float).ravel() for values in (before, after)]
    edges = np.histogram_bin_edges(np.concatenate(both), bins)
    ax = ax or plt.subplots(figsize=(6.6, 3.4))[1]
    for values, name, colour, hatch, style in zip(both, names, (GREY, BLUE), ("////", ""), ("--", "-"), strict=True):
        share = np.histogram(values, edges)[0] / len(values)
        ax.stairs(share, edges, fill=True, facecolor=_towards(colour, 0.35) if not hatch else "none", hatch=hatch, edgecolor=colour,
                  alpha=0.65, linewidth=0)  # fmt: skip
        ax.stairs(share, edges, color=colour, linewidth=1.6, linestyle=style, label=f"{name} (mean {values.mean():+.2f})")
        ax.axvline(values.mean(), color=colour, linestyle=style, linewidth=1.2)
    ax.set(xlabel="score (reward model's units)", ylabel="share of responses", title="Scores of the responses")
    ax.legend(fontsize=9)
    return ax


@plt.rc_context(STYLE)
def label_positions(counts: Mapping[Any, int] | Sequence[int], *, ax: Axes | None = None) -> Axes:
    """Draw how often each position on the card was chosen, with Wilson's 95 % intervals and the line of no position bias.

    counts: {name: how often}, or the counts of positions 1, 2, ... in order.
    """
    table = dict(counts) if isinstance(counts, Mapping) else {i + 1: n for i, n in enumerate(counts)}
    total = sum(table.values())
    if not total:
        raise ValueError("there are no labels to count yet: label some comparisons first (notebook 02)")
    shares = [evaluation.win_rate(count, total) for count in table.values()]
    ax = ax or plt.subplots(figsize=(5.4, 3.4))[1]
    ax.bar(range(len(table)), [s.rate for s in shares], width=0.62, color=SKY, edgecolor=BLUE)
    ax.errorbar(range(len(table)), [s.rate for s in shares], yerr=_whiskers(shares), fmt="none", color=BLACK, capsize=4, elinewidth=1.4)
    even = 1 / len(table)
    ax.axhline(even, color=RED, linestyle="--", linewidth=1.5, label=f"no bias: {even:.0%} each")
    ax.set(xlabel="position on the card", ylabel=f"share of {total} choices", title="Where the chosen answer stood")
    ax.set_xticks(range(len(table)), [str(name) for name in table])
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.set_ylim(0, 1.25 * max(s.high for s in shares))
    ax.legend(fontsize=9, loc="upper right")
    return ax


# ---- tables --------------------------------------------------------------------------------------------------------------


def _records(table: Table) -> list[dict[str, Any]]:
    rows = table.to_dict("records") if hasattr(table, "to_dict") else [dict(row) for row in table]
    if not rows:
        raise ValueError("the table is empty: there is nothing to draw yet")
    return rows


def _column(table: Table, name: str) -> np.ndarray:
    """Take one column of numbers; raises ValueError that lists the columns there are."""
    rows = _records(table)
    if name not in rows[0]:
        raise ValueError(f"the table has no column {name!r}; it has {', '.join(map(str, rows[0]))}")
    return np.asarray([row.get(name, math.nan) for row in rows], float)


def _steps(table: Table) -> np.ndarray:
    """Return the x of a training curve: episodes if they are known, else steps."""
    name = _step_name(table)
    return _column(table, name) if name in _records(table)[0] else np.arange(len(_records(table)))


def _step_name(table: Table) -> str:
    return "episodes" if "episodes" in _records(table)[0] else "step"


def _kl(row: Mapping[str, Any]) -> float:
    return row["kl_nats_per_response"] if "kl_nats_per_response" in row else row["kl_nats"]


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    """Add win rate and interval to a row that only has wins and total."""
    if {"win_rate", "low", "high"} <= set(row):
        return row
    found = evaluation.win_rate(row["wins"], row["total"])
    return row | {"win_rate": found.rate, "low": found.low, "high": found.high}


def _whiskers(rates: Sequence[evaluation.WinRate]) -> list[list[float]]:
    """Return how far each interval reaches below and above its rate."""
    return [[max(0.0, r.rate - r.low) for r in rates], [max(0.0, r.high - r.rate) for r in rates]]
