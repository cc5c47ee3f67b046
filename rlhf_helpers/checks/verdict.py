"""How a check talks: call the student's function safely, say a verdict in one line, return whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-5  # of float32 sums; the slips that checks name are much further away (a test says so)


def say(done: bool, message: str) -> bool:
    """Print a verdict and return it."""
    print(("Right: " if done else "Not yet: ") + message)
    return done


def ask(answer: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Call the student's function, on copies of tensors; return its value, and a sentence if there is none to judge."""
    if answer is None or answer is ...:
        return None, "not solved yet. The cell above is waiting for you."
    given = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
    try:
        value = answer(*given)
    except Exception as error:  # a student's slip must not stop the notebook
        return None, f"your function stopped with {type(error).__name__}: {error}"
    if value is None or value is ...:
        return None, "not solved yet (your function returns nothing; is there a `return`?)."
    if any(isinstance(a, Tensor) and not torch.equal(a, g) for a, g in zip(arguments, given, strict=True)):
        return None, "your function changes the tensors it is given. Copy first (`clone`), or use a function that returns a new tensor."
    return value, None


def judge(answer: Any, arguments: tuple, right: Tensor, slips: Sequence[tuple[str, Tensor]], praise: str) -> bool:
    """Hold the student's tensor against `right`, and look for the slip that explains a difference."""
    value, trouble = ask(answer, *arguments)
    if trouble:
        return say(False, trouble)
    try:
        got = torch.as_tensor(value).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError):
        return say(False, f"your function should return a tensor, it returned {type(value).__name__}.")
    if got.shape == right.shape and (got - right).abs().max() <= TOLERANCE:
        difference = (got - right).abs().max().item()
        return say(True, f"{praise} ({'exact' if difference == 0 else f'equal to {TOLERANCE:.0e}'}).")
    for name, slip in slips:
        if got.shape == slip.shape and torch.allclose(got, slip.float(), atol=TOLERANCE, rtol=1e-4):
            return say(False, name)
    if got.shape != right.shape:
        return say(False, f"your result has the shape {tuple(got.shape)}; it should be {tuple(right.shape)}.")
    if not torch.isfinite(got).all():
        return say(False, "your result holds numbers that are not finite.")
    where = int((got - right).abs().argmax())
    place = f" (row {where // right.shape[-1]}, token {where % right.shape[-1]})" if right.dim() == 2 else ""
    return say(False, f"{right.flatten()[where]:.4f} expected{place}, yours is {got.flatten()[where]:.4f}.")
