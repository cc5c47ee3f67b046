"""Checks of notebook 00: is this machine ready, and the two exercises. Each prints a verdict and
never raises."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rlhf_helpers import models
from rlhf_helpers.course import profile
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.runtime import runs

_NB00_UNSOLVED = "Not solved yet: replace the ... and run the cell again."


def nb00_machine() -> pd.DataFrame:
    """Look at what this course needs, and say of each thing whether it is there and what to do if
    not."""
    rows = [
        _nb00_device(),
        _nb00_write_access(),
        _nb00_widgets(),
        _nb00_base_model(),
        _nb00_recorded(),
    ]
    return pd.DataFrame(rows, columns=["needed", "found", "verdict"])


def _nb00_device() -> tuple[str, str, str]:
    device = runs.default_device()
    found = "a GPU" if device.type == "cuda" else "the processor (no GPU is needed)"
    return "somewhere to compute", found, "fine"


def _nb00_write_access() -> tuple[str, str, str]:
    folder, named = profile.folder(), "the folder runs/ of the project"
    if folder != runs.ROOT / "runs":
        named = "the folder named in RLHF_RUNS"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test"
        probe.write_text("fine", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        advice = f"cannot write there ({error.strerror}): set RLHF_RUNS to a folder of yours before you start JupyterLab"
        return "a place for your labels", named, advice
    return "a place for your labels", named, "fine"


def _nb00_widgets() -> tuple[str, str, str]:
    try:
        import ipywidgets
    except ImportError:
        return (
            "buttons and sliders",
            "ipywidgets is missing",
            "start JupyterLab with `make lab`, which installs it",
        )
    return (
        "buttons and sliders",
        f"ipywidgets {ipywidgets.__version__.split('.')[0]}",
        "fine: try the slider below",
    )


def _nb00_base_model() -> tuple[str, str, str]:
    there = (models.BASE / "model.safetensors").exists()
    return (
        "the base model",
        "data/base" if there else "nothing in data/base",
        "fine" if there else "clone the repository again",
    )


def _nb00_recorded() -> tuple[str, str, str]:
    names = (
        "sentiment_comparisons.parquet",
        "reward_sentiment",
        "policy_sentiment",
        "ppo_sentiment.jsonl",
    )
    missing = [name for name in names if not (profile.RECORDED / name).exists()]
    found = f"missing: {', '.join(missing)}" if missing else "data/recorded"
    return "recorded labels and models", found, "clone the repository again" if missing else "fine"


def nb00_predictions(prediction: Mapping[str, Any]) -> bool:
    """Check the three predictions that can be known beforehand; the fourth, the win rate, is only
    written down."""
    given = prediction if isinstance(prediction, Mapping) else {}
    values = {
        name: given.get(name, ...) for name in ("guessing", "base_score", "first_kl", "win_rate")
    }
    unsolved = [name for name, value in values.items() if value is ... or value is None]
    if unsolved:
        print(_NB00_UNSOLVED if len(unsolved) == 4 else f"Not solved yet: {', '.join(unsolved)}.")
        return False
    verdicts = []
    for name, judge in (
        ("guessing", _nb00_guessing),
        ("base_score", _nb00_base),
        ("first_kl", _nb00_kl),
        ("win_rate", _nb00_win),
    ):
        try:
            number = float(values[name])
        except (TypeError, ValueError):
            number = math.nan
        ok, text = judge(number) if math.isfinite(number) else (False, "expected a number.")
        verdicts.append(ok)
        print(f"{name:<11}{'Right: ' if ok else 'Not yet: '}{text}")
    return all(verdicts)


def _nb00_guessing(x: float) -> tuple[bool, str]:
    if math.isclose(x, 0.25):
        return True, "one of four options."
    if math.isclose(x, 0.5):
        return False, "a half would be right for pairs; here the labeler chooses one of FOUR."
    return (
        False,
        "give a share between 0 and 1, not per cent."
        if x > 1
        else "the labeler chooses one of how many options?",
    )


def _nb00_base(x: float) -> tuple[bool, str]:
    if abs(x) <= 0.3:
        return (
            True,
            "the reward model was normalised on the base model's answers: mean 0 (unfinished "
            "answers pull it down a little).",
        )
    if math.isclose(x, -1):
        return False, "-1 is what ONE unfinished answer scores; most answers finish."
    if math.isclose(x, 1):
        return False, "normalising sets the STANDARD DEVIATION to 1; and the mean?"
    return (
        False,
        "think of what `normalize` did: it moved the base model's mean score to a certain number.",
    )


def _nb00_kl(x: float) -> tuple[bool, str]:
    if x == 0:
        return True, "before the first update policy and reference are the same model."
    if x in (6, PPOConfig().kl_target):
        return (
            False,
            f"{x:g} nats is a target to steer to (ours or the paper's); training does not start "
            "there.",
        )
    return (
        False,
        "before the first update the policy IS the reference. How far is a model from itself?",
    )


def _nb00_win(x: float) -> tuple[bool, str]:
    if not 0 <= x <= 1:
        return False, "give a share between 0 and 1, not per cent."
    if x < 0.5:
        return True, "written down. Below a half means: you expect tuning to do harm."
    return True, "written down; 0.5 would mean no difference. You will meet this number again."


def nb00_one_knob(config: PPOConfig, changed: Any) -> bool:
    """Check that `changed` is `config` without the KL penalty and otherwise the same."""
    if changed is None or changed is ...:
        print(_NB00_UNSOLVED)
        return False
    ok, text = _nb00_knob_verdict(config, changed)
    print(("Right: " if ok else "Not yet: ") + text)
    return ok


def _nb00_knob_verdict(config: PPOConfig, changed: Any) -> tuple[bool, str]:
    if not isinstance(changed, PPOConfig):
        return (
            False,
            f"expected a PPOConfig, got a {type(changed).__name__}: use "
            "dataclasses.replace(config, ...).",
        )
    before, after = dataclasses.asdict(config), dataclasses.asdict(changed)
    different = [name for name in before if before[name] != after[name]]
    if not different:
        return False, "nothing has changed. Which knob is the weight of the KL penalty?"
    if different == ["kl_target"]:
        return (
            False,
            f"kl_target = {changed.kl_target} only changes the steering: beta still starts at "
            f"{config.kl_coef}.",
        )
    others = [name for name in different if name != "kl_coef"]
    if others:
        return (
            False,
            f"you also changed {', '.join(others)}: with two things changed you cannot tell which "
            "one did it.",
        )
    if not isinstance(changed.kl_coef, int | float) or math.isnan(changed.kl_coef):
        return False, f"kl_coef = {changed.kl_coef!r} is no number; without a penalty it is 0."
    if changed.kl_coef < 0:
        return (
            False,
            "the sign: a negative weight would REWARD the policy for leaving the base model.",
        )
    if changed.kl_coef > config.kl_coef:
        return False, "wrong direction: this penalises the distance from the base model more."
    if changed.kl_coef > 0:
        return (
            False,
            f"kl_coef = {changed.kl_coef} is weaker, but still a penalty; without one it is 0.",
        )
    return True, "kl_coef = 0 and nothing else: the controller multiplies beta, and 0 stays 0."
