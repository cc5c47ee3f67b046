"""Answers as numbers, read off a frozen language model: what a taste is fitted on (`clicks`).

states   mean over the answer's tokens of the hidden states at the embeddings, in the middle and at
         the end of the model: manner
length   the number of its tokens
words    how often each token stands in it, rare ones counted more; tokens that the model expects in
         the same places share what is learned of them: particular things

Every block is centred and scaled on the comparisons at hand, labelled or not, so no label is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf_helpers import models
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Comparison, Label, Rollout
from rlhf_helpers.reward import Encoded, encode, pack
from rlhf_helpers.runtime import guards
from rlhf_helpers.tasks import Task, is_text

BLOCKS = ("states", "length", "words")
RANK = 256  # directions in which words may differ
WIDTH = 0.3  # how soon contexts that differ count as different: exp((cosine - 1) / WIDTH)
SHRINK = 2.0  # occurrences that pull a token's context to the mean of all


class Reading(NamedTuple):
    """What is read off the model once: states (B, K, S) and tokens, mask (B, K, R) of answers."""

    states: Tensor
    tokens: Tensor
    mask: Tensor


class Features:
    """How answers become numbers: (N, K, D), of which `sizes` belong to each block.

    policy: frozen, as it was when the comparisons were written; a policy that trains is copied.
    Features of comparisons are kept by their id, so each is read once.
    """

    def __init__(self, policy: Policy, task: Task, comparisons: Sequence[Comparison]) -> None:
        self._begin(policy, task)
        comparisons = list({c.id: c for c in comparisons}.values())
        contexts = Contexts(policy.lm.get_input_embeddings().num_embeddings)
        readings = list(self._read_all(comparisons, contexts))
        states = torch.cat([r.states for r in readings]).flatten(0, 1)
        self.tensors = {
            "mean": states.mean(0), "deviation": states.std(0).clamp(min=1e-6),
            "words": contexts.vectors() * contexts.rarity().unsqueeze(1),
        }  # fmt: skip
        blocks = [self._blocks(r) for r in readings]
        for name, parts in zip(BLOCKS, zip(*blocks, strict=True), strict=True):
            block = torch.cat(parts)  # (N, K, .)
            within = (block - block.mean(1, keepdim=True)).square().sum(-1).mean()
            self.tensors[f"{name}_mean"] = block.flatten(0, 1).mean(0)
            self.tensors[f"{name}_scale"] = within.clamp(min=1e-12).rsqrt()
        self.pool = torch.cat([self._join(parts) for parts in blocks])  # (N, K, D)
        self.known = dict(zip((c.id for c in comparisons), self.pool, strict=True))

    def _begin(self, policy: Policy, task: Task) -> None:
        trains = any(p.requires_grad for p in policy.parameters())
        self.policy, self.task = policy.frozen_copy() if trains else policy, task
        self.name = models.fingerprint(policy)

    @classmethod
    def of_tensors(cls, policy: Policy, task: Task, tensors: dict[str, Tensor]) -> Features:
        """Make features again from the `tensors` that were saved, without any comparison."""
        made = cls.__new__(cls)
        made._begin(policy, task)
        made.tensors, made.known, made.pool = tensors, {}, torch.zeros(0)
        return made

    @property
    def sizes(self) -> dict[str, int]:
        """How many of the D features belong to each block, in their order."""
        return {name: len(self.tensors[f"{name}_mean"]) for name in BLOCKS}

    def __call__(self, comparisons: Sequence[Comparison]) -> Tensor:
        """Compute the features of every option: (N, K, D). Reads only what was not read before."""
        new = list({c.id: c for c in comparisons if c.id not in self.known}.values())
        rows = [self._join(self._blocks(r)) for r in self._read_all(new)]
        self.known |= zip((c.id for c in new), (x for part in rows for x in part), strict=True)
        return torch.stack([self.known[c.id] for c in comparisons])

    def of_rollout(self, rollout: Rollout, kept: Tensor) -> Tensor:
        """Compute the features of the `kept` (B, R) part of responses, special tokens left out."""
        answer = kept & rollout.mask & is_text(rollout.responses, self.policy.tokenizer)
        tokens = torch.cat([rollout.queries.tokens, rollout.responses], dim=1)
        mask = torch.cat([rollout.queries.text, answer], dim=1)
        groups = (-1, rollout.answers, tokens.shape[1])
        choices = torch.zeros(len(rollout) // rollout.answers, dtype=torch.long)
        columns = rollout.queries.tokens.shape[1]
        data = Encoded(tokens.view(groups), mask.view(groups), choices, columns)
        parts = [self._join(self._blocks(r)) for r in self._read(data)]
        return torch.cat([part.flatten(0, 1) for part in parts])

    def words(self) -> tuple[Tensor, Tensor]:
        """Return the tokens that are known (M,), and what one of each adds to the block (M, W)."""
        rows = self.tensors["words"] * self.tensors["words_scale"]
        known = rows.abs().sum(-1).gt(0).nonzero().squeeze(1)
        return known, rows[known]

    # ---- from the model to features --------------------------------------------------------------

    def _read_all(
        self, comparisons: Sequence[Comparison], contexts: Contexts | None = None
    ):  # fmt: skip
        """Read comparisons in the order given; options of unequal number raise ValueError."""
        if comparisons:
            labels = [Label(c.id, "nobody", 0, simulated=True) for c in comparisons]
            tokenizer = self.policy.tokenizer
            data = encode(self.task, comparisons, labels, tokenizer, keep_equal=True)
            yield from self._read(data, contexts)

    @torch.no_grad()
    def _read(self, data: Encoded, contexts: Contexts | None = None, rows: int = 256):
        """Run the model; yield a Reading for every `rows` answers or so."""
        guards.fits_context(self.policy.context, data.mask)
        q, size = data.query_columns, max(1, rows // data.tokens.shape[1])
        for i in range(0, len(data), size):
            batch = data[slice(i, i + size)]
            layers, before = self._states(batch)
            tokens, mask = (x[:, :, q:].cpu() for x in (batch.tokens, batch.mask))
            weights = mask.unsqueeze(-1).float()
            total = weights.sum(2).clamp(min=1)
            states = torch.cat([(h * weights).sum(2) / total for h in layers], -1)
            if contexts is not None:
                contexts.add(tokens, mask, before)
            yield Reading(states, tokens, mask)

    def _states(self, batch: Encoded) -> tuple[list[Tensor], Tensor]:
        """Return the states AT each answer token of three layers, and the last BEFORE each token.

        All (B, K, R, .). Options share a row where the model takes the mask for that.
        """
        policy, (b, k, width), q = self.policy, batch.tokens.shape, batch.query_columns
        if k > 1 and policy.packs(width):
            tokens, mask, places, at = (x.to(policy.device) for x in pack(batch))
            query_end = batch.mask[:, 0, :q].sum(-1).to(policy.device) - 1  # (B,): pads are out
        else:
            tokens, mask = (x.flatten(0, 1).to(policy.device) for x in (batch.tokens, batch.mask))
            places, at, query_end = None, None, torch.full((b * k,), q - 1)
        every = policy.run_trunk(policy.lm, tokens, mask, position_ids=places, every_layer=True)
        rows = torch.arange(len(tokens), device=policy.device)

        def answers(h: Tensor) -> Tensor:
            found = h[:, q:] if at is None else h[rows.view(-1, 1, 1), at]
            return found.reshape(b, k, width - q, -1).float().cpu()

        last = answers(every[-1])
        query = every[-1][rows, query_end.clamp(min=0).to(policy.device)].float().cpu()
        query = query.view(b, -1, 1, last.shape[-1]).expand(b, k, 1, -1)
        middle = sorted({0, (len(every) - 1) // 2, len(every) - 1})
        return [answers(every[i]) for i in middle], torch.cat([query, last[:, :, :-1]], 2)

    def _blocks(self, r: Reading) -> list[Tensor]:
        """Turn a reading into the blocks (B, K, .), not yet centred and scaled on comparisons."""
        states = (r.states - self.tensors["mean"]) / self.tensors["deviation"]
        table = self.tensors["words"]
        words = (table[r.tokens] * r.mask.unsqueeze(-1)).sum(2)
        return [states, r.mask.sum(-1, keepdim=True).float(), words]

    def _join(self, blocks: Sequence[Tensor]) -> Tensor:
        t = self.tensors
        scaled = [
            (block - t[f"{name}_mean"]) * t[f"{name}_scale"]
            for name, block in zip(BLOCKS, blocks, strict=True)
        ]
        return torch.cat(scaled, -1)


class Contexts:
    """Where each token stands: the mean of the model's states BEFORE it, which predict it.

    "You shall know a word by the company it keeps" (Firth 1957): bread and cheese are expected in
    the same places, so their contexts point the same way.
    """

    def __init__(self, vocabulary: int) -> None:
        self.counts, self.sums = torch.zeros(vocabulary), torch.zeros(0)
        self.answers, self.holders = 0, torch.zeros(vocabulary)  # of each token

    def add(self, tokens: Tensor, mask: Tensor, before: Tensor) -> None:
        """Add occurrences: tokens, mask (B, K, R); before (B, K, R, d)."""
        states, found = before[mask], tokens[mask]
        if not len(self.sums):
            self.sums = torch.zeros(len(self.counts), states.shape[-1])
        self.counts.index_add_(0, found, torch.ones(len(found)))
        self.sums.index_add_(0, found, states)
        rows = torch.where(mask, tokens, -1).flatten(0, 1).sort(-1).values  # (B K, R)
        first = torch.nn.functional.pad(rows[:, 1:] != rows[:, :-1], (1, 0), value=True)
        held = rows[first & (rows >= 0)]
        self.holders.index_add_(0, held, torch.ones(len(held)))
        self.answers += len(rows)

    def rarity(self) -> Tensor:
        """Weigh each token by log(n / (1 + df)), with df of the n answers holding it: (V,)."""
        weights = torch.log(self.answers / (1.0 + self.holders)).clamp(min=0)
        return torch.where(self.holders > 0, weights, 0)

    def vectors(self, rank: int = RANK) -> Tensor:
        """Place tokens so that inner products say how alike contexts are: (V, rank).

        exp((cosine - 1) / WIDTH) of the contexts' differences from the mean, to which those of rare
        tokens are pulled. Tokens that were never seen are zero.
        """
        seen = self.counts.gt(0).nonzero().squeeze(1)
        n = self.counts[seen].unsqueeze(1)
        mean = self.sums.sum(0) / n.sum()
        contexts = (self.sums[seen] - n * mean) / (n + SHRINK)
        units = torch.nn.functional.normalize(contexts, dim=-1)
        vectors = torch.zeros(len(self.counts), min(rank, len(seen)))
        vectors[seen] = pivoted_cholesky(
            lambda i: ((units @ units[i] - 1) / WIDTH).exp(), len(seen), rank
        )
        return vectors


def pivoted_cholesky(column: Any, size: int, rank: int) -> Tensor:
    """Factor a kernel with ones on its diagonal: Z (size, rank) with Z Z' close to the kernel.

    column(i) gives column i (size,). Each step takes the row that is explained worst so far, so the
    chosen rows are exact (Harbrecht et al. 2012).
    """
    z, left = torch.zeros(size, min(rank, size)), torch.ones(size)
    for step in range(z.shape[1]):
        i = int(left.argmax())
        if left[i] < 1e-6:
            break
        z[:, step] = (column(i) - z[:, :step] @ z[i, :step]) / left[i].sqrt()
        left = (left - z[:, step].square()).clamp(min=0)
        left[i] = 0
    return z
