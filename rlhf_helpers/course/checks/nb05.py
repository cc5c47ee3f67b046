"""Checks of notebook 05: KL penalty, score placement, rescaling, GAE, the clipped loss, the KL
controller, the clinic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import judge, say

Answer = Callable[..., Any]


def _example(rows: int, tokens: int, seed: int) -> Tensor:
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed))


def _ragged() -> Tensor:
    """Make a mask (4, 6): rows of 6, 4, 1 and 5 tokens that count."""
    return torch.arange(6) < torch.tensor([[6], [4], [1], [5]])


def nb05_same(name: str, mine: Any, package: Any, tolerance: float = 1e-4) -> None:
    """Print how close a rebuilt piece is to the package's; raise AssertionError if it is not the
    same."""
    a, b = (torch.as_tensor(x).detach().cpu().double() for x in (mine, package))
    assert a.shape == b.shape, f"{name}: the shapes {tuple(a.shape)} and {tuple(b.shape)} differ"
    difference = (a - b).abs().max().item()
    assert difference <= tolerance, f"{name}: the largest difference is {difference:.3g}"
    print(
        f"{name}: equal to the package's, "
        f"{'bit for bit' if difference == 0 else f'to within {tolerance:g}'}"
    )


def nb05_kl_penalty(answer: Answer | None) -> bool:
    """Check kl_penalty(logprobs, reference_logprobs, mask, beta) -> (B, R): what each token pays,
    as a reward."""
    logprobs, reference, mask, beta = (
        -_example(4, 6, 1).abs(),
        -_example(4, 6, 2).abs(),
        _ragged(),
        0.15,
    )
    ratio = logprobs - reference
    by_row = zip(logprobs.tolist(), reference.tolist(), mask.tolist(), strict=True)
    right = torch.tensor(
        [
            [-beta * (p - q) if counts else 0.0 for p, q, counts in zip(*row, strict=True)]
            for row in by_row
        ]
    )
    slips = [
        ("the sign is turned round: this PAYS the policy for leaving the reference. The penalty is -beta * (logprob - reference).", -right),
        ("you forgot beta.", right / beta),
        ("you forgot beta and the minus sign: this is the log ratio itself.", -right / beta),
        ("you forgot the mask: tokens that do not count pay too.", -beta * ratio),
        ("you forgot the mask, and the sign is turned round.", beta * ratio),
        ("you forgot the mask and beta.", -ratio),
        ("you took the absolute value. A token that the reference likes better must EARN a little, or the mean is no KL.", -right.abs()),
        ("this is the squared estimate (k2): never negative, but biased. The penalty is the log ratio.", -beta * 0.5 * ratio**2 * mask),
        ("this is the k3 estimate: fine for a plot, but as a reward it moves the optimum. The penalty is the log ratio.", -beta * (torch.expm1(-ratio) + ratio) * mask),
        ("you used probabilities instead of their logarithms.", -beta * (logprobs.exp() - reference.exp()) * mask),
        ("you summed over the tokens: keep one number per token, so that each pays for itself.", right.sum(-1)),
        ("you summed over everything: keep one number per token, so that each pays for itself.", right.sum()),
        ("you averaged over everything: keep one number per token, so that each pays for itself.", right.sum() / mask.sum()),
    ]  # fmt: skip
    return judge(
        answer,
        (logprobs, reference, mask, beta),
        right,
        slips,
        "each token pays for its own step away from the reference",
    )


def nb05_place_score(answer: Answer | None) -> bool:
    """Check place_score(penalties, scores, mask) -> (B, R): the penalties, with the score added on
    the last token that counts."""
    mask, scores = _ragged(), torch.tensor([1.5, -1.0, 0.5, 2.25])
    penalties = 0.1 * _example(4, 6, 3) * mask
    lengths = [sum(row) for row in mask.tolist()]

    def put(columns: Sequence[int], keep: float = 1.0) -> Tensor:
        """Add the scores in these columns (those past the end are lost) to the penalties there,
        multiplied by `keep`."""
        result = penalties.clone()
        for b, column in enumerate(columns):
            if column < 6:
                result[b, column] = scores[b] + keep * result[b, column]
        return result

    last = [n - 1 for n in lengths]
    right, column, count = put(last), scores.unsqueeze(1), torch.tensor(lengths).unsqueeze(1)
    slips = [
        ("you always took the last COLUMN: in ragged rows that is padding. Take the last token that counts.", put([5] * 4)),
        ("the score is on the FIRST token: nothing that comes after it would get any credit.", put([0] * 4)),
        ("one too far: of n tokens that count, the last stands in column n - 1.", put(lengths)),
        ("one too far: of n tokens that count, the last stands in column n - 1.", put([min(n, 5) for n in lengths])),
        ("one short: that is the token before the last.", put([max(n - 2, 0) for n in lengths])),
        ("one short: that is the token before the last.", put([(n - 2) % 6 for n in lengths])),
        ("the score REPLACED the last token's penalty: add it.", put(last, keep=0.0)),
        ("every token got the whole score: a response of n tokens would be paid n times.", penalties + column * mask),
        ("every token got the whole score, padding too.", penalties + column),
        ("you spread the score evenly. It belongs on the last token; spreading is the work of GAE.", penalties + column / count * mask),
        ("the penalties are lost: add the score TO them.", right - penalties),
        ("the scores did not arrive: these are the penalties alone.", penalties),
        ("you subtracted the score: a high score must be a high reward.", 2 * penalties - right),
        ("you summed over the tokens: keep one number per token.", right.sum(-1)),
    ]  # fmt: skip
    return judge(
        answer,
        (penalties, scores, mask),
        right,
        slips,
        "the score lands on the last token that counts",
    )


def nb05_rescale(answer: Answer | None) -> bool:
    """Check rescale(x, mask) -> (B, R): standard deviation 1, mean kept, over the tokens that count
    (others are not looked at)."""
    mask = _ragged()
    x = 3.0 + 2.0 * _example(4, 6, 4)
    kept = x[mask].tolist()
    n = len(kept)
    mean = math.fsum(kept) / n
    square = math.fsum((v - mean) ** 2 for v in kept)
    std, unbiased = math.sqrt(square / n), math.sqrt(square / (n - 1))
    row_mean = torch.tensor(
        [[math.fsum(r[m].tolist()) / int(m.sum())] for r, m in zip(x, mask, strict=True)]
    )
    row_std = torch.stack([r[m].std(correction=0) for r, m in zip(x, mask, strict=True)]).unsqueeze(
        1
    )
    per_row = (x - row_mean) / row_std.clamp(min=1e-4) + row_mean

    def clean(t: Tensor) -> Tensor:
        return torch.where(mask, t, 0)

    slips = [
        ("the mean is gone: this is STANDARDIZE. For rewards add the mean back.", (x - mean) / std),
        ("you divided by the standard deviation without taking the mean off first: that moves the mean.", x / std),
        ("the mean is right and the spread is not: divide by the standard deviation, not by the variance.", (x - mean) / std**2 + mean),
        ("you multiplied by the standard deviation: divide by it.", (x - mean) * std + mean),
        ("the deviation divides by n - 1; the released code divides by n (`correction=0`).", (x - mean) / unbiased + mean),
        ("you forgot the mask: numbers of padding went into mean and deviation.", (x - x.mean()) / x.std(correction=0) + x.mean()),
        ("you forgot the mask, and the deviation divides by n - 1.", (x - x.mean()) / x.std() + x.mean()),
        ("you forgot the mask, and the mean is gone (that is standardize).", (x - x.mean()) / x.std(correction=0)),
        ("you forgot the mask, and the mean is gone (that is standardize).", (x - x.mean()) / x.std()),
        ("you took every row for itself: one mean and one deviation for all.", per_row),
        ("you only took the mean off: divide by the standard deviation, then add the mean back.", x - mean),
        ("you subtracted the mean a second time instead of adding it back.", (x - mean) / std - mean),
    ]  # fmt: skip
    wrapped = answer if answer is None or answer is ... else _cleaned(answer, mask)
    praise = "standard deviation 1, and the mean stayed where it was"
    return judge(
        wrapped,
        (x, mask),
        clean((x - mean) / std + mean),
        [(name, clean(slip)) for name, slip in slips],
        praise,
    )


def _cleaned(answer: Answer, mask: Tensor) -> Answer:
    """Put zeros where the mask is False: what a student's function writes there does not matter."""

    def function(*arguments: Any) -> Any:
        value = answer(*arguments)
        return (
            torch.where(mask, value, 0)
            if isinstance(value, Tensor) and value.shape == mask.shape
            else value
        )

    return function


def nb05_gae(answer: Answer | None) -> bool:
    """Check gae(rewards, values, lam) -> (B, R) with gamma 1 and every token counting, against the
    explicit double sum."""
    rewards, values, lam = _example(3, 5, 5), _example(3, 5, 6), 0.9
    length = rewards.shape[1]

    def explicit(
        lam: float, after: Tensor | None = None, next_weight: float = 1.0, value_weight: float = 1.0
    ) -> Tensor:
        """Sum lam^k delta_{t+k}, term by term, in double precision."""
        r, v = rewards.double(), values.double() * value_weight
        end = torch.zeros(3, 1).double() if after is None else after.double()
        delta = r + next_weight * torch.cat([v[:, 1:], end], 1) - v
        columns = [sum(lam**k * delta[:, t + k] for k in range(length - t)) for t in range(length)]
        return torch.stack(columns, 1).float()

    def forward_sum() -> Tensor:
        delta = rewards + torch.cat([values[:, 1:], torch.zeros(3, 1)], 1) - values
        columns = [sum(lam**k * delta[:, t - k] for k in range(t + 1)) for t in range(length)]
        return torch.stack(columns, 1)

    right = explicit(lam)
    slips = [
        ("these are the deltas alone (lambda 0): each must also carry lambda times the NEXT advantage.", explicit(0.0)),
        ("lambda is missing (it acts as 1): A_t = delta_t + lambda * A_{t+1}.", explicit(1.0)),
        ("delta lacks the value of the next token: delta_t = r_t + V_{t+1} - V_t.", explicit(lam, next_weight=0.0)),
        ("delta lacks the value of the next token and lambda is missing.", explicit(1.0, next_weight=0.0)),
        ("the values are missing: these are discounted sums of rewards.", explicit(lam, value_weight=0.0)),
        ("the values are missing: these are sums of rewards.", explicit(1.0, value_weight=0.0)),
        ("the value after the last token is 0, not the last value again.", explicit(lam, after=values[:, -1:])),
        ("the value after the last token is 0, not the FIRST value (did `roll` bring it round?).", explicit(lam, after=values[:, :1])),
        ("you went forwards in time: credit must flow from later tokens to earlier ones (use `reversed`).", forward_sum()),
        ("these are the returns: take the values off again.", right + values),
        ("the sign is turned round: delta_t = r_t + V_{t+1} - V_t.", -right),
        ("you summed over the tokens: keep one number per token.", right.sum(-1)),
    ]  # fmt: skip
    return judge(
        answer, (rewards, values, lam), right, slips, "equal to the sum written out term by term"
    )


def nb05_policy_loss(answer: Answer | None) -> bool:
    """Check policy_loss(logprobs, old_logprobs, advantages, mask, cliprange) -> scalar."""
    old, mask, clip = -_example(4, 6, 7).abs() - 0.5, _ragged(), 0.2
    logprobs, advantages = (old + 0.4 * _example(4, 6, 8)).requires_grad_(), _example(4, 6, 9)
    n = int(mask.sum())
    tokens = list(
        zip(*(t.flatten().tolist() for t in (logprobs, old, advantages, mask)), strict=True)
    )

    def terms(kind: str) -> list[float]:
        result = []
        for new, before, a, counts in tokens:
            ratio = {"log": new - before, "inverse": math.exp(before - new)}.get(
                kind, math.exp(new - before)
            )
            low = 0.0 if kind == "one-sided" else 1 - clip
            low, high = (-clip, clip) if kind == "zero" else (low, 1 + clip)
            plain, clipped = -a * ratio, -a * min(max(ratio, low), high)
            pick = {"min": min(plain, clipped), "plain": plain, "clipped": clipped}.get(
                kind, max(plain, clipped)
            )
            result.append(pick if counts or kind == "no mask" else 0.0)
        return result

    def mean(kind: str, count: int = n) -> Tensor:
        return torch.tensor(math.fsum(terms(kind)) / count)

    def slope(new: float, before: float, a: float, counts: bool) -> float:
        """Differentiate one term of the mean: 0 once the ratio is past the clip on the side that
        the advantage wants."""
        ratio = math.exp(new - before)
        return (
            0.0
            if not counts or (ratio > 1 + clip if a > 0 else ratio < 1 - clip)
            else -a * ratio / n
        )

    right, gradient = mean("max"), torch.tensor([slope(*token) for token in tokens]).view(4, 6)
    slips = [
        ("minimum and maximum are swapped: as a LOSS take the larger (worse) of -A r and -A clip(r), or the update may run away.", mean("min")),
        ("the minus sign is missing: an optimiser makes losses smaller, and advantages should grow.", -right),
        ("nothing is clipped: this is the plain importance-weighted loss.", mean("plain")),
        ("you used only the clipped term: take the worse of both, or a token that went the wrong way could not come back.", mean("clipped")),
        ("the ratio is a difference of logarithms: you forgot `exp`.", mean("log")),
        ("the ratio is upside down: new over old, exp(logprobs - old_logprobs).", mean("inverse")),
        ("the ratio is clipped only from above: the range is 1 - cliprange to 1 + cliprange.", mean("one-sided")),
        ("the ratio is clipped around 0: the range is 1 - cliprange to 1 + cliprange.", mean("zero")),
        ("you forgot the mask: padding is in the mean.", mean("no mask", 24)),
        ("padding counts in the mean: divide by the number of tokens that count.", mean("max", 24)),
        ("you summed: take the mean over the tokens that count.", right * n),
        ("you summed, padding included: take the mean over the tokens that count.", mean("no mask", 1)),
    ]  # fmt: skip
    praise = "the worse of the two, averaged over the tokens that count"
    return judge(answer, (logprobs, old, advantages, mask, clip), right, slips, praise, gradient)


def nb05_next_beta(answer: Answer | None) -> bool:
    """Check next_beta(beta, kl, target, episodes, horizon) -> the new beta, for KL below, near and
    far above the target."""
    cases = [
        (0.15, 6.6, 6.0, 64, 10_000),
        (0.2, 30.0, 6.0, 512, 10_000),
        (0.1, 0.5, 6.0, 256, 2_000),
        (0.3, 5.4, 6.0, 512, 10_000),
    ]

    def every(rule: Callable[[float, float, float, int, int], float]) -> Tensor:
        return torch.tensor([rule(*case) for case in cases], dtype=torch.float64).float()

    def clipped(kl: float, target: float) -> float:
        return min(0.2, max(-0.2, (kl - target) / target))

    def one(beta: float, kl: float, target: float, n: int, horizon: int) -> float:
        return beta + beta * clipped(kl, target) * n / horizon

    def scaled(error: Callable[[float, float], float]) -> Tensor:
        """Apply the rule with another error of (kl, target)."""
        return every(lambda b, k, t, n, h: b * (1 + error(k, t) * n / h))

    def clip(x: float) -> float:
        return min(0.2, max(-0.2, x))

    slips = [
        ("the error is not clipped: a wild batch could throw beta far. Hold it within -0.2 and 0.2.", scaled(lambda k, t: k / t - 1)),
        ("the sign is turned round: too much KL must RAISE beta.", scaled(lambda k, t: -clipped(k, t))),
        ("the - 1 is missing: at the target the error must be 0.", scaled(lambda k, t: clip(k / t))),
        ("target and KL are swapped: the error is KL / target - 1.", scaled(lambda k, t: clip(t / k - 1))),
        ("the error is relative: (KL - target) / target, not a difference in nats.", scaled(lambda k, t: clip(k - t))),
        ("you forgot episodes / horizon: beta would jump by a fifth at every step.", every(lambda b, k, t, n, h: b * (1 + clipped(k, t)))),
        ("horizon / episodes is upside down.", every(lambda b, k, t, n, h: b * (1 + clipped(k, t) * h / n))),
        ("the number of episodes is missing: more of them move beta more.", every(lambda b, k, t, n, h: b * (1 + clipped(k, t) / h))),
        ("beta is MULTIPLIED by 1 + e n / horizon; you added the change.", every(lambda b, k, t, n, h: b + clipped(k, t) * n / h)),
        ("you returned the factor: multiply beta by it.", every(lambda b, k, t, n, h: 1 + clipped(k, t) * n / h)),
        ("you returned the change: add it to beta.", every(lambda b, k, t, n, h: b * clipped(k, t) * n / h)),
        ("you clipped too late: clip the error first, then scale it.", every(lambda b, k, t, n, h: b * (1 + clip((k / t - 1) * n / h)))),
    ]  # fmt: skip

    def all_cases() -> Tensor | None:
        values = [answer(*case) for case in cases]  # type: ignore[misc]
        if any(v is None or v is ... for v in values):
            return None
        return torch.tensor([float(v) for v in values], dtype=torch.float64).float()

    asked = answer if answer is None or answer is ... else all_cases
    praise = "beta rises above the target, falls below it, and never by more than a fifth of episodes / horizon"
    return judge(asked, (), every(one), slips, praise)


def nb05_shuffle(suspects: Mapping[str, Any]) -> dict[str, Any]:
    """Hand out three of the four suspects as patients A, B and C, in an order that the notebook
    does not show."""
    names = list(suspects)
    return {patient: suspects[names[k]] for patient, k in _nb05_order(names).items()}


LOOK_AGAIN = {
    "flipped KL sign": "with a flipped sign the policy is paid for leaving: the KL would run away from the healthy curve. Does it, here?",
    "score on the first token": "then only the first token could learn from the score, and all later ones only from the penalty: "
    "score and explained variance would lag behind. Do they, here?",
    "returns after whitening": "then the value loss would lie flat at exactly one half, whatever the policy does. Does it, here?",
    "forgotten temperature": "then the ratio would be far from 1 before anything was learnt, and the KL far from 0 at the very first step. "
    "Is it, here?",
}


def _nb05_order(names: Sequence[str]) -> dict[str, int]:
    return dict(zip("ABC", (2, 0, 1), strict=True)) if len(names) >= 3 else {}


def nb05_clinic(diagnosis: Mapping[str, Any] | None, suspects: Mapping[str, Any]) -> bool:
    """Check the diagnosis {"A": name, "B": name, "C": name}; a wrong one is answered with the curve
    to look at, not with the truth."""
    names = list(suspects)
    truth = {patient: names[k] for patient, k in _nb05_order(names).items()}
    if diagnosis is not None and diagnosis is not ... and not isinstance(diagnosis, Mapping):
        return say(
            False,
            f'a {type(diagnosis).__name__} does not say who has what: write {{"A": ..., "B": ..., "C": ...}}, a name each.',
        )
    if diagnosis is None or diagnosis is ... or all(diagnosis.get(p) in (None, ...) for p in truth):
        return say(False, "not solved yet. Write the name of one suspect beside each patient.")
    unknown = [d for d in diagnosis.values() if d not in (None, ...) and d not in names]
    if unknown:
        return say(False, f"{unknown[0]!r} is not among the suspects: {', '.join(names)}.")
    right = [p for p in truth if diagnosis.get(p) == truth[p]]
    if len(right) == len(truth):
        return say(True, "all three patients. " + " ".join(f"{p}: {truth[p]}." for p in truth))
    print(f"Not yet: {len(right)} of {len(truth)} right.")
    for patient in truth:
        if patient not in right:
            print(f"  {patient}: {LOOK_AGAIN.get(str(diagnosis.get(patient)), 'no name yet.')}")
    return False
