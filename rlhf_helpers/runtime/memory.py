"""How much memory PPO takes on each device, known before a machine is rented.

    memory_map(SIZES["774M"], batch=512, query=64, response=24, precision="bf16", micro_batch=64)

Weights are counted; activations and cache are traced: the real forward pass is run on tensors
without contents (torch's FakeTensorMode), and what it keeps for the backward pass is added up. So
it holds for every family, and asking takes no memory.
"""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, PretrainedConfig

from rlhf_helpers.models import Policy
from rlhf_helpers.runtime import pretrained
from rlhf_helpers.tensors import token_logprobs

GB = 1e9
PARTS = ("policy", "reference", "reward model", "gradients", "optimizer", "activations", "sampling")
SIZES = {
    "124M": GPT2Config(),
    "355M": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "774M": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "1.5B": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
}


def memory_map(
    config: PretrainedConfig, *, batch: int, query: int, response: int, precision: str = "fp32",
    checkpointing: bool = False, lora: int = 0, minibatches: int = 1,
    micro_batch: int | None = None, ranks: int = 1, sharded: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Estimate the bytes that PPO takes on each device, part by part, and their `total`.

    batch: rows of a step on all ranks together, learned from in `minibatches`; query, response:
    tokens. Weights, reference, reward model (of the same size), gradients and Adam's two moments
    are in float32. Activations and the cache of sampling are never held at the same time, so
    `total` counts the larger of the two. What the allocator wastes, and other programs, come on
    top.
    """
    sampled, learned = (
        min(micro_batch or batch, -(-rows // ranks)) for rows in (batch, batch // minibatches)
    )
    weights, trained, reward, activations = _traced_pass(
        _Frozen(config), learned, query, response, precision, checkpointing, lora
    )
    share = ranks if sharded else 1
    parts = {
        "policy": 4 * weights // share,
        # LoRA's reference shares the weights that are held still, unless they are in shards.
        "reference": 4 * (trained if lora and share == 1 else weights) // share,
        "reward model": 4 * reward // share,
        "gradients": 4 * trained // share,
        "optimizer": 8 * trained // share,
        "activations": activations,
        "sampling": _traced_cache(_Frozen(config), sampled, query + response, precision),
    }
    steady = sum(parts[name] for name in PARTS[:5])
    return parts | {"total": steady + max(parts["activations"], parts["sampling"])}


def largest_micro_batch(
    config: PretrainedConfig, free: int, *, batch: int, ranks: int = 1, **settings: Any
) -> int | None:
    """Find the largest micro-batch that fits into `free` bytes; None if none does.

    The share of the batch is halved until it fits.
    """
    rows = -(-batch // ranks)
    while rows >= 1:
        if (
            memory_map(config, batch=batch, ranks=ranks, micro_batch=rows, **settings)["total"]
            <= free
        ):
            return rows
        rows //= 2
    return None


def check(
    config: PretrainedConfig, free: int | None, *, batch: int, micro_batch: int | None = None,
    ranks: int = 1, **settings: Any
) -> None:  # fmt: skip
    """Raise MemoryError, naming a micro-batch that would fit, if PPO needs more than `free` bytes.

    Without `free` (None: not known) nothing is checked. Where a family cannot be traced (its code
    asks for contents), a line says so: an estimate stops no run.
    """
    if free is None:
        return
    try:
        need = memory_map(config, batch=batch, micro_batch=micro_batch, ranks=ranks, **settings)[
            "total"
        ]
    except (RuntimeError, TypeError, AttributeError) as error:
        print(
            f"How much memory {config.model_type} needs could not be worked out "
            f"({str(error).splitlines()[0][:100]}); going on."
        )
        return
    if need <= free:
        return
    fits = largest_micro_batch(config, free, batch=batch, ranks=ranks, **settings)
    rows = micro_batch or -(-batch // ranks)
    way_out = f"--micro-batch {fits} would fit" if fits and fits < rows else (
        "no micro-batch would fit: try --checkpointing, --lora 16, more GPUs with --sharded, or a "
        "smaller model"
    )  # fmt: skip
    raise MemoryError(
        f"this run needs about {need / GB:.1f} GB on each device with {rows} rows at a time, but "
        f"{free / GB:.1f} GB are free; {way_out}"
    )


def free_bytes(device: torch.device) -> int | None:
    """Return how many bytes may be used on a device; None where the system does not tell.

    Of a GPU nine tenths (allocators waste some), of a CPU an equal share for each rank on it.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 9 // 10
    told = Path("/proc/meminfo")
    if not told.exists():
        return None
    lines = dict(line.split(":", 1) for line in told.read_text().splitlines())
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
    return 1024 * int(lines["MemAvailable"].split()[0]) // sharing


SETTINGS = (  # what the table and the figure compare: title, options
    ("one GPU, fp32", {"micro_batch": 64}),
    ("one GPU, bf16", {"micro_batch": 64, "precision": "bf16"}),
    ("bf16, checkpointing", {"micro_batch": 64, "precision": "bf16", "checkpointing": True}),
    ("bf16, LoRA 16", {"micro_batch": 64, "precision": "bf16", "lora": 16}),
    (
        "8 GPUs, bf16, sharded",
        {"micro_batch": 64, "precision": "bf16", "ranks": 8, "sharded": True},
    ),
)


def rows() -> list[dict[str, Any]]:
    """List the maps of GPT-2's four sizes under each of the settings.

    A batch of 512, 64 + 24 tokens (the paper's style tasks).
    """
    style = {"batch": 512, "query": 64, "response": 24}
    return [
        {"model": name, "setting": title} | memory_map(config, **style, **options)
        for title, options in SETTINGS
        for name, config in SIZES.items()
    ]


def table() -> str:
    """Write the maps as a markdown table, in GB for each GPU."""
    columns = ("setting", "model", *PARTS, "total")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows():
        numbers = (f"{row[name] / GB:.1f}" for name in (*PARTS, "total"))
        lines.append(f"| {row['setting']} | {row['model']} | {' | '.join(numbers)} |")
    return "".join(line + "\n" for line in lines)


# ---- tracing -------------------------------------------------------------------------------------


class _Frozen:
    """A config as a key for the cache: equal if all its settings are."""

    def __init__(self, config: PretrainedConfig):
        self.config, self.key = config, config.to_json_string()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self.key == other.key


def _bare(config: PretrainedConfig, *options: Any) -> Policy:
    """Make a policy whose weights have shapes but no contents; call it inside a FakeTensorMode."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    config = copy.deepcopy(config)
    config.dtype = torch.float32  # as models are loaded, whatever they were saved in
    with unset_fake_temporarily(), torch.device("meta"):  # peft cannot work on fake tensors
        policy = Policy(AutoModelForCausalLM.from_config(config), *options)
    for module in policy.modules():
        for store in (module._parameters, module._buffers):
            for name, old in store.items():
                if old is not None:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    store[name] = (
                        nn.Parameter(new, old.requires_grad)
                        if isinstance(old, nn.Parameter)
                        else new
                    )
    policy.lm.tie_weights()
    return policy


@cache
def _traced_pass(
    frozen: _Frozen, rows: int, query: int, response: int, precision: str, checkpointing: bool,
    lora: int
) -> tuple[int, int, int, int]:  # fmt: skip
    """Count the weights, and add up what the forward pass keeps for the backward pass.

    Returns the number of weights, of trained ones and of a reward model's, and bytes (with the
    copies in bf16).
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        policy = _bare(frozen.config, precision, checkpointing, lora)
        own = {p.untyped_storage()._cdata for p in policy.parameters()}
        # the storage is held, or its address would be given to another
        kept: dict[int, tuple[Any, int]] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = (storage, storage.nbytes())
            return tensor

        tokens = torch.zeros(rows, query + response - 1, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = policy.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[:, -response:]
            token_logprobs(policy.logits(hidden), tokens[:, -response:])
            policy.values(hidden)
        sizes = [(p.numel(), p.requires_grad) for p in policy.parameters()]
        trunk = sum(
            p.numel() for name, p in policy.lm.base_model.named_parameters() if "lora_" not in name
        )
    counts = (
        sum(n for n, _ in sizes),
        sum(n for n, trained in sizes if trained),
        trunk + policy.value_head.in_features,
    )
    return *counts, sum(size for _, size in kept.values())


@cache
def _traced_cache(frozen: _Frozen, rows: int, length: int, precision: str) -> int:
    """Add up, in bytes, what sampling holds for `rows` texts of `length` tokens.

    Keys and values, old and new while they grow; the last logits (as they are, divided, as
    probabilities); with bf16 the copies of the weights.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        policy, held = _bare(frozen.config, precision), DynamicCache()
        tokens = torch.zeros(rows, length, dtype=torch.long)
        hidden = policy.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool), held)[:, -1]
        pairs = [(layer.keys, layer.values) for layer in held.layers]
        products = sum(
            m.weight.numel()
            for m in policy.lm.base_model.modules()
            if isinstance(m, pretrained.LINEAR)
        )
        copies = 2 * products if precision == "bf16" else 0
        return (
            2 * sum(x.nbytes for pair in pairs for x in pair)
            + 3 * policy.logits(hidden).nbytes
            + copies
        )
