"""Several processes that train one model together (`torchrun` or `accelerate launch` starts them),
and a batch taken in parts.

Every rank holds the model and samples its share of the batch with a seed of its own. Then the small
tensors (tokens, scores, log-probabilities) are gathered, so that all statistics are those of the
whole batch and the same everywhere, and the maths never hears of ranks. Each rank computes the loss
of its rows, a few at a time if memory is short; gradients add up to those of the whole batch. With
one process all of this does nothing.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_helpers.runtime import guards

SEED_STRIDE = 100_003  # between the sampling seeds of neighbouring ranks (released code)


LOST = (
    "another process of this run has gone (its own message stands above, if it had one), so "
    "training stopped here too. The last checkpoint "
    "is whole: start the same command again, with as many ranks as you like, and it goes on"
)


class RankLost(RuntimeError):
    """Another process of this run has gone; nothing more can be computed together."""


class Ranks:
    """This process among `count`, number `rank` from 0; `micro_batch` rows are computed at a time
    (None: all at once)."""

    def __init__(self, rank: int = 0, count: int = 1, micro_batch: int | None = None):
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(
                f"micro_batch is {micro_batch}: at least one row must be computed at a time"
            )
        self.rank, self.count, self.micro_batch = rank, count, micro_batch

    @property
    def is_first(self) -> bool:
        """Say whether this rank writes the files and talks."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Say which of `rows` rows are this rank's; raises ValueError if they cannot be shared out
        evenly."""
        if rows % self.count:
            raise ValueError(
                f"a batch of {rows} cannot be shared evenly by {self.count} ranks: make it a "
                f"multiple of {self.count}"
            )
        size = rows // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def micro_batches(self, rows: int) -> Iterator[slice]:
        """Cut this rank's share of `rows` rows into micro-batches."""
        own = self.share(rows)
        size = self.micro_batch or own.stop - own.start
        for start in range(own.start, own.stop, size):
            yield slice(start, min(start + size, own.stop))

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Turn the loss of another process into RankLost wherever sharded weights notice it; other
        errors stay what they are."""
        try:
            yield
        except RuntimeError as error:
            lost = self.count > 1 and (
                isinstance(error, torch.distributed.DistError)
                or re.search("gloo|[Cc]onnection", str(error))
            )
            if not lost or isinstance(error, RankLost):
                raise
            raise RankLost(LOST) from error

    # ---- talking to the others -------------------------------------------------------------------

    def gather(self, record: Any) -> Any:
        """Join the rows of all ranks, in their order; a tensor, or a record whose fields are
        tensors or records."""
        if self.count == 1:
            return record
        if is_dataclass(record):
            return record.map(self.gather)
        mine = record.byte() if record.dtype == torch.bool else record
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        with _watched():
            torch.distributed.all_gather(parts, mine.contiguous())
        return torch.cat(parts).to(record.dtype)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Take the first rank's tensor."""
        if self.count > 1:
            with _watched():
                torch.distributed.broadcast(tensor, 0)
        return tensor

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all ranks."""
        if self.count > 1:
            with _watched():
                torch.distributed.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Add the gradients of all ranks up, in place; the backward pass has averaged those of
        sharded weights already."""
        if self.count == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        with _watched():
            waiting = [
                torch.distributed.all_reduce(g, async_op=True)
                for g in gradients
                if not hasattr(g, "full_tensor")
            ]
            for work in waiting:
                work.wait()
        for gradient in gradients:
            if hasattr(gradient, "full_tensor"):
                gradient.mul_(self.count)

    def update(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float | None = None
    ) -> None:
        """Take one optimizer step on the gradients of all ranks together, clipped if asked.

        Raises FloatingPointError, on every rank at once, if a gradient is not finite.
        """
        self.all_reduce_gradients(model)
        limit = math.inf if max_grad_norm is None else max_grad_norm
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        guards.finite("the norm of the gradients", full_tensor(norm))
        optimizer.step()

    def to_first(self, tensor: Tensor) -> Tensor | None:
        """Put a tensor, its shards together, into the first rank's main memory (every rank must
        ask); the others get nothing."""
        found = full_tensor(tensor)
        return found.detach().cpu() if self.is_first else None

    def check_same(self, what: str, value: Any) -> None:
        """Raise ValueError if `value` is not the same on all ranks."""
        if self.count == 1:
            return
        seen: list[Any] = [None] * self.count
        with _watched():
            torch.distributed.all_gather_object(seen, value)
        if others := [i for i, v in enumerate(seen) if v != seen[0]]:
            raise ValueError(
                f"ranks disagree about {what}: rank 0 has {seen[0]!r}, rank {others[0]} has "
                f"{seen[others[0]]!r}; start all with the same "
                "command, the same versions and the same files (in a folder that all machines see)"
            )


ALONE = Ranks()


def from_environment(
    device: torch.device | str | None = None, micro_batch: int | None = None
) -> tuple[Ranks, torch.device]:
    """Join the other processes, if a launcher started several, and choose this one's device (its
    own GPU where there are GPUs)."""
    try:
        cuda = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    except RuntimeError as error:
        raise ValueError(
            f"there is no kind of device called {device!r}: write cpu, cuda or cuda:1, or leave "
            "device out"
        ) from error
    if cuda and not torch.cuda.is_available():
        raise ValueError(
            f"device {device}: torch finds no GPU here (torch {torch.__version__}); leave device "
            "out, or install a CUDA build"
        )
    rank, count, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    if count == 1:
        return Ranks(micro_batch=micro_batch), torch.device(device or ("cuda" if cuda else "cpu"))
    if cuda and local >= torch.cuda.device_count():
        raise ValueError(
            f"rank {rank} wants GPU {local}, but there are {torch.cuda.device_count()}: lower "
            "--nproc-per-node"
        )
    chosen = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(chosen)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo", timeout=datetime.timedelta(minutes=10)
        )
    return Ranks(rank, count, micro_batch), chosen


def shut_down() -> None:
    """Say goodbye to the other processes, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _watched() -> Iterator[None]:
    """Turn the many errors of a lost process into one."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(LOST) from error


# ---- weights in shards (FSDP) --------------------------------------------------------------------


def shard(
    model: nn.Module,
    inner: nn.Module,
    methods: Iterable[str],
    count: int,
    device: torch.device | None = None,
) -> None:
    """Spread a model's weights, gradients and optimizer over all ranks; each layer is put together
    when it is needed.

    inner: the transformers model inside; `methods` are the ways into `model` apart from `forward`.
    A model on the CPU goes to `device` layer by layer, so that no GPU ever holds the whole.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # nobody here writes into what it returns
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh((device or next(model.parameters()).device).type, (count,))
    blocks = max((m for m in inner.modules() if isinstance(m, nn.ModuleList)), key=len)
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for name in methods:
        register_fsdp_forward_method(model, name)


def full_tensor(tensor: Tensor) -> Tensor:
    """Put a sharded tensor together (every rank must ask); others are returned as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def sharded_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Cut a whole tensor into shards as `pattern` is; others are returned as they are."""
    if not hasattr(pattern, "full_tensor") or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
