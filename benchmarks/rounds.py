"""Measure things side by side: built one after the other (peak memory), then run in turns (A B C A
B C ...), so that what else the machine does falls on all alike. The ratio within a round is what
counts; medians over the rounds are what is reported."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

# the second does not count while other programs have the processor
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
Build = Callable[[], Callable[[], object]]  # makes the models, returns the work of one round


@dataclass
class Measured:
    """One contender: the seconds of every round, and the most memory it took."""

    units: float  # done in one round: tokens, comparisons, episodes
    seconds: list[float] = field(default_factory=list)
    # weights and optimizer included; None where the system does not tell
    peak_bytes: int | None = None

    @property
    def rate(self) -> float:
        return self.units / statistics.median(self.seconds)


def compare(
    contenders: dict[str, Build],
    units: float,
    rounds: int,
    device: torch.device,
    clock: str = "wall",
) -> dict[str, Measured]:
    """Build every contender and let it work once (which warms it up and shows its memory), then
    time `rounds` rounds in turns."""
    works, found = {}, {name: Measured(units) for name in contenders}
    for name, build in contenders.items():
        with peak_memory(device) as peak:
            works[name] = build()
            works[name]()
        found[name].peak_bytes = peak()
    for _ in range(rounds):
        for name, work in works.items():
            gc.collect()
            wait(device)
            start = CLOCKS[clock]()
            work()
            wait(device)
            found[name].seconds.append(CLOCKS[clock]() - start)
    return found


def ratio(ours: Measured, theirs: Measured) -> float:
    """Return how many times as fast ours is: the median of the ratios within each round."""
    return statistics.median(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Yield a function that says, after the block, how many bytes more than before were held at the
    worst moment in it."""
    peak: list[int | None] = []
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before: int | None = torch.cuda.memory_allocated(device)
    else:
        before = _forget_peak()
    yield lambda: peak[0]
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")
    peak.append(None if before is None or after is None else after - before)


def _forget_peak() -> int | None:
    """Give free memory back, set the system's high-water mark to what is held now, and return that
    (Linux only)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(name: str) -> int | None:
    told = Path("/proc/self/status")
    if not told.exists():
        return None
    lines = dict(line.split(":", 1) for line in told.read_text().splitlines())
    return 1024 * int(lines[name].split()[0])
