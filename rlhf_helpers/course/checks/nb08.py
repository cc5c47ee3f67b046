"""Checks of notebook 08: the gold of the best of n, where gold turns, when to stop, where four
signs lead, and a reward without what goes with length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from rlhf_helpers.course.checks.verdict import Answer, check, compare, judge


@check
def nb08_gold_of_best(answer: Answer | None) -> str:
    """Check gold_of_best(proxy, gold, n): mean gold of the best by proxy, over all subsets of n."""

    def average(pick: Callable[[Sequence[int]], float], count: int, n: int) -> float:
        subsets = list(combinations(range(count), n))
        return sum(map(pick, subsets)) / len(subsets)

    def right(proxy: list, gold: list, n: int) -> float:
        return average(lambda s: gold[max(s, key=proxy.__getitem__)], len(proxy), n)

    def ranked(proxy: list, gold: list) -> list[float]:
        return [g for _, g in sorted(zip(proxy, gold, strict=True))]

    def weighed(proxy: list, gold: list, weight: Callable[[int], float]) -> float:
        return sum(weight(i) * g for i, g in enumerate(ranked(proxy, gold), 1))

    slips = [
        ("this is the mean PROXY of the best: average their gold.",
         lambda proxy, gold, n: right(proxy, proxy, n)),
        ("this chooses by the gold, which nobody can see: choose by the proxy.",
         lambda proxy, gold, n: right(gold, gold, n)),
        ("this is the gold of the one best sample of all: average over the subsets of n.",
         lambda proxy, gold, n: ranked(proxy, gold)[-1]),
        ("this is the mean gold of all samples: n makes no difference here.",
         lambda proxy, gold, n: sum(gold) / len(gold)),
        ("this is the mean gold of the n best: only one of n is kept.",
         lambda proxy, gold, n: sum(ranked(proxy, gold)[-n:]) / n),
        ("this keeps the WORST of n: sort the other way round.",
         lambda proxy, gold, n: right([-p for p in proxy], gold, n)),
        ("ranks are off by one: the i-th lowest, i from 1, is the best of C(i - 1, n - 1) subsets.",
         lambda proxy, gold, n: weighed(
             proxy, gold, lambda i: math.comb(i, n - 1) / math.comb(len(gold), n))),
        ("the weights do not add up to 1: divide by C(N, n).",
         lambda proxy, gold, n: weighed(proxy, gold, lambda i: math.comb(i - 1, n - 1))),
        ("this draws with replacement, so a sample may be its own rival: take subsets.",
         lambda proxy, gold, n: weighed(
             proxy, gold, lambda i: (i**n - (i - 1) ** n) / len(gold) ** n)),
    ]  # fmt: skip
    proxy, gold = [0.3, -1.2, 2.5, 0.9, -0.4, 1.1], [1.0, 0.2, -0.7, 1.6, -1.5, 0.4]
    cases = [(proxy, gold, 2), (proxy, gold, 3), (gold, proxy, 4), (proxy, gold, 1)]
    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"chosen by the one, judged by the other, from one pool for every n ({close})."


@check
def nb08_turning_point(answer: Answer | None) -> str:
    """Check turning_point(rise, bend, form): the d at which the gold is highest."""

    def right(rise: float, bend: float, form: str) -> float:
        return rise / (2 * bend) if form == "best of n" else math.e ** (rise / bend) / math.e

    slips = [
        ("this is where the gold is back at 0: set the derivative to 0, not the gold.",
         lambda a, b, form: a / b if form == "best of n" else math.exp(a / b)),
        ("this is the KL there, d squared: return d.", lambda *case: right(*case) ** 2),
        ("this is the gold there: return d.",
         lambda a, b, form: a * a / (4 * b) if form == "best of n" else b * math.exp(a / b - 1)),
        ("the product rule: d log d has the derivative log d + 1, so a 1 is missing.",
         lambda a, b, form: a / (2 * b) if form == "best of n" else math.exp(a / b)),
        ("d * d has the derivative 2 d, so a 2 is missing.",
         lambda a, b, form: a / b if form == "best of n" else math.exp(a / b - 1)),
        ("the sign of the 1: log d = rise / bend - 1.",
         lambda a, b, form: a / (2 * b) if form == "best of n" else math.exp(a / b + 1)),
        ("this is log d: take the exponential.",
         lambda a, b, form: a / (2 * b) if form == "best of n" else a / b - 1),
        ("rise and bend have changed places.",
         lambda a, b, form: right(b, a, form)),
        ("this takes every form for the best of n.", lambda a, b, form: a / (2 * b)),
        ("this takes every form for RL.", lambda a, b, form: math.exp(a / b - 1)),
    ]  # fmt: skip
    cases = [(1.2, 0.3, "best of n"), (0.8, 0.5, "best of n"), (1.2, 0.3, "rl"), (0.8, 0.5, "rl")]
    names = [f"rise {a}, bend {b}, {form}" for a, b, form in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"the derivative is 0 there ({close})."


def stopped(judged: list, patience: int, *, equal: bool = False, more: int = 0) -> tuple[int, int]:
    """Return which policy is kept, and at which judgement that is known."""
    best, bad = 0, 0
    for i, rate in enumerate(judged[1:], 1):
        if rate > judged[best] or (equal and rate == judged[best]):
            best, bad = i, 0
        else:
            bad += 1
        if bad == patience + more:
            return best, i
    return best, len(judged) - 1


@check
def nb08_stop_at(answer: Answer | None) -> str:
    """Check stop_at(judged, patience): which policy to keep, from win rates that come in turn."""
    slips = [
        ("this looks into the future: training had stopped before the best one came.",
         lambda judged, patience: judged.index(max(judged))),
        ("this is where training stops: keep the best one BEFORE that.",
         lambda judged, patience: stopped(judged, patience)[1]),
        ("this is the win rate: return which one it is, counted from 0.",
         lambda judged, patience: judged[stopped(judged, patience)[0]]),
        ("of two that are equally good keep the earlier: it is closer to the base model.",
         lambda judged, patience: stopped(judged, patience, equal=True)[0]),
        ("this waits one judgement too long.",
         lambda judged, patience: stopped(judged, patience, more=1)[0]),
        ("this loses patience one judgement too early.",
         lambda judged, patience: stopped(judged, max(1, patience - 1))[0]),
        ("this stops at the first judgement that is worse: `patience` of them in a row are needed.",
         lambda judged, patience: stopped(judged, 1)[0]),
        ("count from 0, as lists do.",
         lambda judged, patience: stopped(judged, patience)[0] + 1),
    ]  # fmt: skip
    cases = [
        ([0.5, 0.6, 0.55, 0.7, 0.6, 0.6, 0.65, 0.9], 3),
        ([0.5, 0.6, 0.55, 0.58, 0.7], 2),
        ([0.5, 0.62, 0.62, 0.6, 0.4, 0.8], 3),
        ([0.5, 0.4, 0.55, 0.3, 0.6, 0.2], 2),
        ([0.5, 0.45, 0.4, 0.6], 3),
        ([0.5, 0.6, 0.59, 0.58, 0.57, 0.56, 0.7], 3),
    ]
    names = [f"judged {judged}, patience {patience}" for judged, patience in cases]
    right = [stopped(*case)[0] for case in cases]
    oracle = dict(zip(map(str, cases), right, strict=True))
    close = compare(
        answer, cases, lambda *case: oracle[str(case)], slips, names=names, wanted="one index",
        tolerance=1e-6,
    )  # fmt: skip
    return f"no look into the future, and the earlier of equals ({close})."


@check
def nb08_where_it_ends(answer: Answer | None) -> str:
    """Check where_it_ends(log_rho, r, beta, reward, kl): the policy that maximises
    reward * E[r] + kl * beta * KL, for both signs of each; (Y,) probabilities."""
    log_rho = torch.tensor([0.35, 0.25, 0.2, 0.12, 0.05, 0.03]).log()
    r, beta = torch.tensor([1.7, 0.8, 1.9, -1.6, 1.6, 0.4]), 0.5

    def corner(values: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(values.argmax(), len(values)).float()

    turned = "the sign of the reward is not used, or turned round."
    for reward, kl in ((1, -1), (-1, -1), (1, 1), (-1, 1)):
        good = reward * r
        weights = log_rho.exp() * (good / beta).exp()
        mixture, alone = weights / weights.sum(), corner(good - beta * log_rho)
        priced = [
            (turned, (log_rho - good / beta).softmax(-1)),
            ("these are log-probabilities: return probabilities.", mixture.log()),
            ("divide the reward by beta: a high price keeps the policy near the base model.",
             (log_rho + beta * good).softmax(-1)),
            ("the base model is missing: this is a softmax of the reward alone.",
             (good / beta).softmax(-1)),
            ("with a price a single answer is best only if it is free: mix, as in notebook 04.",
             alone),
            ("the probabilities do not add up to 1: divide by Z.", weights),
        ]  # fmt: skip
        paid = [
            ("with the KL paid for, the formula of the optimum finds the WORST policy: there the "
             "sum is least. Look at the corners.", (log_rho - good / beta).softmax(-1)),
            ("the sign of the KL is not used: here distance is paid for.", mixture),
            ("this looks at the reward alone: rare answers are paid for as well.", corner(good)),
            ("this looks at rarity alone: the reward counts as well.", corner(-log_rho)),
            ("this pays for LIKELY answers: the KL of a single answer is -log rho.",
             corner(good + beta * log_rho)),
            (turned, corner(-good - beta * log_rho)),
        ]  # fmt: skip
        right, slips = (mixture, priced) if kl < 0 else (alone, paid)
        judge(answer, (log_rho, r, beta, reward, kl), right, slips)
    return "a price keeps a mixture, a bonus for distance ends in a single answer."


@check
def nb08_residual(answer: Answer | None) -> str:
    """Check residual(rewards, lengths): rewards without what goes with length; (N,)."""
    lengths = torch.tensor([8.0, 12.0, 9.0, 17.0, 20.0, 11.0, 14.0])
    rewards = torch.tensor([-0.6, 0.4, -1.1, 0.9, 1.9, 0.1, -0.2])
    apart = lengths - lengths.mean()
    slope = torch.linalg.lstsq(
        torch.stack([apart, torch.ones(7)], -1), rewards.unsqueeze(1)
    ).solution[0, 0]
    right = rewards - slope * apart
    centred = rewards - rewards.mean()
    slips = [
        ("the differences are right, but the mean has moved: subtract slope * (length - mean "
         "length), or the penalty of -1 means something else.", rewards - slope * lengths),
        ("the mean has gone as well: take out the slope, not the whole line.",
         centred - slope * apart),
        ("the sign: what length earns is taken AWAY.", rewards + slope * apart),
        ("divide by the variance of the LENGTHS, not of the rewards.",
         rewards - (apart * centred).sum() / centred.square().sum() * apart),
        ("this is the correlation: the slope is the covariance over the variance of the lengths.",
         rewards - torch.corrcoef(torch.stack([lengths, rewards]))[0, 1] * apart),
        ("this is what length earns: return the rest.", slope * apart),
        ("a reward per word rewards brevity: take out the slope of a line instead.",
         rewards / lengths),
        ("the line has an intercept: subtract the mean length before you compute the slope.",
         rewards - (lengths * rewards).sum() / lengths.square().sum() * lengths),
        ("divide by the variance of the lengths.", rewards - (apart * centred).mean() * apart),
    ]  # fmt: skip
    close = judge(answer, (rewards, lengths), right, slips)
    return f"no slope is left, and the mean is where it was ({close})."
