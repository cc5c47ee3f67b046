"""Checks of notebook 06 that ask for a choice: a plan for one GPU, what a checkpoint contains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import cache
from typing import Any

from rlhf_helpers.course.checks.verdict import NotYet, Unsolved, check, given, shape
from rlhf_helpers.runtime import memory

BATCH, QUERY, RESPONSE = 512, 64, 24
ALLOWED = 0.9 * 24  # GB: a tenth of the GPU is left for what the allocator wastes
OPTIONS = {  # what may be set, and to what
    "precision": "'fp32' or 'bf16'",
    "checkpointing": "True or False",
    "lora": "a rank, 0 or more",
    "micro_batch": "rows, 1 or more",
}
DEFAULTS = {"precision": "fp32", "checkpointing": False, "lora": 0}


@check
def nb06_plan(plan: Mapping[str, Any] | None) -> str:
    """Check settings for GPT-2 774M on one GPU of 24 GB: they must fit, and change no more than
    they need to.
    """
    if not isinstance(given(plan), Mapping):
        raise NotYet(f"a plan is a dictionary such as {{'micro_batch': 64}}, not {shape(plan)}.")
    if any(value is ... for value in plan.values()):
        given(...)
    for name, value in plan.items():
        _allowed(name, value)
    settings = DEFAULTS | {"micro_batch": BATCH} | plan
    parts = _map(**settings)
    if parts["total"] > ALLOWED:
        raise NotYet(_too_large(parts))
    for name, default in DEFAULTS.items():
        if settings[name] != default and _fits(**settings | {name: default}):
            raise NotYet(
                f"it fits ({parts['total']:.1f} GB), but without `{name}` it would fit as well: "
                "change as little as you can."
            )
    rows = min(2 * settings["micro_batch"], BATCH)
    if rows > settings["micro_batch"] and _fits(**settings | {"micro_batch": rows}):
        raise NotYet(
            f"it fits ({parts['total']:.1f} GB), but so would {rows} rows at a time: fewer than "
            "necessary keep the GPU idle."
        )
    how = "" if settings["lora"] else " with all weights trained"
    return f"{parts['total']:.1f} GB{how}, and {ALLOWED:.1f} GB may be used."


def _allowed(name: str, value: Any) -> None:
    """Raise NotYet unless this option exists and takes this value."""
    if name in ("ranks", "sharded"):
        raise NotYet(f"there is one GPU, so `{name}` cannot help here.")
    if name not in OPTIONS:
        choice = ", ".join(OPTIONS)
        raise NotYet(f"{name!r} is no option here: choose from {choice}. The rest is given.")
    if name == "precision":
        fits = value in ("fp32", "bf16")
    elif name == "checkpointing":
        fits = isinstance(value, bool)
    else:
        fits = type(value) is int and value >= (name == "micro_batch")
    if not fits:
        raise NotYet(f"`{name}` is {value!r}; it takes {OPTIONS[name]}.")


@cache
def _map(**settings: Any) -> dict[str, float]:
    """Return the memory map in GB."""
    parts = memory.memory_map(
        memory.SIZES["774M"], batch=BATCH, query=QUERY, response=RESPONSE, **settings
    )
    return {name: size / 1e9 for name, size in parts.items()}


def _fits(**settings: Any) -> bool:
    return _map(**settings)["total"] <= ALLOWED


def _too_large(parts: Mapping[str, float]) -> str:
    """Say what takes the memory, and so what to make smaller."""
    steady = sum(parts[name] for name in memory.PARTS[:5])
    working, cached = parts["activations"], parts["sampling"]
    text = (
        f"{parts['total']:.1f} GB, but only {ALLOWED:.1f} GB may be used. "
        f"{steady:.1f} GB are held throughout"
    )
    if steady > ALLOWED:
        return f"{text}: look at these first."
    if working > cached:
        return f"{text}; on top come {working:.1f} GB of activations: make these smaller first."
    return f"{text}; on top come {cached:.1f} GB for sampling: fewer rows at a time need less."


NEEDED = {  # what a checkpoint must contain: what happens without it
    "weights": "everything learnt would be lost.",
    "moments": "Adam would forget the direction and size of its steps: other updates.",
    "beta": "the controller would go back to its first value.",
    "generator": "the next responses would be different ones.",
    "steps done": "nobody would know which prompts and which learning rate come next.",
}
SPARE = {  # what it need not contain: where it comes from
    "reference": "it is the base model, which is still where it was.",
    "reward model": "it does not change, and is still where it was.",
    "gradients": "they are computed anew in every update.",
    "last rollout": "each step samples its own.",
    "learning rate": "it follows from the number of steps done.",
    "order of prompts": "it follows from the seed and the number of steps done.",
}


@check
def nb06_checkpoint(chosen: Iterable[str] | None) -> str:
    """Check the names of what a checkpoint between two steps must contain."""
    if not isinstance(given(chosen), Set | list | tuple):
        form = "{'weights', 'gradients'}"
        raise NotYet(f"write a set or a list of names, such as {form}, not {chosen!r}.")
    chosen = [name for name in chosen if name is not ...]
    if not chosen:
        raise Unsolved("name what a checkpoint must contain.")
    for name in chosen:
        if not isinstance(name, str) or name not in NEEDED | SPARE:
            raise NotYet(f"{name!r} is not on the list: {', '.join(NEEDED | SPARE)}.")
    missing = [name for name in NEEDED if name not in chosen]
    if missing:
        raise NotYet(f"{len(missing)} missing. Without one of them {NEEDED[missing[0]]}")
    for name, reason in SPARE.items():
        if name in chosen:
            raise NotYet(f"nothing is missing, but {name!r} need not be there: {reason}")
    return "with these five the run continues as if nothing had happened, and none is redundant."
