"""How a check talks: call the student's function safely, say a verdict in one line, return whether
it was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# of float32 sums; the slips that checks name are much further away (a test says so)
TOLERANCE = 1e-5


def say(done: bool, message: str) -> bool:
    """Print a verdict and return it."""
    print(("Right: " if done else "Not yet: ") + message)
    return done


def ask(answer: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Call the student's function; return its value, and a sentence if there is none to judge."""
    if answer is None or answer is ...:
        return None, "not solved yet. The cell above is waiting for you."
    value, trouble = call(answer, *arguments)
    if trouble is None and (value is None or value is ...):
        return None, "not solved yet (your function returns nothing; is there a `return`?)."
    return value, trouble


def call(answer: Any, *arguments: Any) -> tuple[Any, str | None]:
    """Call a function on copies of tensors and lists; return its value, and a sentence if it
    stopped or wrote into what it was given."""
    given = [
        a.clone() if isinstance(a, Tensor) else list(a) if isinstance(a, list) else a
        for a in arguments
    ]
    try:
        value = answer(*given)
    except Exception as error:  # a student's slip must not stop the notebook
        return None, f"your function stopped with {type(error).__name__}: {error}"
    for kind, advice in (
        (
            Tensor,
            "tensors it is given. Copy first (`clone`), or use a function that returns a new "
            "tensor.",
        ),
        (list, "lists it is given. Copy first (`list`), or leave them as they are."),
    ):
        pairs = [(a, g) for a, g in zip(arguments, given, strict=True) if isinstance(a, kind)]
        if not all(torch.equal(a, g) if kind is Tensor else a == g for a, g in pairs):
            return None, f"your function changes the {advice}"
    return value, None


def untrainable(loss: Any, given: Tensor, gradient: Tensor) -> str | None:
    """Say why an optimiser cannot train on this loss, whose number is right; None if its gradient
    at `given` is `gradient`."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return "the number is right, but nothing can be trained on it: return the tensor itself, without `item`, `detach` or `tolist`."
    try:
        (got,) = torch.autograd.grad(loss, given, allow_unused=True)
    except RuntimeError as error:
        return f"the number is right, but it cannot be differentiated: {error}"
    if got is None or not torch.allclose(got, gradient, atol=TOLERANCE):
        return "the number is right, but its gradient is not, so training would go elsewhere: is a part of it detached?"
    return None


def judge(
    answer: Any, arguments: tuple, right: Tensor, slips: Sequence[tuple[str, Tensor]], praise: str,
    gradient: Tensor | None = None
) -> bool:  # fmt: skip
    """Hold the student's tensor against `right`, and look for the slip that explains a difference.

    A number may be a plain one, unless it is a loss: then `gradient` is the right one, at the first
    of the arguments.
    """
    value, trouble = ask(answer, *arguments)
    if trouble:
        return say(False, trouble)
    try:
        got = torch.as_tensor(value).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError):
        return say(
            False, f"your function should return a tensor, it returned {type(value).__name__}."
        )
    if got.shape == right.shape and (got - right).abs().max() <= TOLERANCE:
        if right.dim() and not isinstance(value, Tensor):
            return say(
                False,
                f"the numbers are right: return them as a tensor, not as a {type(value).__name__}.",
            )
        if gradient is not None and (trouble := untrainable(value, arguments[0], gradient)):
            return say(False, trouble)
        difference = (got - right).abs().max().item()
        return say(
            True, f"{praise} ({'exact' if difference == 0 else f'equal to {TOLERANCE:.0e}'})."
        )
    for name, slip in slips:
        if got.shape == slip.shape and torch.allclose(got, slip.float(), atol=TOLERANCE, rtol=1e-4):
            return say(False, name)
    if got.shape != right.shape:
        return say(
            False,
            f"your result has the shape {tuple(got.shape)}; it should be {tuple(right.shape)}.",
        )
    if not torch.isfinite(got).all():
        return say(False, "your result holds numbers that are not finite.")
    where = int((got - right).abs().argmax())
    place = (
        f" (row {where // right.shape[-1]}, token {where % right.shape[-1]})"
        if right.dim() == 2
        else ""
    )
    return say(
        False, f"{right.flatten()[where]:.4f} expected{place}, yours is {got.flatten()[where]:.4f}."
    )
