"""Execute notebooks headless: fresh kernels, a fresh folder for what they make, short reports of
what went wrong."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from nbtools import convert
from nbtools.convert import Course, tags

# seconds for a cell, for one tagged `slow`
LIMITS = {"quick": (240, 480), "laptop": (600, 3_600), "gpu": (1_800, 36_000)}
LAST_LINES = 12
# the name that a cell announces its time by, as `rlhf_helpers.course.machine` reads it
ANNOUNCED = re.compile(r"machine\.announce\([\"']([^\"']+)[\"']\)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Job:
    """One notebook to execute in a kernel of its own."""

    name: str  # 05_ppo
    version: str  # student or solution
    notebook: NotebookNode
    runs: Path  # RLHF_RUNS of its kernel
    cell: int = 0  # code cells begun, of `cells`
    seconds: float = 0.0
    longest: tuple[float, int] = (0.0, 0)  # seconds, position in the notebook
    # seconds of the processor: of the whole, and of the cells that announce how long they take
    work: dict[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def cells(self) -> int:
        return sum(1 for cell in convert.code_cells(self.notebook) if cell.source.strip())

    def __str__(self) -> str:
        return f"{self.name} ({self.version}) cell {self.cell}/{self.cells} {self.seconds:.0f} s"


@dataclass
class Screen:
    """One line per finished notebook; on a terminal also a line, always rewritten, about those that
    are running."""

    running: list[Job] = field(default_factory=list)
    live: bool = field(default_factory=sys.stdout.isatty)

    def show(self) -> None:
        if self.live:
            print("\r\033[K" + "   ".join(map(str, self.running))[:110], end="", flush=True)

    def finished(self, job: Job) -> None:
        self.running.remove(job)
        cells = f"{job.cell:3d}/{job.cells} cells"
        longest = (
            f"   longest: cell {job.longest[1]}, {job.longest[0]:.0f} s"
            if job.longest[0] >= 5
            else ""
        )
        verdict = "FAILED" if job.failure else "ok    "
        head = "\r\033[K" if self.live else ""
        print(
            f"{head}{verdict} {job.name:24} {job.version:8} {cells} {job.seconds:6.1f} s{longest}",
            flush=True,
        )
        self.show()


@dataclass
class Session:
    """What all notebooks of one call share."""

    profile: str
    folder: Path  # where the kernels work
    limits: tuple[float, float]  # seconds for a cell, for one tagged `slow`
    done: Callable[[Job], None] = lambda job: None
    jobs: int = 1  # series side by side
    screen: Screen = field(default_factory=Screen)
    main: asyncio.Task[Any] | None = None
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True
        if self.main is not None:
            self.main.cancel()

    def take_signals(self) -> None:
        """Let Ctrl+C end everything: nbclient would only end one kernel, and the next notebook
        would begin."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)


# ---- one notebook --------------------------------------------------------------------------------


def environment(profile: str, runs: Path, jobs: int = 1) -> dict[str, str]:
    """Return the variables a kernel sees: profile, headless, offline, where its files go, its share
    of the cores."""
    share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    return (
        share
        | os.environ
        | {
            "RLHF_PROFILE": profile,
            "RLHF_HEADLESS": "1",
            "RLHF_RUNS": str(runs),
            "HF_HUB_OFFLINE": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "IPYTHONDIR": str(runs.parent / "ipython"),
        }
    )


async def execute(job: Job, session: Session) -> None:
    """Execute one notebook from a fresh kernel; what went wrong is put into `job.failure`."""
    job.runs.mkdir(parents=True, exist_ok=True)
    log = job.runs.parent / f"{job.name}.log"
    session.screen.running.append(job)
    started = time.monotonic()
    client = _client(job, session, started)
    with log.open("w", encoding="utf-8") as file:
        try:
            await client.async_execute(
                env=environment(session.profile, job.runs, session.jobs), stdout=file, stderr=file
            )
        except (CellExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as error:
            if session.stopped:
                raise asyncio.CancelledError from None
            job.failure = explain(job, error, log, session.limits)
        finally:
            if client.km is None:  # the kernel has ended: nothing is left to do at exit
                atexit.unregister(client._cleanup_kernel)
    job.seconds = time.monotonic() - started
    session.screen.finished(job)
    session.take_signals()


def _client(job: Job, session: Session, started: float) -> NotebookClient:
    """Make the client that executes a job and keeps its progress up to date."""
    begun, worked = started, 0.0

    def cell_starts(cell: NotebookNode, cell_index: int) -> None:
        nonlocal begun, worked
        begun, worked = time.monotonic(), _processor_seconds(client)
        job.cell += cell.cell_type == "code" and bool(cell.source.strip())
        job.seconds = begun - started
        session.screen.show()

    def cell_ends(cell: NotebookNode, cell_index: int, **_: Any) -> None:
        job.longest = max(job.longest, (time.monotonic() - begun, cell_index + 1))
        job.work["all"] = now = _processor_seconds(client)
        for name in ANNOUNCED.findall(cell.source):
            job.work[name] = now - worked

    client = NotebookClient(
        job.notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(session.folder)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        timeout_func=lambda cell: int(session.limits["slow" in tags(cell)]),
        startup_timeout=120,
        on_cell_start=cell_starts,
        on_cell_executed=cell_ends,
        on_notebook_start=lambda notebook: session.take_signals(),
    )
    return client


def _processor_seconds(client: NotebookClient) -> float:
    """Say how long the kernel, and the processes it started, have had the processor."""
    try:
        return sum(psutil.Process(client.km.provisioner.pid).cpu_times()[:4])
    except psutil.NoSuchProcess:  # it died; that is told elsewhere
        return 0.0


def probe_seconds(profile: str, runs: Path, jobs: int) -> float:
    """Time the fixed piece of work by the processor's clock, as a kernel would do it."""
    words = [sys.executable, "-m", "rlhf_helpers.course.machine"]
    done = subprocess.run(
        words, env=environment(profile, runs, jobs), capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def explain(job: Job, error: Exception, log: Path, limits: tuple[float, float]) -> str:
    """Say which notebook and cell failed, show the cell, then the last lines of what it said."""
    index, cell = _cell_that_ran(job)
    if isinstance(error, CellExecutionError):
        traces = [o.traceback for o in cell.get("outputs", []) if o.output_type == "error"]
        said = "\n".join(traces[-1]) if traces else f"{error.ename}: {error.evalue}"
    elif isinstance(error, CellTimeoutError):
        limit = limits["slow" in tags(cell)]
        said = f"not finished after {limit:.0f} s: speed it up, tag it `slow`, or use --timeout"
    elif isinstance(error, DeadKernelError):
        said = "the kernel died; often there is not enough memory. It said:\n" + log.read_text(
            errors="replace"
        )
    else:
        said = f"{type(error).__name__}: {error}"
    lines = ANSI.sub("", said).rstrip().splitlines()[-LAST_LINES:]
    place = f"notebooks/src/{job.name}.py ({job.version}), cell {index + 1} ({cell.id})"
    return "\n".join(
        [
            place,
            *(f"    | {line}" for line in cell.source.splitlines()),
            *(f"    {line}" for line in lines),
        ]
    )


def _cell_that_ran(job: Job) -> tuple[int, NotebookNode]:
    """Return the position and the cell of the code cell that was begun last."""
    numbered = [
        (i, cell)
        for i, cell in enumerate(job.notebook.cells)
        if cell.cell_type == "code" and cell.source.strip()
    ]
    return numbered[max(job.cell - 1, 0)]


# ---- many notebooks ------------------------------------------------------------------------------


async def run_series(series: list[list[Job]], session: Session) -> None:
    """Execute every series in order, up to `session.jobs` of them side by side. A failure does not
    stop the notebooks after it."""
    session.main = asyncio.current_task()
    gate = asyncio.Semaphore(session.jobs)

    async def one(in_order: list[Job]) -> None:
        async with gate:
            for job in in_order:
                await execute(job, session)
                session.done(job)

    await asyncio.gather(*(one(in_order) for in_order in series))


def plan(
    course: Course, sources: list[Path], versions: tuple[str, ...], root: Path, alone: bool
) -> list[list[Job]]:
    """Group the notebooks into series: later ones of a series find what the earlier ones made;
    `alone`: none does."""
    series = []
    for version in versions:
        jobs = [
            Job(
                source.stem,
                version,
                convert.make(source, version),
                root / version / (source.stem if alone else "runs"),
            )
            for source in sources
        ]
        series += [[job] for job in jobs] if alone else [jobs]
    return series


def execute_all(series: list[list[Job]], session: Session) -> list[Job]:
    """Execute the series and return all their jobs, failures filled in; Ctrl+C ends the kernels
    first."""
    # this environment's kernel, not one of the same name elsewhere
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        asyncio.run(run_series(series, session))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return [job for in_order in series for job in in_order]


def fresh_folder() -> Path:
    """Make an empty folder outside the repository."""
    return Path(tempfile.mkdtemp(prefix="rlhf-"))


# ---- the table at the end ------------------------------------------------------------------------


def summary(root: Path) -> str:
    """Return the table that the notebooks left in summary.json, or a line that says there is
    none."""
    found = sorted(
        root.rglob("summary.json"), key=lambda path: ("solution" not in path.parts, path)
    )
    for path in found:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return table(content["rows"]) + (
                f"\n\nLook at: {content['look_at']}" if content.get("look_at") else ""
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"(the summary in {path.name} cannot be read: {type(error).__name__}: {error})"
    return "(no summary: none of the notebooks that ran writes one)"


def table(rows: list[dict[str, Any]]) -> str:
    """Lay out model, score, KL, win rate with interval and seconds; what is missing shows as a
    dash."""
    lines = [("model", "score", "KL (nats)", "win rate against base", "seconds")]
    for row in rows:
        rate = _number(row.get("win_rate"), "{:.1%}")
        if row.get("low") is not None and row.get("high") is not None:
            rate += f" ({_number(row['low'], '{:.1%}')} to {_number(row['high'], '{:.1%}')})"
        numbers = [
            _number(row.get("score"), "{:+.2f}"),
            _number(row.get("kl_nats"), "{:.1f}"),
            rate,
        ]
        lines.append((str(row.get("model", "-")), *numbers, _number(row.get("seconds"), "{:.0f}")))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    laid = [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths)))
        for line in lines
    ]
    return "\n".join([laid[0], "  ".join("-" * w for w in widths), *laid[1:]])


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "-"
