"""Files that are whole or not there, and error messages that say what to do about a damaged one."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# ---- reading -------------------------------------------------------------------------------------


def damaged(path: Path, fault: object) -> str:
    """Say what is wrong with a file of a run, and what to do about it.

    A checkpoint may be removed; the folder of a run may hold labels too, and may not.
    """
    remove = (
        "remove that folder to start again"
        if path.parent.name.startswith("checkpoint")
        else "move that file away"
    )
    what = f"{path.name} in {path.parent} cannot be read ({fault})"
    return f"{what}: {remove}, or restore it from a copy"


def read_json(path: Path, kind: type = dict, keys: tuple[str, ...] = ()) -> Any:
    """Read a JSON file; raises ValueError unless it holds a complete `kind` with these keys."""
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
    """Read a safetensors file; raises OSError that names it if it is damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OSError(damaged(path, error)) from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object per line; raises ValueError that names it and the line."""
    records = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("it holds no object")
            records.append(record)
    except (OSError, ValueError) as error:
        raise ValueError(damaged(path, f"line {len(records) + 1}: {error}")) from error
    return records


# ---- writing -------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a new file or folder to, which then replaces the one at `path`.

    A kill, a power cut or a full disk at any moment leaves the old or the new one whole; a folder
    may then be called `path.old`. What raises an error leaves the old one.
    """
    new, old = (path.with_name(path.name + ending) for ending in (".new", ".old"))
    if new.is_dir():
        shutil.rmtree(new)
    try:
        yield new
        # before the old one goes, or a power cut could take both
        to_disk(*([new] if new.is_file() else (f for f in new.rglob("*") if f.is_file())))
    except Exception:
        shutil.rmtree(new, ignore_errors=True)
        if new.is_file():
            new.unlink()
        raise
    if new.is_file():
        new.replace(path)
        return
    if path.exists():  # otherwise `old` is all there is, left by a kill between these two renames
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in place; a kill leaves half of it, so use it inside `replacing`."""
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def replace_json(path: Path, content: Any) -> None:
    """Replace a JSON file, whole or not at all; raises OSError if the disk is full."""
    with writing(str(path)), replacing(path) as new:
        write_json(new, content)


def replace_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace a file of one JSON object per line, whole or not at all."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with writing(str(path)), replacing(path) as new:
        new.write_text("".join(lines), encoding="utf-8")


def to_disk(*paths: Path) -> None:
    """Wait until files have left the system's memory for the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say what could not be written, and what to do, if the disk is full."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{what} could not be written ({error}): is the disk full? Free some space and run "
            "again; it continues from the last checkpoint, which is complete, or from the start"
        ) from error


# ---- metrics -------------------------------------------------------------------------------------


def metrics_line(numbers: dict[str, float]) -> str:
    """Write one line of metrics as JSON, which knows no NaN and no infinity: they become null."""
    finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def read_metrics(path: Path, size: int | None = None) -> list[dict[str, float]]:
    """Read the lines of a metrics file, or those in its first `size` bytes; null becomes NaN.

    A last line without its end is left out: the run is writing it, or was killed. Raises
    ValueError that names the file if another line is damaged.
    """
    with path.open("rb") as file:
        whole = file.read(-1 if size is None else size).rpartition(b"\n")[0]
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return [{k: math.nan if v is None else v for k, v in line.items()} for line in lines]
    except (ValueError, AttributeError) as error:
        raise ValueError(damaged(path, error)) from error
