"""Figures of training: the nine curves of PPO, the fit of the reward model, the live strip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rlhf_helpers.course.plots.style import (
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    RED,
    SKY,
    STYLE,
    Table,
    column_of,
    records_of,
    step_name,
    steps_of,
)

CURVES = (  # the column of the metrics, the title, the unit, where a guide line stands
    ("score", "Score", "reward model's units", 0.0),
    ("kl_nats_per_response", "KL from the reference", "nats per response", None),
    ("beta", "KL coefficient (beta)", "reward per nat", None),
    ("entropy_nats_per_response", "Entropy", "nats per response", None),
    ("distinct_bigrams", "Variety", "distinct-2 of the batch", None),
    ("policy_loss", "Policy loss", "advantage units", 0.0),
    ("value_loss", "Value loss", "reward, squared", None),
    ("clip_fraction", "Clip fraction", "share of tokens", None),
    ("value_explained_variance", "Explained variance", "of the value; 1 is perfect", 0.0),
)


@plt.rc_context(STYLE)
def training_curves(
    metrics: Table | Mapping[str, Table], *, kl_target: float | None = None
) -> list[Axes]:
    """Draw the nine curves by which PPO is judged, one line per run.

    Give the metrics of `ppo.tune`, or {name: metrics} to compare runs. Runs from before the variety
    was measured are drawn without it.
    """
    runs = dict(metrics) if isinstance(metrics, Mapping) else {"": metrics}
    figure, grid = plt.subplots(3, 3, figsize=(12, 7.2), sharex=True)
    for ax, (column, title, unit, guide) in zip(grid.flat, CURVES, strict=True):
        if column == "kl_nats_per_response" and kl_target is not None:
            guide, at = kl_target, ("axes fraction", "data")
            words = {"xycoords": at, "va": "bottom", "fontsize": 8.5, "color": GREY}
            ax.annotate("target", (0.01, kl_target), **words)
        if guide is not None:
            ax.axhline(guide, color=GREY, linewidth=1, linestyle=":", zorder=1)
        for i, (name, table) in enumerate(runs.items()):
            if column == "distinct_bigrams" and column not in records_of(table)[0]:
                ax.annotate("not measured then", (0.03, 0.5), xycoords="axes fraction", color=GREY)
                continue
            x, y = steps_of(table), column_of(table, column)
            ax.plot(x, y, color=COLOURS[i % 6], linestyle=DASHES[i % 6], label=name)
        ax.set(title=title, ylabel=unit)
    for ax in grid[2]:
        ax.set_xlabel(step_name(next(iter(runs.values()))))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 12k: 12000 ran into its neighbour
    if len(runs) > 1:
        lines = grid[0, 0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside upper center", ncols=len(runs))
    return list(grid.flat)


@plt.rc_context(STYLE)
def reward_fit(
    history: Table, *, options: int = 4, held_out: float | None = None, ceiling: float | None = None
) -> list[Axes]:
    """Draw the loss with chance (ln K) and the accuracy with chance (1/K), smoothed.

    `held_out` and `ceiling` add two lines to the accuracy.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), sharex=True)
    steps, nats = steps_of(history), math.log(options)
    panels = (
        (left, "loss", "nats per choice", nats, f"chance: ln {options} = {nats:.2f}"),
        (right, "accuracy", "share of choices predicted", 1 / options, f"chance: 1/{options}"),
    )
    for ax, column, unit, chance, words in panels:
        _noisy(ax, steps, column_of(history, column))
        ax.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, label=words)
        ax.set(xlabel="step", ylabel=unit, title=f"{column.capitalize()} on the training choices")
    lines = (
        (held_out, "held-out choices", RED, "--"),
        (ceiling, "ceiling: how well any model can do", GREEN, "-."),
    )
    for value, words, colour, dashes in lines:
        if value is not None:
            label = f"{words} ({value:.2f})"
            right.axhline(value, color=colour, linestyle=dashes, linewidth=1.6, label=label)
    right.set_ylim(0, 1)
    left.legend(fontsize=8.5, loc="lower left")
    right.legend(fontsize=8.5, loc="upper left")
    return [left, right]


def strip(title: str, panels: Sequence[tuple[str, str, Sequence[float]]]) -> Figure:
    """Draw small curves side by side, (title, unit, values by step) each, without pyplot."""
    with plt.rc_context(STYLE | {"font.size": 8, "axes.titlesize": 10}):
        figure = Figure(figsize=(2.9 * max(len(panels), 2), 2.3))
        for i, (name, unit, values) in enumerate(panels):
            ax = figure.add_subplot(1, len(panels), i + 1)
            _noisy(ax, np.arange(len(values)), np.asarray(values, float))
            ax.set(title=name, xlabel="step", ylabel=unit)
        figure.suptitle(title, fontsize=9, x=0.01, ha="left", color=GREY)
    return figure


def _noisy(ax: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw a noisy curve: pale as measured, strong its running mean."""
    ax.plot(steps, values, color=SKY, linewidth=0.8, alpha=0.55, label="each batch")
    ax.plot(steps, smooth(values), color=BLUE, linewidth=2.2, label="running mean")


def smooth(values: Sequence[float], window: int | None = None) -> np.ndarray:
    """Average over the steps around each, a tenth of the run; fewer of them at the ends."""
    values = np.asarray(values, float)
    half = (window or max(3, len(values) // 10)) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = (np.clip(at + shift, 0, len(values)) for shift in (-half, half + 1))
    return (total[high] - total[low]) / (high - low)
