"""The maths of the course. Tensors in, tensors out; no model, no file, no device, no randomness.

Letters in shapes: B rows, R response tokens, V vocabulary. A mask is True at tokens that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

EPSILON = 1e-8  # inside the square root, as in the released code


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average `x` over the positions where `mask` is True (all of them without a mask).

    Shapes: x (...), mask the same shape; returns a scalar. Raises ValueError if nothing is left to
    average.
    """
    if mask is None:
        return x.mean()
    count = mask.sum()
    if count == 0:
        raise ValueError(
            "masked_mean: the mask is False everywhere, so there is nothing to average"
        )
    return torch.where(mask, x, 0).sum() / count


def masked_variance(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average squared distance from the masked mean.

    Divided by n, not n - 1, as in the released code.
    """
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def rescale(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give `x` unit variance and KEEP its mean: for rewards, whose sign matters.

    Shapes: x (B, R), mask (B, R). Source: paper's code, `whiten(..., shift_mean=False)`.
    """
    mean = masked_mean(x, mask)
    return (x - mean) * torch.rsqrt(masked_variance(x, mask) + EPSILON) + mean


def standardize(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give `x` unit variance and mean ZERO: for advantages, of which only differences matter.

    Shapes: x (B, R), mask (B, R). Source: paper's code, `whiten(..., shift_mean=True)`.
    """
    return (x - masked_mean(x, mask)) * torch.rsqrt(masked_variance(x, mask) + EPSILON)


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Look up log p(token) under softmax(logits / temperature), in nats.

    Shapes: logits (B, R, V), tokens (B, R) long; returns (B, R). The same temperature as in
    sampling belongs here: otherwise the policy is trained under another distribution than it acts
    from (paper, section 2.2).
    """
    scaled = logits.float() / temperature
    # by default a token -100 would be no error, but one to ignore
    nothing = torch.iinfo(torch.long).min
    return -cross_entropy(
        scaled.flatten(0, -2), tokens.flatten(), reduction="none", ignore_index=nothing
    ).view_as(tokens)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row from softmax(logits), one random number for each.

    The token drawn is the first whose cumulative probability passes the row's number from [0, 1).
    Shapes: logits (B, V), uniform (B,); returns (B, 1) long. Summed in float64, as fifty thousand
    float32 steps would add up their rounding. Faster than `torch.multinomial`, which needs a random
    number per token of the vocabulary.
    """
    ends = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(ends, uniform.unsqueeze(-1) * ends[:, -1:], right=True).clamp(
        max=logits.shape[-1] - 1
    )


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(logits / temperature) per position, in nats.

    Shapes: (B, R, V) to (B, R).
    """
    logprobs = (logits.float() / temperature).log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy | reference) per token by the log ratio: unbiased, may be negative.

    Shapes: (B, R), (B, R) to (B, R), nats. The penalty inside the reward must be this one: the
    gradient of its expectation is the KL's gradient (paper, equation 2).
    """
    return logprobs - reference_logprobs


def kl_k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate the KL by half the squared log ratio: biased, never negative.

    Shapes: (B, R), (B, R) to (B, R), nats (Schulman, "Approximating KL divergence", 2020).
    """
    return 0.5 * (logprobs - reference_logprobs) ** 2


def kl_k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Estimate the KL by exp(-k1) - 1 + k1: unbiased, never negative.

    For reading off a plot only: as a penalty inside the reward it would move the optimum.
    """
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def per_response(scores: Tensor) -> Tensor:
    """Add up what the tokens of a response were paid: (B, R) to (B,); (B,) stays as it is."""
    return scores.sum(-1) if scores.dim() == 2 else scores


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> Tensor:
    """Generalised advantage estimation, backwards over the response (Schulman et al. 2016).

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}; the value after the
    last token is 0. Shapes: rewards, values, mask (B, R); returns advantages (B, R), zero where the
    mask is False.
    """
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])  # (B,)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(mask[:, t], advantage, 0)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        next_advantage = torch.where(mask[:, t], advantage, next_advantage)
    return advantages


def positions(mask: Tensor) -> Tensor:
    """Count real tokens from the left, so that padding moves nobody: (B, T) bool to (B, T) long.

    Source: the released code's `positions_for` (exclusive cumulative sum of the mask).
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def pack_parts(query: int, answers: int, length: int) -> Tensor:
    """Number the parts of a row that holds a query and several answers to it, side by side.

    Returns (T,) long, T = `query` + `answers` * `length`: 0 at the query, 1, 2, ... at the answers.
    """
    numbers = torch.arange(1, answers + 1).repeat_interleave(length)
    return torch.cat([torch.zeros(query, dtype=torch.long), numbers])


def pack_mask(mask: Tensor, parts: Tensor) -> Tensor:
    """Say who attends to whom in rows that hold a query and several answers to it.

    mask (B, T) bool at real tokens, parts (T,) or (B, T) as `pack_parts` numbers them: an answer
    attends to the query and to itself, not to its neighbours. Returns (B, 1, T, T) bool.
    """
    seen = parts.unsqueeze(-2)  # (..., 1, T)
    mine = ((parts.unsqueeze(-1) == seen) | (seen == 0)).tril()  # (..., T, T)
    # or a pad's softmax gives NaN
    alone = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return (mine & mask.unsqueeze(1) | alone).unsqueeze(1)


def real_first(mask: Tensor) -> Tensor:
    """Say which columns to take so that pads stand at the end, and none that no row needs.

    mask (B, T) bool; returns (B, T') long for `gather`, T' real tokens in the longest row.
    """
    longest = max(1, int(mask.sum(-1).max()))
    return mask.long().argsort(dim=-1, descending=True, stable=True)[:, :longest]


def by_length(mask: Tensor, size: int) -> list[Tensor]:
    """Cut rows into parts of at most `size` that are about equally long, so that pads are few.

    mask (B, T) bool at real tokens; returns row numbers. Rows of one part keep their order.
    """
    size = max(1, size)
    if size >= len(mask):
        return [torch.arange(len(mask), device=mask.device)]
    return list(mask.sum(-1).argsort(stable=True).split(size))


def groups(prompts: Tensor, answers: int) -> Tensor:
    """Return the rows that hold the answers to these prompts: (P,) long to (P * `answers`,)."""
    along = torch.arange(answers, device=prompts.device)
    return (prompts.unsqueeze(1) * answers + along).flatten()


def in_order(found: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """Put what was computed in parts back into the order of the rows; undoes `by_length`."""
    return torch.cat(list(found))[torch.cat(list(parts)).argsort()]


def distinct_bigrams(tokens: Tensor, mask: Tensor) -> Tensor:
    """Share of different pairs of neighbouring tokens, distinct-2: low when answers are alike.

    Shapes: tokens (B, R) long, mask (B, R); returns a scalar, NaN without pairs. Depends on how
    many tokens are counted, so compare like with like (Li et al. 2016, "A diversity-promoting
    objective function").
    """
    pairs = torch.stack([tokens[:, :-1], tokens[:, 1:]], -1)[mask[:, :-1] & mask[:, 1:]]  # (N, 2)
    return torch.tensor(len(pairs.unique(dim=0)) / len(pairs) if len(pairs) else math.nan)


def explained_variance(predicted: Tensor, actual: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the variance of `actual` that `predicted` explains: 1 is perfect, 0 a constant.

    1 - Var(actual - predicted) / Var(actual); NaN if `actual` is constant. Shapes as in
    `masked_mean`; returns a scalar.
    """
    variance = masked_variance(actual, mask)
    return torch.where(
        variance > 0, 1 - masked_variance(actual - predicted, mask) / variance, torch.nan
    )
