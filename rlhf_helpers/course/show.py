"""How notebooks show things: tables with text on the left, notes, source code, wrapped text."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from xml.etree import ElementTree

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, Code, Markdown, display

from rlhf_helpers.course.plots.style import STYLE
from rlhf_helpers.labelers import SimulatedLabeler
from rlhf_helpers.labels import frontend
from rlhf_helpers.records import Comparison

WIDTH = 96  # characters of a printed line: no notebook breaks it in the middle of a word
# on a wide screen a line of prose would run to 180 characters; tables and figures keep their width
MEASURE = """<style>
.jp-RenderedMarkdown > :is(p, ul, ol, blockquote, details, h1, h2, h3) { max-width: 46em }
</style>"""


def setup() -> None:
    """Prepare a notebook: its figures' style, and tables whose texts are whole and left-aligned."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    pd.set_option("display.max_colwidth", None)
    for library in ("transformers.utils.logging", "datasets.utils.logging"):
        import_module(library).disable_progress_bar()  # bars of a second that stay on the page
    shell = get_ipython()
    if frontend.in_kernel() and not frontend.headless():
        display(HTML(MEASURE))
    if shell is not None:
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, table)


def note(text: str) -> None:
    """Show a sentence with a measured number in it, as Markdown."""
    display(Markdown(text))


def source(*things: Any) -> Code:
    """Show the source of functions or classes."""
    return Code("\n\n".join(map(inspect.getsource, things)), language="python")


def clear_case(
    comparisons: Sequence[Comparison], labeler: SimulatedLabeler, first: int = 20
) -> int:
    """Find, among the first comparisons, the one whose options differ most for the labeler."""

    def spread(i: int) -> float:
        utilities = [labeler.utility(option) for option in comparisons[i].options]
        return max(utilities) - min(utilities)

    return max(range(min(first, len(comparisons))), key=spread)


def clear_cases(
    comparisons: Sequence[Comparison], labeler: SimulatedLabeler, count: int
) -> list[Comparison]:
    """Return the first comparisons with one best option, two points or more above the worst."""

    def is_clear(comparison: Comparison) -> bool:
        ranked = sorted(map(labeler.utility, comparison.options))
        return ranked[-2] < ranked[-1] >= ranked[0] + 2

    return [c for c in comparisons if is_clear(c)][:count]


def ending(text: str, letters: int = 70) -> str:
    """Return the end of a text: whole words, at most so many letters, dots where it was cut."""
    text = text.strip()
    return text if len(text) <= letters else "... " + text[-letters - 1 :].partition(" ")[2]


def wrapped(text: str, indent: str = "") -> None:
    """Print a text in lines that break between words; later lines are indented."""
    print(textwrap.fill(text, WIDTH, subsequent_indent=indent))


def table(frame: pd.DataFrame) -> str:
    """Return a table as HTML: texts to the left, numbers to the right, everything escaped."""
    html = frame.to_html(border=0, max_rows=pd.get_option("display.max_rows"))
    try:
        root = ElementTree.fromstring(html.replace("&nbsp;", "&#160;"))  # pandas for two spaces
    except ElementTree.ParseError:  # a text holds a character that no XML may
        return html
    is_text = [not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    for row in root.iter("tr"):
        cells = row.findall("td") or row.findall("th")[-len(is_text) :]
        for cell, left in zip(cells, is_text, strict=False):
            cell.set("style", f"text-align: {'left' if left else 'right'}")
        if row.find("td") is not None:
            for name in row.findall("th"):
                name.set("style", "text-align: left")
    return ElementTree.tostring(root, encoding="unicode", method="html")
