"""`sample` writes responses, `replay` reads them again. Twins: same temperature, same slice, same
mask, one file.

columns:   q0 q1 q2 | y0 y1 y2        the hidden state at column t predicts the token at t + 1, so
read at:         q2   y0 y1           y0 is read at the LAST query column and the last response
token is never read
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries, Rollout
from rlhf_helpers.tensors import draw, token_logprobs


@torch.no_grad()
def sample(
    policy: Policy, queries: Queries, length: int, temperature: float = 1.0,
    generator: torch.Generator | None = None, micro_batch: int | None = 128,
) -> Rollout:  # fmt: skip
    """Sample `length` tokens for every query: no top-k, no top-p, no early stop (paper, section
    2.2).

    queries (B, Q) left-padded. `temperature` divides the logits; 0 is greedy, for looking only.
    `generator` makes it repeatable and must live on the policy's device. `micro_batch` rows run at a time
    (None: all); how many changes no answer, because every row's numbers are drawn before the first
    token. Returns a Rollout whose logprobs and values are those of the moment. Raises ValueError if
    query and response do not fit the model's context, or `temperature` is negative.
    """
    longest = int(queries.mask.sum(-1).max()) + length
    if policy.context is not None and longest > policy.context:
        raise ValueError(
            f"query and response take {longest} tokens but the model's context is "
            f"{policy.context}: take a model with a longer context, or "
            "a task with a smaller query_length or response_length (those of `--preset bundled` "
            "are the shortest)"
        )
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    uniform = torch.rand(len(queries), length, generator=generator, device=policy.device)
    size = micro_batch or len(queries)
    # around the loop, so that weights are rounded to bf16 once and not per token
    with policy.autocast():
        parts = [
            _sample_rows(
                policy, queries[i : i + size].to(policy.device), uniform[i : i + size], temperature
            )
            for i in range(0, len(queries), size)
        ]
    responses, logprobs, values = (torch.cat(column) for column in zip(*parts, strict=True))
    mask = torch.ones_like(responses, dtype=torch.bool)
    return Rollout(queries.to(policy.device), responses, mask, logprobs, values)


def _sample_rows(
    policy: Policy, queries: Queries, uniform: Tensor, temperature: float
) -> tuple[Tensor, ...]:
    cache = DynamicCache()
    tokens, mask = queries.tokens, queries.mask  # what the model reads next; what it may look at
    responses, logprobs, values = [], [], []
    for u in uniform.unbind(1):
        hidden = policy.hidden(tokens, mask, cache)[:, -1]  # (B, d)
        logits = policy.logits(hidden).float()  # (B, V)
        # (B, 1)
        tokens = draw(logits / temperature, u) if temperature else logits.argmax(-1, keepdim=True)
        mask = torch.cat([mask, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        responses.append(tokens)
        logprobs.append(token_logprobs(logits.unsqueeze(1), tokens, temperature or 1.0))
        values.append(policy.values(hidden).unsqueeze(1))
    return torch.cat(responses, 1), torch.cat(logprobs, 1), torch.cat(values, 1)


class Replay(NamedTuple):
    """What a policy thinks of given responses: logprobs, values, each (B, R) float32."""

    logprobs: Tensor
    values: Tensor


def replay(
    policy: Policy, rollout: Rollout, temperature: float = 1.0, micro_batch: int | None = None
) -> Replay:
    """Score the rollout's own tokens under `policy`, with gradients unless they are switched off
    around the call.

    The LM head runs on the R response positions only, `micro_batch` rows at a time (all at once by default).
    Same temperature as `sample`.
    """
    size = micro_batch or len(rollout)
    parts = [
        _replay_rows(policy, rollout[i : i + size], temperature)
        for i in range(0, len(rollout), size)
    ]
    return Replay(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _replay_rows(policy: Policy, rollout: Rollout, temperature: float) -> Replay:
    queries, responses = rollout.queries, rollout.responses
    # (B, Q + R - 1): the last token is never read
    tokens = torch.cat([queries.tokens, responses[:, :-1]], dim=1)
    mask = torch.cat([queries.mask, rollout.mask[:, :-1]], dim=1)
    hidden = policy.hidden(tokens, mask)[:, -responses.shape[1] :]  # (B, R, d)
    logits = policy.logits(hidden)  # (B, R, V)
    return Replay(token_logprobs(logits, responses, temperature), policy.values(hidden))
