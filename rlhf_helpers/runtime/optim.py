"""Adam as in TensorFlow 1, which the paper's code used: one small number stands in another place.

Both divide by sqrt(v) + eps. PyTorch corrects the bias of v first and TensorFlow does not, so its
eps weighs more while v is young: eps / sqrt(1 - beta2^t), 32 times as much at the first step. The
first steps come out short, a warm-up that nobody wrote down; with PyTorch's rule the first updates
of PPO move the policy several times as far (released code, `core.minimize`; appendix on Adam).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

EPS = 1e-5  # as released

# for comparison: the same eps, added after the correction
PyTorchAdam = partial(torch.optim.Adam, eps=EPS)


class TensorFlowAdam(torch.optim.Adam):
    """Adam with TensorFlow's eps; no weight decay, no clipping.

    lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t) and p <- p - lr_t m / (sqrt(v) + eps).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        eps: float = EPS,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(params, lr=lr, eps=eps, betas=betas)
        for group in self.param_groups:
            group["tensorflow_eps"], group["steps"] = eps, 0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one step: torch's own, with the eps that makes it TensorFlow's."""
        for group in self.param_groups:
            group["steps"] += 1
            group["eps"] = group["tensorflow_eps"] / math.sqrt(
                1 - group["betas"][1] ** group["steps"]
            )
        return super().step(closure)


def adam(params: Iterable[Tensor], lr: float, tensorflow: bool = True) -> torch.optim.Optimizer:
    """Make the Adam that a config asks for: with eps where TensorFlow has it, or PyTorch."""
    return (TensorFlowAdam if tensorflow else PyTorchAdam)(params, lr=lr)
