"""Files that are whole or not there. What a kill, a full disk or a careless copy does to them is
said with the way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def damaged(path: Path, fault: object) -> str:
    """Say what is wrong with a file of a run, and what to do: a checkpoint may go, a run's folder
    may hold labels too."""
    remove = (
        "remove that folder to begin again"
        if path.parent.name.startswith("checkpoint")
        else "move that file away"
    )
    return f"{path.name} in {path.parent} cannot be read ({fault}): {remove}, or copy a whole one there"


def read_json(path: Path, kind: type = dict, keys: tuple[str, ...] = ()) -> Any:
    """Read a JSON file; raises ValueError with the way out unless it holds a whole `kind` with
    these keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(damaged(path, error)) from error
    if not isinstance(content, kind):
        raise ValueError(
            damaged(path, f"it holds a {type(content).__name__}, not a {kind.__name__}")
        )
    if missing := [key for key in keys if key not in content]:
        raise ValueError(damaged(path, f"it has no {', '.join(missing)}"))
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises OSError with the way out."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OSError(damaged(path, error)) from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in place: a kill leaves half of it, so only where nobody reads yet."""
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def replace_json(path: Path, content: Any) -> None:
    """Put a new file in the place of an old one, so that a kill or a full disk at any moment leaves
    one of them whole."""
    new = path.with_name(path.name + ".new")
    with on_disk(str(path)):
        write_json(new, content)
        to_disk(new)
        new.replace(path)


def to_disk(*paths: Path) -> None:
    """Wait until files have left the system's memory for the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def on_disk(what: str, partial: Path | None = None) -> Iterator[None]:
    """Say what a full disk kept from being written, and what to do; the folder `partial` is taken
    away again."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"{what} could not be written ({error}): is the disk full? Free some space and run "
            "again; it goes on from the last "
            "checkpoint, which is whole, or from the start"
        ) from error
