"""The README's numbers come from recorded runs, its map names every module with its floor, its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest
from test_ladder import FLOORS, MODULES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_results_are_those_of_the_recorded_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "data"))
    import make_recorded

    written = README.split("<!-- results -->\n")[1].split("<!-- end of results -->")[0]
    assert written == make_recorded.table(json.loads((ROOT / "data/recorded/results.json").read_text()))


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
