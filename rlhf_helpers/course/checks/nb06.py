"""Checks of notebook 06: GPT-2's weights, the memory bill, a loss in parts, LoRA's weights, a plan
for one GPU, what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import ask, judge, say
from rlhf_helpers.runtime import memory

Answer = Callable[..., Any]


def _count(
    answer: Answer | None, cases: Mapping[str, tuple], right: Tensor,
    slips: Sequence[tuple[str, Tensor]], praise: str, over: str
) -> bool:  # fmt: skip
    """Judge a function that returns one whole number, called on every named case."""
    values = []
    for case in cases.values():
        value, trouble = ask(answer, *case)
        if trouble:
            return say(False, trouble)
        try:
            values.append(float(value))
        except (TypeError, ValueError, RuntimeError):
            return say(
                False, f"return one number: add up over {over}. Yours is a {type(value).__name__}."
            )
    got = torch.tensor(values, dtype=torch.float64)
    return judge(lambda: got, (), right, [*slips, *_which(got, right, list(cases))], praise)


def _which(got: Tensor, right: Tensor, names: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Make one slip more, which the answer always matches: it names the first number that is not
    the right one."""
    pairs = (
        zip(names, right.tolist(), got.tolist(), strict=True) if got.shape == right.shape else ()
    )
    return [
        (f"{name}: {a:,.0f} expected, yours is {b:,.12g}.", got) for name, a, b in pairs if a != b
    ][:1]


def nb06_weights(answer: Answer | None) -> bool:
    """Check weights(vocabulary, positions, width, layers): how many numbers a GPT-2 of that shape
    holds."""
    shapes = [(50, 20, 8, 3), (64, 16, 4, 2), (30, 40, 12, 1)]
    cases = {
        f"vocabulary {v}, positions {p}, width {d}, layers {n}": (v, p, d, n)
        for v, p, d, n in shapes
    }

    def total(change: Callable[[int, int, int, int], int] = lambda v, p, d, n: 0) -> Tensor:
        counts = []
        for v, p, d, n in cases.values():
            attention, mlp = (
                [(d, 3 * d), (3 * d,), (d, d), (d,)],
                [(d, 4 * d), (4 * d,), (4 * d, d), (d,)],
            )
            tensors = [(v, d), (p, d), *n * [*attention, *mlp, *4 * [(d,)]], (d,), (d,)]
            counts.append(sum(math.prod(shape) for shape in tensors) + change(v, p, d, n))
        return torch.tensor(counts, dtype=torch.float32)

    slips = [
        ("the output head is the token table again (the two are tied): count it once.", total(lambda v, p, d, n: v * d)),
        ("the table of positions is missing.", total(lambda v, p, d, n: -p * d)),
        ("the table of tokens is missing.", total(lambda v, p, d, n: -v * d)),
        ("both tables are missing: these are the blocks and the last layer norm.", total(lambda v, p, d, n: -(v + p) * d)),
        ("both tables are missing, and the biases of the linear layers.", total(lambda v, p, d, n: -(v + p) * d - 9 * d * n)),
        ("both tables are missing, and all biases and layer norms.", total(lambda v, p, d, n: -(v + p) * d - 13 * d * n - 2 * d)),
        ("the last layer norm, after all blocks, is missing.", total(lambda v, p, d, n: -2 * d)),
        ("a layer norm has a gain and a bias: 2 d, not d.", total(lambda v, p, d, n: -2 * d * n - d)),
        ("the last layer norm, too, has a gain and a bias: 2 d, not d.", total(lambda v, p, d, n: -d)),
        ("each block has TWO layer norms.", total(lambda v, p, d, n: -2 * d * n)),
        ("the layer norms are missing.", total(lambda v, p, d, n: -4 * d * n - 2 * d)),
        ("the layer norms of the blocks are missing.", total(lambda v, p, d, n: -4 * d * n)),
        ("the biases of the linear layers are missing (9 d in each block).", total(lambda v, p, d, n: -9 * d * n)),
        ("each block has 9 d biases: 3 d, d, 4 d and d.", total(lambda v, p, d, n: -d * n)),
        ("these are the large matrices alone: biases and layer norms are missing.", total(lambda v, p, d, n: -13 * d * n - 2 * d)),
        ("the blocks' biases and layer norms are missing.", total(lambda v, p, d, n: -13 * d * n)),
        ("attention has a second layer, d to d, that mixes the heads.", total(lambda v, p, d, n: -(d * d + d) * n)),
        ("attention's first layer makes queries, keys AND values: d to 3 d.", total(lambda v, p, d, n: -2 * (d * d + d) * n)),
        ("the MLP goes up to 4 d and back down: two layers.", total(lambda v, p, d, n: -(4 * d * d + d) * n)),
        ("the MLP goes up to 4 d and back down: two layers.", total(lambda v, p, d, n: -(4 * d * d + 4 * d) * n)),
        ("you counted one block: there are `layers` of them.", total(lambda v, p, d, n: -(12 * d * d + 13 * d) * (n - 1))),
        ("you multiplied everything by the number of layers: the tables and the last layer norm are there once.", total(lambda v, p, d, n: (n - 1) * ((v + p) * d + 2 * d))),
        ("you multiplied the last layer norm by the number of layers: it is there once.", total(lambda v, p, d, n: (n - 1) * 2 * d)),
    ]  # fmt: skip
    return _count(
        answer,
        cases,
        total(),
        slips,
        "every matrix, bias and table counted once",
        "all pieces of the table",
    )


def nb06_bill(answer: Answer | None) -> bool:
    """Check bill(policy, reward): bytes of policy, reference, reward model, gradients, optimizer
    for so many weights in float32."""
    p, r = 1_000_003, 900_001
    names = ("policy", "reference", "reward model", "gradients", "optimizer")
    order = ", ".join(names)
    lines = [(p, 1), (p, 1), (r, 1), (p, 1), (p, 2)]  # how many float32 numbers for each weight

    def bytes_of(lines: Sequence[tuple[float, float]], size: float = 4) -> Tensor:
        return torch.tensor([size * n * times for n, times in lines], dtype=torch.float64).float()

    def changed(i: int, *line: float) -> Tensor:
        return bytes_of([*lines[:i], (line[0], line[1]), *lines[i + 1 :]])

    def trained(n: int) -> Tensor:
        return bytes_of([*lines[:3], (n, 1), (n, 2)])

    right = bytes_of(lines)
    slips = [
        ("two bytes are bfloat16: here weights, gradients and moments are float32, four bytes each.", bytes_of(lines, 2)),
        ("these are numbers, not bytes: a float32 takes four.", bytes_of(lines, 1)),
        ("these are bits: a float32 takes four BYTES.", bytes_of(lines, 32)),
        ("eight bytes are float64; a float32 takes four.", bytes_of(lines, 8)),
        ("these are gigabytes: return bytes.", right / 1e9),
        ("these are megabytes: return bytes.", right / 1e6),
        ("these are gibibytes (GiB): return bytes.", right / 2**30),
        ("these are mebibytes (MiB): return bytes.", right / 2**20),
        ("Adam keeps TWO numbers for each weight, the mean of the gradient and of its square.", changed(4, p, 1)),
        ("Adam's two moments are all: the weights and gradients stand on lines of their own.", changed(4, p, 3)),
        ("Adam's two moments are all: the weights and gradients stand on lines of their own.", changed(4, p, 4)),
        ("gradients are missing: one number for each trained weight.", changed(3, p, 0)),
        ("gradients are ONE number for each trained weight, and the reference has none.", changed(3, p, 2)),
        ("the reward model is not trained here: it has no gradients.", changed(3, p + r, 1)),
        ("only the policy is trained: neither reference nor reward model has gradients.", changed(3, 2 * p + r, 1)),
        ("only the policy is trained, so only its weights have moments.", changed(4, p + r, 2)),
        ("only the policy is trained, so only its weights have moments.", changed(4, 2 * p + r, 2)),
        ("the reward model is not trained here: it has neither gradients nor moments.", trained(p + r)),
        ("the reference is never trained: it has neither gradients nor moments.", trained(2 * p)),
        ("only the policy is trained: neither reference nor reward model has gradients and moments.", trained(2 * p + r)),
        ("the reference is a whole second copy of the policy.", changed(1, p, 0)),
        ("the reward model has its own number of weights, the second argument.", changed(2, p, 1)),
        (f"gradients and optimizer are exchanged: the order is {order}.", bytes_of([*lines[:3], lines[4], lines[3]])),
        (f"reference and reward model are exchanged: the order is {order}.", bytes_of([lines[0], lines[2], lines[1], *lines[3:]])),
        ("you added the parts up: return the five of them.", right.sum()),
    ]  # fmt: skip
    value, trouble = ask(answer, p, r)
    if trouble:
        return say(False, trouble)
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return say(
            False,
            "a float32 cannot hold the bytes of a large model to the last one: return whole "
            "numbers.",
        )
    try:
        got = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return say(False, f"return a list of the five numbers ({order}), not {str(value)[:60]}.")
    lines_named = [f"the line of the {name}" for name in names]
    praise = "16 bytes for each weight that is trained, and 4 for each that only answers"
    return judge(lambda: got, (), right, [*slips, *_which(got, right, lines_named)], praise)


def nb06_whole_loss(answer: Answer | None) -> bool:
    """Check whole(means, counts): the mean over all tokens, from the mean and the number of tokens
    of each part."""
    means, counts = torch.tensor([0.5, -1.25, 2.0, 4.0]), torch.tensor([40, 33, 21, 2])
    pairs = list(zip(means.tolist(), counts.tolist(), strict=True))
    total = sum(n for _, n in pairs)
    weighted = math.fsum(m * n for m, n in pairs)
    slips = [
        ("this is the mean of the means: a part of 2 tokens would weigh as much as one of 40.", math.fsum(m for m, _ in pairs) / 4),
        ("this is the sum of the means: each part must count by its share of the tokens.", math.fsum(m for m, _ in pairs)),
        ("this is the sum over all tokens: divide by their number.", weighted),
        ("divide by the number of tokens of all parts, not by the number of parts.", weighted / 4),
        ("multiply each mean by its share; you divided.", math.fsum(m * total / n for m, n in pairs)),
        ("each mean must be multiplied by its number of tokens before you divide by them all.", math.fsum(m for m, _ in pairs) / total),
        ("the last part is missing.", math.fsum(m * n for m, n in pairs[:-1]) / total),
        ("the last part is missing.", math.fsum(m * n for m, n in pairs[:-1]) / (total - 2)),
    ]  # fmt: skip
    right = torch.tensor(weighted / total)
    tensors = [
        *[(name, torch.tensor(slip)) for name, slip in slips],
        ("these are the parts: add them up.", means * counts / total),
        (
            "these are the parts: add them up, and divide by the number of all tokens.",
            means * counts,
        ),
        ("these are the parts: add them up, products and counts each for themselves.", means),
        ("divide by the number of ALL tokens: add up the counts too.", weighted / counts),
    ]
    return judge(
        answer,
        (means, counts),
        right,
        tensors,
        "every token weighs the same, whichever part it is in",
    )


def nb06_lora(answer: Answer | None) -> bool:
    """Check lora_weights(layers, rank) for layers given as (inputs, outputs)."""
    examples = [([(8, 24), (8, 8), (8, 32), (32, 8)], 4), ([(6, 18), (10, 6)], 2), ([(12, 48)], 3)]
    cases = {f"layers {n}, rank {r}": (n, r) for n, r in examples}

    def every(rule: Callable[[list[tuple[int, int]], int], float]) -> Tensor:
        return torch.tensor([rule(*case) for case in cases.values()], dtype=torch.float32)

    def right(layers: list[tuple[int, int]], rank: int) -> int:
        return sum(len(range(rank)) * i for i, _ in layers) + sum(
            len(range(rank)) * o for _, o in layers
        )

    slips = [
        ("these are all weights of the layers: LoRA holds them still and trains two thin matrices beside them.", every(lambda n, r: sum(i * o for i, o in n))),
        ("a product of thin matrices, inputs x rank and rank x outputs: their sizes ADD up.", every(lambda n, r: sum(r * i * o for i, o in n))),
        ("a product of thin matrices, inputs x rank and rank x outputs: their sizes ADD up.", every(lambda n, r: sum(r * i * r * o for i, o in n))),
        ("the rank is missing.", every(lambda n, r: sum(i + o for i, o in n))),
        ("the second thin matrix, rank x outputs, is missing.", every(lambda n, r: sum(r * i for i, _ in n))),
        ("the first thin matrix, inputs x rank, is missing.", every(lambda n, r: sum(r * o for _, o in n))),
        ("these are as many as rank x rank: one side of each thin matrix is as wide as the layer.", every(lambda n, r: len(n) * r * r)),
        ("you counted twice: one pair of thin matrices for each layer.", every(lambda n, r: 2 * right(n, r))),
        ("the held weights are in the sum: count what is trained.", every(lambda n, r: right(n, r) + sum(i * o for i, o in n))),
        ("you looked at the first layer only.", every(lambda n, r: right(n[:1], r))),
        ("you looked at the last layer only.", every(lambda n, r: right(n[-1:], r))),
    ]  # fmt: skip
    return _count(
        answer, cases, every(right), slips, "two thin matrices beside every layer", "the layers"
    )


NB06_GPU = 24e9  # bytes of the GPU in the exercise; a tenth is left for what the allocator wastes
NB06_OPTIONS = ("precision", "checkpointing", "lora", "micro_batch")


def nb06_plan(plan: Mapping[str, Any] | None) -> bool:
    """Check settings for GPT-2 774M, batch 512, 64 + 24 tokens, on one GPU of 24 GB of which a
    tenth stays free."""
    if (
        plan is None
        or plan is ...
        or (isinstance(plan, Mapping) and any(v is ... for v in plan.values()))
    ):
        return say(False, "not solved yet. The cell above is waiting for you.")
    if not isinstance(plan, Mapping):
        return say(
            False,
            f"a plan is a dictionary such as {{'micro_batch': 64}}, not {type(plan).__name__}.",
        )
    if extra := [name for name in plan if name in ("ranks", "sharded")]:
        return say(False, f"there is one GPU, so `{extra[0]}` cannot help here.")
    if unknown := [name for name in plan if name not in NB06_OPTIONS]:
        return say(
            False,
            f"{unknown[0]!r} is no option here; there are {', '.join(NB06_OPTIONS)} (batch and "
            "lengths are given).",
        )
    kinds = dict(
        zip(
            NB06_OPTIONS,
            ("'fp32' or 'bf16'", "True or False", "a rank, 0 or more", "rows, 1 or more"),
            strict=True,
        )
    )
    for name, value in plan.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        fits = value in ("fp32", "bf16") if name == "precision" else isinstance(value, bool) if name == "checkpointing" else (
            value is None or (whole and value >= (name == "micro_batch")))  # fmt: skip
        if not fits:
            return say(False, f"`{name}` is {value!r}; it takes {kinds[name]}.")
    try:
        parts = memory.memory_map(memory.SIZES["774M"], batch=512, query=64, response=24, **plan)
    except Exception as error:  # a student's slip must not stop the notebook
        return say(False, f"the map stopped with {type(error).__name__}: {error}")
    total, allowed = parts["total"] / 1e9, 0.9 * NB06_GPU / 1e9
    if total <= allowed:
        lora = "" if plan.get("lora") else " (all weights trained)"
        return say(True, f"{total:.1f} GB{lora}, and {allowed:.1f} GB may be used.")
    steady, working, cached = (
        sum(parts[n] for n in names) / 1e9
        for names in (memory.PARTS[:5], ["activations"], ["sampling"])
    )
    text = f"{total:.1f} GB, but only {allowed:.1f} GB may be used. {steady:.1f} GB are held throughout; on top come"
    if steady > allowed:
        return say(False, f"{text} activations and sampling: look at what is held throughout.")
    if working > cached:
        return say(False, f"{text} {working:.1f} GB of activations: make these smaller first.")
    return say(
        False, f"{text} {cached:.1f} GB for sampling: fewer rows at a time make that smaller."
    )


NB06_NEEDED = {  # what a checkpoint must hold: what happens without it
    "weights": "all that was learnt would be lost.",
    "moments": "Adam would forget the direction and the size of its steps, and the next updates would be others.",
    "beta": "the controller would go back to its first price.",
    "generator": "the next responses would be others.",
    "steps done": "nobody would know which prompts and which learning rate come next.",
}
NB06_SPARE = {  # what it need not hold: where it comes from
    "reference": "it is the base model, which still lies where it lay.",
    "reward model": "it does not change, and still lies where it lay.",
    "gradients": "they are made anew in every update.",
    "last rollout": "each step samples its own.",
    "learning rate": "it follows from the number of steps done.",
    "order of prompts": "it follows from the seed and the number of steps done.",
}


def nb06_checkpoint(chosen: Iterable[str] | None) -> bool:
    """Check the set of things that a checkpoint must hold, taken between two steps; say what a
    missing one would do."""
    if chosen is not None and chosen is not ... and not isinstance(chosen, Set | list | tuple):
        return say(
            False,
            f"a set or a list of names is expected, such as {{'weights', 'gradients'}}, not "
            f"{chosen!r}.",
        )
    if chosen is None or chosen is ... or not (chosen := [c for c in chosen if c is not ...]):
        return say(False, "not solved yet. The cell above is waiting for you.")
    known = NB06_NEEDED | NB06_SPARE
    if unknown := [c for c in chosen if not isinstance(c, str) or c not in known]:
        return say(False, f"{unknown[0]!r} is not on the list: {', '.join(known)}.")
    missing, extra = (
        [n for n in NB06_NEEDED if n not in chosen],
        [n for n in NB06_SPARE if n in chosen],
    )
    if not missing and not extra:
        return say(
            True,
            "with these five the run goes on as if nothing had happened, and nothing is stored "
            "that can be had otherwise.",
        )
    if missing:
        return say(False, f"{len(missing)} missing. Without one of them {NB06_NEEDED[missing[0]]}")
    return say(
        False, f"nothing is missing, but {extra[0]!r} need not be there: {NB06_SPARE[extra[0]]}"
    )
