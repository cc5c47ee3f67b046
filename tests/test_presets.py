"""The presets against the paper's and the released code's numbers, written here by hand."""

import importlib
import re
from pathlib import Path

import pytest

from rlhf_helpers import presets

ROOT = Path(__file__).resolve().parents[1]

# launch.py of the released code: task -> query, response, end of answer, earliest, temperature, reward batch, reward lr, PPO batch, PPO lr,
# KL coefficient, target
RELEASED = {
    "sentiment": (64, 24, ".", 16, 0.7, 32, 5e-5, 512, 1e-5, 0.15, 6.0),
    "descriptiveness": (64, 24, ".", 16, 0.7, 32, 5e-5, 512, 1e-5, 0.15, 6.0),
    "cnndm": (500, 75, "\n", 55, 0.5, 16, 2.5e-5, 32, 2e-6, 0.01, None),
    "tldr": (500, 75, "\n", 55, 0.7, 16, 2.5e-5, 32, 2e-6, 0.03, None),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_numbers(name):
    p = presets.get(name, "released")
    t, r, c = p.task, p.reward, p.ppo
    found = (t.query_length, t.response_length, t.truncate_text, t.truncate_after, t.temperature, r.batch, r.lr, c.batch, c.lr, c.kl_coef)
    assert (*found, c.kl_target) == RELEASED[name]
    assert (t.penalty, r.epochs, c.episodes, c.minibatches, c.epochs) == (-1.0, 1, 1_000_000, 1, 4)
    assert (c.cliprange, c.value_coef, c.lam, c.kl_horizon) == (0.2, 0.1, 0.95, 10_000)
    assert c.whiten_rewards == (name in ("sentiment", "descriptiveness"))
    assert c.steps == {512: 1953, 32: 31250}[c.batch]  # the released code rounds 1,953.1 up, and trains 64 episodes more than a million


def test_released_texts_around_the_query():
    around = {n: (p.task.start_text, p.task.end_text, p.task.prefix, p.task.suffix) for n, p in presets.RELEASED.items()}
    assert around["sentiment"] == around["descriptiveness"] == (".", ".", "", "")
    assert around["cnndm"] == (None, "\n", "Article:\n\n", "\n\nTL;DR:")
    assert around["tldr"] == (None, None, "", "\n\nTL;DR:")


def test_printed_numbers():
    style, descriptive = presets.get("sentiment", "paper"), presets.get("descriptiveness", "paper")
    assert (style.ppo.episodes, style.ppo.batch, style.ppo.lr, style.reward.batch, style.reward.lr) == (
        2_000_000,
        1024,
        1.41e-5,
        8,
        1.77e-5,
    )
    assert (style.ppo.kl_target, descriptive.ppo.kl_target) == (10.0, 6.0)
    assert style.ppo.batch / style.ppo.kl_horizon == pytest.approx(0.1)  # the printed K of the controller
    cnndm, tldr = presets.get("cnndm", "paper"), presets.get("tldr", "paper")
    assert (cnndm.ppo.kl_coef, tldr.ppo.kl_coef, cnndm.ppo.kl_target, tldr.ppo.kl_target) == (0.1, 0.03, None, None)
    assert (tldr.ppo.batch, tldr.ppo.lr, tldr.reward.batch, tldr.labels, tldr.rounds) == (512, 7.07e-6, 32, 60_000, 20)
    mock = presets.get("mock", "paper")
    assert (mock.ppo.batch, mock.ppo.lr, mock.ppo.kl_target) == (1024, 1.41e-5, 8.0)


def test_bundled_presets_keep_the_rules_and_scale_the_lengths_down():
    for name, preset in presets.BUNDLED.items():
        paper = presets.get("sentiment" if name == "mock" else name, "released").task
        assert (preset.task.temperature, preset.task.penalty, preset.task.prefix, preset.task.suffix) == (
            paper.temperature, paper.penalty, paper.prefix, paper.suffix
        )  # fmt: skip
        assert preset.task.query_length <= paper.query_length and preset.task.response_length <= paper.response_length
        assert preset.ppo.episodes <= 10_000


def test_the_table_of_the_docs_is_the_one_made_from_the_presets():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert text.split("<!-- presets -->\n")[1].split("<!-- end of presets -->")[0] == presets.table()


@pytest.mark.parametrize(("task", "version"), [("mock", "released"), ("sentiment", "2019"), ("poems", "paper")])
def test_an_unknown_preset_says_what_there_is(task, version):
    with pytest.raises(ValueError, match="released: sentiment"):
        presets.get(task, version)


def test_every_detail_of_the_docs_names_code_that_is_there_and_faults_that_are_planted():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| [^|]* \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    source = (ROOT / "scripts" / "mutants.py").read_text(encoding="utf-8")
    planted = set(re.findall(r'Mutant\("([^"]+)", "', source))
    for number, where, faults in rows:
        assert set(faults.split("; ")) <= planted, f"detail {number}"
        names = re.findall(r"`(\w+)\.(\w+)`", where)
        assert names, number
        for module, name in names:
            assert hasattr(importlib.import_module(f"rlhf_helpers.{module}"), name), f"detail {number}: {module}.{name}"
