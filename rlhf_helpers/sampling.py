"""`sample` writes responses, `replay` reads them again: same temperature, same slice, same mask.

    columns:   q0 q1 q2 | y0 y1 y2     the hidden state at column t predicts the token at t + 1,
    read at:         q2   y0 y1        so y0 is read at the LAST query column, and y2 never read

Several answers to one query share its computation: `sample` reads the query once and repeats its
cache, `replay` packs query and answers into one row. Where not all rows are computed at a time,
those of similar length are, without the pads that they do not need.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries, Rollout
from rlhf_helpers.tensors import (
    by_length,
    draw,
    groups,
    in_order,
    pack_mask,
    pack_parts,
    positions,
    token_logprobs,
)


@torch.no_grad()
def sample(
    policy: Policy, queries: Queries, length: int, temperature: float = 1.0,
    generator: torch.Generator | None = None, micro_batch: int | None = 128, *, answers: int = 1,
) -> Rollout:  # fmt: skip
    """Sample `length` tokens for every query: no top-k, no top-p, no early stop (section 2.2).

    queries (P, Q) left-padded; returns a Rollout of B = P * `answers` rows, the answers to one
    query side by side, with the log-probabilities and values of the moment. `temperature` divides
    the logits; 0 is greedy, for looking only. `generator` makes it repeatable and must live on the
    policy's device. `micro_batch` rows run at a time (None: all); how many changes no answer, as
    all random numbers are drawn before the first token. Raises ValueError if query and response do
    not fit the model's context, or `temperature` is negative.
    """
    longest = int(queries.mask.sum(-1).max()) + length
    if policy.context is not None and longest > policy.context:
        raise ValueError(
            f"query and response take {longest} tokens but the model's context is "
            f"{policy.context}: take a model with a longer context, or a task with a smaller "
            "query_length or response_length (those of `--preset bundled` are the shortest)"
        )
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    queries = queries.to(policy.device)
    uniform = torch.rand(len(queries) * answers, length, generator=generator, device=policy.device)
    parts = by_length(queries.mask, (micro_batch or len(uniform)) // answers)
    rows = [groups(part, answers) for part in parts]
    found = []
    with policy.autocast():  # around the loop: weights are rounded to bf16 once, not per token
        for part, own in zip(parts, rows, strict=True):
            asked = queries if len(parts) == 1 else queries[part].trimmed()
            found.append(_sample_rows(policy, asked, uniform[own], temperature, answers))
    responses, logprobs, values = (in_order(column, rows) for column in zip(*found, strict=True))
    mask = torch.ones_like(responses, dtype=torch.bool)
    return Rollout(queries.repeat(answers), responses, mask, logprobs, values, answers)


def _sample_rows(
    policy: Policy, queries: Queries, uniform: Tensor, temperature: float, answers: int
) -> tuple[Tensor, ...]:
    cache = DynamicCache()
    hidden = policy.hidden(queries.tokens, queries.mask, cache)[:, -1]  # (P, d)
    if answers > 1:
        cache.batch_repeat_interleave(answers)
    hidden = hidden.repeat_interleave(answers, 0)  # (B, d)
    mask = queries.mask.repeat_interleave(answers, 0)  # what the model may look at
    responses, logprobs, values = [], [], []
    for t, u in enumerate(uniform.unbind(1), start=1):
        logits = policy.logits(hidden).float()  # (B, V)
        tokens = draw(logits / temperature, u) if temperature else logits.argmax(-1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        responses.append(tokens)  # (B, 1)
        logprobs.append(token_logprobs(logits.unsqueeze(1), tokens, temperature or 1.0))
        values.append(policy.values(hidden).unsqueeze(1))
        if t < uniform.shape[1]:  # the last token is never read
            hidden = policy.hidden(tokens, mask, cache)[:, -1]
    return torch.cat(responses, 1), torch.cat(logprobs, 1), torch.cat(values, 1)


class Replay(NamedTuple):
    """What a policy thinks of given responses: logprobs, values, each (B, R) float32."""

    logprobs: Tensor
    values: Tensor


def replay(
    policy: Policy, rollout: Rollout, temperature: float = 1.0, micro_batch: int | None = None
) -> Replay:
    """Score the rollout's own tokens under `policy`, with gradients unless they are switched off.

    The LM head runs on the R response positions only, `micro_batch` rows at a time (all at once by
    default). Same temperature as `sample`.
    """
    g, found = rollout.answers, []
    parts = by_length(rollout.queries.mask[::g], (micro_batch or len(rollout)) // g)
    for part in parts:
        rows = rollout
        if len(parts) > 1:
            rows = rollout[groups(part, g)]
            rows = replace(rows, queries=rows.queries.trimmed())
        hidden = _hidden_packed(policy, rows) if _packs(policy, rows) else _hidden(policy, rows)
        logits = policy.logits(hidden)  # (B, R, V)
        logprobs = token_logprobs(logits, rows.responses, temperature)
        found.append((logprobs, policy.values(hidden)))
    order = [groups(part, g) for part in parts]
    return Replay(*(in_order(column, order) for column in zip(*found, strict=True)))


def _hidden(policy: Policy, rollout: Rollout) -> Tensor:
    """Compute the hidden states that predict the responses, a row for each: (B, R, d)."""
    queries, responses = rollout.queries, rollout.responses
    # (B, Q + R - 1): the last token is never read
    tokens = torch.cat([queries.tokens, responses[:, :-1]], dim=1)
    mask = torch.cat([queries.mask, rollout.mask[:, :-1]], dim=1)
    return policy.hidden(tokens, mask)[:, -responses.shape[1] :]


def _packs(policy: Policy, rollout: Rollout) -> bool:
    width = rollout.queries.tokens.shape[1] + rollout.responses.shape[1]
    return rollout.answers > 1 and policy.packs(width)


def _hidden_packed(policy: Policy, rollout: Rollout) -> Tensor:
    """Compute the same, with each query and its G answers in one row of Q + G (R - 1) columns.

    query | y0 y1 of answer 0 | y0 y1 of answer 1 | ...   Each answer attends to the query and to
    itself, and keeps the positions it has right after the query.
    """
    g, r = rollout.answers, rollout.responses.shape[1]
    queries = rollout.queries[slice(0, None, g)].trimmed()  # (P, Q)
    q = queries.tokens.shape[1]
    answer_tokens = rollout.responses[:, :-1].reshape(len(queries), -1)  # (P, G (R - 1))
    answer_mask = rollout.mask[:, :-1].reshape(len(queries), -1)
    tokens = torch.cat([queries.tokens, answer_tokens], dim=1)
    mask = torch.cat([queries.mask, answer_mask], dim=1)
    lengths = queries.mask.sum(-1, keepdim=True)  # (P, 1)
    after = rollout.mask[:, :-1].long().cumsum(-1).view(len(queries), -1) - 1
    position_ids = torch.cat([positions(queries.mask), (lengths + after).clamp(min=0)], dim=1)
    parts = pack_parts(q, g, r - 1).to(tokens.device)
    hidden = policy.run_trunk(
        policy.lm, tokens, pack_mask(mask, parts), position_ids=position_ids
    )  # (P, Q + G (R - 1), d)
    first = hidden[:, q - 1 : q].repeat_interleave(g, 0)  # (B, 1, d) predicts every y0
    rest = hidden[:, q:].reshape(len(rollout), r - 1, -1)  # (B, R - 1, d)
    return torch.cat([first, rest], dim=1)
