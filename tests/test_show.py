"""How notebooks show things: tables, notes, wrapped text."""

import re

import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Code

from rlhf_helpers import labelers, tasks
from rlhf_helpers.course import show
from rlhf_helpers.labelers import SimulatedLabeler
from rlhf_helpers.records import Comparison

FRAME = pd.DataFrame(
    {"answer": ["It rained.", "<b>x</b>"], "score": [0.5, -1.25]}, index=["a", "b"]
)


def cells(html, tag):
    return re.findall(rf'<{tag} style="text-align: (\w+)">(.*?)</{tag}>', html)


def test_texts_are_on_the_left_and_numbers_on_the_right():
    """JupyterLab aligns every column to the right, texts too."""
    html = show.table(FRAME)
    assert cells(html, "td") == [
        ("left", "It rained."),
        ("right", "0.50"),
        ("left", "&lt;b&gt;x&lt;/b&gt;"),
        ("right", "-1.25"),
    ]
    assert cells(html, "th") == [
        ("left", "answer"), ("right", "score"), ("left", "a"), ("left", "b"),
    ]  # fmt: skip


def test_lines_get_a_measure_where_somebody_reads_and_nothing_in_shipped_outputs(
    monkeypatch, capsys
):
    """On a screen 1,920 wide, lines were 180 characters long."""
    shown = []
    monkeypatch.setattr(show, "display", shown.append)
    monkeypatch.setattr(show.frontend, "in_kernel", lambda: True)
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    show.setup()
    assert shown == []
    monkeypatch.setenv("RLHF_HEADLESS", "0")
    show.setup()
    assert len(shown) == 1 and "max-width: 46em" in shown[0].data


def test_a_text_that_no_xml_may_hold_is_shown_all_the_same():
    html = show.table(pd.DataFrame({"text": ["a\x00b <i>"]}))
    assert "<table" in html and "&lt;i&gt;" in html


def test_long_tables_are_cut_and_two_levels_of_names_survive():
    long = show.table(pd.DataFrame({"n": range(500)}))
    assert long.count("<tr") < 80
    two = FRAME.set_index("answer", append=True)
    assert cells(show.table(two), "td") == [("right", "0.50"), ("right", "-1.25")]


def test_setup_makes_notebooks_show_tables_so(monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr(show, "get_ipython", lambda: shell)
    show.setup()
    data, _ = shell.display_formatter.format(FRAME)
    assert data["text/html"] == show.table(FRAME)


def test_printed_lines_break_between_words(capsys):
    show.wrapped("word " * 60, indent="  ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(len(line) <= 96 for line in lines)
    assert set(" ".join(lines).split()) == {"word"} and lines[1].startswith("  word")


def test_the_end_of_a_prompt_begins_with_a_whole_word():
    """Tables began with "lmon for another customer"."""
    text = " On the scales Magda weighed a salmon for another customer."
    assert show.ending(text, 21) == show.ending(text, 24) == "... for another customer."
    assert show.ending(text, 20) == "... another customer."
    assert show.ending(text, 500) == text.strip()


def test_the_comparison_that_opens_a_notebook_tells_something():
    """Notebooks opened with four options of utility 0."""
    dull, clear, middling = (
        Comparison("toy", f"q{i}", options)
        for i, options in enumerate([("0", "0"), ("-3", "2"), ("1", "3")])
    )
    labeler = SimulatedLabeler("toy", float, 1.0)
    assert show.clear_case([dull, middling, clear], labeler) == 2
    assert show.clear_case([dull, middling, clear], labeler, first=2) == 1
    comparisons, _ = labelers.recorded(tasks.SENTIMENT)
    labeler = labelers.simulated(tasks.SENTIMENT)
    opened = comparisons[show.clear_case(comparisons, labeler)]
    utilities = [labeler.utility(option) for option in opened.options]
    assert min(utilities) <= -2 and max(utilities) >= 2


def test_comparisons_for_the_student_have_one_best_option_that_stands_out():
    """In almost a third of them the best options tied: four grey scarves to choose among."""
    rows = [
        ("1", "1", "0", "-2"),
        ("0", "0", "1", "0"),
        ("2", "0", "0", "0"),
        ("-3", "1", "0", "0"),
    ]
    asked = [Comparison("toy", f"q{i}", options) for i, options in enumerate(rows)]
    labeler = SimulatedLabeler("toy", float, 1.0)
    assert show.clear_cases(asked, labeler, 5) == asked[2:]
    assert show.clear_cases(asked, labeler, 1) == asked[2:3]
    comparisons, _ = labelers.recorded(tasks.SENTIMENT)
    labeler, held_out = labelers.simulated(tasks.SENTIMENT), comparisons[-1000:]
    tied = [sorted(map(labeler.utility, c.options)) for c in held_out]
    assert 0.25 < sum(u[-2] == u[-1] for u in tied) / len(tied) < 1 / 3  # notebook 02 says so
    assert len(show.clear_cases(held_out, labeler, 100)) == 100  # enough for every profile


def test_source_is_that_of_the_function():
    code = show.source(show.note)
    assert isinstance(code, Code) and code.data.startswith("def note(text: str)")


def test_two_spaces_in_a_text_leave_it_on_the_left():
    """pandas writes them as &nbsp;, which is no XML, and the whole table fell back."""
    frame = pd.DataFrame({"text": ["two  spaces"], "n": [1]})
    html = show.table(frame)
    assert "text-align: left" in html and "text-align: right" in html
