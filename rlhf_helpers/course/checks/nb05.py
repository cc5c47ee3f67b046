"""Checks of notebook 05: KL penalty, score placement, rescaling, GAE, the clipped loss, the KL
controller."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import Answer, check, compare, given, judge

PER_TOKEN = "keep one number per token, so that each pays for itself."


def example(rows: int, tokens: int, seed: int) -> Tensor:
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed))


def ragged() -> Tensor:
    """Make a mask (4, 6): rows of 6, 4, 1 and 5 tokens that count."""
    return torch.arange(6) < torch.tensor([[6], [4], [1], [5]])


@check
def nb05_kl_penalty(answer: Answer | None) -> str:
    """Check kl_penalty(logprobs, reference_logprobs, mask, beta) -> (B, R), as a reward."""
    logprobs, reference = -example(4, 6, 1).abs(), -example(4, 6, 2).abs()
    mask, beta = ragged(), 0.15
    log_ratio = logprobs - reference
    rows = zip(logprobs.tolist(), reference.tolist(), mask.tolist(), strict=True)
    right = torch.tensor(
        [[-beta * (p - q) if m else 0.0 for p, q, m in zip(*row, strict=True)] for row in rows]
    )
    k3 = torch.expm1(-log_ratio) + log_ratio
    slips = [
        ("the sign is wrong: this PAYS the policy for leaving the reference.", -right),
        ("you forgot beta.", right / beta),
        ("you forgot beta and the minus sign: this is the log ratio itself.", -right / beta),
        ("you forgot the mask: tokens that do not count pay too.", -beta * log_ratio),
        ("you forgot the mask, and the sign is wrong.", beta * log_ratio),
        ("you forgot the mask and beta.", -log_ratio),
        ("you took the absolute value: a token that the reference prefers must EARN a little.",
         -right.abs()),
        ("this is the estimate k2, never negative but biased: the penalty is the log ratio.",
         -beta * 0.5 * log_ratio**2 * mask),
        ("this is the estimate k3, good for a plot; as a reward it moves the optimum.",
         -beta * k3 * mask),
        ("you used probabilities instead of their logarithms.",
         -beta * (logprobs.exp() - reference.exp()) * mask),
        (f"you summed over the tokens: {PER_TOKEN}", right.sum(-1)),
        (f"you summed over everything: {PER_TOKEN}", right.sum()),
        (f"you averaged over everything: {PER_TOKEN}", right.sum() / mask.sum()),
    ]  # fmt: skip
    close = judge(answer, (logprobs, reference, mask, beta), right, slips)
    return f"each token pays for its own step away from the reference ({close})."


@check
def nb05_place_score(answer: Answer | None) -> str:
    """Check place_score(penalties, scores, mask) -> (B, R): score added on the last token."""
    mask, scores = ragged(), torch.tensor([1.5, -1.0, 0.5, 2.25])
    penalties = 0.1 * example(4, 6, 3) * mask
    lengths = [sum(row) for row in mask.tolist()]

    def put(columns: Sequence[int], keep: float = 1.0) -> Tensor:
        """Add the scores in these columns, if they exist, to `keep` times the penalties there."""
        result = penalties.clone()
        for b, column in enumerate(columns):
            if column < 6:
                result[b, column] = scores[b] + keep * result[b, column]
        return result

    last = [n - 1 for n in lengths]
    right, column, count = put(last), scores.unsqueeze(1), torch.tensor(lengths).unsqueeze(1)
    too_far = "one too far: of n tokens that count, the last is in column n - 1."
    short = "one short: this is the token before the last."
    slips = [
        ("you always took the last COLUMN: in a short row that is padding.", put([5] * 4)),
        ("the score is on the FIRST token: no later token would get any credit.", put([0] * 4)),
        (too_far, put(lengths)),
        (too_far, put([min(n, 5) for n in lengths])),
        (short, put([max(n - 2, 0) for n in lengths])),
        (short, put([(n - 2) % 6 for n in lengths])),
        ("the score REPLACED the last token's penalty: add it.", put(last, keep=0.0)),
        ("every token got the whole score: a response of n tokens would be paid n times.",
         penalties + column * mask),
        ("every token got the whole score, padding too.", penalties + column),
        ("you spread the score evenly: it belongs on the last token. Spreading is GAE's job.",
         penalties + column / count * mask),
        ("the penalties are lost: add the score TO them.", right - penalties),
        ("the scores did not arrive: these are the penalties alone.", penalties),
        ("you subtracted the score: a high score must be a high reward.", 2 * penalties - right),
        ("you summed over the tokens: keep one number per token.", right.sum(-1)),
    ]  # fmt: skip
    close = judge(answer, (penalties, scores, mask), right, slips)
    return f"the score lands on the last token that counts ({close})."


@check
def nb05_rescale(answer: Answer | None) -> str:
    """Check rescale(x, mask) -> (B, R): standard deviation 1, same mean, over what counts."""
    mask, x = ragged(), 3.0 + 2.0 * example(4, 6, 4)
    kept = x[mask].tolist()
    n = len(kept)
    mean = math.fsum(kept) / n
    square = math.fsum((v - mean) ** 2 for v in kept)
    std, unbiased = math.sqrt(square / n), math.sqrt(square / (n - 1))
    rows = [r[m] for r, m in zip(x, mask, strict=True)]
    row_mean = torch.stack([r.mean() for r in rows]).unsqueeze(1)
    row_std = torch.stack([r.std(correction=0) for r in rows]).unsqueeze(1).clamp(min=1e-4)
    no_mask = (x - x.mean()) / x.std(correction=0)
    slips = [
        ("the mean is gone: this is STANDARDIZE. For rewards, add the mean back.",
         (x - mean) / std),
        ("you divided without subtracting the mean first: that moves the mean.", x / std),
        ("the spread is wrong: divide by the standard deviation, not by the variance.",
         (x - mean) / std**2 + mean),
        ("you multiplied by the standard deviation: divide by it.", (x - mean) * std + mean),
        ("the deviation divides by n - 1; the released code divides by n (`correction=0`).",
         (x - mean) / unbiased + mean),
        ("you forgot the mask: padding went into mean and deviation.", no_mask + x.mean()),
        ("you forgot the mask, and the deviation divides by n - 1.",
         (x - x.mean()) / x.std() + x.mean()),
        ("you forgot the mask, and the mean is gone.", no_mask),
        ("you forgot the mask, and the mean is gone.", (x - x.mean()) / x.std()),
        ("you rescaled every row for itself: use one mean and one deviation for all.",
         (x - row_mean) / row_std + row_mean),
        ("you only took the mean off: divide by the standard deviation, then add the mean back.",
         x - mean),
        ("you subtracted the mean a second time instead of adding it back.",
         (x - mean) / std - mean),
    ]  # fmt: skip

    def clean(t: Any) -> Any:
        """Put zeros where the mask is False: what a student writes there does not matter."""
        same = isinstance(t, Tensor) and t.shape == mask.shape
        return torch.where(mask, t, 0) if same else t

    given(answer)
    right = clean((x - mean) / std + mean)
    masked = [(text, clean(slip)) for text, slip in slips]
    close = judge(lambda *arguments: clean(answer(*arguments)), (x, mask), right, masked)
    return f"standard deviation 1, and the mean stayed where it was ({close})."


@check
def nb05_gae(answer: Answer | None) -> str:
    """Check gae(rewards, values, lam) -> (B, R), gamma 1, against the explicit double sum."""
    rewards, values, lam = example(3, 5, 5), example(3, 5, 6), 0.9
    length, zero = rewards.shape[1], torch.zeros(3, 1)

    def explicit(
        lam: float, after: Tensor = zero, next_weight: float = 1.0, value_weight: float = 1.0
    ) -> Tensor:
        """Sum lam^k delta_{t+k}, term by term, in double precision."""
        r, v = rewards.double(), values.double() * value_weight
        delta = r + next_weight * torch.cat([v[:, 1:], after.double()], 1) - v
        columns = [sum(lam**k * delta[:, t + k] for k in range(length - t)) for t in range(length)]
        return torch.stack(columns, 1).float()

    def forwards() -> Tensor:
        delta = rewards + torch.cat([values[:, 1:], zero], 1) - values
        columns = [sum(lam**k * delta[:, t - k] for k in range(t + 1)) for t in range(length)]
        return torch.stack(columns, 1)

    right = explicit(lam)
    slips = [
        ("these are the deltas alone (lambda 0): add lambda times the NEXT advantage to each.",
         explicit(0.0)),
        ("lambda is missing (it acts as 1): A_t = delta_t + lambda * A_{t+1}.", explicit(1.0)),
        ("delta lacks the value of the next token: delta_t = r_t + V_{t+1} - V_t.",
         explicit(lam, next_weight=0.0)),
        ("delta lacks the value of the next token and lambda is missing.",
         explicit(1.0, next_weight=0.0)),
        ("the values are missing: these are discounted sums of rewards.",
         explicit(lam, value_weight=0.0)),
        ("the values are missing: these are sums of rewards.", explicit(1.0, value_weight=0.0)),
        ("the value after the last token is 0, not the last value again.",
         explicit(lam, after=values[:, -1:])),
        ("the value after the last token is 0, not the FIRST value (did `roll` bring it round?).",
         explicit(lam, after=values[:, :1])),
        ("you went forwards in time: credit flows from later tokens to earlier ones (`reversed`).",
         forwards()),
        ("these are the returns: take the values off again.", right + values),
        ("the sign is wrong: delta_t = r_t + V_{t+1} - V_t.", -right),
        ("you summed over the tokens: keep one number per token.", right.sum(-1)),
    ]  # fmt: skip
    close = judge(answer, (rewards, values, lam), right, slips)
    return f"equal to the sum written out term by term ({close})."


@check
def nb05_policy_loss(answer: Answer | None) -> str:
    """Check policy_loss(logprobs, old_logprobs, advantages, mask, cliprange) -> scalar."""
    old, mask, clip = -example(4, 6, 7).abs() - 0.5, ragged(), 0.2
    logprobs, advantages = (old + 0.4 * example(4, 6, 8)).requires_grad_(), example(4, 6, 9)
    columns = (t.flatten().tolist() for t in (logprobs, old, advantages, mask))
    tokens = list(zip(*columns, strict=True))
    n, size = int(mask.sum()), mask.numel()

    def loss(
        ratio: Callable[[float, float], float] = lambda new, old: math.exp(new - old),
        pick: Callable[[float, float], float] = max,
        low: float = 1 - clip,
        high: float = 1 + clip,
        masked: bool = True,
        count: int = n,
    ) -> float:
        """Sum pick(-A w, -A clip(w)) token by token, and divide by `count`."""
        terms = [
            pick(-a * r, -a * min(max(r, low), high))
            for r, a, counts in ((ratio(new, old), a, m) for new, old, a, m in tokens)
            if counts or not masked
        ]
        return math.fsum(terms) / count

    def slope(new: float, old: float, a: float, counts: bool) -> float:
        """Differentiate one term: 0 where the ratio has passed the clip that stops it."""
        ratio = math.exp(new - old)
        stopped = ratio > 1 + clip if a > 0 else ratio < 1 - clip
        return -a * ratio / n if counts and not stopped else 0.0

    slips = [
        ("minimum and maximum are swapped: as a LOSS, take the larger of -A w and -A clip(w).",
         loss(pick=min)),
        ("the minus sign is missing: an optimizer makes losses smaller, and A w should grow.",
         -loss()),
        ("nothing is clipped: this is the plain importance-weighted loss.",
         loss(pick=lambda plain, clipped: plain)),
        ("you used only the clipped term: then a token that moved too far could not come back.",
         loss(pick=lambda plain, clipped: clipped)),
        ("the ratio is a difference of logarithms: you forgot `exp`.",
         loss(ratio=lambda new, old: new - old)),
        ("the ratio is upside down: new over old, exp(logprobs - old_logprobs).",
         loss(ratio=lambda new, old: math.exp(old - new))),
        ("the ratio is clipped only from above: clip from 1 - cliprange to 1 + cliprange.",
         loss(low=0.0)),
        ("the ratio is clipped around 0: clip from 1 - cliprange to 1 + cliprange.",
         loss(low=-clip, high=clip)),
        ("you forgot the mask: padding is in the mean.", loss(masked=False, count=size)),
        ("padding counts in the mean: divide by the number of tokens that count.",
         loss(count=size)),
        ("you summed: take the mean over the tokens that count.", loss(count=1)),
        ("you summed, padding included: take the mean over the tokens that count.",
         loss(masked=False, count=1)),
    ]  # fmt: skip
    gradient = torch.tensor([slope(*token) for token in tokens]).view(4, 6)
    arguments = (logprobs, old, advantages, mask, clip)
    close = judge(answer, arguments, torch.tensor(loss()), slips, gradient)
    return f"the larger of the two, averaged over the tokens that count ({close})."


@check
def nb05_next_beta(answer: Answer | None) -> str:
    """Check next_beta(beta, kl, target, episodes, horizon), for KL below, near and above target."""
    cases = [
        (0.15, 6.6, 6.0, 64, 10_000),
        (0.2, 30.0, 6.0, 512, 10_000),
        (0.1, 0.5, 6.0, 256, 2_000),
        (0.3, 5.4, 6.0, 512, 10_000),
    ]

    def clip(x: float) -> float:
        return min(0.2, max(-0.2, x))

    def e(kl: float, target: float) -> float:
        return clip(kl / target - 1)

    slips = [
        ("the error is not clipped: one wild batch could throw beta far. Clip to -0.2 .. 0.2.",
         lambda b, k, t, n, h: b * (1 + (k / t - 1) * n / h)),
        ("the sign is wrong: too much KL must RAISE beta.",
         lambda b, k, t, n, h: b * (1 - e(k, t) * n / h)),
        ("the - 1 is missing: at the target the error must be 0.",
         lambda b, k, t, n, h: b * (1 + clip(k / t) * n / h)),
        ("target and KL are swapped: the error is KL / target - 1.",
         lambda b, k, t, n, h: b * (1 + e(t, k) * n / h)),
        ("the error is relative, (KL - target) / target, not a difference in nats.",
         lambda b, k, t, n, h: b * (1 + clip(k - t) * n / h)),
        ("you forgot episodes / horizon: beta would jump by a fifth at every step.",
         lambda b, k, t, n, h: b * (1 + e(k, t))),
        ("horizon / episodes is upside down.", lambda b, k, t, n, h: b * (1 + e(k, t) * h / n)),
        ("the number of episodes is missing: more of them move beta more.",
         lambda b, k, t, n, h: b * (1 + e(k, t) / h)),
        ("beta is MULTIPLIED by 1 + e n / horizon: you added the change.",
         lambda b, k, t, n, h: b + e(k, t) * n / h),
        ("you returned the factor: multiply beta by it.",
         lambda b, k, t, n, h: 1 + e(k, t) * n / h),
        ("you returned the change: add it to beta.", lambda b, k, t, n, h: b * e(k, t) * n / h),
        ("you clipped too late: clip the error first, then scale it.",
         lambda b, k, t, n, h: b * (1 + clip((k / t - 1) * n / h))),
    ]  # fmt: skip

    def right(b: float, k: float, t: float, n: int, h: int) -> float:
        return b + b * e(k, t) * n / h

    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"beta rises above the target and falls below it, a little at a time ({close})."
