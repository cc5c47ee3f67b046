"""One function per figure. Each takes plain tables (lists of dicts, or pandas) and returns
matplotlib Axes.

Colours are those of Okabe and Ito, told apart by readers with every kind of colour vision; nothing
is told by colour alone: lines differ in style, bars in hatching, points in shape. In a notebook end
the cell with `;` to show the figure and not the name of its axes.
"""

from rlhf_helpers.course.plots.counts import bits_still_told, label_curves
from rlhf_helpers.course.plots.curves import CURVES, reward_fit, smooth, training_curves
from rlhf_helpers.course.plots.labelers import (
    labeler_consistency,
    labeler_pace,
    labeler_positions,
    running_hits,
)
from rlhf_helpers.course.plots.memory import memory_bars
from rlhf_helpers.course.plots.results import (
    calibration,
    label_positions,
    learning_curves,
    reward_against_kl,
    score_histogram,
    win_rates,
)
from rlhf_helpers.course.plots.room import preferred, taste_map
from rlhf_helpers.course.plots.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SKY,
    STYLE,
    YELLOW,
)
from rlhf_helpers.course.plots.tokens import STAGES, pipeline, token_strip

__all__ = [
    "pipeline", "token_strip", "memory_bars", "training_curves", "reward_fit", "smooth",
    "calibration", "reward_against_kl", "learning_curves", "win_rates", "score_histogram",
    "label_positions", "STAGES", "CURVES", "STYLE", "COLOURS", "labeler_pace", "labeler_positions",
    "labeler_consistency", "running_hits", "BLUE", "ORANGE", "GREEN", "PURPLE", "SKY", "RED",
    "YELLOW", "BLACK", "GREY", "PALE", "preferred", "taste_map",
    "label_curves", "bits_still_told",
]  # fmt: skip
