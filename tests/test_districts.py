"""The three districts: the algorithm imports neither `labels` nor `course` nor `cli`, and `labels`
imports from the algorithm only `records`. No import runs in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rlhf_helpers"
OTHERS = ("labels", "cli", "course")  # every other module belongs to the algorithm
NOTEBOOK_PACKAGES = """pandas matplotlib ipywidgets anywidget datasets pyarrow jupyter jupyterlab
    IPython scipy statsmodels krippendorff accelerate sqlalchemy""".split()


def module_of(path):
    """Name the module of a file: `labels.store` for labels/store/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name: path for path in sorted(PACKAGE.rglob("*.py")) if (name := module_of(path))}


def own_imports(source):
    """Name the modules of this package that the source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            while package == "rlhf_helpers" and rest:
                if rest in MODULES:
                    yield rest
                    break
                rest = rest.rpartition(".")[0]


def imports_of(module):
    return set(own_imports(MODULES[module].read_text(encoding="utf-8"))) - {module}


def district(module):
    first = module.partition(".")[0]
    return first if first in OTHERS or first == "__main__" else "algorithm"


def test_the_reader_of_imports_sees_every_form():
    source = (
        "import torch, rlhf_helpers.ppo\nfrom rlhf_helpers import tasks, models\n"
        "def f():\n    from rlhf_helpers.runtime.runs import Run\n"
        "from rlhf_helpers.labels import store\n"
    )
    assert sorted(own_imports(source)) == ["labels.store", "models", "ppo", "runtime.runs", "tasks"]


@pytest.mark.parametrize("module", [m for m in MODULES if district(m) == "algorithm"])
def test_the_algorithm_imports_neither_of_the_other_districts(module):
    assert {district(m) for m in imports_of(module)} <= {"algorithm"}


@pytest.mark.parametrize("module", [m for m in MODULES if district(m) == "labels"])
def test_labels_import_from_the_algorithm_only_records(module):
    assert {m for m in imports_of(module) if district(m) != "labels"} <= {"records"}


def test_no_import_runs_in_a_circle():
    graph = {}
    for module in MODULES:  # importing a.b runs a first, except for a's own parts
        graph[module] = {m for m in imports_of(module) if not m.startswith(f"{module}.")}
        graph[module] -= {m for m in graph[module] if module.startswith(f"{m}.")}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_package_itself_imports_nothing():
    assert not list(own_imports((PACKAGE / "__init__.py").read_text(encoding="utf-8")))


def test_the_algorithm_needs_no_notebook_package_and_no_database():
    algorithm = [m for m in MODULES if district(m) == "algorithm"]
    assert len(algorithm) >= 18
    code = f"import sys; sys.modules.update(dict.fromkeys({NOTEBOOK_PACKAGES}))\n"
    code += "".join(f"import rlhf_helpers.{m}\n" for m in algorithm)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr[-2000:]
