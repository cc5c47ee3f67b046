"""Checks of notebook 06 with code: the memory bill, a loss in parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import Answer, NotYet, ask, check, judge, shape


@check
def nb06_bill(answer: Answer | None) -> str:
    """Check bill(policy, reward), the bytes of five parts in float32 for so many weights."""
    p, r = 1_000_003, 900_001
    parts = ("policy", "reference", "reward model", "gradients", "optimizer")
    order = ", ".join(parts)

    def bill(
        policy: float = p, reference: float = p, reward: float = r, gradients: float = p,
        moments: float = 2 * p, size: float = 4,
    ) -> Tensor:  # fmt: skip
        """Multiply the numbers that each part holds by the size of one in bytes."""
        held = [policy, reference, reward, gradients, moments]
        return torch.tensor([size * n for n in held], dtype=torch.float64)

    def trained(n: int) -> Tensor:
        return bill(gradients=n, moments=2 * n)

    own_lines = "Adam's two moments are all: weights and gradients have lines of their own."
    slips = [
        ("two bytes are bfloat16: here everything is float32, four bytes each.", bill(size=2)),
        ("these are numbers, not bytes: a float32 takes four.", bill(size=1)),
        ("these are bits: a float32 takes four BYTES.", bill(size=32)),
        ("eight bytes are float64: a float32 takes four.", bill(size=8)),
        ("these are gigabytes: return bytes.", bill() / 1e9),
        ("these are megabytes: return bytes.", bill() / 1e6),
        ("these are gibibytes (GiB): return bytes.", bill() / 2**30),
        ("these are mebibytes (MiB): return bytes.", bill() / 2**20),
        ("Adam keeps TWO numbers per weight: running means of the gradient and of its square.",
         bill(moments=p)),
        (own_lines, bill(moments=3 * p)),
        (own_lines, bill(moments=4 * p)),
        ("gradients are missing: one number for each trained weight.", bill(gradients=0)),
        ("gradients are ONE number per trained weight, and the reference has none.",
         bill(gradients=2 * p)),
        ("the reward model is not trained here: it has no gradients.", bill(gradients=p + r)),
        ("only the policy is trained: neither reference nor reward model has gradients.",
         bill(gradients=2 * p + r)),
        ("only the policy is trained: only its weights have moments.", bill(moments=2 * (p + r))),
        ("only the policy is trained: only its weights have moments.",
         bill(moments=2 * (2 * p + r))),
        ("the reward model is not trained here: it has neither gradients nor moments.",
         trained(p + r)),
        ("the reference is never trained: it has neither gradients nor moments.", trained(2 * p)),
        ("only the policy is trained: no other model has gradients and moments.",
         trained(2 * p + r)),
        ("the reference is a whole second copy of the policy.", bill(reference=0)),
        ("the reward model has its own number of weights, the second argument.", bill(reward=p)),
        (f"gradients and optimizer are swapped: the order is {order}.",
         bill(gradients=2 * p, moments=p)),
        (f"reference and reward model are swapped: the order is {order}.",
         bill(reference=r, reward=p)),
        ("you added the parts up: return the five of them.", bill().sum()),
    ]  # fmt: skip
    value = ask(answer, p, r)
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        raise NotYet(
            "float32 cannot hold the bytes of a large model exactly: return whole numbers."
        )
    try:
        got = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return a list of the five numbers ({order}), not {shape(value)}.") from None
    if not torch.equal(got, bill()):
        _name_wrong_line(got, bill(), slips, parts)
    return "16 bytes for each weight that is trained, 4 for each that is only read (exact)."


def _name_wrong_line(
    got: Tensor, right: Tensor, slips: Sequence[tuple[str, Tensor]], parts: Sequence[str]
) -> None:
    """Raise NotYet with the slip that gives this bill, or with the first wrong line."""
    for text, slip in slips:
        if got.shape == slip.shape and torch.allclose(got, slip, rtol=1e-9):
            raise NotYet(text)
    if got.shape != right.shape:
        raise NotYet(f"return the five numbers ({', '.join(parts)}), not {shape(got)}.")
    for part, expected, yours in zip(parts, right.tolist(), got.tolist(), strict=True):
        if yours != expected:
            raise NotYet(
                f"the line of the {part}: {expected:,.0f} expected, yours is {yours:,.12g}."
            )


@check
def nb06_whole_loss(answer: Answer | None) -> str:
    """Check whole(means, counts), the mean over all tokens of several parts."""
    means, counts = torch.tensor([0.5, -1.25, 2.0, 4.0]), torch.tensor([40, 33, 21, 2])
    pairs = list(zip(means.tolist(), counts.tolist(), strict=True))
    total, plain = sum(n for _, n in pairs), math.fsum(m for m, _ in pairs)
    weighted = math.fsum(m * n for m, n in pairs)
    without_last = math.fsum(m * n for m, n in pairs[:-1])
    slips = [
        ("this is the mean of the means: 2 tokens would weigh as much as 40.", plain / 4),
        ("this is the sum of the means: weight each part by its share of the tokens.", plain),
        ("this is the sum over all tokens: divide by their number.", weighted),
        ("divide by the number of tokens of all parts, not by the number of parts.", weighted / 4),
        ("multiply each mean by its share; you divided.",
         math.fsum(m * total / n for m, n in pairs)),
        ("each mean must be multiplied by its number of tokens first.", plain / total),
        ("the last part is missing.", without_last / total),
        ("the last part is missing.", without_last / (total - 2)),
        ("these are the parts: add them up.", means * counts / total),
        ("these are the parts: add them up, and divide by the number of all tokens.",
         means * counts),
        ("these are the parts: add them up, products and counts separately.", means),
        ("divide by the number of ALL tokens: add up the counts too.", weighted / counts),
    ]  # fmt: skip
    close = judge(answer, (means, counts), torch.tensor(weighted / total), slips)
    return f"every token weighs the same, whichever part it is in ({close})."
