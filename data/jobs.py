"""Recorded experiments in parts: each part is a file, made once; the same command goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_helpers.runtime import files


@dataclass(frozen=True)
class Job:
    """One piece of work: the file it makes, the files it needs, the seconds it takes on one core
    (guessed; corrected as work goes on)."""

    file: str
    needs: tuple[str, ...]
    seconds: float
    do: Callable[..., dict]
    with_: tuple


def perform(job: Job, settings: Any) -> float:
    """Do a job and write its file into `settings.folder`, whole or not at all; returns seconds."""
    start = time.time()
    content = json.dumps(job.do(settings, *job.with_)) + "\n"
    with files.replacing(Path(settings.folder) / job.file) as new:
        new.write_text(content)
    return time.time() - start


def plan(jobs: Sequence[Job], folder: Path, workers: int) -> str:
    """Say how long what is not done yet will take."""
    minutes = sum(job.seconds for job in jobs if not (folder / job.file).exists()) / 60
    return f"about {minutes:.0f} minutes of one core, {minutes / workers:.0f} minutes on {workers}"


def work(jobs: Sequence[Job], settings: Any, workers: int, pool: Executor) -> None:
    """Do what is not done yet, `workers` jobs side by side, each on one core; says how long the
    rest will take."""
    folder, start = Path(settings.folder), time.time()
    todo = [job for job in jobs if not (folder / job.file).exists()]
    running: dict[Future[float], Job] = {}
    done, spent, expected = len(jobs) - len(todo), 0.0, 0.0
    left = sum(job.seconds for job in todo)
    print(
        f"{done} of {len(jobs)} parts are there; the rest takes about {left / workers / 60:.0f} "
        f"minutes on {workers} core(s)",
        flush=True,
    )
    while todo or running:
        ready = [job for job in todo if all((folder / name).exists() for name in job.needs)]
        for job in ready[: workers - len(running)]:
            todo.remove(job)
            running[pool.submit(perform, job, settings)] = job
        if not running:
            raise ValueError(f"nobody makes what {todo[0].file} needs: {todo[0].needs}")
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job, seconds = running.pop(future), future.result()
            spent, expected, done = spent + seconds, expected + job.seconds, done + 1
            left = sum(j.seconds for j in [*todo, *running.values()]) * spent / expected / workers
            gone = f"{(time.time() - start) / 60:.1f} minutes gone, about {left / 60:.0f} left"
            print(f"{done:3} of {len(jobs)}  {job.file:40} {seconds:4.0f} s   {gone}", flush=True)
