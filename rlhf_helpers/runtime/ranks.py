"""Several processes that train one model together, and a batch computed in parts.

`torchrun` or `accelerate launch` starts the processes, called ranks. Every rank holds the model and
samples its share of the batch with random numbers of its own. Then the small tensors (tokens,
scores, log-probabilities) are gathered, so that all statistics are those of the whole batch and the
same everywhere, and the maths never hears of ranks. Each rank computes the loss of its rows, a few
at a time if memory is short; gradients add up to those of the whole batch. With one process all of
this does nothing.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_helpers.runtime import guards

LOST = (
    "another process of this run has gone (its own message stands above, if it had one), so "
    "training stopped here too. The last checkpoint is complete: run the same command again, with "
    "as many ranks as you like, and it continues"
)
# what torch says when a peer is gone or silent, and nothing else: gloo in a plain RuntimeError (its
# complaints about sizes have the same form), NCCL in a DistBackendError (its lack of memory too)
GLOO_LOST = (
    r"gloo/transport.*(Connection (closed|reset|refused)|Broken pipe|[Tt]imed out|timeout|"
    r"Software caused connection abort|No route to host)"
)
NCCL_LOST = r"ncclRemoteError|ncclSystemError|communicator was aborted|[Tt]imeout|[Tt]imed out"


class RankLost(RuntimeError):
    """Another process of this run has gone; nothing more can be computed together."""


def is_lost_rank(error: RuntimeError) -> bool:
    """Say whether an error means that another process has gone, and not a fault of this one."""
    distributed = torch.distributed
    if isinstance(error, (distributed.DistNetworkError, distributed.DistStoreError)):
        return True
    pattern = NCCL_LOST if isinstance(error, distributed.DistBackendError) else GLOO_LOST
    return bool(re.search(pattern, str(error), re.DOTALL))


@contextmanager
def detecting_lost_ranks() -> Iterator[None]:
    """Raise RankLost where torch's error means that another process has gone."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RankLost) or not is_lost_rank(error):
            raise
        raise RankLost(LOST) from error


class Ranks:
    """This process among `count`, number `rank` from 0.

    `micro_batch` rows are computed at a time (None: all at once).
    """

    def __init__(self, rank: int = 0, count: int = 1, micro_batch: int | None = None):
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(
                f"micro_batch is {micro_batch}: at least one row must be computed at a time"
            )
        self.rank, self.count, self.micro_batch = rank, count, micro_batch

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files and prints."""
        return self.rank == 0

    def local_rows(self, batch: int) -> slice:
        """Return which rows of a batch are this rank's; raises ValueError if they do not divide."""
        if batch % self.count:
            raise ValueError(
                f"a batch of {batch} cannot be divided evenly among {self.count} ranks: make it a "
                f"multiple of {self.count}"
            )
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def micro_batches(self, batch: int) -> Iterator[slice]:
        """Cut this rank's rows of a batch into micro-batches."""
        own = self.local_rows(batch)
        size = self.micro_batch or own.stop - own.start
        for start in range(own.start, own.stop, size):
            yield slice(start, min(start + size, own.stop))

    # ---- communication ---------------------------------------------------------------------------

    def gather(self, record: Any) -> Any:
        """Join the rows of all ranks, in order: of a tensor, or of a record of tensors."""
        if self.count == 1:
            return record
        if is_dataclass(record):
            return record.map(self.gather)
        mine = record.byte() if record.dtype == torch.bool else record
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        with detecting_lost_ranks():
            torch.distributed.all_gather(parts, mine.contiguous())
        return torch.cat(parts).to(record.dtype)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Take the first rank's tensor."""
        if self.count > 1:
            with detecting_lost_ranks():
                torch.distributed.broadcast(tensor, 0)
        return tensor

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all ranks."""
        if self.count > 1:
            with detecting_lost_ranks():
                torch.distributed.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Add the gradients of all ranks up, in place; sharded ones were averaged already."""
        if self.count == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        with detecting_lost_ranks():
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

    def full_on_first(self, tensor: Tensor) -> Tensor | None:
        """Assemble a tensor from its shards in the first rank's main memory; others get None.

        Every rank must call it.
        """
        found = full_tensor(tensor)
        return found.detach().cpu() if self.is_first else None

    def from_first(self, action: Callable[[], Any]) -> Any:
        """Let the first rank do something, and give its result, or its error, to every rank."""
        if self.count == 1:
            return action()
        result: list[Any] = [None, None]
        if self.is_first:
            try:
                result[0] = action()
            except Exception as error:
                result[1] = error
        with detecting_lost_ranks():
            torch.distributed.broadcast_object_list(result, 0)
        if result[1] is not None:
            raise result[1]
        return result[0]

    def check_same(self, what: str, value: Any) -> None:
        """Raise ValueError, on every rank, if `value` is not the same on all of them."""
        if self.count == 1:
            return
        seen: list[Any] = [None] * self.count
        with detecting_lost_ranks():
            torch.distributed.all_gather_object(seen, value)
        for i, other in enumerate(seen):
            if other == seen[0]:
                continue
            first, other = (
                guards.differing(seen[0], other) if isinstance(value, dict) else (seen[0], other)
            )
            raise ValueError(
                f"ranks disagree about {what}: rank 0 has {first!r}, rank {i} has {other!r}; start "
                "all of them with the same command, the same versions and the same files (in a "
                "folder that all machines see)"
            )


ALONE = Ranks()


def from_environment(
    device: torch.device | str | None = None, micro_batch: int | None = None
) -> tuple[Ranks, torch.device]:
    """Join the other processes, if a launcher started several, and choose this one's device.

    Where there are GPUs, each process has its own. Raises ValueError if the device is not there.
    """
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
            f"rank {rank} needs GPU {local}, but there are {torch.cuda.device_count()}: lower "
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
    """Leave the other processes, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


# ---- weights in shards (FSDP) --------------------------------------------------------------------


def shard(
    model: nn.Module,
    inner: nn.Module,
    methods: Iterable[str],
    count: int,
    device: torch.device | None = None,
) -> None:
    """Spread a model's weights, gradients and optimizer over all ranks (FSDP2).

    Each layer is assembled when it is needed. inner: the transformers model inside; methods: the
    ways into `model` apart from `forward`. A model on the CPU goes to `device` layer by layer, so
    that no GPU ever holds the whole.
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
    """Assemble a sharded tensor (every rank must call it); others are returned as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def sharded_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Shard a whole tensor as `pattern` is sharded, or return it as it is."""
    if not hasattr(pattern, "full_tensor") or tensor.shape != pattern.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
