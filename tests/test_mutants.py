"""The planted faults of `make mutants` still fit the code: each text to replace is there once, and
the copy with the fault compiles."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "scripts"))  # its forks look it up by name

import mutants  # noqa: E402


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: f"{m.module}: {m.fault}")
def test_a_fault_can_be_planted(mutant):
    source = (ROOT / "rlhf_helpers" / f"{mutant.module}.py").read_text(encoding="utf-8")
    planted = mutants.plant(mutant, source)
    assert planted != source
    compile(planted, mutant.module, "exec")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A package of one line, with a test that reads a page of the docs; returns a function that
    hunts there for one fault."""
    for name in ("rlhf_helpers", "tests", "data", "notebooks", "docs", "scripts", "benchmarks"):
        (tmp_path / name).mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'little'\n")
    (tmp_path / "rlhf_helpers" / "__init__.py").touch()
    (tmp_path / "rlhf_helpers" / "thing.py").write_text("x = 1\n")
    (tmp_path / "docs" / "page.md").write_text("x is 1")

    def hunt(test, *words):
        (tmp_path / "tests" / "test_thing.py").write_text(
            "import pathlib\nfrom rlhf_helpers import thing\n"
            f"def test_it():\n    page = pathlib.Path('docs/page.md').read_text()\n    {test}\n"
        )
        mutants.main(["--jobs", "1", *words])

    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "NOTICED", tmp_path / "noticed.json")
    monkeypatch.setattr(
        mutants, "MUTANTS", [mutants.Mutant("two for one", "thing", "x = 1", "x = 2")]
    )
    return hunt


def test_tests_that_fail_without_a_fault_are_not_taken_for_watchful(world, capsys):
    world("assert page == f'x is {thing.x}'")
    assert "1 of 1 faults noticed" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no test noticed: thing: two for one"):
        world("assert page")
    with pytest.raises(
        SystemExit, match="no fault planted these fail already: tests/test_thing.py::test_it"
    ):
        world("assert page == 'x is 3'")


def test_a_fork_that_dies_before_its_tests_has_noticed_nothing(world):
    """Its exit code is 1, as that of a test that fails; so pytest's own code stands in a file."""
    with pytest.raises(RuntimeError, match="neither passed nor failed"):
        world("import os; os._exit(1)")


def test_an_exit_code_that_another_thread_took_is_not_missed(world, monkeypatch, capsys):
    """Of two threads that wait for forks, one may read the other's exit code; the other gets 255
    (multiprocessing reaps all children whenever one starts), which once stopped the whole hunt."""
    monkeypatch.setattr(mutants.FORKS.Process, "exitcode", 255)
    world("assert thing.x == 1")
    assert "1 of 1 faults noticed" in capsys.readouterr().out


def test_the_test_that_noticed_a_fault_runs_first_and_the_others_where_it_does_not(
    world, tmp_path, capsys
):
    """With a record, a test that no longer notices, or is gone, hides nothing."""
    noticed = tmp_path / "noticed.json"
    world("assert thing.x == 1", "--record")
    assert noticed.read_text() == '{\n"thing: two for one": "tests/test_thing.py::test_it"\n}\n'
    world("assert thing.x == 1")  # by that test alone
    with pytest.raises(SystemExit, match="no test noticed: thing: two for one"):
        world("assert page")
    more = "pass\ndef test_more():\n    assert thing.x == 1"
    world(more, "--record")  # not by the test of the record any more
    assert "::test_more" in noticed.read_text()
    world("assert thing.x == 1")  # the recorded test is gone
    assert capsys.readouterr().out.count("1 of 1 faults noticed") == 4


def test_a_fault_whose_text_is_gone_is_reported():
    with pytest.raises(ValueError, match="0 times"):
        mutants.plant(mutants.Mutant("nothing", "tensors", "no such text", ""), "x = 1\n")
