"""The README's numbers come from recorded runs, its map names every module and folder, its links
lead somewhere."""

import json
import re
from pathlib import Path

import pytest
from test_districts import MODULES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def make_recorded(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "data"))
    import make_recorded

    return make_recorded


def test_results_are_those_of_the_recorded_runs(make_recorded):
    written = README.split("<!-- results -->\n")[1].split("<!-- end of results -->")[0]
    assert written == make_recorded.table(
        json.loads((ROOT / "data/recorded/results.json").read_text())
    )


def test_the_base_models_numbers_are_those_measured():
    measured = json.loads((ROOT / "data/base/measured.json").read_text())
    said = {
        "perplexity_validation_stories": r"perplexity on new stories is ([\d.]+)",
        "well_formed_validation": r"of its sentences (\d+) % are well-formed",
        "kept_validation": r"(\d+) % of its continuations keep",
        "consistent_validation": r"and (\d+) % contradict nothing",
        "truthful_validation": r"only true ones in (\d+) % of the posts of the kinds",
        "truthful_test": r"and in (\d+) % of those of other kinds",
    }
    text = " ".join(README.split())
    for name, words in said.items():
        (number,) = re.findall(words, text)
        scaled = measured[name] * (1 if "perplexity" in name else 100)
        assert number == f"{scaled:.{1 if '.' in number else 0}f}", name


def test_the_map_names_every_module_and_every_folder():
    named = re.findall(r"\[`(\w+)/?`\]\(rlhf_helpers/\w+(?:\.py)?\)", README)
    assert set(named) == {module for module in MODULES if "." not in module} - {"__main__"}


def test_the_instructors_key_answers_every_question():
    """Notebooks ended in questions that were answered nowhere."""
    key = (ROOT / "docs/instructor.md").read_text(encoding="utf-8").split("\n### ")
    answers = {part[:2]: len(re.findall(r"^\d\. ", part, re.MULTILINE)) for part in key[1:]}
    asked = {}
    for path in sorted((ROOT / "notebooks/src").glob("[0-9]*.py")):
        text = path.read_text(encoding="utf-8").partition("# ## Questions\n")[2]
        found = re.findall(r"^# \d\. ", text.partition("\n# ## ")[0], re.MULTILINE)
        asked[path.name[:2]] = len(found)
    assert all(asked.values()) and {name: answers.get(name) for name in asked} == asked


LINKED = ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/instructor.md"]


@pytest.mark.parametrize("name", LINKED)
def test_local_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


def test_a_result_takes_the_place_of_an_older_one_and_one_run_is_kept(
    make_recorded, tmp_path, monkeypatch
):
    """Running the kept seed again, or another task, once left no seed marked, and notebook 06 could
    not find its run."""
    (recorded := tmp_path / "recorded").mkdir()
    (tmp_path / "README.md").write_text(
        "before\n<!-- results -->\n<!-- end of results -->\nafter\n"
    )
    monkeypatch.setattr(make_recorded, "RECORDED", recorded)
    monkeypatch.setattr(make_recorded, "DATA", tmp_path / "data")
    (numbers,) = json.loads((ROOT / "data/recorded/results.json").read_text())[:1]
    numbers.pop("kept", None)

    def record(task, seed, score):
        make_recorded.write_down(numbers | {"task": task, "seed": seed, "score": score})
        known = json.loads((recorded / "results.json").read_text())
        return [(r["task"], r["seed"], r["score"]) for r in known if r.get("kept")], len(known)

    assert record("sentiment", 1, 5.0) == ([], 1)
    assert record("sentiment", 0, 3.0) == ([("sentiment", 0, 3.0)], 2)
    assert record("descriptiveness", 0, 9.0) == ([("sentiment", 0, 3.0)], 3)
    assert record("sentiment", 0, 2.0) == ([("sentiment", 0, 2.0)], 3)
    assert (tmp_path / "README.md").read_text().count("(kept)") == 1


def test_the_readmes_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("episodes=1_280", "episodes=64"), {})
    assert (tmp_path / "runs/commas/model.safetensors").exists()
    assert (tmp_path / "runs/commas/tokenizer.json").exists()
