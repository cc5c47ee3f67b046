"""Estimates of time: recorded work, times what the probe takes here, said as one would say it."""

import itertools
import json

import pytest

from rlhf_helpers.course import machine

RECORDED = {
    "00_first": {"all": 300.0, "tuning": 150.0, "the fit": 30.0},  # in probes
    "02_second": {"all": 20.0},
}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Record two notebooks of the laptop profile, on a machine with a probe of 0.4 seconds."""
    path = tmp_path / "work.json"
    path.write_text(json.dumps({"laptop": RECORDED}))
    monkeypatch.setattr(machine, "WORK", path)
    monkeypatch.setattr(machine, "seconds", lambda: 0.4)
    monkeypatch.setenv("RLHF_PROFILE", "laptop")
    return path


def test_the_table_says_what_each_notebook_takes_here(known):
    assert machine.table().to_numpy().tolist() == [
        ["00_first", "2 minutes", "tuning: 60 seconds"],  # 300 and 150 times 0.4
        ["02_second", "8 seconds", ""],
    ]


def test_slow_cells_say_how_long_they_take_and_quick_ones_nothing(known, capsys):
    machine.announce("the fit")  # 12 seconds
    machine.announce("a cell that nobody recorded")
    assert capsys.readouterr().out == ""
    machine.announce("tuning")
    assert capsys.readouterr().out == "This takes about 60 seconds on this machine (tuning).\n"


def test_another_profile_has_times_of_its_own_or_none(known, monkeypatch, capsys):
    monkeypatch.setenv("RLHF_PROFILE", "quick")
    machine.announce("tuning")
    assert machine.table().empty
    assert capsys.readouterr().out == "No times have been recorded for the profile quick.\n"
    known.unlink()
    assert machine.table().empty


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0.2, "1 second"),
        (3.6, "4 seconds"),
        (38, "40 seconds"),
        (100, "2 minutes"),
        (700, "12 minutes"),
    ],
)
def test_times_are_said_as_one_would(number, said):
    assert machine.words(number) == said


def test_the_probe_is_the_best_of_three_after_one_to_warm_up():
    ticks = iter(itertools.accumulate([0, 1, 0, 7, 0, 5, 0, 6]))  # rounds of 1, 7, 5 and 6 seconds
    assert machine.probe(lambda: float(next(ticks))) == 5
