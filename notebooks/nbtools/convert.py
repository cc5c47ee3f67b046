"""From one source (jupytext percent format) to a student and a solution notebook, the same bytes
every time.

Cell tags in a source:

    exercise    stub with a clear `...`; the solution notebook shows the solution in its place
    solution    code: replaces the exercise before it; markdown: stays where it is; neither is in
                the student notebook
    check       calls a function of rlhf_helpers.course.checks, which never raises
    catch-up    takes the package's version, so that an unsolved exercise never blocks; folded
    hint        markdown inside <details>
    slow        may run longer than other cells
    parameters  the few knobs of a notebook
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TAGS = ("exercise", "solution", "check", "catch-up", "hint", "slow", "parameters")
VERSIONS = ("student", "solution")
NOTEBOOKS = Path(__file__).resolve().parents[1]
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"
HOW_TO_READ = re.compile(r"\*+How to read (?:it|[\w ]+)[.:]?\*+[.:]?\s*(.*?)(?:\n\n|\Z)", re.DOTALL)
RUNS = re.compile(
    r"[\w./-]*/rlhf-\w+/(?:student|solution)/runs"
)  # where a headless run keeps files
CELL_FILE = re.compile(r"[\w./-]*/ipykernel_\d+/\d+\.py:\d+: ")  # where a warning says it came from
PIPELINE = re.compile(r"^plots\.pipeline\([\"']([\w+]+)", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)  # inside markdown
LINK = re.compile(r"(\]\(\s*<?|(?:src|href)=[\"'])([^)\s>\"'#]+)")


class Problem(Exception):
    """Something the author can put right; the message says what and how."""


@dataclass(frozen=True)
class Course:
    """The folder that holds src/, the student notebooks and solutions/."""

    folder: Path = NOTEBOOKS

    def sources(self, wanted: list[str] | tuple[str, ...] = ()) -> list[Path]:
        """Return the wanted sources (`3`, `03` or `03_reward_model`; all without a word) in the
        order of the course."""
        known = sorted((self.folder / "src").glob("[0-9][0-9]_*.py"))
        chosen = set()
        for word in wanted:
            stem = Path(word).stem
            match = [p for p in known if p.stem == stem or p.stem[:2] == stem.zfill(2)]
            if not match:
                raise Problem(
                    f"there is no notebook {word!r}; there are "
                    f"{', '.join(p.stem for p in known) or 'none yet'}"
                )
            chosen.update(match)
        return [p for p in known if not wanted or p in chosen]

    def target(self, source: Path, version: str) -> Path:
        """Say where the built notebook of a source is."""
        return (
            self.folder / "solutions" if version == "solution" else self.folder
        ) / f"{source.stem}.ipynb"


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def metadata_of(names: Sequence[str]) -> dict[str, Any]:
    """Make the metadata of a cell with these tags; a catch-up cell, which holds an answer, is
    folded."""
    metadata: dict[str, Any] = {"tags": list(names)} if names else {}
    return metadata | ({"jupyter": {"source_hidden": True}} if "catch-up" in names else {})


def is_stub(cell: NotebookNode) -> bool:
    """Say whether the cell is code for the learner to complete (an exercise in words stays in both
    versions)."""
    return "exercise" in tags(cell) and cell.cell_type == "code"


def is_answer(cell: NotebookNode) -> bool:
    """Say whether the cell is code that takes an exercise's place."""
    return "solution" in tags(cell) and cell.cell_type == "code"


def read_source(path: Path) -> NotebookNode:
    """Read a source into a clean notebook: stable cell ids, metadata of ours alone, no outputs."""
    raw = jupytext.read(path, fmt="py:percent")
    cells = []
    for i, cell in enumerate(raw.cells):
        make = new_code_cell if cell.cell_type == "code" else new_markdown_cell
        metadata = metadata_of(cell.metadata.get("tags", []))
        cells.append(make(source=cell.source, id=f"{path.stem}-{i:03d}", metadata=metadata))
    return new_notebook(cells=cells, metadata=copy.deepcopy(METADATA), nbformat_minor=5)


def student(source: NotebookNode) -> NotebookNode:
    """Leave the solutions out."""
    notebook = copy.deepcopy(source)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    return notebook


def solution(source: NotebookNode) -> NotebookNode:
    """Put each exercise's solution in its place, before the check; links are seen from the folder
    solutions/."""
    notebook = copy.deepcopy(source)
    cells: list[NotebookNode] = []
    # where the next answer goes: after the last exercise, its stub left out
    place: int | None = None
    for cell in notebook.cells:
        if is_stub(cell):
            place = len(cells)
        elif is_answer(cell) and place is not None:
            cells.insert(place, cell)
            place += 1
        else:
            cells.append(cell)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _links_from_solutions(cell.source)
    notebook.cells = cells
    return notebook


def make(source: Path, version: str) -> NotebookNode:
    """Make one version of a notebook from its source, without outputs."""
    notebook = read_source(source)
    return student(notebook) if version == "student" else solution(notebook)


def keep_outputs(notebook: NotebookNode, old: NotebookNode) -> None:
    """Take over the outputs of the cells whose code is unchanged."""
    known: dict[str, list[NotebookNode]] = {}
    for cell in code_cells(old):
        known.setdefault(cell.source, []).append(cell)
    for cell in code_cells(notebook):
        if before := known.get(cell.source):
            cell.update({key: before[0][key] for key in ("outputs", "execution_count")})
            before.pop(0)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Drop from an executed notebook what differs from run to run: progress bars, widget views, the
    Python version."""
    notebook.metadata = nbformat.from_dict(copy.deepcopy(METADATA))
    for cell in code_cells(notebook):
        cell.metadata = nbformat.from_dict(metadata_of(tags(cell)))
        cell.outputs = [output for output in cell.outputs if not _is_passing(output)]
        for output in cell.outputs:
            data = output.get("data", {})
            data.pop(WIDGET, None)
            for kind in ("text/html", "text/plain"):
                if kind in data:
                    data[kind] = RUNS.sub("runs", data[kind])
            if output.output_type == "stream":
                output.text = CELL_FILE.sub("", RUNS.sub("runs", output.text))
    describe_pictures(notebook)
    return notebook


def describe_pictures(notebook: NotebookNode) -> None:
    """Give every picture among the outputs its alt text: what `alt_text` finds; without it none,
    and the check says so."""
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and (text := alt_text(notebook, i)):
                output.metadata["image/png"] = {"alt": text}


def alt_text(notebook: NotebookNode, i: int) -> str | None:
    """Say what the picture of cell `i` shows: the stage of the course, or the nearest paragraph
    "How to read it", one after it first."""
    if stage := PIPELINE.search(notebook.cells[i].source):
        here = "all of them" if stage[1] == "all" else stage[1]
        stages = "The stages in a circle: sample, label, reward model, PPO, judge."
        return f"{stages} This notebook is about: {here}."
    for j in (i + 1, i + 2, i + 3, i - 1, i - 2, i - 3):
        near = notebook.cells[j] if 0 <= j < len(notebook.cells) else None
        if (
            near is not None
            and near.cell_type == "markdown"
            and (found := HOW_TO_READ.search(near.source))
        ):
            return " ".join(re.sub(r"[*`]", "", found[1] or near.source).split())
    return None


def write(notebook: NotebookNode, path: Path) -> bool:
    """Write the notebook if its bytes differ from what is there; say whether they did."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def read_notebook(path: Path) -> NotebookNode:
    """Read a built notebook; raise Problem, naming the file, if it is not one."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # whatever a broken file makes nbformat say
        raise Problem(
            f"{path.name} cannot be read as a notebook ({type(error).__name__}): delete it and "
            "build again"
        ) from error
    return notebook


def code_cells(notebook: NotebookNode) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def is_local(target: str) -> bool:
    """Say whether a link leads to a file beside the notebook."""
    return not re.match(r"[a-z][a-z0-9+.-]*:|//|/|#", target, re.IGNORECASE)


def _links_from_solutions(text: str) -> str:
    """Rewrite the links of a markdown cell (not what looks like one inside code) for the folder one
    below."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(_one_folder_up, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join(parts) + LINK.sub(_one_folder_up, text[end:])


def _one_folder_up(match: re.Match[str]) -> str:
    before, target = match.groups()
    # other notebooks have solutions too
    stays = not is_local(target) or re.fullmatch(r"\d\d_\w+\.ipynb", target)
    return before + (target if stays else f"../{target}")


def _is_passing(output: NotebookNode) -> bool:
    """Say whether the output only made sense while the cell ran: a progress bar, or a widget with
    no other form."""
    if output.output_type == "stream":
        return output.name == "stderr" and bool(re.search(r"\d+%\||\dit/s\]|s/it\]", output.text))
    data = output.get("data", {})
    return WIDGET in data and set(data) <= {WIDGET, "text/plain"}
