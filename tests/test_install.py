"""The way in: pins, ranges and conda file agree, and the set-up explains every failure in a
sentence."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(line)
    for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in group
]
PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def load_setup():
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load_setup()


def pinned_version(name: str) -> str:
    (specifier,) = PINS[canonicalize_name(name)].specifier
    assert specifier.operator == "==", f"{name} is not pinned to one version: {specifier}"
    return specifier.version


# pyproject.toml, constraints.txt and environment.yml in step


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_every_direct_dependency_has_a_pin_within_its_range(requirement):
    assert requirement.specifier, f"{requirement.name} has no lower bound"
    assert requirement.specifier.contains(pinned_version(requirement.name))


def test_every_pin_is_exact():
    for name in PINS:
        pinned_version(name)


def test_everything_that_is_installed_for_us_has_a_pin():
    """Walks the installed packages' own metadata: an oracle that has not seen constraints.txt."""
    waiting, seen, free = (
        [(requirement.name, requirement.extras) for requirement in DIRECT],
        set(),
        set(),
    )
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, *extras) in seen:
            continue
        seen.add((name, *extras))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # not installed, or not for this platform
            continue
        # torch names those exactly
        if name not in PINS and not re.match("nvidia|cuda|triton", name):
            free.add(name)
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                waiting.append((requirement.name, requirement.extras))
    assert not free, f"installed without a pin: {sorted(free)}; run `make pins`"


def test_what_runs_is_what_is_pinned():
    if Path(sys.prefix).resolve() != ROOT / ".venv" or not setup_env.is_ready():
        pytest.skip("not running in the finished .venv")
    for name, pin in PINS.items():
        if pin.marker is None or pin.marker.evaluate():
            assert pin.specifier.contains(metadata.version(name), prereleases=True), name


def test_packages_of_one_platform_carry_a_marker():
    for name in ("appnope", "colorama", "pywinpty", "pexpect", "ptyprocess"):
        assert name not in PINS or PINS[name].marker, f"{name} would be asked for on every platform"
    assert not [name for name in PINS if re.match("nvidia|cuda|triton", name)], (
        "torch pins its own CUDA packages"
    )


def test_environment_yml_gives_the_same_versions():
    conda = dict(line.split(" ", 1) for line in CONDA if isinstance(line, str) and " " in line)
    (pip,) = [entry["pip"] for entry in CONDA if isinstance(entry, dict)]
    assert conda["pytorch-cpu"] == f"={pinned_version('torch')}"
    assert pip == ["-c constraints.txt", "-e .[notebooks]"]
    assert set(PROJECT["optional-dependencies"]) == {"notebooks", "dev"}
    assert SpecifierSet(conda["python"]) == SpecifierSet(PROJECT["requires-python"])


def test_the_set_up_accepts_exactly_the_pythons_of_pyproject():
    supported = SpecifierSet(PROJECT["requires-python"])
    for minor in range(6, 20):
        assert (setup_env.python_problem((3, minor, 2)) is None) == supported.contains(
            f"3.{minor}.2"
        )


# What the set-up says


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0), (2, 7, 18)])
def test_a_python_that_does_not_fit_is_told_what_to_do(version):
    message = setup_env.python_problem(version)
    assert (
        f"Python {version[0]}.{version[1]};" in message and "make lab PYTHON=python3.13" in message
    )


def test_the_set_up_can_be_read_by_an_old_python():
    import ast

    ast.parse((ROOT / "scripts" / "setup_env.py").read_text(), feature_version=(3, 6))


def test_a_folder_without_write_access_is_named(tmp_path):
    assert setup_env.write_problem([str(tmp_path)]) is None
    assert str(tmp_path) in setup_env.write_problem([str(tmp_path)], may_write=lambda folder: False)
    assert (
        setup_env.write_problem([str(tmp_path / "not yet there")], may_write=lambda folder: False)
        is None
    )


def test_a_full_disk_is_told_with_both_numbers():
    assert setup_env.disk_problem(3.5, "cpu") is None
    message = setup_env.disk_problem(0.42, "cpu")
    assert "0.4 GB" in message and "3 GB" in message
    assert setup_env.disk_problem(5.0, "gpu")


@pytest.mark.parametrize(
    "output, words",
    [
        (
            "WARNING: NewConnectionError(...)\nERROR: No matching distribution found for numpy",
            "needs the network",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            "disk is full",
        ),
        ("OSError: [Errno 13] Permission denied: '/opt/x'", "folder of your own"),
        (
            "Error: ... not created successfully because ensurepip is not available.",
            "apt install python3-venv",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0",
            "no build of torch for this machine",
        ),
        ("ERROR: No matching distribution found for tqdm==4.70.1", "mirror"),
        ("something new\nand strange\n", "last words were: and strange"),
        ("", "last words were: (none)"),
    ],
)
def test_a_failed_step_is_explained(output, words):
    assert words in setup_env.diagnose(output)


def test_torch_is_looked_for_without_cuda_where_there_is_no_gpu():
    def commands(**machine):
        return [" ".join(group[-1]) for _, group, _ in setup_env.torch_steps("9.9.9", **machine)]

    local, through_uv, last = commands(gpu=False, system="Linux")
    assert local.endswith("torch==9.9.9+cpu")
    assert "-m uv pip install" in through_uv and "--torch-backend=cpu" in through_uv
    assert commands(gpu=True, system="Linux") == commands(gpu=False, system="Darwin") == [last]
    assert all("-c constraints.txt" in command for command in (local, through_uv, last))


NO_LOCAL_WHEEL = "ERROR: No matching distribution found for torch==2.13.0+cpu"
NO_NETWORK = "NewConnectionError: Network is unreachable"


@pytest.mark.parametrize(
    "answers, free_gb, tried, ends",
    [
        ([None], 50, 1, None),
        ([NO_LOCAL_WHEEL, None], 50, 2, None),
        # only the CPU builds' index is out of reach
        ([NO_LOCAL_WHEEL, "error: dns error", None], 50, 3, None),
        # and CUDA would not fit
        ([NO_LOCAL_WHEEL, "error: dns error"], 5, 2, "5.0 GB of disk are free"),
        ([NO_NETWORK], 50, 1, "needs the network"),
    ],
)
def test_torch_comes_the_smallest_way_there_is(monkeypatch, capsys, answers, free_gb, tried, ends):
    replies, calls = iter(answers), []

    def run(commands):
        calls.append(commands)
        failure = next(replies)
        return failure is None, failure or ""

    monkeypatch.setattr(setup_env, "run", run)
    monkeypatch.setattr(
        setup_env.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 1e9)
    )
    if ends is None:
        setup_env.install_torch(gpu=False, system="Linux")
    else:
        with pytest.raises(SystemExit, match=ends):
            setup_env.install_torch(gpu=False, system="Linux")
    assert len(calls) == tried
    assert ("5 GB of CUDA" in capsys.readouterr().out) == (
        len(answers) > 1 and "dns" in (answers[1] or "")
    )


# The whole script, in a copy of its own


@pytest.fixture
def checkout(tmp_path):
    """A folder with a space in its name that holds all the set-up reads, and no .venv."""
    folder = tmp_path / "my course"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup_env.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def call_setup(folder, **environment):
    command = [sys.executable, "scripts/setup_env.py"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )


def test_a_second_call_does_nothing(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    ask = [sys.executable, "-c", "import setup_env; print(setup_env.fingerprint())"]
    stamp = subprocess.run(
        ask, cwd=checkout / "scripts", capture_output=True, text=True, check=True
    ).stdout
    (checkout / ".venv" / "ready").write_text(stamp)
    started = time.monotonic()
    done = call_setup(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 2


def test_without_network_it_stops_with_a_sentence(checkout):
    """A real failure: the index is a closed port of this machine."""
    done = call_setup(
        checkout,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/",
        PIP_FIND_LINKS="",
        PIP_RETRIES="1",
    )
    assert done.returncode == 1
    assert "needs the network" in done.stderr and "Traceback" not in done.stderr
    assert "NewConnectionError" in (checkout / ".venv" / "setup.log").read_text()
    assert not (checkout / ".venv" / "ready").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_in_a_read_only_folder_it_stops_with_a_sentence(checkout):
    checkout.chmod(0o555)
    done = call_setup(checkout)
    checkout.chmod(0o755)
    assert (
        done.returncode == 1 and "No write access" in done.stderr and "Traceback" not in done.stderr
    )


# make and continuous integration


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
@pytest.mark.parametrize(
    "target", ["lab", "run", "test", "lint", "unit", "data", "base", "notebooks", "pins"]
)
def test_every_command_does_the_set_up_first(target):
    plan = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert plan.index("scripts/setup_env.py") < plan.index(".venv/bin/python ")
    developers = target in ("test", "lint", "unit", "pins")
    assert ("setup_env.py --dev" in plan) == developers  # students do not install trl, playwright


def test_a_student_needs_nothing_that_only_developers_install(monkeypatch, tmp_path):
    """One set for all: learners downloaded trl, playwright and a database driver."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    developers = " ".join(extras["optional-dependencies"]["dev"])
    course = " ".join(extras["optional-dependencies"]["notebooks"] + extras["dependencies"])
    for name in ("trl", "playwright", "psycopg", "hypothesis", "pytest"):
        assert name in developers and name not in course
    (tmp_path / "ready").write_text(f"{setup_env.fingerprint()} cpu")
    monkeypatch.setattr(setup_env, "STAMP", str(tmp_path / "ready"))
    monkeypatch.setattr(setup_env, "PYTHON", sys.executable)
    assert setup_env.is_ready() and not setup_env.is_ready(dev=True)
    (tmp_path / "ready").write_text(f"{setup_env.fingerprint()} cpu dev")
    assert setup_env.is_ready() and setup_env.is_ready(dev=True)


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_a_missing_python_is_named():
    done = subprocess.run(
        ["make", "setup", "PYTHON=python3.99"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0 and "There is no python3.99 here" in done.stdout + done.stderr


def test_ci_runs_all_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)", script.read_text(), re.MULTILINE) == [
        "test",
        "browser",
        "mutants",
    ]
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize(
    ("made_for", "gpu", "noted"), [("cpu", True, True), ("cpu", False, False), ("gpu", True, False)]
)
def test_a_venv_made_without_a_gpu_says_so_where_there_is_one(
    monkeypatch, tmp_path, capsys, made_for, gpu, noted
):
    """Set up on a cluster's login node, the course trained on the CPU of a node with GPUs without a
    word."""
    (tmp_path / "ready").write_text(f"{setup_env.fingerprint()} {made_for}")
    monkeypatch.setattr(setup_env, "STAMP", str(tmp_path / "ready"))
    monkeypatch.setattr(setup_env, "PYTHON", sys.executable)
    monkeypatch.setattr(setup_env, "has_gpu", lambda: gpu)
    assert setup_env.is_ready()
    setup_env.main()
    assert ("Remove .venv" in capsys.readouterr().out) == noted
