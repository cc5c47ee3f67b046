"""What a committed notebook must be: equal to its source, in order, readable by everybody, free of
traces of one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode

from nbtools import convert
from nbtools.convert import VERSIONS, Course, Problem, code_cells, is_local, is_stub, tags

MAX_LINES = 40  # of a code cell; the rest lives in the package
MAX_BYTES = 3_000_000
EXERCISES = (1, 8)  # with code, per notebook
WITHOUT_EXERCISES = {"00", "12"}  # may have none

PICTURE = re.compile(r"!\[([^\]]*)\]\(")
IMG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"\balt=([\"']).*?\S.*?\1", re.IGNORECASE)
PATH = re.compile(
    r"(?:(?<![\w./~:<-])|(?<=file://))/(?:home|Users|root|tmp|work|var|opt|mnt|usr|private|srv|workspace)/[\w.-]+"
    r"|\b[A-Z]:\\+(?:Users|Windows|Program|Temp)\w*"
)
ADDRESS = re.compile(r"<[\w.]+ [^<>\n]*\bat 0x[0-9a-fA-F]{6,}>")


def check(course: Course, wanted: list[str] | tuple[str, ...] = ()) -> list[str]:
    """List everything that is wrong with the notebooks; an empty list is good news."""
    faults = []
    for source in course.sources(wanted):
        try:
            notebook = convert.read_source(source)
        except Exception as error:  # whatever a broken source makes jupytext say
            faults.append(f"src/{source.name}: cannot be read as jupytext percent format: {error}")
            continue
        faults += [f"src/{source.name}: {fault}" for fault in source_faults(notebook, source.stem)]
        for version in VERSIONS:
            faults += _target_faults(course, source, version)
    return faults + ([] if wanted else _orphans(course))


def _target_faults(course: Course, source: Path, version: str) -> list[str]:
    """Check one built notebook, each fault with the file's name before it."""
    path = course.target(source, version)
    name = path.relative_to(course.folder).as_posix()
    number = source.stem[:2]
    if not path.exists():
        return [f"{name}: is not built; run `python notebooks/build.py build {number}`"]
    try:
        notebook = convert.read_notebook(path)
    except Problem as problem:
        return [f"{name}: {problem}"]
    faults = drift(convert.make(source, version), notebook, number)
    faults += built_faults(notebook, path.parent, executed=version == "solution")
    if (size := path.stat().st_size) > MAX_BYTES:
        faults.append(
            f"is {size / 1e6:.1f} MB, over the limit of {MAX_BYTES / 1e6:.0f} MB: make its "
            "pictures smaller"
        )
    return [f"{name}: {fault}" for fault in faults]


def _orphans(course: Course) -> list[str]:
    """List built notebooks that have no source."""
    stems = {p.stem for p in course.sources()}
    built = [*course.folder.glob("*.ipynb"), *(course.folder / "solutions").glob("*.ipynb")]
    names = sorted(p.relative_to(course.folder).as_posix() for p in built if p.stem not in stems)
    return [f"{name}: has no source in notebooks/src" for name in names]


# ---- a built notebook against its source ---------------------------------------------------------


def drift(expected: NotebookNode, found: NotebookNode, number: str) -> list[str]:
    """Compare cell by cell (kind, id, metadata, text; not outputs); returns one line with the
    first difference."""
    pairs = [
        [(c.cell_type, c.id, c.metadata, c.source) for c in n.cells] for n in (expected, found)
    ]
    if pairs[0] == pairs[1]:
        return []
    different = [i for i, (a, b) in enumerate(zip(*pairs, strict=False)) if a != b]
    first = different[0] if different else min(map(len, pairs))
    count = len(different) + abs(len(pairs[0]) - len(pairs[1]))
    cells = f"{count} cell{'s' if count > 1 else ''}"
    return [
        f"{cells} not as in the source, the first is cell {first + 1}; run `python "
        f"notebooks/build.py build {number}`"
    ]


# ---- a source ------------------------------------------------------------------------------------


def source_faults(notebook: NotebookNode, stem: str) -> list[str]:
    """Check the tags, the exercises and the size of the cells of one source."""
    return [*_tag_faults(notebook), *_cell_faults(notebook), *_exercise_faults(notebook, stem)]


def _tag_faults(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells, 1):
        for tag in tags(cell):
            if tag not in convert.TAGS:
                yield f"cell {i}: unknown tag {tag!r}; there are {', '.join(convert.TAGS)}"
    if sum("parameters" in tags(cell) for cell in notebook.cells) > 1:
        yield "more than one cell is tagged parameters"


def _cell_faults(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells, 1):
        lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and lines > MAX_LINES:
            limit = f"over the limit of {MAX_LINES}: move the rest into the package"
            yield f"cell {i}: {lines} lines, {limit}"
        if not cell.source.strip():
            yield f"cell {i}: is empty"
        if is_stub(cell) and "..." not in cell.source:
            yield f"cell {i}: an exercise without a `...` to fill in"
        if is_stub(cell) and (error := _syntax_error(cell.source)):
            yield f"cell {i}: the exercise's stub is not valid Python ({error})"
        if "check" in tags(cell) and "checks." not in cell.source:
            yield f"cell {i}: a check that calls no function of rlhf_helpers.course.checks"
        if "hint" in tags(cell) and not re.search(
            r"<details>.*<summary>.*</details>", cell.source, re.DOTALL
        ):
            yield f"cell {i}: a hint needs <details><summary>...</summary> ... </details>"


def _exercise_faults(notebook: NotebookNode, stem: str) -> Iterator[str]:
    """Between an exercise and the next there must be a solution, a check and, after the check, a
    catch-up cell."""
    starts = [i for i, cell in enumerate(notebook.cells) if is_stub(cell)]
    for start, end in pairwise([*starts, len(notebook.cells)]):
        following = [
            tag
            for cell in notebook.cells[start + 1 : end]
            for tag in tags(cell)
            if cell.cell_type == "code"
        ]
        for needed in ("solution", "check", "catch-up"):
            if needed not in following:
                yield f"cell {start + 1}: the exercise has no {needed} cell after it"
        if (
            "check" in following
            and "catch-up" in following
            and following.index("check") > following.index("catch-up")
        ):
            yield f"cell {start + 1}: the catch-up cell must come after the check"
    before = notebook.cells[: starts[0] if starts else None]
    for i, cell in enumerate(before, 1):
        for tag in ("solution", "check", "catch-up"):
            if tag in tags(cell) and cell.cell_type == "code":
                yield f"cell {i}: a {tag} cell with no exercise before it"
    low, high = 0 if stem[:2] in WITHOUT_EXERCISES else EXERCISES[0], EXERCISES[1]
    if not low <= len(starts) <= high:
        yield f"{len(starts)} exercises; there should be {low} to {high}"


def _syntax_error(code: str) -> str | None:
    """Return what Python dislikes about a cell, lines for IPython (% and !) left out."""
    try:
        ast.parse(
            "\n".join(
                line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))
            )
        )
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    return None


# ---- a built notebook ----------------------------------------------------------------------------


def built_faults(notebook: NotebookNode, folder: Path, *, executed: bool) -> list[str]:
    """Check one notebook as a reader meets it: `folder` is where it lies, `executed` whether it
    shows outputs."""
    faults = [
        *_metadata_faults(notebook),
        *_prose_faults(notebook, folder),
        *_trace_faults(notebook),
    ]
    return faults + list(_execution_faults(notebook) if executed else _output_faults(notebook))


def _metadata_faults(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "metadata.widgets holds saved widget state; build it again"
    if "jupytext" in notebook.metadata:
        yield "metadata.jupytext has no place in a built notebook; build it again"
    if "version" in notebook.metadata.get("language_info", {}):
        yield "metadata names one Python version; build it again"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"


def _prose_faults(notebook: NotebookNode, folder: Path) -> Iterator[str]:
    headings = 0
    for i, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "markdown":
            continue
        text = convert.CODE.sub("", cell.source)
        headings += len(re.findall(r"^# ", text, re.MULTILINE))
        if any(not alt.strip() for alt in PICTURE.findall(text)) or any(
            not ALT.search(img) for img in IMG.findall(text)
        ):
            yield f"cell {i}: a picture without alt text: ![what it shows](file)"
        for _, target in convert.LINK.findall(text):
            if is_local(target) and not (folder / target.replace("%20", " ")).exists():
                yield f"cell {i}: the link to {target} leads nowhere"
    if headings != 1:
        yield f"{headings} top headings (`# `); there must be one"


def _trace_faults(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells, 1):
        if found := PATH.search(cell.source):
            yield f"cell {i}: absolute path {found[0]} in the source"
        for text in _output_texts(cell):
            if found := PATH.search(text):
                yield f"cell {i}: absolute path {found[0]} in an output"
            if found := ADDRESS.search(text):
                advice = "end the cell's last line with `;`"
                yield f"cell {i}: {found[0]} in an output changes with every run: {advice}"


def _output_texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        yield from (
            str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")
        )


def _execution_faults(notebook: NotebookNode) -> Iterator[str]:
    for i, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {i}: shows an error, {output.ename}"
            if "image/png" in output.get("data", {}) and not output.metadata.get(
                "image/png", {}
            ).get("alt"):
                advice = (
                    "explain it below in a paragraph that begins `*How to read it:*`, then build"
                )
                yield f"cell {i}: a figure without alt text: {advice}"
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        advice = "run `python notebooks/build.py build --execute`"
        yield f"was not executed from top to bottom as it is; {advice}"


def _output_faults(notebook: NotebookNode) -> Iterator[str]:
    worked = [
        i
        for i, c in enumerate(notebook.cells, 1)
        if c.get("outputs") or c.get("execution_count") is not None
    ]
    if worked:
        yield f"cell {worked[0]}: has been executed; the student notebook is kept without outputs"
