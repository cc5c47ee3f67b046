"""How large the notebooks' runs are on this machine, and where to find what earlier ones made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_helpers.labels.place import folder
from rlhf_helpers.runtime import files
from rlhf_helpers.tasks import DATA

RECORDED = DATA / "recorded"


@dataclass(frozen=True)
class Profile:
    """How large a notebook's runs are.

    `laptop`: one core, three quarters of an hour for 00 to 07. `quick`: a check that everything
    runs. `gpu`: real GPT-2.
    """

    name: str
    comparisons: int  # simulated, for the reward model
    own_labels: int  # asked of the learner in notebook 02
    episodes: int  # of PPO
    judged: int  # pairs judged at the end
    batch: int  # of PPO
    answers: int  # to each of its prompts; several share its computation


PROFILES = {
    "laptop": Profile(
        "laptop", comparisons=5_000, own_labels=60, episodes=8_192, judged=512, batch=64, answers=4
    ),
    "quick": Profile(
        "quick", comparisons=256, own_labels=8, episodes=256, judged=64, batch=32, answers=4
    ),
    "gpu": Profile(
        "gpu",
        comparisons=20_000,
        own_labels=100,
        episodes=100_000,
        judged=1024,
        batch=512,
        answers=1,
    ),
}


def profile() -> Profile:
    """Read the profile from the environment variable RLHF_PROFILE (default: laptop)."""
    name = os.environ.get("RLHF_PROFILE", "laptop")
    if name not in PROFILES:
        raise ValueError(f"RLHF_PROFILE is {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def record(name: str, text: str, **more: bool) -> None:
    """Write down how something in your folder was made, for `artifact` to tell."""
    path = folder() / "made.json"
    known = files.read_json(path) if path.exists() else {}
    about = {"made": text, "profile": profile().name} | more
    files.replace_json(path, known | {name: about})


def made(name: str) -> dict[str, Any]:
    """Return what `record` wrote down about something in your folder; {} if nothing."""
    path = folder() / "made.json"
    return files.read_json(path).get(name, {}) if path.exists() else {}


def own(name: str) -> Path | None:
    """Find something of yours that an earlier notebook made, and say how; None if it did not."""
    path = folder() / name
    if not path.exists():
        return None
    print(f"Using your own {name}: {_history(name)}")
    return path


def artifact(name: str) -> Path:
    """Find something that an earlier notebook made: yours, or else the recorded one; say which.

    Says how yours was made (see `record`), and warns if that was in another profile. Raises
    FileNotFoundError if there is neither.
    """
    if (mine := own(name)) is not None:
        return mine
    recorded = RECORDED / name
    if recorded.exists():
        print(f"No {name} of your own yet: using the recorded one (made from simulated labels).")
        return recorded
    raise FileNotFoundError(
        f"there is no {name}, neither of your own in {folder()} nor recorded: run the notebook "
        "that makes it first"
    )


def beside(found: Path, name: str) -> Path:
    """Find what was made together with `found`: recorded with recorded, yours with yours.

    A recorded policy was paid by the recorded reward model; yours has another unit.
    """
    return RECORDED / name if found.parent == RECORDED else artifact(name)


def _history(name: str) -> str:
    """Say how something of yours was made, with a warning if this profile would make another."""
    known, now = made(name), profile().name
    if not known:
        return "nothing says how it was made."
    text = f"{known['made']}, profile {known['profile']}."
    if known["profile"] != now:
        text += (
            f"\nWARNING: this is profile {now}. Make {name} again in this profile, or delete it "
            f"from {folder().name}/ to use the recorded one."
        )
    return text
