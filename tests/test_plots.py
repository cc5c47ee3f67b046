"""Every figure draws the numbers it was given, with labelled axes, and tells nothing by colour
alone."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle

from rlhf_helpers.course import live, plots
from rlhf_helpers.evaluation import wilson

METRICS = [
    {"step": i, "episodes": 64 * (i + 1)}
    | {name: i / 10 + k for k, (name, *_) in enumerate(plots.CURVES)}
    for i in range(20)
]
HISTORY = [{"step": i, "loss": 1.4 - i / 50, "accuracy": 0.25 + i / 100} for i in range(40)]


@pytest.fixture(autouse=True)
def draw_and_close():
    """Draw every figure a test has made, warnings being errors, then close it."""
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def lines_with(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


def bars(ax):
    """Return the drawn error bars of a figure as (low, high) pairs along their direction."""
    segments = [
        s
        for c in ax.containers
        if hasattr(c, "lines")
        for b in c.lines[2]
        for s in b.get_segments()
    ]
    return [tuple(np.ptp(s, axis=0) @ [[1], [1]]) for s in segments], segments


# ---- where we are --------------------------------------------------------------------------------


EVERY = {name for name, *_ in plots.STAGES}


@pytest.mark.parametrize(
    "highlight, filled", [("ppo", {"ppo"}), ("reward+judge", {"reward", "judge"}), ("all", EVERY)]
)
def test_the_pipeline_fills_the_current_stages_and_marks_them_in_words(highlight, filled):
    ax = plots.pipeline(highlight)
    boxes = {
        p.get_gid(): to_hex(p.get_facecolor()).upper()
        for p in ax.patches
        if isinstance(p, FancyBboxPatch)
    }
    assert {name for name, colour in boxes.items() if colour == plots.BLUE} == filled and len(
        boxes
    ) == 5
    assert sum("you are here" in t.get_text() for t in ax.texts) == (
        0 if highlight == "all" else len(filled)
    )


def test_the_pipeline_is_the_same_picture_every_time_and_names_a_wrong_stage():
    boxes = [
        [p for p in plots.pipeline(name).patches if isinstance(p, FancyBboxPatch)]
        for name in ("sample", "judge")
    ]
    shapes = [
        [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in each] for each in boxes
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(ValueError, match="no stage 'rewrd'; there are sample, label"):
        plots.pipeline("rewrd")


def test_a_mask_strip_draws_one_box_per_token_coloured_and_hatched_by_the_mask():
    tokens, mask = (
        ["<pad>", "A", " storm", "\n", "$5", "$6"],
        [False, True, True, False, True, True],
    )
    ax = plots.token_strip(tokens, mask)
    boxes = [p for p in ax.patches if isinstance(p, Rectangle)]
    assert [to_hex(b.get_facecolor()).upper() == plots.BLUE for b in boxes] == mask
    assert [not b.get_hatch() for b in boxes] == mask
    assert [t.get_text() for t in ax.texts] == ["<pad>", "A", "·storm", "↲", "$5", "$6"]


def test_a_value_strip_writes_the_values_and_hatches_the_negative_ones():
    ax = plots.token_strip([" a", " b", " c"], np.array([0.5, -1.25, 0.0]))
    assert [t.get_text() for t in ax.texts] == ["·a", "+0.50", "·b", "-1.25", "·c", "+0.00"]
    assert [bool(p.get_hatch()) for p in ax.patches] == [False, True, False]


def test_a_long_strip_wraps_and_a_batch_keeps_its_columns():
    wrapped = plots.token_strip([" harbour"] * 30, [True] * 30, width=50)
    assert (
        len({p.get_y() for p in wrapped.patches}) == 6
        and max(p.get_x() + p.get_width() for p in wrapped.patches) < 55
    )
    batch = plots.token_strip(
        [["<pad>", "x"], ["y", "longer"]],
        np.array([[False, True], [True, True]]),
        titles=["row 0", "row 1"],
    )
    x = [p.get_x() for p in batch.patches]
    assert x[:2] == x[2:] and [t.get_text() for t in batch.texts][-2:] == ["row 0", "row 1"]


def test_a_strip_says_when_tokens_and_values_do_not_match():
    with pytest.raises(ValueError, match=r"lengths \[2\], their values \[3\]"):
        plots.token_strip(["a", "b"], [True, False, True])


# ---- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [METRICS, pd.DataFrame(METRICS)], ids=["list", "pandas"])
def test_nine_training_curves_show_the_metrics(table):
    axes = plots.training_curves(table, kl_target=6.0)
    assert len(axes) == 9
    for ax, (column, title, unit, _) in zip(axes, plots.CURVES, strict=True):
        line = ax.get_lines()[-1]
        assert line.get_xdata().tolist() == [row["episodes"] for row in METRICS]
        assert line.get_ydata().tolist() == [row[column] for row in METRICS]
        assert ax.get_title(loc="left") == title and ax.get_ylabel() == unit
    assert [ax.get_xlabel() for ax in axes[6:]] == ["episodes"] * 3
    assert any(line.get_ydata()[0] == 6.0 for line in axes[1].get_lines())


def test_thousands_of_episodes_are_written_short():
    """10000 and 12000 ran into each other below the nine curves."""
    longer = [row | {"episodes": 10 * row["episodes"]} for row in METRICS]
    axes = plots.training_curves(longer)
    axes[0].figure.canvas.draw()
    for ax in axes[6:]:
        labels = [label.get_text() for label in ax.get_xticklabels()]
        assert any(label.endswith("k") for label in labels)
        assert not any("000" in label for label in labels)


def test_runs_are_compared_with_other_line_styles_and_a_legend():
    axes = plots.training_curves({"with KL": METRICS, "no KL": METRICS[:9]})
    styles = [lines_with(axes[0], name)[0].get_linestyle() for name in ("with KL", "no KL")]
    assert len(set(styles)) == 2 and len(lines_with(axes[0], "no KL")[0].get_xdata()) == 9
    assert [t.get_text() for t in axes[0].figure.legends[0].get_texts()] == ["with KL", "no KL"]


def test_a_run_from_before_variety_was_measured_is_drawn_without_it():
    old = [{k: v for k, v in row.items() if k != "distinct_bigrams"} for row in METRICS]
    axes = plots.training_curves({"old": old, "new": METRICS})
    named = {ax.get_title(loc="left"): ax for ax in axes}
    assert not lines_with(named["Variety"], "old") and lines_with(named["Variety"], "new")
    assert lines_with(named["Entropy"], "old")


def test_the_live_view_shows_the_variety_that_the_figure_shows():
    figure = {column: (title, unit) for column, title, unit, _ in plots.CURVES}
    shown = {column: (title, unit) for column, title, unit in live.PANELS}
    assert figure["distinct_bigrams"] == shown["distinct_bigrams"]


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column 'kl_nats_per_response'; it has step, score"):
        plots.training_curves([{"step": 0, "score": 1.0}])
    with pytest.raises(ValueError, match="the table is empty"):
        plots.training_curves([])


def test_the_reward_fit_shows_loss_accuracy_chance_and_the_held_out_lines():
    left, right = plots.reward_fit(HISTORY, options=4, held_out=0.52, ceiling=0.6)
    for ax, column, chance in ((left, "loss", math.log(4)), (right, "accuracy", 0.25)):
        values = [row[column] for row in HISTORY]
        assert lines_with(ax, "each batch")[0].get_ydata().tolist() == values
        assert lines_with(ax, "running mean")[0].get_ydata() == pytest.approx(plots.smooth(values))
        assert any(set(line.get_ydata()) == {chance} for line in ax.get_lines())
        assert ax.get_xlabel() == "step" and ax.get_ylabel()
    assert (len(left.get_lines()), len(right.get_lines())) == (3, 5)


def test_smoothing_is_the_mean_of_the_steps_around_each():
    values = np.random.default_rng(0).normal(size=37)
    by_hand = [values[max(0, i - 2) : i + 3].mean() for i in range(37)]
    assert plots.smooth(values, 5) == pytest.approx(by_hand)
    assert plots.smooth([3.0]) == pytest.approx([3.0])


# ---- judgements ----------------------------------------------------------------------------------


def test_calibration_bins_hold_equally_many_and_show_mean_share_and_interval():
    generator = np.random.default_rng(1)
    p = generator.uniform(size=(50, 4))
    y = generator.uniform(size=(50, 4)) < p
    ax = plots.calibration(p, y, bins=5)
    order = np.argsort(p.ravel())
    points = lines_with(ax, "_nolegend_") or [ax.containers[0].lines[0]]
    for i in range(5):
        rows = order[40 * i : 40 * (i + 1)]
        assert points[0].get_xdata()[i] == pytest.approx(p.ravel()[rows].mean())
        assert points[0].get_ydata()[i] == pytest.approx(y.ravel()[rows].mean())
    found = wilson(float(y.ravel()[order[:40]].sum()), 40)
    _, segments = bars(ax)
    assert sorted(segments[0][:, 1]) == pytest.approx([found.low, found.high])
    assert (
        "probability" in ax.get_xlabel()
        and ax.get_ylabel()
        and "off by 0." in ax.get_title(loc="left")
    )
    with pytest.raises(ValueError, match="3 probabilities and 2 outcomes"):
        plots.calibration([0.1, 0.2, 0.3], [0, 1])


def test_reward_against_kl_draws_every_point_and_the_frontier():
    rows = [
        {"model": m, "kl_nats_per_response": k, "score": s}
        for m, k, s in (("a", 2.0, 1.0), ("b", 5.0, 0.5), ("c", 9.0, 2.0))
    ]
    ax = plots.reward_against_kl(pd.DataFrame(rows))
    points = ax.containers[0].lines[0]
    assert points.get_xdata().tolist() == [2, 5, 9] and points.get_ydata().tolist() == [1, 0.5, 2]
    assert lines_with(ax, "frontier")[0].get_xydata().tolist() == [[2, 1], [9, 2]]
    assert (
        [t.get_text() for t in ax.texts] == ["a", "b", "c"]
        and "nats" in ax.get_xlabel()
        and ax.get_ylabel()
    )


def test_series_of_points_differ_in_marker_and_line_and_are_sorted():
    rows = [
        {"series": s, "kl_nats": k, "score": k * f}
        for k in (4, 1, 9)
        for s, f in (("proxy", 1), ("gold", 0.5))
    ]
    lines = [c.lines[0] for c in plots.reward_against_kl(rows).containers]
    assert [line.get_xdata().tolist() for line in lines] == [[1, 4, 9]] * 2
    assert (
        len({line.get_marker() for line in lines})
        == len({line.get_linestyle() for line in lines})
        == 2
    )


def test_a_bound_is_a_black_line_in_the_place_of_the_frontier():
    rows = [{"series": "few labels", "kl_nats": k, "score": k / 4} for k in (1, 2)]
    ax = plots.reward_against_kl(
        rows,
        bound=[{"kl_nats": k, "score": k / 2} for k in (3, 0, 1)],
        unit="deviations of the base model",
    )
    line = lines_with(ax, "optimum, by reweighting")[0]
    assert (
        line.get_xydata().tolist() == [[0, 0], [1, 0.5], [3, 1.5]]
        and to_hex(line.get_color()) == plots.BLACK
    )
    assert (
        not lines_with(ax, "frontier") and ax.get_ylabel() == "score (deviations of the base model)"
    )


def test_learning_curves_are_smoothed_means_with_the_band_of_several_runs():
    curves = np.random.default_rng(2).normal(size=(3, 40))
    rows = [
        {"series": name, "curve": list(curve), "batch": 64}
        for name, curve in zip(("one", "two", "two"), curves, strict=True)
    ]
    ax = plots.learning_curves(rows)
    smoothed = [plots.smooth(curve) for curve in curves]
    one, two = (lines_with(ax, name)[0] for name in ("one", "two"))
    assert one.get_xdata().tolist() == [
        64 * (i + 1) for i in range(40)
    ] and one.get_ydata() == pytest.approx(smoothed[0])
    assert (
        two.get_ydata() == pytest.approx((smoothed[1] + smoothed[2]) / 2)
        and one.get_linestyle() != two.get_linestyle()
    )
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == pytest.approx(
        (np.min(smoothed[1:]), np.max(smoothed[1:]))
    )
    assert ax.get_xlabel() == "episodes" and ax.get_ylabel()


def test_win_rates_have_wilson_intervals_and_the_line_at_one_half():
    given = {"model": "PPO", "win_rate": 0.9, "low": 0.8, "high": 0.95}
    ax = plots.win_rates([{"model": "base", "wins": 30, "total": 64}, given])
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([30 / 64, 0.9])
    _, segments = bars(ax)
    low = [sorted(s[:, 0]) for s in segments]
    assert low[0] == pytest.approx([wilson(30, 64).low, wilson(30, 64).high]) and low[
        1
    ] == pytest.approx([0.8, 0.95])
    assert any(set(line.get_xdata()) == {0.5} for line in ax.get_lines())
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "base",
        "PPO",
    ] and "preferred to the base model" in ax.get_xlabel()


def test_histograms_share_their_bins_and_each_sums_to_one():
    before, after = np.random.default_rng(2).normal(size=(2, 300)) + [[0], [2]]
    ax = plots.score_histogram(before, after, names=("base", "tuned"))
    filled = [p.get_data() for p in ax.patches if p.get_fill()]
    assert len(filled) == 2 and filled[0].edges.tolist() == filled[1].edges.tolist()
    for data, values in zip(filled, (before, after), strict=True):
        assert data.values == pytest.approx(
            np.histogram(values, data.edges)[0] / 300
        ) and data.values.sum() == pytest.approx(1)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        f"base (mean {before.mean():+.2f})",
        f"tuned (mean {after.mean():+.2f})",
    ]
    assert (
        len({line.get_linestyle() for line in ax.get_lines()}) == 2
        and ax.get_xlabel()
        and ax.get_ylabel()
    )


def test_the_penalty_is_named_above_the_axes_and_below_the_title():
    """It was written across the title."""
    ax = plots.score_histogram([0.0, 1.0], [1.0, 2.0], penalty=-1.0)
    (words,) = [t for t in ax.texts if t.get_text() == "penalty: -1"]
    ax.figure.canvas.draw()
    box, axes = words.get_window_extent(), ax.get_window_extent()
    assert axes.y1 <= box.y0 and box.y1 <= ax._left_title.get_window_extent().y0


@pytest.mark.parametrize(
    "counts, names", [([10, 5, 3, 2], "1234"), ({"left": 12, "right": 8}, ("left", "right"))]
)
def test_position_bias_shows_shares_and_the_even_line(counts, names):
    ax = plots.label_positions(counts)
    numbers = list(counts.values() if isinstance(counts, dict) else counts)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([n / 20 for n in numbers])
    assert any(set(line.get_ydata()) == {1 / len(numbers)} for line in ax.get_lines())
    assert (
        [t.get_text() for t in ax.get_xticklabels()] == list(names)
        and "20 choices" in ax.get_ylabel()
        and ax.get_xlabel()
    )


def test_no_labels_yet_is_said():
    with pytest.raises(ValueError, match="no labels to count yet"):
        plots.label_positions([0, 0])


def test_figures_leave_the_reader_s_own_settings_alone_and_can_be_put_into_given_axes():
    before = dict(plt.rcParams)
    _, ax = plt.subplots()
    for draw in (
        lambda: plots.win_rates([{"model": "a", "wins": 1, "total": 2}], ax=ax),
        lambda: plots.label_positions([1, 2], ax=ax),
    ):
        assert draw() is ax
    assert dict(plt.rcParams) == before


def test_running_hits_draws_every_share_so_far_with_its_interval_and_the_ceiling():
    hits = [False, True, True, False]
    ax = plots.running_hits(hits, 4, ceiling=(0.4, 0.8))
    (line,) = lines_with(ax, "foreseen so far")
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert np.allclose(line.get_ydata(), [0, 1 / 2, 2 / 3, 1 / 2])
    (chance,) = lines_with(ax, "chance: 1/4")
    assert set(chance.get_ydata()) == {0.25}
    band = ax.collections[0].get_paths()[0].vertices
    last = band[band[:, 0] == 4][:, 1]
    assert np.allclose([last.min(), last.max()], [wilson(2, 4).low, wilson(2, 4).high])
    at = [line.get_ydata()[0] for line in ax.get_lines() if line.get_linestyle() == "-."]
    assert at == [0.4, 0.8] and len(lines_with(ax, "the ceiling lies between these")) == 1
