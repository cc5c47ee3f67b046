"""The planted faults of `make mutants` still fit the code: each text to replace is there once, and the copy with the fault compiles."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
mutants = importlib.util.module_from_spec(spec)
sys.modules["mutants"] = mutants  # dataclasses look their module up
spec.loader.exec_module(mutants)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: f"{m.module}: {m.fault}")
def test_a_fault_can_be_planted(mutant):
    source = (ROOT / "rlhf_helpers" / f"{mutant.module}.py").read_text(encoding="utf-8")
    planted = mutants.plant(mutant, source)
    assert planted != source
    compile(planted, mutant.module, "exec")


def test_a_fault_whose_text_is_gone_is_reported():
    with pytest.raises(ValueError, match="0 times"):
        mutants.plant(mutants.Mutant("nothing", "tensors", "no such text", ""), "x = 1\n")
