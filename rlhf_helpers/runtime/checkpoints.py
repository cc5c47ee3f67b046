"""Checkpoints: weights, optimizer, random numbers and where in the metrics file a run stands.

A run's folder holds one, `checkpoint/`: `state.safetensors` and `state.json`. A new one is written
beside it and takes its place, so that a kill at any moment leaves a complete one; it may then be
called `checkpoint.old/`. The metrics stay in their own file, of which a checkpoint knows the size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rlhf_helpers.runtime import files, ranks
from rlhf_helpers.runtime.ranks import Ranks

KEYS = ("steps_done", "beta", "metrics_bytes", "param_groups", "optimizer_tensors")


def find(folder: Path) -> Path | None:
    """Find the checkpoint in the folder of a run; None without one."""
    for name in ("checkpoint", "checkpoint.old"):
        if (folder / name / "state.json").exists():
            return folder / name
    return None


def write(
    folder: Path, steps_done: int, tensors: dict[str, Tensor], beta: float | None,
    param_groups: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Replace the checkpoint in the folder of a run."""
    metrics = folder / "metrics.jsonl"
    with (
        files.writing(f"the checkpoint of step {steps_done}"),
        files.replacing(folder / "checkpoint") as new,
    ):
        if metrics.exists():
            files.to_disk(metrics)
        new.mkdir()
        save_file(
            {k: v.contiguous().clone() for k, v in tensors.items()}, new / "state.safetensors"
        )
        state = {
            "steps_done": steps_done,
            "beta": beta,
            "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0,
            "optimizer_tensors": sum(name.startswith("optimizer.") for name in tensors),
            "param_groups": param_groups,
        }
        files.write_json(new / "state.json", state)


def collect(
    model: nn.Module, optimizer: torch.optim.Optimizer, together: Ranks
) -> dict[str, Tensor]:
    """Collect the tensors of a model and its optimizer on the first rank; every rank must call it.

    The other ranks get None in place of each tensor.
    """
    tensors = {f"model.{k}": together.full_on_first(v) for k, v in model.state_dict().items()}
    for i, entry in optimizer.state_dict()["state"].items():
        for k, v in entry.items():
            tensors[f"optimizer.{i}.{k}"] = together.full_on_first(v)
    return tensors


def put_back(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor],
    param_groups: list[dict[str, Any]], folder: Path,
) -> None:  # fmt: skip
    """Load what `collect` collected; raises ValueError if it belongs to another model."""
    saved = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own = model.state_dict()
    if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in own.items()}:
        raise ValueError(
            f"the checkpoint in {folder} belongs to another model: choose another folder, or "
            "remove the checkpoint"
        )
    for name, weight in own.items():
        weight.copy_(ranks.sharded_like(saved[name], weight))
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            like = weights[int(index)]
            moments.setdefault(int(index), {})[key] = ranks.sharded_like(value, like)
    optimizer.load_state_dict({"state": moments, "param_groups": param_groups})


def read_state(folder: Path) -> dict[str, Any]:
    """Read what a checkpoint says about itself; raises ValueError if that cannot be."""
    path = folder / "state.json"
    state = files.read_json(path, keys=KEYS)
    for name in ("steps_done", "metrics_bytes", "optimizer_tensors"):
        if type(state[name]) is not int or state[name] < 0:
            raise ValueError(files.damaged(path, f"{name} is {state[name]!r}"))
    return state


def read_tensors(folder: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """Read a checkpoint's tensors; raises ValueError if some of them are missing."""
    path = folder / "state.safetensors"
    tensors = files.read_tensors(path)
    if "generator" not in tensors:
        raise ValueError(files.damaged(path, "it has no generator"))
    found, wanted = (
        sum(name.startswith("optimizer.") for name in tensors),
        state["optimizer_tensors"],
    )
    if found not in (0, wanted):
        raise ValueError(
            files.damaged(
                path, f"it has {found} tensors of the optimizer, and {wanted} were written"
            )
        )
    return tensors


def read_metrics(folder: Path, state: dict[str, Any]) -> list[dict[str, float]]:
    """Read the metrics that belong to a checkpoint; raises ValueError if they are not all there."""
    path, size = folder / "metrics.jsonl", state["metrics_bytes"]
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise ValueError(
            f"{path} has {found:,} bytes, but the checkpoint beside it was written after "
            f"{size:,}: restore the file from a copy, or remove the checkpoint to start again"
        )
    lines = files.read_metrics(path, size) if size else []
    done = state["steps_done"]
    if lines and lines[-1].get("step") != done - 1:
        raise ValueError(
            f"the first {size:,} bytes of {path} do not end with step {done - 1}, the last that "
            "the checkpoint beside it has done: restore the file from a copy, or remove the "
            "checkpoint to start again"
        )
    return lines
