"""The figures of what labels buy draw the numbers they were given, and mark where curves cross."""

import matplotlib

matplotlib.use("Agg")

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from rlhf_helpers import presets
from rlhf_helpers.course import plots


@pytest.fixture(autouse=True)
def draw_and_close():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def line(ax, label):
    (found,) = [c for c in [*ax.containers, *ax.get_lines()] if c.get_label() == label]
    return found.lines[0] if hasattr(found, "lines") else found


ROWS = [
    {"series": name, "labels": n, "share": share}
    for name, points in {
        "few": {10: 0.5, 1_000: 0.7, 10_000: 0.8}, "many": {10: 0.1, 100: 0.4, 10_000: 1.0}
    }.items()
    for n, share in points.items()
]  # fmt: skip


def test_curves_are_means_over_seeds_in_order_with_a_bar_from_lowest_to_highest():
    rows = [*ROWS[::-1], {"series": "few", "labels": 10, "share": 0.7}]
    ax = plots.label_curves(pd.DataFrame(rows))
    assert line(ax, "few").get_xdata().tolist() == [10, 1_000, 10_000]
    assert line(ax, "few").get_ydata() == pytest.approx([0.6, 0.7, 0.8])
    (container,) = [c for c in ax.containers if c.get_label() == "few"]
    ends = container.lines[2][0].get_segments()[0][:, 1]
    assert sorted(ends) == pytest.approx([0.5, 0.7])
    assert ax.get_xscale() == "log" and ax.get_xlabel() and "base model" in ax.get_ylabel()


def test_a_single_row_keeps_its_interval_and_what_was_not_measured_is_left_out():
    rows = [
        {"series": "one", "labels": 50, "share": 0.6, "low": 0.4, "high": 0.7},
        {"series": "one", "labels": 70, "share": math.nan},
    ]
    (container,) = plots.label_curves(rows).containers
    ends = container.lines[2][0].get_segments()[0][:, 1]
    assert sorted(ends) == pytest.approx([0.4, 0.7]) and len(container.lines[0].get_xdata()) == 1


def test_series_differ_in_more_than_colour():
    lines = [c.lines[0] for c in plots.label_curves(ROWS).containers]
    assert len({x.get_marker() for x in lines}) == len({x.get_linestyle() for x in lines}) == 2


def test_the_crossing_is_marked_where_it_is_and_nowhere_if_there_is_none():
    """By hand: both are at 0.7 at 1,000 labels (test_efficiency)."""
    ax = plots.label_curves(ROWS, cross=("few", "many"))
    at = [x for x in ax.get_lines() if list(x.get_ydata()) == [0, 1]]
    assert at[0].get_xdata() == pytest.approx([1_000, 1_000])
    assert [t.get_text() for t in ax.texts] == ["they cross at 1,000"]
    assert not plots.label_curves(ROWS, cross=("many", "few")).texts


def test_the_paper_stands_beside_hollow_and_ones_own_labels_are_a_point():
    paper = {name: {n: x / 100 for n, x in numbers.items()}
             for name, numbers in presets.WINS_BY_LABELS.items()}  # fmt: skip
    ax = plots.label_curves(ROWS, paper=paper, own=("you", 60, 0.55, 0.4, 0.7), lines={"top": 0.9})
    theirs = line(ax, "paper: sentiment")
    assert theirs.get_ydata()[0] == pytest.approx(0.519)
    assert theirs.get_markerfacecolor() == "white"
    assert line(ax, "you").get_xdata().tolist() == [60]
    assert set(line(ax, "top").get_ydata()) == {0.9}
    ticks = [t.get_text() for t in ax.get_xticklabels()]
    assert "10" in ticks and "20,000" in ticks


def test_the_papers_numbers_are_those_of_its_text():
    """Those that chapter 03 names, 51.9 % from 200 and 84.4 from 1,000; descriptiveness does not
    rise evenly."""
    wins = presets.WINS_BY_LABELS
    assert (wins["sentiment"][200], wins["sentiment"][1_000]) == (51.9, 84.4)
    vivid = wins["descriptiveness"]
    assert vivid[200] > vivid[500] > vivid[2_500] and vivid[20_000] == 84.6


def test_what_is_still_to_be_told_lies_between_what_is_foreseen_and_what_there_is():
    ax = plots.bits_still_told([25, 100, 400], [0.0, 0.1, 0.2], 0.5)
    assert line(ax, "foreseen").get_ydata().tolist() == [0.0, 0.1, 0.2]
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == 0.5 and corners[:, 1].min() == 0.0
    assert set(line(ax, "in a label: 0.50").get_ydata()) == {0.5}


def test_an_empty_table_is_refused_in_words():
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.label_curves([])
