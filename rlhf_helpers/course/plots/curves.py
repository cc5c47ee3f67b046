"""Figures of training: the eight curves of PPO, the fit of the reward model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

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
    step_name,
    steps_of,
)

CURVES = (  # the column of the metrics, the title, the unit, where a guide line stands
    ("score", "Score", "reward model's units", 0.0),
    ("kl_nats_per_response", "KL from the reference", "nats per response", None),
    ("beta", "KL coefficient (beta)", "reward per nat", None),
    ("entropy_nats_per_response", "Entropy", "nats per response", None),
    ("policy_loss", "Policy loss", "advantage units", 0.0),
    ("value_loss", "Value loss", "reward, squared", None),
    ("clip_fraction", "Clip fraction", "share of tokens", None),
    ("value_explained_variance", "Explained variance", "of the value; 1 is perfect", 0.0),
)


@plt.rc_context(STYLE)
def training_curves(
    metrics: Table | Mapping[str, Table], *, kl_target: float | None = None
) -> list[Axes]:
    """Draw the eight curves by which PPO is judged, one line per run: give `ppo.tune`'s metrics, or
    {name: metrics} to compare runs."""
    runs = dict(metrics) if isinstance(metrics, Mapping) else {"": metrics}
    figure, grid = plt.subplots(2, 4, figsize=(12, 5.0), sharex=True)
    for ax, (column, title, unit, guide) in zip(grid.flat, CURVES, strict=True):
        if column == "kl_nats_per_response" and kl_target is not None:
            guide = kl_target
            ax.annotate(
                "target",
                (0.01, kl_target),
                xycoords=("axes fraction", "data"),
                va="bottom",
                fontsize=8.5,
                color=GREY,
            )
        if guide is not None:
            ax.axhline(guide, color=GREY, linewidth=1, linestyle=":", zorder=1)
        for i, (name, table) in enumerate(runs.items()):
            ax.plot(
                steps_of(table),
                column_of(table, column),
                color=COLOURS[i % 6],
                linestyle=DASHES[i % 6],
                label=name,
            )
        ax.set(title=title, ylabel=unit)
    for ax in grid[1]:
        ax.set_xlabel(step_name(next(iter(runs.values()))))
    if len(runs) > 1:
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(runs)
        )
    return list(grid.flat)


@plt.rc_context(STYLE)
def reward_fit(
    history: Table, *, options: int = 4, held_out: float | None = None, ceiling: float | None = None
) -> list[Axes]:
    """Draw the loss with chance (ln K) and the smoothed accuracy with chance (1/K); `held_out` and
    `ceiling` add two lines."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), sharex=True)
    steps = steps_of(history)
    panels = (
        (
            left,
            "loss",
            "nats per choice",
            math.log(options),
            f"chance: ln {options} = {math.log(options):.2f}",
        ),
        (right, "accuracy", "share of choices predicted", 1 / options, f"chance: 1/{options}"),
    )
    for ax, column, unit, chance, words in panels:
        values = column_of(history, column)
        ax.plot(steps, values, color=SKY, linewidth=0.8, alpha=0.55, label="each batch")
        ax.plot(steps, smooth(values), color=BLUE, linewidth=2.2, label="running mean")
        ax.axhline(chance, color=GREY, linestyle=":", linewidth=1.4, label=words)
        ax.set(xlabel="step", ylabel=unit, title=f"{column.capitalize()} on the training choices")
    for value, words, style in (
        (held_out, "held-out choices", "--"),
        (ceiling, "ceiling: how well any model can do", "-."),
    ):
        if value is not None:
            right.axhline(
                value,
                color=RED if style == "--" else GREEN,
                linestyle=style,
                linewidth=1.6,
                label=f"{words} ({value:.2f})",
            )
    right.set_ylim(0, 1)
    left.legend(fontsize=8.5, loc="lower left")
    right.legend(fontsize=8.5, loc="upper left")
    return [left, right]


def smooth(values: Sequence[float], window: int | None = None) -> np.ndarray:
    """Take the mean over the steps around each (a tenth of the run unless given); shorter windows
    at the ends."""
    values = np.asarray(values, float)
    half = (window or max(3, len(values) // 10)) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = (
        np.clip(np.arange(len(values)) + shift, 0, len(values)) for shift in (-half, half + 1)
    )
    return (total[high] - total[low]) / (high - low)
