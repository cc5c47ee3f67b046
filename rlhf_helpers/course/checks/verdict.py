"""How a check talks: it calls the student's function safely, says one line, and returns whether
the answer was right.

A check is a function under `@check`. It returns what to say about a right answer, and raises
`NotYet` or `Unsolved` with what to say otherwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Answer = Callable[..., Any]
Slips = Sequence[tuple[str, Any]]  # what to say, and what an answer with this slip gives
# Rounding in float32 stays below this; the slips that checks name are much further away.
TOLERANCE = 1e-5


class NotYet(Exception):
    """The answer is wrong; the message says how."""


class Unsolved(Exception):
    """There is no answer yet."""


def check(judge: Callable[..., str]) -> Callable[..., bool]:
    """Make a check of a function: print its verdict and return whether the answer was right."""

    @functools.wraps(judge)
    def checked(*arguments: Any) -> bool:
        try:
            print("Right:", judge(*arguments))
            return True
        except NotYet as wrong:
            print("Not yet:", wrong)
        except Unsolved as missing:
            print("Not solved yet:", missing)
        return False

    return checked


def given(answer: Any) -> Any:
    """Return the student's answer; raises Unsolved where the ... still stands."""
    if answer is None or answer is ...:
        raise Unsolved("replace the ... in the cell above, run it, then run this cell again.")
    return answer


def ask(answer: Any, *arguments: Any, none: bool = False) -> Any:
    """Call the student's function on copies of the tensors and lists, and return its value.

    None means that the exercise is unsolved, unless `none` says that it may be an answer. Raises
    NotYet if the function stops, or changes what it was given.
    """
    copies = [_copy(a) for a in arguments]
    try:
        value = given(answer)(*copies)
    except Unsolved:
        raise
    except Exception as error:  # a student's slip must not stop the notebook
        raise NotYet(f"your function stopped with {type(error).__name__}: {error}") from None
    for before, after in zip(arguments, copies, strict=True):
        if isinstance(before, Tensor) and not torch.equal(before, after):
            raise NotYet("your function changes the tensors it is given: copy them with `clone`.")
        if isinstance(before, list) and before != after:
            raise NotYet("your function changes the lists it is given: copy them with `list`.")
    if value is ... or (value is None and not none):
        raise Unsolved("your function returns nothing; is there a `return`?")
    return value


def _copy(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.clone()
    return list(argument) if isinstance(argument, list) else argument


def number(value: Any, wanted: str = "one number") -> float:
    """Read one number, or raise NotYet."""
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return {wanted}, not {shape(value)}.") from None


def shape(value: Any) -> str:
    """Describe a value that is not what was asked for."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def near(a: float, b: float, tolerance: float) -> bool:
    """Compare two numbers: relatively if `b` is large, absolutely if it is small."""
    return math.isfinite(a) and abs(a - b) <= tolerance * max(1.0, abs(b))


def compare(
    answer: Any,
    cases: Sequence[tuple],
    oracle: Callable[..., float],
    slips: Sequence[tuple[str, Callable[..., float]]],
    *,
    names: Sequence[str] = (),
    wanted: str = "one number",
    tolerance: float = 1e-4,
) -> str:
    """Compare a function that returns a number with `oracle` on every case; say how close it is.

    Raises NotYet with the slip that explains all the answers, or with the first wrong number
    (`names` say which case it is).
    """
    values = [number(ask(answer, *case), wanted) for case in cases]
    right = [oracle(*case) for case in cases]

    def explains(formula: Callable[..., float]) -> bool:
        return all(near(v, formula(*c), tolerance) for v, c in zip(values, cases, strict=True))

    if explains(oracle):
        return how_close(max(abs(v - r) for v, r in zip(values, right, strict=True)))
    for text, slip in slips:
        if explains(slip):
            raise NotYet(text)
    if any(map(math.isnan, values)):
        raise NotYet("you get NaN (not a number): is there a log of 0 or of a negative number?")
    first = next(i for i, v in enumerate(values) if not near(v, right[i], tolerance))
    where = f"{names[first]}: " if names else ""
    raise NotYet(f"{where}{_show(right[first])} expected, yours is {_show(values[first])}.")


def _show(x: float) -> str:
    return f"{x:,.0f}" if float(x).is_integer() else f"{x:,.4f}"


def how_close(difference: float) -> str:
    """Say how far an answer that counts as right is from the oracle."""
    return "exact" if difference == 0 else f"largest difference {difference:.0e}, rounding"


def judge(
    answer: Any, arguments: tuple, right: Tensor, slips: Slips, gradient: Tensor | None = None
) -> str:
    """Compare a function that returns a tensor with `right`; say how close it is.

    For a loss, `gradient` is the right gradient by the first argument: a number alone will not do.
    Raises NotYet with the slip that gives the same tensor, or with the largest difference.
    """
    value = ask(answer, *arguments)
    wanted = "a tensor" if right.dim() else "one number"
    try:
        got = torch.as_tensor(value).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return {wanted}, not {shape(value)}.") from None
    if got.shape == right.shape and (got - right).abs().max() <= TOLERANCE:
        if right.dim() and not isinstance(value, Tensor):
            raise NotYet(f"the numbers are right: return them as a tensor, not as {shape(value)}.")
        if gradient is not None:
            _trainable(value, arguments[0], gradient)
        return how_close((got - right).abs().max().item())
    for text, slip in slips:
        slip = torch.as_tensor(slip).float()
        if got.shape == slip.shape and torch.allclose(got, slip, atol=TOLERANCE, rtol=1e-4):
            raise NotYet(text)
    if got.shape != right.shape:
        raise NotYet(f"your result has shape {tuple(got.shape)}; expected {tuple(right.shape)}.")
    if not torch.isfinite(got).all():
        raise NotYet("your result contains NaN or infinity.")
    worst = int((got - right).abs().argmax())
    row, column = divmod(worst, right.shape[-1] if right.dim() else 1)
    place = f"row {row}, token {column}: " if right.dim() == 2 else ""
    expected, yours = right.flatten()[worst].item(), got.flatten()[worst].item()
    raise NotYet(f"{place}{_show(expected)} expected, yours is {_show(yours)}.")


def _trainable(loss: Any, inputs: Tensor, gradient: Tensor) -> None:
    """Raise NotYet if no optimizer could train on this loss, whose number is right."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise NotYet(
            "the number is right, but nothing can be trained on it: return the tensor itself, "
            "without `item`, `detach` or `tolist`."
        )
    try:
        (got,) = torch.autograd.grad(loss, inputs, allow_unused=True)
    except RuntimeError as error:
        raise NotYet(f"the number is right, but has no gradient: {error}") from None
    if got is None or not torch.allclose(got, gradient, atol=TOLERANCE):
        raise NotYet("the number is right, but its gradient is not: is a part of it detached?")


def steady(answer: Any, *arguments: Any, advice: str) -> None:
    """Raise NotYet if a right answer turns into NaN or infinity for these large arguments."""
    if not math.isfinite(number(ask(answer, *arguments))):
        raise NotYet(f"right for small numbers, but not for large ones: {advice}")
