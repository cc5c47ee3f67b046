"""The command line, `python -m rlhf_helpers COMMAND`: options in, exit code out.

What the commands do is in `training` and `commands`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Annotated, Any

import torch
import tyro

from rlhf_helpers import presets
from rlhf_helpers.cli import commands, training
from rlhf_helpers.cli.options import (
    Export,
    FitReward,
    Judge,
    LabelCommand,
    MeasureCopying,
    Sample,
    SummarizeRun,
    Tune,
)
from rlhf_helpers.labels import people
from rlhf_helpers.labels.store import StoreError
from rlhf_helpers.runtime import guards, ranks

# exit codes, with 0 (done) and 2 (the command line itself is wrong)
WRONG, STOPPED, WAITING, INTERRUPTED = 1, 3, 4, 130
ABOUT = """Reinforcement learning from human feedback, step by step.

Exit codes: 0 done; 1 something is wrong, and a sentence says what to do; 2 the command line is
wrong; 3 training stopped itself, the last checkpoint is complete; 4 training waits for labels; 130
interrupted with Ctrl-C (the same command continues)."""

OUT_OF_MEMORY = (
    "the GPU has run out of memory. Halve --micro-batch (the result stays the same), add "
    "--checkpointing, or close what else uses the GPU; docs/launch.md has a table of what fits "
    "where"
)

COMMANDS: dict[str, tuple[Any, Any]] = {
    "sample": (Sample, commands.sample), "label": (LabelCommand, commands.label),
    "fit-reward": (FitReward, training.fit_reward), "tune": (Tune, training.tune),
    "judge": (Judge, commands.judge), "summarize-run": (SummarizeRun, commands.summarize_run),
    "export": (Export, commands.export),
    "measure-copying": (MeasureCopying, commands.measure_copying),
}  # fmt: skip


def with_presets(words: list[str]) -> dict[str, Any]:
    """Make the defaults of the commands, with the numbers of the task and preset asked for."""
    named = {
        key: value
        for flag, value in zip(words, words[1:], strict=False)
        for key in ("task", "preset")
        if flag == f"--{key}"
    }
    named |= {
        key: w.partition("=")[2]
        for w in words
        for key in ("task", "preset")
        if w.startswith(f"--{key}=")
    }
    try:
        chosen = presets.get(named.get("task", "sentiment"), named.get("preset", "bundled"))
    except ValueError:  # the parser will say so, better
        chosen = presets.get("sentiment", "bundled")
    return {
        "fit-reward": replace(
            FitReward(), config=chosen.reward, normalize_samples=chosen.normalize_samples
        ),
        "tune": replace(
            Tune(),
            ppo=chosen.ppo,
            fit=chosen.reward,
            each_token=chosen.each_token,
            prompts=min(50_000, max(2_000, chosen.ppo.episodes // 10)),
        ),
    }


def parse(words: list[str]) -> Any:
    """Parse a command line into one of the commands above; exits with code 2 if it is none."""
    defaults = with_presets(words)
    kinds = [
        Annotated[
            kind,
            tyro.conf.subcommand(name, **({"default": defaults[name]} if name in defaults else {})),
        ]
        for name, (kind, _) in COMMANDS.items()
    ]
    return tyro.cli(
        reduce(or_, kinds), args=words, prog="python -m rlhf_helpers", description=ABOUT
    )


def main(words: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors go to standard error, in a sentence."""
    command = parse(sys.argv[1:] if words is None else words)
    try:
        next(do for kind, do in COMMANDS.values() if type(command) is kind)(command)
    except KeyboardInterrupt:
        print(
            "\nInterrupted; what was saved stays, and the same command continues from there.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except (FloatingPointError, guards.Collapsed, ranks.RankLost) as error:
        return fail(error, STOPPED)
    except people.MoreLabels as error:
        return fail(error, WAITING)
    except torch.OutOfMemoryError as error:
        return fail(
            MemoryError(f"{OUT_OF_MEMORY} (torch says: {str(error).splitlines()[0]})"), WRONG
        )
    except (ValueError, OSError, KeyError, ImportError, MemoryError, StoreError) as error:
        return fail(error, WRONG)
    finally:
        ranks.shut_down()
    return 0


def fail(error: Exception, code: int) -> int:
    """Print what is wrong and return the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return code
