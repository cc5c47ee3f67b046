"""Checks of notebook 04: best of n where all answers are listed, the policy gradient, leaving one
out, the importance ratio, the optimum at a price, the estimator k3."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import (
    TOLERANCE,
    Answer,
    NotYet,
    ask,
    check,
    how_close,
    judge,
    shape,
)

SUM_TOKENS = "the log-probability of an answer is the SUM over its tokens, not the mean."


def nb04_equal(name: str, mine: Any, exact: Any, tolerance: float = 1e-9) -> None:
    """Print how close an estimate is to the exact value; raises AssertionError if it differs."""
    a, b = (torch.as_tensor(x).detach().double() for x in (mine, exact))
    assert a.shape == b.shape, f"{name}: the shapes {tuple(a.shape)} and {tuple(b.shape)} differ"
    difference = (a - b).abs().max().item()
    assert difference <= tolerance, f"{name}: the largest difference is {difference:.3g}"
    print(f"{name}: equal, to within {tolerance:g}")


def doubles(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def example(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def of_all_tuples(p: Sequence[float], r: Sequence[float], n: int) -> Tensor:
    """Find the best of n by trying every tuple of n answers; equally good ones share."""
    found = [0.0] * len(p)
    for drawn in itertools.product(range(len(p)), repeat=n):
        best = [y for y in drawn if r[y] == max(r[z] for z in drawn)]
        for y in best:
            found[y] += math.prod(p[z] for z in drawn) / len(best)
    return doubles(found)


@check
def nb04_best_of_n(answer: Answer | None) -> str:
    """Check best_of_n(p, r, n) -> (Y,) probabilities, with and without equal rewards."""
    p = doubles([0.4, 0.15, 0.25, 0.2])
    cases = [
        (p, doubles([1.0, 3.0, -2.0, 0.5]), 3),
        (p, doubles([1.0, 3.0, 3.0, -2.0]), 2),
        (p, doubles([1.0, 3.0, 3.0, -2.0]), 1),
    ]

    def at_most(r: Tensor, p: Tensor) -> Tensor:
        return doubles([sum(q for q, s in zip(p.tolist(), r.tolist()) if s <= x) for x in r])

    def in_a_row(p: Tensor, r: Tensor, n: int) -> Tensor:
        """Let equal rewards be better and worse in the order they stand in."""
        order, out = sorted(range(len(p)), key=lambda y: r[y].item()), [0.0] * len(p)
        total = 0.0
        for y in order:
            out[y] = (total + p[y].item()) ** n - total**n
            total += p[y].item()
        return doubles(out)

    def level(p: Tensor, r: Tensor, n: int) -> Tensor:
        """Give every answer all that falls to its reward."""
        f = at_most(r, p)
        below = doubles([sum(q for q, s in zip(p.tolist(), r.tolist()) if s < x) for x in r])
        return f**n - below**n

    for case in cases:
        p, r, n = case
        right, f = of_all_tuples(p.tolist(), r.tolist(), n), at_most(r, p)
        equal = torch.tensor([(r == x).sum() for x in r])
        slips = [
            ("this is the WORST of n: low rewards must lose.",
             of_all_tuples(p.tolist(), (-r).tolist(), n)),
            ("this says how likely the best is AT MOST as good: take off that of being worse.",
             f**n),
            ("this is the formula for a great many rare answers, rho n F^(n-1): here take the "
             "difference of two powers.", p * n * f ** (n - 1)),
            ("with normalising this comes near, but rho n F^(n-1) is for rare answers: take the "
             "difference of two powers.", p * f ** (n - 1) / (p * f ** (n - 1)).sum()),
            ("these are probabilities to the power n: `n` draws of the SAME answer.", p**n),
            ("equal rewards must share: yours are ranked by where they stand.", in_a_row(p, r, n)),
            ("equal rewards must share what falls to them; each of yours gets all of it.",
             level(p, r, n)),
            ("equal rewards share in proportion to their probabilities, not evenly.",
             level(p, r, n) / equal),
            ("these are the logarithms: return probabilities.", right.log()),
        ]  # fmt: skip
        close = judge(answer, case, right.float(), slips if n > 1 else [])
    return f"as trying all tuples gives it, equal rewards and n = 1 too ({close})."


@check
def nb04_policy_gradient_loss(answer: Answer | None) -> str:
    """Check the GRADIENT of policy_gradient_loss(logprobs, rewards); its value does not matter."""
    logprobs = (-example(4, 3, 1).abs()).requires_grad_()
    rewards = doubles([2.0, -1.0, 0.5, 1.25])
    value = ask(answer, logprobs, rewards)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise NotYet(f"return one number, a scalar tensor with a gradient, not {shape(value)}.")
    if not value.requires_grad:
        raise NotYet(
            "nothing can be trained on it: the log-probabilities must stay attached, without "
            "`item`, `detach` or `tolist`."
        )
    try:
        (got,) = torch.autograd.grad(value.sum(), logprobs, allow_unused=True)
    except RuntimeError as error:
        raise NotYet(f"your loss has no gradient: {error}") from None
    got = torch.zeros_like(logprobs) if got is None else got
    size, length = logprobs.shape
    right = (-rewards[:, None] / size).expand(size, length)
    tokens, whole = logprobs.detach().exp(), logprobs.detach().sum(-1, keepdim=True).exp()
    last = torch.zeros_like(right)
    last[:, -1] = right[:, -1]
    slips = [
        ("the sign is wrong: an optimizer goes downhill, and good answers must become likelier.",
         -right),
        ("average over the answers: you summed.", size * right),
        ("you summed, and the sign is wrong.", -size * right),
        (SUM_TOKENS, right / length),
        ("you multiplied with the PROBABILITY of the answer. In the sum over all answers it stands "
         "there; among samples, likely answers already come up more often.", right * whole),
        ("you used probabilities of tokens instead of their logarithms.", right * tokens),
        ("only the last token is pushed: the answer's log-probability is the sum over all.", last),
        ("the rewards are missing: this makes everything it wrote likelier, good or bad.",
         torch.full_like(right, -1 / size)),
    ]  # fmt: skip
    if torch.allclose(got, right, atol=TOLERANCE):
        return f"its gradient is the estimate ({how_close((got - right).abs().max().item())})."
    for text, slip in slips:
        if torch.allclose(got, slip, atol=TOLERANCE):
            raise NotYet(text)
    raise NotYet(
        "the gradient by the log-probability of each token should be minus the answer's reward "
        f"divided by B, here {right[0, 0]:.4f} for the first; yours is {got[0, 0]:.4f}."
    )


@check
def nb04_leave_one_out(answer: Answer | None) -> str:
    """Check leave_one_out(rewards) -> (P, G): each minus the mean of the others in its row."""
    rewards = 2 + example(3, 4, 2)
    rows = rewards.tolist()

    def each(baseline: Callable[[int, int], float]) -> Tensor:
        return doubles(
            [[x - baseline(i, j) for j, x in enumerate(row)] for i, row in enumerate(rows)]
        )

    def others(i: int, j: int) -> float:
        return math.fsum(x for k, x in enumerate(rows[i]) if k != j) / 3

    right, flat = each(others), [x for row in rows for x in row]
    row_mean = rewards.mean(-1, keepdim=True)
    slips = [
        ("the mean contains the answer itself: leave it out.", rewards - row_mean),
        ("this is GRPO's advantage, divided by the deviation: here the difference alone.",
         (rewards - row_mean) / rewards.std(-1, keepdim=True)),
        ("there are G - 1 others: you divided by G.", each(lambda i, j: others(i, j) * 3 / 4)),
        ("you subtracted the SUM of the others: take their mean.",
         each(lambda i, j: others(i, j) * 3)),
        ("this is the baseline: take it off the reward.", rewards - right),
        ("the sign is wrong: better than the others must be positive.", -right),
        ("the others are the answers to the SAME prompt, in the same row: you took the column.",
         each(lambda i, j: math.fsum(rows[k][j] for k in range(3) if k != i) / 2)),
        ("the others are those in the same row: you took all other answers of the batch.",
         each(lambda i, j: (math.fsum(flat) - rows[i][j]) / (len(flat) - 1))),
        ("take the mean of each row, not of the whole batch.", rewards - rewards.mean()),
    ]  # fmt: skip
    close = judge(answer, (rewards,), right.float(), slips)
    return f"each answer is compared with its neighbours ({close})."


@check
def nb04_reweighted_mean(answer: Answer | None) -> str:
    """Check reweighted_mean(logprobs, old_logprobs, rewards) -> scalar, by products of ratios."""
    old = -example(5, 3, 3).abs()
    logprobs, rewards = old + 0.3 * example(5, 3, 4), doubles([1.0, -2.0, 0.5, 3.0, 1.5])

    def products(new: Tensor, before: Tensor) -> Tensor:
        pairs = zip(new.tolist(), before.tolist(), strict=True)
        return doubles(
            [
                math.prod(math.exp(a) / math.exp(b) for a, b in zip(x, y, strict=True))
                for x, y in pairs
            ]
        )

    w, tokens = products(logprobs, old), (logprobs - old).exp()
    right = (w * rewards).mean()
    slips = [
        ("the ratio is a difference of logarithms: you forgot `exp`.",
         ((logprobs - old).sum(-1) * rewards).mean()),
        ("the ratio is upside down: new over old.", (products(old, logprobs) * rewards).mean()),
        ("you summed over the answers: take the mean.", (w * rewards).sum()),
        ("the ratio of an answer is the PRODUCT over its tokens: sum the logarithms, do not "
         "average them.", ((logprobs - old).mean(-1).exp() * rewards).mean()),
        ("this averages the ratios of tokens: multiply them, or sum their logarithms.",
         (tokens.mean(-1) * rewards).mean()),
        ("this sums the ratios of tokens: multiply them, or sum their logarithms.",
         (tokens.sum(-1) * rewards).mean()),
        ("this divides by the sum of the ratios: often useful, but no longer right on average. "
         "Divide by B.", (w * rewards).sum() / w.sum()),
        ("the ratio is missing: this is the mean reward of the OLD policy.", rewards.mean()),
        ("the rewards are missing: this is the mean ratio, 1 on average.", w.mean()),
        ("this weighs with the new probabilities alone: divide by the old ones, as the old policy "
         "drew the answers.", (logprobs.sum(-1).exp() * rewards).mean()),
        ("take the mean over the answers: return one number.", w * rewards),
    ]  # fmt: skip
    close = judge(answer, (logprobs, old, rewards), right.float(), slips)
    return f"each answer counts as often as the new policy would draw it ({close})."


@check
def nb04_optimum(answer: Answer | None) -> str:
    """Check optimum(log_rho, r, beta) -> (Y,) log-probabilities, and that a small beta is safe."""
    rho, rewards, beta = [0.4, 0.3, 0.2, 0.1], [1.0, -0.5, 2.0, 0.25], 0.5

    def log_share(weights: Sequence[float]) -> Tensor:
        return doubles([math.log(x / math.fsum(weights)) for x in weights])

    def tilt(power: Callable[[float], float], keep: bool = True) -> list[float]:
        return [
            (q if keep else 1.0) * math.exp(power(x)) for q, x in zip(rho, rewards, strict=True)
        ]

    weights = tilt(lambda x: x / beta)
    right = log_share(weights)
    slips = [
        ("the reference is missing: this is softmax(r / beta), as if all answers were equally "
         "likely.", log_share(tilt(lambda x: x / beta, keep=False))),
        ("divide by beta: a HIGH price must keep the policy near the reference.",
         log_share(tilt(lambda x: x * beta))),
        ("beta is missing.", log_share(tilt(lambda x: x))),
        ("the sign is wrong: this looks for the worst answers.",
         log_share(tilt(lambda x: -x / beta))),
        ("the probabilities do not add up to 1: take off log Z.",
         doubles([math.log(x) for x in weights])),
        ("these are probabilities: return their logarithms.", right.exp()),
        ("this is rho exp(r / beta), without Z and without the logarithm.", doubles(weights)),
        ("the reference was divided by beta too: only the reward is.",
         log_share([(q * math.exp(x)) ** (1 / beta) for q, x in zip(rho, rewards, strict=True)])),
    ]  # fmt: skip
    log_rho, r = doubles(rho).log(), doubles(rewards)
    close = judge(answer, (log_rho, r, beta), right.float(), slips)
    if not torch.isfinite(torch.as_tensor(ask(answer, log_rho, r, 1e-3))).all():
        raise NotYet(
            "right for this beta, but 0.001 overflows: stay with logarithms (`log_softmax`)."
        )
    return f"rho exp(r / beta) / Z, in logarithms ({close}), and safe for a small beta."


@check
def nb04_k3(answer: Answer | None) -> str:
    """Check k3(logprobs, reference_logprobs) -> (B, R), nats."""
    p, q = -example(3, 4, 5).abs(), -example(3, 4, 6).abs()
    pairs = zip(p.flatten().tolist(), q.flatten().tolist(), strict=True)
    right = doubles([math.exp(b) / math.exp(a) - 1 + a - b for a, b in pairs]).view(3, 4)
    k1 = p - q
    slips = [
        ("this is k1, the log ratio.", k1),
        ("this is k2, half the square.", 0.5 * k1**2),
        ("the sign in the exponent is missing: exp(-k1).", k1.exp() - 1 + k1),
        ("this is k3 the other way round, of the reference from the policy: k1 is log pi minus log "
         "rho.", k1.exp() - 1 - k1),
        ("the 1 is not taken off: between equal models k3 must be 0.", right + 1),
        ("the last term has the wrong sign: plus k1.", (-k1).exp() - 1 - k1),
        ("only the two terms that balance are there: add k1.", (-k1).exp() - 1),
        ("the term with mean 0 was taken off k1: that doubles its swings. Add it.",
         k1 - ((-k1).exp() - 1)),
        ("1 minus exp(-k1) instead of k1 plus exp(-k1) minus 1: k1 itself is missing.",
         1 - (-k1).exp()),
        ("keep one number per token: you summed.", right.sum(-1)),
        ("keep one number per token: you summed.", right.sum()),
        ("keep one number per token: you averaged.", right.mean()),
    ]  # fmt: skip
    close = judge(answer, (p, q), right.float(), slips)
    return f"never negative, 0 between equal models ({close})."
