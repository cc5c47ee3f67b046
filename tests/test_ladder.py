"""A module imports only from strictly lower floors, and floors 0 to 4 need no notebook package."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rlhf_helpers"
FLOORS = {
    "tensors": 0, "records": 0, "optim": 0, "database": 0, "pretrained": 0, "ranks": 0, "files": 0,
    "tasks": 1, "models": 1, "runs": 1, "store": 1,
    "sampling": 2, "memory": 2, "sessions": 2, "exchange": 2, "agreement": 2, "reports": 2,
    "labelers": 3, "reward": 3, "hub": 3,
    "ppo": 4, "evaluation": 4,
    "presets": 5, "online": 5, "alternatives": 5, "widgets": 5, "plots": 5, "checks": 5, "options": 5,
    "commands": 6, "cli": 7, "__main__": 8,
}  # fmt: skip
FILES = {path.stem: path for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
FILES |= {path.parent.name: path for path in PACKAGE.glob("*/__init__.py")}  # a folder with one door: `checks`
MODULES = sorted(FILES)
NOTEBOOK_PACKAGES = ["pandas", "matplotlib", "ipywidgets", "anywidget", "datasets", "pyarrow", "jupyter", "jupyterlab", "IPython",
                     "scipy", "statsmodels", "krippendorff", "accelerate"]  # fmt: skip


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
            if package == "rlhf_helpers":
                yield rest.split(".")[0]


def test_the_reader_of_imports_sees_every_form():
    source = "import torch, rlhf_helpers.ppo\nfrom rlhf_helpers import tasks, models\ndef f():\n    from rlhf_helpers.runs import Run\n"
    assert sorted(own_imports(source)) == ["models", "ppo", "runs", "tasks"]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_stands_on_a_floor_and_imports_only_from_lower_ones(module):
    assert module in FLOORS, f"{module}.py stands on no floor: give it one here and in the README"
    sources = FILES[module].parent.glob("*.py") if FILES[module].stem == "__init__" else [FILES[module]]
    for imported in {name for path in sources for name in own_imports(path.read_text(encoding="utf-8"))} - {module}:
        assert imported in FLOORS, f"{module} imports {imported}"
        assert FLOORS[imported] < FLOORS[module], f"{module} (floor {FLOORS[module]}) imports {imported} (floor {FLOORS[imported]})"


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("_")])
def test_a_module_says_its_floor_as_the_table_does(module):
    said = re.match(r"Floor (\d)\b", ast.get_docstring(ast.parse(FILES[module].read_text(encoding="utf-8"))))
    assert said and int(said[1]) == FLOORS[module]


def test_the_package_itself_imports_nothing():
    assert not list(own_imports((PACKAGE / "__init__.py").read_text(encoding="utf-8")))


def test_training_needs_no_notebook_package():
    low = [m for m in MODULES if FLOORS[m] <= 4]
    assert len(low) >= 10
    code = f"import sys; sys.modules.update(dict.fromkeys({NOTEBOOK_PACKAGES}))\n" + "".join(f"import rlhf_helpers.{m}\n" for m in low)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr[-2000:]
