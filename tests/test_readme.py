"""The README's numbers come from recorded runs, its map names every module with its floor, its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest
from test_ladder import FLOORS, MODULES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_results_are_those_of_the_recorded_run():
    run = next(r for r in json.loads((ROOT / "data/recorded/results.json").read_text()) if (r["task"], r["seed"]) == ("sentiment", 0))
    percent = [run["accuracy"], run["ceiling"], run["win_rate"], run["low"], run["high"]]
    wanted = [f"{100 * x:.1f} %" for x in percent] + [f"{100 * run['share_of_ceiling']:.0f} % of"]
    wanted += [f"{run['kl_nats']:.1f} nats", f"{run['fit_seconds']:.0f} s at {run['fit_tokens_per_second']:,.0f} tokens"]
    wanted += [f"{run['episodes']:,} episodes", f"{run['tune_seconds']:.0f} s at {run['episodes_per_second']:.1f} episodes"]
    assert [words for words in wanted if words not in README] == []


@pytest.mark.parametrize("place", ["README.md", "data/base/README.md"])
def test_the_base_models_numbers_are_those_measured(place):
    text, measured = (ROOT / place).read_text(encoding="utf-8"), json.loads((ROOT / "data/base/measured.json").read_text())
    for name in ("well_formed", "consistent"):
        number = rf"{100 * measured[name]:.0f} ?%" if place == "README.md" else rf"{100 * measured[name]:.1f}%"
        assert re.search(rf"\b{number}", text), name


def test_the_map_names_every_module_with_its_floor():
    rows = {name: int(floor) for floor, name in re.findall(r"^\| (\d) \| \[`(\w+)`\]", README, re.MULTILINE)}
    assert rows == {module: FLOORS[module] for module in MODULES}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_local_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []
