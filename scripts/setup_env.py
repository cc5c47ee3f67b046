"""Make .venv and install the course into it; once that is done, calling it again returns at once.

`make lab` and `make run` call it, `make test` with --dev, which adds what tests and benchmarks
need. Where there is no make:

    python3 scripts/setup_env.py
    . .venv/bin/activate
    jupyter lab notebooks/00_whole_game.ipynb

Standard library only, and written so that a Python too old for the course can still read it and say
so.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = (
    os.path.join(VENV, "Scripts", "python.exe")
    if os.name == "nt"
    else os.path.join(VENV, "bin", "python")
)
STAMP, LOG = os.path.join(VENV, "ready"), os.path.join(VENV, "setup.log")
OLDEST, NEWEST = (3, 11), (3, 13)
# room for downloads and the installed packages; CUDA is most of the second
DISK_GB = {"cpu": 3, "gpu": 10}
PIP = [PYTHON, "-m", "pip", "install", "-c", "constraints.txt"]

# What pip, uv and venv say when they fail, and what that means: the first pattern that is found
# counts.
AGAIN = "then run the same command again; it goes on where it stopped."
ANY, DISK = r"", r"No space left|Disk quota exceeded|Errno 28"
NETWORK = (
    r"NewConnectionError|name resolution|Name or service not known|nodename nor servname|"
    r"unreachable|Max retries|"
    r"[Cc]onnection refused|[Tt]imed? ?out|ProxyError|ConnectionResetError|IncompleteRead|dns error"
)
REASONS = [
    (
        r"ensurepip|No module named '?(venv|pip)",
        "this Python has no complete venv module. On Debian and Ubuntu: sudo apt install "
        "python3-venv; " + AGAIN,
    ),
    (
        DISK,
        "the disk is full, or the folder for temporary files is. Free about %d GB, or set TMPDIR "
        "to a folder with "
        "room, %s" % (DISK_GB["cpu"], AGAIN),
    ),
    (
        r"Permission denied|Errno 13|Read-only file system",
        "a folder may not be written to. Clone the repository into a folder of your own, and try "
        "there.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "the secure connection was refused. Behind a company proxy, let PIP_CERT name its "
        "certificate file, " + AGAIN,
    ),
    (
        NETWORK,
        "the package index cannot be reached. Only this set-up needs the network: connect (look at "
        "the proxy, if you "
        "have one), " + AGAIN,
    ),
    (
        r"No matching distribution found for torch",
        "there is no build of torch for this machine. It exists for 64-bit CPython on Linux "
        "(x86-64 and ARM) and on "
        "macOS 14 or newer (Apple silicon).",
    ),
    (
        r"No matching distribution|ResolutionImpossible",
        "the package index lacks one of the pinned versions. If you use a mirror (`pip config "
        "list`), leave it out, " + AGAIN,
    ),
]


def python_problem(version):
    """What is wrong with this version of Python, or None."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    return (
        "This is Python %d.%d; the course needs 3.%d to 3.%d. Install one of these (from your "
        "package manager or the "
        "Python website) and name it: make lab PYTHON=python3.%d, or, without make: python3.%d "
        "scripts/setup_env.py"
        % (version[0], version[1], OLDEST[1], NEWEST[1], NEWEST[1], NEWEST[1])
    )


def write_problem(folders, may_write=lambda folder: os.access(folder, os.W_OK)):
    """Which of these folders cannot be written to, and what to do, or None."""
    for folder in folders:
        if os.path.exists(folder) and not may_write(folder):
            return (
                "No write access to %s. Clone the repository into a folder of your own, and try "
                "there." % folder
            )
    return None


def disk_problem(free_gb, kind):
    """Whether too little of the disk is free, and what to do, or None."""
    if free_gb >= DISK_GB[kind]:
        return None
    return (
        "Only %.1f GB of disk are free here and the set-up needs about %d GB. Free some space, or "
        "clone the repository "
        "to another disk, and run the same command again." % (free_gb, DISK_GB[kind])
    )


def check(problem):
    """End with the problem's sentence, if there is one."""
    if problem:
        raise SystemExit(problem)


def diagnose(output):
    """One sentence of help, made from what a failed step printed."""
    for pattern, sentence in REASONS:
        if re.search(pattern, output):
            return sentence
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "its last words were: " + (lines[-1] if lines else "(none)")


def has_gpu():
    """Whether the NVIDIA driver lists a GPU."""
    try:
        return b"GPU " in subprocess.check_output(["nvidia-smi", "-L"], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False


def torch_steps(version, gpu, system):
    """The ways to get torch, best first: (title, commands, failures that end the set-up).

    On Linux the package index has only the build that brings gigabytes of CUDA with it; uv knows
    where the others are.
    """
    plain = ("torch %s" % version, [PIP + ["torch==" + version]], ANY)
    if gpu or system != "Linux":
        return [plain]
    uv = [
        PYTHON,
        "-m",
        "uv",
        "pip",
        "install",
        "--python",
        PYTHON,
        "--torch-backend=cpu",
        "-c",
        "constraints.txt",
    ]
    return [
        (
            "torch %s, CPU build as a local wheel" % version,
            [PIP + ["torch==%s+cpu" % version]],
            DISK + "|" + NETWORK,
        ),
        (
            "torch %s, CPU build through uv" % version,
            [PIP + ["uv"], uv + ["torch==" + version]],
            DISK,
        ),
        plain,
    ]


def fingerprint():
    """Changes when the packages asked for change, and when the folder moves (a venv does not
    survive that)."""
    digest = hashlib.sha256(VENV.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_ready(dev=False):
    """Whether an earlier call has already installed all of it (what developers need, too)."""
    if not (os.path.exists(STAMP) and os.path.exists(PYTHON)):
        return False
    with open(STAMP) as file:
        stamp = file.read().split()
    return stamp[:1] == [fingerprint()] and (not dev or "dev" in stamp)


def warn_of_cpu_build():
    """Say so where a GPU stands idle because .venv was made on a machine without one (the login
    node of a cluster)."""
    with open(STAMP) as file:
        made_for = file.read().split()[1:]
    if "cpu" in made_for and has_gpu():
        say(
            "Note: here is a GPU, but .venv has the CPU build of torch. Remove .venv and run this "
            "again to use the GPU."
        )


def say(text, end="\n"):
    """Print at once, also into a pipe."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def show(line=""):
    """Replace the moving line of a terminal."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        say("\r" + line[:width].ljust(width), end="\r")


def run(commands):
    """Run commands until one fails; (worked, output). The terminal sees one moving line,
    .venv/setup.log gets all."""
    environment = dict(
        os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off", PIP_USER="0"
    )
    output, code = [], 0
    for command in commands:
        output.append("$ %s\n" % " ".join(command))
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for line in process.stdout:
            output.append(line.decode("ascii", "backslashreplace"))
            show("    " + output[-1].strip())
        code = process.wait()
        if code:
            break
    show()
    if os.path.isdir(VENV):
        with open(LOG, "a") as log:
            log.writelines(output)
    return code == 0, "".join(output)


def step(title, commands, fatal=ANY):
    """One line of progress; whether it worked. A failure whose output matches `fatal` ends the
    set-up."""
    started = time.time()
    worked, output = run(commands)
    failed = not worked and re.search(fatal, output)
    say(
        "  %s: %s"
        % (
            title,
            "failed" if failed else "%.0f s" % (time.time() - started) if worked else "not here",
        )
    )
    if failed:
        raise SystemExit(
            "\nThe set-up stopped at '%s': %s\nAll output: %s" % (title, diagnose(output), LOG)
        )
    return worked


def fits(python, *modules):
    """Whether this Python runs, is of a version that the course supports, and has these modules."""
    words = (", ".join(("sys",) + modules), OLDEST, NEWEST)
    question = "import %s; sys.exit(not %r <= sys.version_info[:2] <= %r)" % words
    try:
        return (
            subprocess.call(
                [python, "-c", question], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            == 0
        )
    except OSError:
        return False


def make_venv():
    """Make .venv. Debian ships a Python that cannot put pip into it; then the pip outside does."""
    if fits(PYTHON, "pip"):
        return
    venv, outside = (
        [sys.executable, "-m", "venv", "--clear", VENV],
        [sys.executable, "-m", "pip", "--python", PYTHON],
    )
    if not step("virtual environment", [venv], fatal=DISK):
        step(
            "virtual environment, pip from outside",
            [venv + ["--without-pip"], outside + ["install", "pip"]],
        )


def install_torch(gpu, system):
    """Torch before all else, because what asks for torch later would bring CUDA."""
    with open(os.path.join(ROOT, "constraints.txt")) as file:
        version = re.search(r"^torch==([\w.]+)", file.read(), re.MULTILINE).group(1)
    *without_cuda, usual = torch_steps(version, gpu, system)
    if any(step(*way) for way in without_cuda):
        return
    if without_cuda:
        say(
            "  No CPU build can be had from here: taking the usual one, with about 5 GB of CUDA. "
            "Ctrl-C stops it."
        )
        check(disk_problem(shutil.disk_usage(ROOT).free / 1e9, "gpu"))
    step(*usual)


def calm_jupyterlab():
    """JupyterLab opens without asking about news and without looking for updates: the course needs
    no network."""
    folder = os.path.join(VENV, "share", "jupyter", "lab", "settings")
    os.makedirs(folder, exist_ok=True)
    settings = {"fetchNews": "false", "checkForUpdates": False}
    with open(os.path.join(folder, "overrides.json"), "w") as file:
        json.dump({"@jupyterlab/apputils-extension:notification": settings}, file)


def install(dev=False):
    """All of it, in order, each part checked before the next."""
    gpu, free_gb = has_gpu(), shutil.disk_usage(ROOT).free / 1e9
    check(write_problem([ROOT, VENV]))
    begun = fits(PYTHON, "torch")  # then most of the room is already taken, by us
    check(None if begun else disk_problem(free_gb, "gpu" if gpu else "cpu"))
    say(
        "Setting up .venv (a few minutes, only this once; it is the one part that needs the "
        "network)"
    )
    started = time.time()
    make_venv()
    step("pip", [[PYTHON, "-m", "pip", "install", "--upgrade", "pip"]])
    install_torch(gpu, platform.system())
    step("everything else", [PIP + ["-e", ".[notebooks,dev]" if dev else ".[notebooks]"]])
    calm_jupyterlab()
    with open(STAMP, "w") as file:
        file.write("%s %s%s" % (fingerprint(), "gpu" if gpu else "cpu", " dev" if dev else ""))
    say("Ready after %.0f s." % (time.time() - started))
    if "MAKELEVEL" not in os.environ:
        say("Now: . .venv/bin/activate && jupyter lab notebooks/00_whole_game.ipynb")


def main():
    """Return at once when nothing is to be done; look for a fitting Python if this one is not;
    install."""
    dev = "--dev" in sys.argv[1:]
    if is_ready(dev):
        return warn_of_cpu_build()
    problem = python_problem(sys.version_info)
    if problem:
        minors = range(NEWEST[1], OLDEST[1] - 1, -1)
        python = next(
            (name for name in ("python3.%d" % minor for minor in minors) if fits(name)), None
        )
        check(None if python else problem)
        say(
            "This is Python %d.%d; going on with %s."
            % (sys.version_info[0], sys.version_info[1], python)
        )
        os.execvp(python, [python, os.path.realpath(__file__)] + sys.argv[1:])
    try:
        install(dev)
    except KeyboardInterrupt:
        raise SystemExit("\nStopped. The same command goes on from here.") from None
    except OSError as error:
        raise SystemExit("The set-up stopped: %s" % diagnose(str(error))) from None


if __name__ == "__main__":
    main()
