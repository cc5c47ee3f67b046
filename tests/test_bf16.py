"""Which precision is chosen, by speeds that are given here instead of measured."""

import warnings

import pytest
import torch

from rlhf_helpers import models
from rlhf_helpers.runtime import bf16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def measured(monkeypatch):
    """Let a product in bfloat16 take so many times as long as one in float32, which takes 1 s."""

    def let(times):
        took = {torch.float32: 1.0, torch.bfloat16: times}
        monkeypatch.setattr(bf16, "seconds", lambda kind, dtype: took[dtype])
        bf16.speedup.cache_clear()

    yield let
    bf16.speedup.cache_clear()


@pytest.mark.parametrize(
    "times, chosen", [(50, "fp32"), (0.8, "fp32"), (0.76, "bf16"), (0.1, "bf16")]
)
def test_auto_takes_bf16_only_where_it_is_clearly_faster(measured, times, chosen):
    """On a processor without its instructions bfloat16 was fifty times slower."""
    measured(times)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody asked for it
        assert bf16.choose("auto", CPU) == bf16.choose("auto", GPU) == chosen


def test_bf16_is_warned_of_where_it_is_slower_and_taken_all_the_same(measured):
    measured(50)
    with pytest.warns(
        UserWarning, match="bfloat16 is 50.0 times slower than float32 .*'s cpu: use"
    ):
        assert bf16.choose("bf16", CPU) == "bf16"
    measured(0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bf16.choose("bf16", CPU) == "bf16"


def test_fp32_measures_nothing_and_a_device_is_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(bf16, "seconds", lambda kind, dtype: asked.append((kind, dtype)) or 1.0)
    bf16.speedup.cache_clear()
    assert bf16.choose("fp32", CPU) == "fp32" and bf16.choose("fp16", CPU) == "fp16" and not asked
    for _ in range(3):
        bf16.choose("auto", CPU)
    assert asked == [("cpu", torch.float32), ("cpu", torch.bfloat16)]
    bf16.speedup.cache_clear()


def test_the_measurement_itself_runs_in_both_precisions():
    assert all(0 < bf16.seconds("cpu", dtype) < 60 for dtype in (torch.float32, torch.bfloat16))


def test_models_are_loaded_in_the_precision_chosen_and_in_fp32_by_default(measured, tmp_path):
    measured(50)
    models.tiny_policy().save(tmp_path / "policy")
    assert models.Policy.load(tmp_path / "policy").precision == "fp32"
    assert models.Policy.load(tmp_path / "policy", "auto").precision == "fp32"
    models.RewardModel.from_policy(models.tiny_policy()).save(tmp_path / "reward")
    measured(0.5)
    assert models.Policy.load(tmp_path / "policy", "auto").precision == "bf16"
    assert models.RewardModel.load(tmp_path / "reward", "auto").precision == "bf16"
    assert models.Policy.load(tmp_path / "policy").precision == "fp32"
    with pytest.raises(ValueError, match="precision is 'fp16'"):
        models.Policy.load(tmp_path / "policy", "fp16")
