"""Checks of notebook 00: is this machine ready, four predictions, one knob."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rlhf_helpers import models
from rlhf_helpers.course import profile
from rlhf_helpers.course.checks.verdict import NotYet, check, given
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.runtime import runs


def nb00_machine() -> pd.DataFrame:
    """Look for what the course needs; say of each whether it is there, and what to do if not."""
    rows = [_device(), _write_access(), _widgets(), _base_model(), _recorded()]
    return pd.DataFrame(rows, columns=["needed", "found", "verdict"])


def _device() -> tuple[str, str, str]:
    gpu = runs.default_device().type == "cuda"
    return "a device to compute on", "a GPU" if gpu else "the CPU (no GPU is needed)", "fine"


def _write_access() -> tuple[str, str, str]:
    folder, found = profile.folder(), "the folder runs/ of the project"
    if folder != runs.ROOT / "runs":
        found = "the folder named in RLHF_RUNS"
    verdict = "fine"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test"
        probe.write_text("fine", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        advice = "set RLHF_RUNS to a folder of yours before you start JupyterLab"
        verdict = f"cannot write there ({error.strerror}): {advice}"
    return "a place for your labels", found, verdict


def _widgets() -> tuple[str, str, str]:
    needed = "buttons and sliders"
    try:
        import ipywidgets
    except ImportError:
        return needed, "ipywidgets is missing", "start JupyterLab with `make lab`: it installs it"
    version = ipywidgets.__version__.split(".")[0]
    return needed, f"ipywidgets {version}", "fine: try the slider below"


def _base_model() -> tuple[str, str, str]:
    there = (models.BASE / "model.safetensors").exists()
    found = "data/base" if there else "nothing in data/base"
    return "the base model", found, "fine" if there else "clone the repository again"


def _recorded() -> tuple[str, str, str]:
    names = ["sentiment_comparisons.parquet", "reward_sentiment", "policy_sentiment"]
    names.append("ppo_sentiment.jsonl")
    missing = [name for name in names if not (profile.RECORDED / name).exists()]
    found = f"missing: {', '.join(missing)}" if missing else "data/recorded"
    return "recorded labels and models", found, "clone the repository again" if missing else "fine"


def nb00_predictions(prediction: Mapping[str, Any]) -> bool:
    """Check the three predictions that can be known beforehand; a win rate is only written down."""
    judges = {"guessing": _guessing, "base_score": _base, "first_kl": _kl, "win_rate": _win}
    answers = prediction if isinstance(prediction, Mapping) else {}
    missing = [name for name in judges if answers.get(name) in (None, ...)]
    if missing:
        print(f"Not solved yet: write a number for {', '.join(missing)}.")
        return False
    right = [_verdict(name, judge, answers[name]) for name, judge in judges.items()]
    return all(right)


def _verdict(name: str, judge: Any, value: Any) -> bool:
    """Print what is to be said of one prediction, and return whether it is right."""
    try:
        x = float(value)
    except (TypeError, ValueError):
        x = math.nan
    right, text = judge(x) if math.isfinite(x) else (False, "write a number.")
    print(f"{name:<11}{'Right' if right else 'Not yet'}: {text}")
    return right


def _guessing(x: float) -> tuple[bool, str]:
    if math.isclose(x, 0.25):
        return True, "one of four options."
    if math.isclose(x, 0.5):
        return False, "a half would be right for pairs; here the labeler chooses one of FOUR."
    if x > 1:
        return False, "give a share between 0 and 1, not a percentage."
    return False, "the labeler chooses one of how many options?"


def _base(x: float) -> tuple[bool, str]:
    if abs(x) <= 0.3:
        return True, "normalising set the mean of the base model's whole responses to 0."
    if math.isclose(x, -1):
        return False, "-1 is what ONE unfinished answer scores; most answers finish."
    if math.isclose(x, 1):
        return False, "normalising sets the STANDARD DEVIATION to 1. And the mean?"
    return False, "normalising moved the base model's mean score to a certain number. Which?"


def _kl(x: float) -> tuple[bool, str]:
    if x == 0:
        return True, "before the first update, policy and reference are the same model."
    if x in (6, PPOConfig().kl_target):
        return False, f"{x:g} nats is a target to steer to; training does not start there."
    return False, "before the first update the policy IS the reference. How far is it from itself?"


def _win(x: float) -> tuple[bool, str]:
    if not 0 <= x <= 1:
        return False, "give a share between 0 and 1, not a percentage."
    if x < 0.5:
        return True, "noted. Below one half means that you expect tuning to do harm."
    return True, "noted; 0.5 would mean no difference. You will meet this number again."


@check
def nb00_one_knob(config: PPOConfig, changed: Any) -> str:
    """Check that `changed` is `config` without the KL penalty and otherwise the same."""
    if not isinstance(given(changed), PPOConfig):
        kind = type(changed).__name__
        raise NotYet(f"expected a PPOConfig, not a {kind}: use dataclasses.replace(config, ...).")
    before, after = dataclasses.asdict(config), dataclasses.asdict(changed)
    different = [name for name in before if before[name] != after[name]]
    others = [name for name in different if name != "kl_coef"]
    beta, start = changed.kl_coef, config.kl_coef
    if not different:
        raise NotYet("nothing has changed. Which knob is the weight of the KL penalty?")
    if different == ["kl_target"]:
        raise NotYet(f"kl_target only changes the steering: beta still starts at {start}.")
    if others:
        raise NotYet(f"you also changed {', '.join(others)}: then you cannot tell what did it.")
    if not isinstance(beta, int | float) or math.isnan(beta):
        raise NotYet(f"kl_coef = {beta!r} is not a number; without a penalty it is 0.")
    if beta < 0:
        raise NotYet("the sign: a negative weight would REWARD leaving the base model.")
    if beta > start:
        raise NotYet("wrong direction: this penalises the distance from the base model more.")
    if beta > 0:
        raise NotYet(f"kl_coef = {beta} is weaker, but still a penalty; without one it is 0.")
    return "kl_coef = 0 and nothing else: the controller multiplies beta, and 0 stays 0."
