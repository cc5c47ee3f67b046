"""Notebooks use one set of symbols: every Greek letter in a formula is in the docs' table."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = (ROOT / "docs/symbols.md").read_text(encoding="utf-8")
FIRST = [line.split("|")[1] for line in TABLE.splitlines() if line.startswith("| $")]
GREEK = """alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho
    sigma tau phi varphi chi psi omega nabla""".split()
SOURCES = sorted((ROOT / "notebooks/src").glob("[0-9]*.py"))


def formulas(text):
    """What stands between dollar signs in the prose of a source."""
    prose = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    prose = re.sub(r"`[^`\n]*`", "", prose)
    return re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", prose, re.DOTALL)


def greek(text):
    return set(re.findall(r"\\([a-z]+)", text)) & set(GREEK)


def test_no_symbol_is_in_the_table_twice():
    named = [symbol for cell in FIRST for symbol in re.findall(r"\$([^$]+)\$", cell)]
    assert len(named) > 30 and len(set(named)) == len(named)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_greek_letter_in_a_formula_is_in_the_table(source):
    used = greek(" ".join("".join(f) for f in formulas(source.read_text(encoding="utf-8"))))
    assert used <= greek(" ".join(FIRST))
    assert used or source.stem[:2] not in ("04", "05")  # the reader of formulas reads


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_r_is_a_reward_and_never_the_ratio(source):
    """05 wrote r_t for the reward in section 7 and for the importance ratio in section 8."""
    for formula in map("".join, formulas(source.read_text(encoding="utf-8"))):
        assert not re.search(r"\br(_t)?\s*=\s*\\(exp|frac\{\\pi)", formula), formula
        assert not re.search(r"A(_t)?\s*(\\,|\\cdot)?\s*r\b|clip\}?\(r", formula), formula
