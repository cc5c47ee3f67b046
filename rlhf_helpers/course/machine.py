"""How long the course takes here: a measurement of two seconds, times the work of each notebook.

`notebooks/build.py run --record` writes down how often a notebook could have done a fixed piece of
work (`probe`) in the time it took, in seconds of the processor, so that other programs beside it do
not count. Here the same piece is timed by the clock. Good to about a third: machines differ in more
than one number.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import cache

import pandas as pd
import torch

from rlhf_helpers import models, sampling
from rlhf_helpers.course.profile import RECORDED, profile
from rlhf_helpers.records import Queries
from rlhf_helpers.runtime import files
from rlhf_helpers.runtime.runs import default_device

WORK = RECORDED / "work.json"  # by profile: {notebook: {"all": probes, cell: probes, ...}}
SLOW = 20.0  # seconds from which a cell is worth announcing


def probe(clock: Callable[[], float] = time.perf_counter) -> float:
    """Time a fixed piece of the course's work, in seconds: the best of three, after one to warm up.

    32 answers of 16 tokens by a model of the bundled one's shapes, and one pass over them forward
    and backward, on the device that the course takes.
    """
    device = default_device()
    policy = models.tiny_policy(vocabulary=3072, width=192, layers=4, heads=6, context=64)
    policy, tokens = policy.to(device), torch.arange(8 * 32).view(8, 32)
    queries = Queries(tokens, torch.ones_like(tokens, dtype=torch.bool))
    taken = []
    for _ in range(4):
        start = clock()
        dice = torch.Generator(device).manual_seed(0)
        rollout = sampling.sample(policy, queries, 16, 0.7, dice, answers=4)
        sampling.replay(policy, rollout, 0.7).logprobs.sum().backward()
        policy.value_head.bias.sum().item()  # waits for a GPU
        taken.append(clock() - start)
    return min(taken[1:])


@cache
def seconds() -> float:
    """Measure this machine, once per process."""
    return probe()


def recorded() -> dict[str, dict[str, float]]:
    """Return the recorded work of this profile, by notebook; empty where nobody has recorded it."""
    known = files.read_json(WORK) if WORK.exists() else {}
    return known.get(profile().name, {})


def table() -> pd.DataFrame:
    """Say what each notebook will take here, and its longest cell."""
    rows = []
    for name, work in recorded().items():
        cells = {cell: probes for cell, probes in work.items() if cell != "all"}
        longest = max(cells, key=cells.__getitem__, default="")
        at = f"{longest}: {words(cells[longest] * seconds())}" if longest else ""
        rows.append((name, words(work["all"] * seconds()), at))
    if not rows:
        print(f"No times have been recorded for the profile {profile().name}.")
    return pd.DataFrame(rows, columns=["notebook", "here about", "its longest step"])


def announce(cell: str) -> None:
    """Say what a slow cell, known by this name, will take here; nothing where it is quick."""
    for work in recorded().values():
        if cell in work and (here := work[cell] * seconds()) >= SLOW:
            print(f"This takes about {words(here)} on this machine ({cell}).")


def words(number: float) -> str:
    """Say a time as one would: 8 seconds, 40 seconds, 3 minutes."""
    if number < 90:
        step = 1 if number < 10 else 10
        count, unit = max(1, step * round(number / step)), "second"
    else:
        count, unit = round(number / 60), "minute"
    return f"{count} {unit}" + "s" * (count != 1)


def main() -> None:
    """Print the probe's time by the processor's clock, for those who record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.parse_args()
    print(json.dumps(probe(time.process_time)))


if __name__ == "__main__":
    main()
