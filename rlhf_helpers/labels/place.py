"""Where labels and runs are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Return where your own runs and labels live: the environment variable RLHF_RUNS, or `runs/`
    beside the notebooks."""
    return Path(os.environ.get("RLHF_RUNS", ROOT / "runs"))
