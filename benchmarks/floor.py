"""The machine's floor: how fast it multiplies and reads memory, measured; how much the model has to
multiply and read, counted.

Counted is the least that the work needs: the head on response positions only, log-probabilities and
values kept from sampling, a query shared by K answers computed once, a backward pass of two forward
passes. No program can be faster than this on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rounds import CLOCKS, wait
from transformers import PretrainedConfig


@dataclass(frozen=True)
class Machine:
    """What was measured: products in floating-point operations a second, memory in bytes a
    second."""

    products: dict[str, float]  # by precision
    memory: float

    @classmethod
    def measure(
        cls, device: torch.device, clock: str = "wall", size: int | None = None,
        precisions: Sequence[str] = ("fp32", "bf16"),
    ) -> Machine:  # fmt: skip
        """Take the best of several tries; `size` is the side of the largest matrix."""

        def products(side: int, dtype: torch.dtype) -> float:
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            return 2 * side**3 / _best(lambda: a @ b, device, clock)

        sides = (size,) if size else (4096, 8192) if device.type == "cuda" else (1024, 2048)
        types = {"fp32": torch.float32, "bf16": torch.bfloat16}
        types = {name: types[name] for name in precisions}
        source = torch.ones((size or 8192) ** 2, device=device)  # zeros would not be real pages yet
        target = torch.ones_like(source)
        copied = 2 * source.nbytes / _best(lambda: target.copy_(source), device, clock)
        memory = max(copied, source.nbytes / _best(source.sum, device, clock))
        return cls(
            {name: max(products(side, dtype) for side in sides) for name, dtype in types.items()},
            memory,
        )


def _best(work: Callable[[], object], device: torch.device, clock: str, times: int = 5) -> float:
    work()
    taken = []
    for _ in range(times):
        wait(device)
        start = CLOCKS[clock]()
        work()
        wait(device)
        taken.append(CLOCKS[clock]() - start)
    return min(taken)


# ---- what the work needs (GPT-2 shapes) ----------------------------------------------------------


def trunk_flops(config: PretrainedConfig, tokens: int, seen: int) -> float:
    """Count the products of `tokens` tokens that see `seen` tokens, themselves included, all
    together (pairs of reader and read)."""
    d, layers = config.n_embd, config.n_layer
    return layers * (24 * d * d * tokens + 4 * d * seen)


def pass_flops(config: PretrainedConfig, length: int, before: int = 0) -> float:
    """Count one row of `length` tokens, `before` of them already in a cache; every token sees
    itself and what stands before it."""
    return trunk_flops(
        config, length - before, (length * (length + 1) - before * (before + 1)) // 2
    )


def head_flops(config: PretrainedConfig, tokens: int) -> float:
    return 2 * config.n_embd * config.vocab_size * tokens


def sampling_seconds(
    machine: Machine, config: PretrainedConfig, rows: int, query: int, response: int,
    precision: str, answers: int = 1,
) -> float:  # fmt: skip
    """Prefill, once for all `answers` to a prompt, then one step per token: the slower of
    multiplying and of reading weights and cache."""
    speed, size = machine.products[precision], 4 if precision == "fp32" else 2
    weights = config.n_layer * 12 * config.n_embd**2 + config.n_embd * config.vocab_size
    total = rows * (pass_flops(config, query) / answers + head_flops(config, 1)) / speed
    for length in range(query + 1, query + response):  # the last token is never read
        flops = rows * (pass_flops(config, length, length - 1) + head_flops(config, 1))
        read = size * (weights + rows * 2 * config.n_layer * config.n_embd * length)
        total += max(flops / speed, read / machine.memory)
    return total


def reward_seconds(
    machine: Machine,
    config: PretrainedConfig,
    rows: int,
    options: int,
    query: int,
    response: int,
    precision: str,
) -> float:
    """Forward and backward over one query and its answers."""
    answer = pass_flops(config, query + response, query)
    return 3 * rows * (pass_flops(config, query) + options * answer) / machine.products[precision]


def ppo_seconds(
    machine: Machine,
    config: PretrainedConfig,
    rows: int,
    query: int,
    response: int,
    epochs: int,
    precision: str,
    answers: int = 1,
) -> float:
    """Sample, one pass of the reference, one of the reward model, and `epochs` passes forward and
    backward, each over a prompt and its `answers`."""
    prompt = pass_flops(config, query) / answers
    alone = pass_flops(config, query + response - 1, query)  # an answer, its prompt computed
    read = prompt + alone + head_flops(config, response)
    scored = prompt + pass_flops(config, query + response, query)
    flops = rows * (read + scored + epochs * 3 * read)
    return (
        sampling_seconds(machine, config, rows, query, response, precision, answers)
        + flops / machine.products[precision]
    )
