"""The checks of notebook 00: right answers pass, slips are named, nothing raises."""

import dataclasses

import pytest

from rlhf_helpers.course import checks, profile
from rlhf_helpers.ppo import PPOConfig

GOOD = {"guessing": 0.25, "base_score": 0.0, "first_kl": 0, "win_rate": 0.7}


def test_right_predictions_pass(capsys):
    assert checks.nb00_predictions(GOOD)
    assert capsys.readouterr().out.count("Right") == 4


@pytest.mark.parametrize(
    "unsolved",
    [dict.fromkeys(GOOD, ...), dict.fromkeys(GOOD), {}, ..., None, 3, {"guessing": 0.25}],
)
def test_unsolved_predictions_say_so(unsolved, capsys):
    assert checks.nb00_predictions(unsolved) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("guessing", 0.5, "pairs"),
        ("guessing", 25, "not a percentage"),
        ("guessing", 0.3, "how many options"),
        ("base_score", -1, "ONE unfinished"),
        ("base_score", 1, "STANDARD DEVIATION"),
        ("base_score", 5, "normalising moved"),
        ("first_kl", 6, "target"),
        ("first_kl", PPOConfig().kl_target, "target"),
        ("first_kl", 1, "IS the reference"),
        ("win_rate", 70, "not a percentage"),
        ("win_rate", "many", "write a number"),
        ("win_rate", float("nan"), "write a number"),
    ],
)
def test_slips_in_predictions_are_named(name, value, named, capsys):
    assert checks.nb00_predictions(GOOD | {name: value}) is False
    text = capsys.readouterr().out
    assert named in text and text.count("Right") == 3


def test_a_pessimist_may_predict_a_loss(capsys):
    assert checks.nb00_predictions(GOOD | {"win_rate": 0.4})
    assert "do harm" in capsys.readouterr().out


@pytest.mark.parametrize("unsolved", [..., None])
def test_unsolved_knob_says_so(unsolved, capsys):
    assert checks.nb00_one_knob(PPOConfig(), unsolved) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [{"kl_coef": 0.0}, {"kl_coef": 0}])
def test_the_right_knob_passes(answer):
    assert checks.nb00_one_knob(PPOConfig(), dataclasses.replace(PPOConfig(), **answer))


@pytest.mark.parametrize("target", [50.0, None])
def test_a_second_knob_is_not_nothing_else(target, capsys):
    """`kl_target` was let through, and the verdict then said "kl_coef = 0 and nothing else"."""
    assert (
        checks.nb00_one_knob(
            PPOConfig(), dataclasses.replace(PPOConfig(), kl_coef=0.0, kl_target=target)
        )
        is False
    )
    assert "also changed kl_target" in capsys.readouterr().out


@pytest.mark.parametrize("weight", [float("nan"), None, "0"])
def test_a_weight_that_is_no_number_is_refused(weight, capsys):
    """Not a number is neither below nor above anything: it passed for 0."""
    changed = PPOConfig()
    object.__setattr__(changed, "kl_coef", weight)  # however little the config itself lets through
    assert checks.nb00_one_knob(PPOConfig(), changed) is False
    assert "is not a number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "nothing has changed"),
        ({"kl_target": None}, "only changes the steering"),
        ({"kl_coef": 0.0, "lr": 1e-5}, "also changed lr"),
        ({"kl_coef": -0.15}, "sign"),
        ({"kl_coef": 1.5}, "wrong direction"),
        ({"kl_coef": 0.01}, "weaker"),
    ],
)
def test_slips_with_the_knob_are_named(changes, named, capsys):
    assert checks.nb00_one_knob(PPOConfig(), dataclasses.replace(PPOConfig(), **changes)) is False
    assert named in capsys.readouterr().out


def test_something_else_than_a_config_is_refused(capsys):
    assert checks.nb00_one_knob(PPOConfig(), 0.0) is False
    assert "PPOConfig" in capsys.readouterr().out


def test_the_machine_is_described_without_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "mine"))
    monkeypatch.setattr(profile, "RECORDED", tmp_path / "nothing")
    table = checks.nb00_machine()
    assert list(table.columns) == ["needed", "found", "verdict"] and len(table) == 5
    text = table.to_string()
    assert (
        str(tmp_path) not in text
        and "RLHF_RUNS" in text
        and "missing: sentiment_comparisons.parquet" in text
    )
    assert list((tmp_path / "mine").iterdir()) == []  # the probe is gone


def test_a_folder_that_cannot_be_written_gets_advice(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "file" / "runs"))
    assert checks.nb00_machine()["verdict"].str.contains("set RLHF_RUNS").any()
