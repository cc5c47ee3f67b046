"""The committed notebooks match their sources and keep the rules; the builder and the runner do
what they promise."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
build, convert, execute, hygiene = map(
    importlib.import_module, ("build", "nbtools.convert", "nbtools.execute", "nbtools.hygiene")
)

SOURCE = """\
# %% [markdown]
# # A small notebook
#
# See [the data](data.txt), [the next one](02_next.ipynb), ![a harbour](data.txt) and `x[0](code)`.

# %% tags=["parameters"]
size = 3

# %% [markdown]
# ## Exercise: double

# %% tags=["exercise"]
def double(x):
    return ...

# %% tags=["check"]
checks = __import__("types").SimpleNamespace(
    double=lambda f: print("right" if f(2) == 4 else "not yet")
)
checks.double(double)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Two times.
# </details>

# %% tags=["solution"]
def double(x):
    return 2 * x

# %% [markdown] tags=["solution"]
# Any number times two is even.

# %% tags=["catch-up"]
double = lambda x: x + x

# %% tags=["slow"]
print("doubled:", double(size))
"""


@pytest.fixture
def course(tmp_path):
    """A course of one notebook, built and with the outputs it would have."""
    (tmp_path / "src").mkdir()
    (tmp_path / "solutions").mkdir()
    (tmp_path / "data.txt").write_text("a file to link to\n")
    (tmp_path / "02_next.ipynb").write_text("{}")
    (tmp_path / "solutions" / "02_next.ipynb").write_text("{}")
    (tmp_path / "src" / "02_next.py").write_text("")
    made = convert.Course(tmp_path)
    write_source(made, SOURCE)
    return made


def write_source(course, text):
    source = course.folder / "src" / "01_small.py"
    source.write_text(text)
    convert.write(convert.make(source, "student"), course.target(source, "student"))
    solved = convert.make(source, "solution")
    for count, cell in enumerate(convert.code_cells(solved), 1):
        cell.execution_count = count
    convert.write(solved, course.target(source, "solution"))


def sources_of(notebook):
    return [cell.source for cell in notebook.cells]


# ---- the notebooks of this repository ------------------------------------------------------------


def test_notebooks_match_their_sources_and_keep_the_rules():
    assert hygiene.check(convert.Course()) == []


# ---- the builder ---------------------------------------------------------------------------------


def test_the_student_notebook_has_the_stub_and_no_solution(course):
    student = convert.make(course.sources(["1"])[0], "student")
    text = "\n".join(sources_of(student))
    assert "return ..." in text and "2 * x" not in text and "is even" not in text
    assert [convert.tags(c) for c in student.cells if convert.tags(c)] == [
        ["parameters"], ["exercise"], ["check"], ["hint"], ["catch-up"], ["slow"]]  # fmt: skip
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in student.cells)


def test_the_solution_stands_before_the_check_in_the_place_of_the_stub(course):
    solved = sources_of(convert.make(course.sources(["1"])[0], "solution"))
    text = "\n".join(solved)
    assert "return ..." not in text
    assert [
        text.index(word)
        for word in ("Exercise: double", "2 * x", "checks.double", "Two times", "is even", "x + x")
    ] == sorted(
        text.index(word)
        for word in ("Exercise: double", "2 * x", "checks.double", "Two times", "is even", "x + x")
    )


def test_the_same_cell_has_the_same_id_in_both_versions(course):
    source = course.sources(["1"])[0]
    student, solved = (
        {c.source: c.id for c in convert.make(source, v).cells if c.cell_type == "code"}
        for v in convert.VERSIONS
    )
    assert student["size = 3"] == solved["size = 3"] == "01_small-001"
    assert len(set(solved.values())) == len(solved)


def test_catch_up_cells_are_folded(course):
    """They hold the answer, and stood open right below sixteen exercises."""
    source = course.sources(["1"])[0]
    made = [convert.make(source, version) for version in convert.VERSIONS]
    for notebook in [*made, convert.tidy(made[1])]:
        hidden = [c for c in notebook.cells if c.metadata.get("jupyter") == {"source_hidden": True}]
        assert [convert.tags(c) for c in hidden] == [["catch-up"]]


def test_links_are_seen_from_the_solutions_folder(course):
    first = convert.make(course.sources(["1"])[0], "solution").cells[0].source
    assert "[the data](../data.txt)" in first and "![a harbour](../data.txt)" in first
    assert "(02_next.ipynb)" in first and "`x[0](code)`" in first


def test_a_second_build_changes_no_byte_and_metadata_is_bare(course):
    source = course.sources(["1"])[0]
    path = course.target(source, "student")
    before = path.read_bytes()
    assert not convert.write(convert.make(source, "student"), path)
    assert path.read_bytes() == before and before.endswith(b"}\n")
    metadata = json.loads(before)["metadata"]
    assert (
        set(metadata) == {"kernelspec", "language_info"}
        and "version" not in metadata["language_info"]
    )
    assert metadata["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("version", convert.VERSIONS)
def test_a_one_word_edit_changes_one_line(course, version):
    source = course.sources(["1"])[0]
    before = course.target(source, version).read_text().splitlines()
    write_source(course, SOURCE.replace("doubled:", "twice:"))
    after = course.target(source, version).read_text().splitlines()
    assert (
        len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == 1
    )


def test_unchanged_cells_keep_their_outputs_and_changed_ones_lose_them(course):
    source = course.sources(["1"])[0]
    old, new = (convert.make(source, "solution") for _ in range(2))
    for count, cell in enumerate(convert.code_cells(old), 1):
        cell.execution_count, cell.outputs = (
            count,
            [nbformat.v4.new_output("stream", name="stdout", text=f"{count}\n")],
        )
    new.cells[1].source = "size = 4"
    convert.keep_outputs(new, old)
    kept = [cell.outputs[0].text if cell.outputs else None for cell in convert.code_cells(new)]
    assert kept == [None, "2\n", "3\n", "4\n", "5\n"]


def test_progress_bars_and_widget_views_are_dropped_and_the_rest_stays():
    new = nbformat.v4.new_output
    outputs = [
        new("stream", name="stderr", text="PPO:  50%|#####     | 1/2 [00:01<00:01,  1.0s/it]"),
        new("display_data", data={convert.WIDGET: {"model_id": "1"}, "text/plain": "HBox()"}),
        new(
            "display_data",
            data={
                convert.WIDGET: {"model_id": "1"},
                "text/plain": "Card()",
                "text/html": "<b>card</b>",
            },
        ),
        new("stream", name="stderr", text="/tmp/ipykernel_7/12.py:7: UserWarning: few labels\n"),
    ]
    cell = nbformat.v4.new_code_cell(
        "x", outputs=outputs, metadata={"execution": {"started": "now"}, "tags": ["slow"]}
    )
    tidied = convert.tidy(nbformat.v4.new_notebook(cells=[cell])).cells[0]
    assert [o.output_type for o in tidied.outputs] == ["display_data", "stream"]
    assert tidied.outputs[1].text == "UserWarning: few labels\n"  # without a path of this machine
    assert set(tidied.outputs[0].data) == {"text/plain", "text/html"} and tidied.metadata == {
        "tags": ["slow"]
    }


def test_a_figure_gets_the_paragraph_that_explains_it_as_alt_text():
    """A screen reader met `image` and no word of what it shows."""

    def figure(source):
        return nbformat.v4.new_code_cell(
            source, outputs=[nbformat.v4.new_output("display_data", data={"image/png": "iVBOR"})]
        )

    reading = nbformat.v4.new_markdown_cell(
        "*How to read it:* up is **better**,\n`x` is KL.\n\nAnother paragraph."
    )
    cells = [
        figure('plots.pipeline("reward+ppo")'),
        figure("a;"),
        nbformat.v4.new_code_cell("assert a"),
        reading,
        figure("lost;"),
    ]
    far = [
        nbformat.v4.new_code_cell("1"),
        nbformat.v4.new_code_cell("2"),
        nbformat.v4.new_code_cell("3"),
        figure("lost;"),
    ]
    tidied = convert.tidy(nbformat.v4.new_notebook(cells=cells + far)).cells
    alts = [
        c.outputs[0].metadata.get("image/png", {}).get("alt") for c in tidied if c.get("outputs")
    ]
    assert alts[0].endswith("This notebook is about: reward+ppo.")
    assert alts[1:] == ["up is better, x is KL.", "up is better, x is KL.", None]


def test_notebooks_are_chosen_by_number_or_name_and_a_wrong_one_is_named(course):
    assert [p.stem for p in course.sources(["2", "01_small"])] == ["01_small", "02_next"]
    with pytest.raises(convert.Problem, match="no notebook '14'; there are 01_small"):
        course.sources(["14"])


def test_building_does_not_overwrite_a_notebook_somebody_worked_in(course, monkeypatch, capsys):
    monkeypatch.setattr(build, "Course", lambda: course)
    source = course.sources(["1"])[0]
    path = course.target(source, "student")
    notebook = convert.make(source, "student")
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="mine\n")]
    convert.write(notebook, path)
    assert build.main(["build", "01"]) == 2
    assert "01_small.ipynb has outputs" in capsys.readouterr().err and "mine" in path.read_text()
    assert build.main(["build", "01", "--force"]) == 0
    assert "mine" not in path.read_text()


# ---- the rules: every planted fault is found and named -------------------------------------------


def test_a_clean_notebook_has_no_fault(course):
    assert hygiene.check(course, ["01"]) == []


SOURCE_FAULTS = {
    "no top heading": ("# # A small", "# A small", "0 top headings"),
    "two top headings": ("# ## Exercise", "# # Exercise", "2 top headings"),
    "picture without alt text": ("![a harbour]", "![]", "without alt text"),
    "html picture without alt text": (
        "Two times.",
        'Two times. <img src="data.txt">',
        "without alt text",
    ),
    "dead link": ("(data.txt), [", "(nowhere.txt), [", "link to nowhere.txt leads nowhere"),
    "absolute path": ("size = 3", 'size = "/home/me/labels.db"', "absolute path /home/me"),
    "Windows path": ("size = 3", r'size = r"C:\Users\me"', "absolute path C:"),
    "long cell": ("size = 3", "size = 3\n" * 41, "41 lines"),
    "empty cell": ("size = 3\n", "", "is empty"),
    "unknown tag": ('["slow"]', '["slwo"]', "unknown tag 'slwo'"),
    "stub without dots": ("return ...", "return 0", "without a `...`"),
    "stub that is not Python": ("return ...", "return ... ...", "not valid Python"),
    "exercise without check": ('# %% tags=["check"]', "# %%", "no check cell"),
    "exercise without catch-up": ('# %% tags=["catch-up"]', "# %%", "no catch-up cell"),
    "exercise without solution": ('# %% tags=["solution"]', "# %%", "no solution cell"),
    "solution without exercise": ('# %% tags=["exercise"]', "# %%", "no exercise before it"),
    "no exercise": ('# %% tags=["exercise"]', "# %%", "0 exercises; there should be 1 to 8"),
    "check of one's own": (
        "checks.double(double)",
        "",
        "calls no function of rlhf_helpers.course.checks",
    ),
    "open hint": ("<details>", "", "a hint needs <details>"),
    "two parameter cells": (
        '["slow"]',
        '["parameters"]',
        "more than one cell is tagged parameters",
    ),
}


@pytest.mark.parametrize("old, new, message", SOURCE_FAULTS.values(), ids=SOURCE_FAULTS)
def test_a_fault_in_a_source_is_named(course, old, new, message):
    assert old in SOURCE
    text = SOURCE.replace("checks = __import__", "c = __import__") if "checks" in old else SOURCE
    write_source(course, text.replace(old, new, 1))
    faults = hygiene.check(course, ["01"])
    assert any(message in fault for fault in faults), faults
    assert all("01_small" in fault for fault in faults)


def planted(change, version="solution"):
    """Return a test step that changes one built notebook."""

    def plant(course):
        path = course.target(course.sources(["1"])[0], version)
        notebook = convert.read_notebook(path)
        change(notebook)
        nbformat.write(notebook, path)

    return plant


def say(text, **output):
    return (
        nbformat.v4.new_output("stream", name="stdout", text=text)
        if not output
        else nbformat.v4.new_output(**output)
    )


def swap_counts(notebook):
    notebook.cells[1].execution_count, notebook.cells[3].execution_count = 2, 1


BUILT_FAULTS = {
    "edited cell": (
        planted(lambda n: n.cells[1].update(source="size = 5")),
        "1 cell not as in the source, the first is cell 2",
    ),
    "edited student cell": (
        planted(lambda n: n.cells[1].update(source="size = 5"), "student"),
        "1 cell not as in the source",
    ),
    "lost cell": (planted(lambda n: n.cells.pop()), "1 cell not as in the source"),
    "unfolded answer": (
        planted(lambda n: [c.metadata.pop("jupyter", None) for c in n.cells], "student"),
        "1 cell not as in the source",
    ),
    "error": (
        planted(
            lambda n: n.cells[1].outputs.append(
                say("", output_type="error", ename="KeyError", evalue="", traceback=[])
            )
        ),
        "cell 2: shows an error, KeyError",
    ),
    "counts out of order": (planted(swap_counts), "not executed from top to bottom"),
    "cell not executed": (
        planted(lambda n: n.cells[1].update(execution_count=None)),
        "not executed from top to bottom",
    ),
    "absolute path in an output": (
        planted(lambda n: n.cells[1].outputs.append(say("saved to /tmp/x1/labels"))),
        "/tmp/x1 in an output",
    ),
    "address in an output": (
        planted(lambda n: n.cells[1].outputs.append(say("<function f at 0x7f00aa00bb00>"))),
        "with every run",
    ),
    "figure without alt text": (
        planted(
            lambda n: n.cells[1].outputs.append(
                say("", output_type="display_data", data={"image/png": "iVBOR"})
            )
        ),
        "cell 2: a figure without alt text",
    ),
    "widget state": (
        planted(lambda n: n.metadata.update(widgets={"state": {}})),
        "metadata.widgets",
    ),
    "jupytext metadata": (
        planted(lambda n: n.metadata.update(jupytext={}), "student"),
        "metadata.jupytext",
    ),
    "Python version": (
        planted(lambda n: n.metadata.language_info.update(version="3.12.1")),
        "one Python version",
    ),
    "other kernel": (
        planted(lambda n: n.metadata.kernelspec.update(name="conda-env")),
        "not python3",
    ),
    "executed student notebook": (
        planted(lambda n: n.cells[1].update(execution_count=1), "student"),
        "student notebook is kept without",
    ),
    "large file": (
        planted(lambda n: n.cells[1].outputs.append(say("x" * 3_000_001))),
        "is 3.0 MB, over the limit",
    ),
    "missing": (
        lambda course: (course.folder / "solutions/01_small.ipynb").unlink(),
        "solutions/01_small.ipynb: is not built",
    ),
    "not a notebook": (
        lambda course: (course.folder / "01_small.ipynb").write_text("{]"),
        "cannot be read as a notebook",
    ),
}


@pytest.mark.parametrize("plant, message", BUILT_FAULTS.values(), ids=BUILT_FAULTS)
def test_a_fault_in_a_built_notebook_is_named_and_nothing_else(course, plant, message):
    plant(course)
    faults = hygiene.check(course, ["01"])
    assert len(faults) == 1 and message in faults[0] and "01_small.ipynb" in faults[0], faults


def test_a_notebook_without_source_is_named(course):
    shutil.copy(course.folder / "01_small.ipynb", course.folder / "09_stray.ipynb")
    assert "09_stray.ipynb: has no source in notebooks/src" in hygiene.check(course)


def test_ordinary_words_are_not_taken_for_paths():
    fine = [
        "https://example.org/home/me",
        "and/or",
        "./tmp/x",
        "notebooks/work/x",
        "a ratio of 1/2",
        "~/runs",
        "</opt>",
        "../data/tmp/x",
    ]
    assert [text for text in fine if hygiene.PATH.search(text)] == []
    assert all(
        hygiene.PATH.search(text)
        for text in [
            "in /Users/ann/x",
            '"/root/x"',
            "file:///home/ann",
            "(/tmp/pytest-1)",
            "=/opt/py",
        ]
    )


# ---- the runner ----------------------------------------------------------------------------------


def run_source(tmp_path, text, version="solution", limits=(60, 60)):
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "05_ppo.py"
    source.write_text(text)
    (job,) = execute.execute_all(
        execute.plan(
            convert.Course(tmp_path), [source], (version,), tmp_path / "made", alone=False
        ),
        execute.Session("quick", tmp_path, limits),
    )
    return job


ENVIRONMENT = """import os, pathlib
print(*(os.environ[n] for n in ('RLHF_PROFILE', 'RLHF_HEADLESS', 'HF_HUB_OFFLINE')))
"""


def test_both_versions_run_with_profile_and_a_folder_of_their_own(course, tmp_path, capsys):
    source = course.sources(["1"])[0]
    save = "pathlib.Path(os.environ['RLHF_RUNS'], 'made.txt').write_text('x')\n"
    save += "print(pathlib.Path.cwd())\n"
    source.write_text(SOURCE + "\n# %%\n" + ENVIRONMENT + save)
    series = execute.plan(course, [source], convert.VERSIONS, tmp_path / "made", alone=True)
    student, solved = execute.execute_all(
        series, execute.Session("quick", course.folder, (60, 60), jobs=2)
    )
    assert student.failure is None and solved.failure is None
    said = [
        "".join(o.get("text", "") for c in convert.code_cells(j.notebook) for o in c.outputs)
        for j in (student, solved)
    ]
    assert said == [
        f"{verdict}\ndoubled: 6\nquick 1 1\n{course.folder}\n" for verdict in ("not yet", "right")
    ]
    assert (
        all((job.runs / "made.txt").exists() for job in (student, solved))
        and student.runs != solved.runs
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(
        line.startswith("ok") and "01_small" in line and "6/6 cells" in line for line in lines
    )


def test_a_failing_notebook_is_reported_with_cell_and_message(tmp_path, capsys):
    job = run_source(
        tmp_path,
        "# %% [markdown]\n# # Title\n\n# %%\nx = 1\n\n# %%\nbeta = {}\nbeta['kl']\n\n# "
        "%%\nprint('never')\n",
    )
    place, *rest = job.failure.splitlines()
    assert place == "notebooks/src/05_ppo.py (solution), cell 3 (05_ppo-002)"
    assert rest[:2] == ["    | beta = {}", "    | beta['kl']"] and rest[-1] == "    KeyError: 'kl'"
    assert len(rest) <= 2 + execute.LAST_LINES and "\x1b" not in job.failure
    assert capsys.readouterr().out.startswith("FAILED 05_ppo")


BUSY = """# %%
import time  # machine.announce("busy")
start = time.process_time()
while time.process_time() - start < 1:
    pass

# %%
time.sleep(2)  # machine.announce("waiting")
"""


def test_the_work_of_a_notebook_is_counted_in_seconds_of_the_processor(tmp_path):
    """By the clock, what else the machine did was recorded as work of the notebook."""
    job = run_source(tmp_path, BUSY)
    assert job.failure is None and set(job.work) == {"all", "busy", "waiting"}
    assert job.work["waiting"] < 0.9 <= job.work["busy"]
    assert job.work["busy"] + job.work["waiting"] <= job.work["all"]


def test_recorded_work_is_in_probes_and_keeps_what_was_not_run(tmp_path, monkeypatch, capsys):
    path = tmp_path / "recorded" / "work.json"
    path.parent.mkdir()
    path.write_text('{"laptop": {"01_small": {"all": 9.0}, "02_next": {"all": 1.0}}}')
    monkeypatch.setattr(importlib.import_module("rlhf_helpers.course.machine"), "WORK", path)
    job, failed, student = (
        execute.Job("01_small", version, nbformat.v4.new_notebook(), tmp_path)
        for version in ("solution", "solution", "student")
    )
    job.work, student.work = {"all": 60.0, "the fit": 24.0}, {"all": 1.0}
    failed.name, failed.failure, failed.work = "03_broken", "it broke", {"all": 1.0}
    build._record([job, failed, student], "laptop", probe=0.5)
    assert json.loads(path.read_text())["laptop"] == {
        "01_small": {"all": 120.0, "the fit": 48.0},
        "02_next": {"all": 1.0},
    }
    assert "recorded/work.json" in capsys.readouterr().out


def test_slow_cells_announce_themselves_by_different_names_that_are_recorded():
    sources = {p.stem: p.read_text() for p in (ROOT / "notebooks" / "src").glob("*.py")}
    names = {stem: execute.ANNOUNCED.findall(text) for stem, text in sources.items()}
    every = [name for found in names.values() for name in found]
    assert len(every) == len(set(every)) >= 5 and "all" not in every
    path = ROOT / "data" / "recorded" / "work.json"
    for recorded in (json.loads(path.read_text()) if path.exists() else {}).values():
        for stem, work in recorded.items():
            assert set(work) == {"all", *names[stem]}, f"{stem}: run `build.py run --record`"


def test_a_cell_over_its_time_is_reported_and_a_slow_one_has_more(tmp_path):
    wait = "import time\ntime.sleep(2)\n"
    job = run_source(tmp_path, f'# %% tags=["slow"]\n{wait}\n# %%\n{wait}', limits=(1, 30))
    assert "cell 2" in job.failure and "not finished after 1 s" in job.failure


def test_a_dead_kernel_is_reported(tmp_path):
    job = run_source(tmp_path, "# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "cell 1" in job.failure and "the kernel died" in job.failure


def test_the_table_shows_what_is_there_and_a_dash_for_the_rest(tmp_path):
    rows = [
        {"model": "base", "score": 0.0, "kl_nats": 0.0},
        {
            "model": "tuned",
            "score": 1.94,
            "kl_nats": 6.2,
            "win_rate": 0.91,
            "low": 0.88,
            "high": 0.93,
            "seconds": 204.4,
        },
    ]
    (tmp_path / "solution" / "runs").mkdir(parents=True)
    (tmp_path / "solution" / "runs" / "summary.json").write_text(
        json.dumps({"rows": rows, "look_at": "notebook 07"})
    )
    lines = execute.summary(tmp_path).splitlines()
    assert lines[2].split() == ["base", "+0.00", "0.0", "-", "-"]
    assert "91.0% (88.0% to 93.0%)" in lines[3] and "+1.94" in lines[3] and "204" in lines[3]
    assert lines[-1] == "Look at: notebook 07"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"rows": 3}', '{"rows": [1]}'])
def test_a_missing_or_broken_summary_is_said_and_does_not_stop(tmp_path, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    assert execute.summary(tmp_path).startswith(
        "(no summary" if content is None else "(the summary in summary.json cannot be read"
    )


def test_run_writes_nothing_beside_the_sources(course, monkeypatch, capsys):
    monkeypatch.setattr(build, "Course", lambda: course)
    before = {path: path.read_bytes() for path in course.folder.rglob("*") if path.is_file()}
    assert build.main(["run", "--profile", "quick", "--solution", "01"]) == 0
    assert {
        path: path.read_bytes() for path in course.folder.rglob("*") if path.is_file()
    } == before
    assert "1 notebooks in" in capsys.readouterr().out


def test_build_execute_writes_outputs_in_order_and_the_same_bytes_again(course, monkeypatch):
    monkeypatch.setattr(build, "Course", lambda: course)
    assert build.main(["build", "--execute", "01"]) == 0
    path = course.folder / "solutions" / "01_small.ipynb"
    first = path.read_bytes()
    assert b"doubled: 6" in first and hygiene.check(course, ["01"]) == []
    assert build.main(["build", "--execute", "01"]) == 0 and path.read_bytes() == first
    assert build.main(["build", "01"]) == 0 and path.read_bytes() == first


def test_every_command_has_help_with_examples(capsys):
    for command in ("build", "check", "run"):
        with pytest.raises(SystemExit):
            build.main([command, "--help"])
        assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_solutions_show_every_figure_they_draw(path):
    """Without `%matplotlib inline` only the first figure of a notebook was shown, and nothing said
    so."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    drawn = [
        c
        for c in cells
        if c["cell_type"] == "code"
        and re.search(r"^plots\.\w+\(", "".join(c["source"]), re.MULTILINE)
    ]
    blank = [
        c["id"] for c in drawn if not any("image/png" in o.get("data", {}) for o in c["outputs"])
    ]
    assert drawn and blank == []


def test_the_temporary_folder_of_a_headless_run_is_called_runs():
    """The receipt of a hand-in names its file, and outputs must not differ from run to run."""
    import nbformat

    where = "/somewhere/rlhf-x1_y/solution/runs/me_labels.jsonl"
    html = f"<code>../..{where}</code>"
    output = nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": where})
    cell = nbformat.v4.new_code_cell("x", outputs=[output])
    done = convert.tidy(nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs[0].data
    name = "runs/me_labels.jsonl"
    assert done == {"text/html": f"<code>{name}</code>", "text/plain": name}
