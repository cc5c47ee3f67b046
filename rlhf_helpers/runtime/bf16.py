"""Whether bfloat16 is faster than float32 on this machine, which only a measurement can tell.

Processors without instructions for it compute all the same: 0.9 against 48 GFLOP/s were measured.
"""

from __future__ import annotations

import time
import warnings
from functools import cache

import torch

# of the matrices multiplied: a few milliseconds in all, on a CPU a tenth of a second at worst; a
# GPU would only show how fast it starts something as small
SIDES = {"cpu": 256, "cuda": 4096}
WORTH_IT = 1.3  # times as fast, at least, or rounding buys nothing


def choose(precision: str, device: torch.device | None = None) -> str:
    """Return fp32 or bf16 for "auto", whichever is worth it on the device; others as they are.

    Without a device, the GPU's if there is one. Warns where bf16 is asked for and slower.
    """
    if precision not in ("auto", "bf16"):
        return precision
    kind = device.type if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    gain = speedup(kind)
    if precision == "auto":
        return "bf16" if gain >= WORTH_IT else "fp32"
    if gain < 1:
        warnings.warn(
            f"bfloat16 is {1 / gain:.1f} times slower than float32 on this machine's {kind}: use "
            'precision="fp32" (--precision fp32), or "auto" to have it measured',
            stacklevel=3,
        )
    return precision


@cache
def speedup(kind: str) -> float:
    """Measure, once per process, how many times as fast as in float32 matrices are multiplied."""
    fp32, bf16 = (seconds(kind, dtype) for dtype in (torch.float32, torch.bfloat16))
    return fp32 / bf16


def seconds(kind: str, dtype: torch.dtype) -> float:
    """Time one product of two matrices, the best of three after one to warm up."""
    side = SIDES.get(kind, SIDES["cuda"])
    a = torch.ones(side, side, dtype=dtype, device=kind)
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        a @ a
        if kind != "cpu":
            torch.accelerator.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
