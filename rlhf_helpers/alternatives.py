"""Other roads from a reward to a policy: the best of n, RLOO, GRPO, and the optimum.

best_of              draw n answers to each prompt, keep the one with the highest score
expected_best        what the best of n scores on average, for every n, from one pool of samples
best_of_kl_bound     how far the best of n can be from its reference
best_of_logprobs     the best of n as a policy, where all answers can be listed
reinforce_loss       a loss whose gradient is, on average, minus that of the expected score
rloo_step, grpo_step steps for `ppo.tune(..., algorithm=...)` that need no value head
optimal_logprobs     the policy that no other beats in E[r] - beta KL, likewise
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_helpers import ppo, sampling
from rlhf_helpers.models import Policy
from rlhf_helpers.ppo import KLController, PPOConfig
from rlhf_helpers.records import Queries, Rollout
from rlhf_helpers.reward import Score
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.ranks import ALONE, Ranks
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import kl_k1, kl_k3, masked_mean, per_response

# ---- the best of n -------------------------------------------------------------------------------


@torch.no_grad()
def best_of(
    policy: Policy, score: Score, queries: Queries, task: Task, n: int,
    generator: torch.Generator | None = None, micro_batch: int | None = 128,
) -> tuple[Rollout, Tensor]:  # fmt: skip
    """Draw `n` answers to every query and keep the one with the highest score.

    queries (P, Q); returns a Rollout of P rows and their scores (P,). Its log-probabilities are
    those of `policy`, which drew the answers, not those of the best of n. n = 1 is sampling. Raises
    ValueError unless n is at least 1, FloatingPointError on a score that is not finite.
    """
    _at_least_one(n)
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, generator, micro_batch, answers=n
    )
    scores = guards.one_each(score(rollout), len(rollout), policy.device)
    guards.finite("a score", scores)
    best = scores.view(-1, n).argmax(-1)  # (P,)
    rows = best + n * torch.arange(len(best), device=best.device)
    kept = (rollout.responses, rollout.mask, rollout.logprobs, rollout.values)
    return Rollout(rollout.queries[rows], *(x[rows] for x in kept)), scores[rows]


def expected_best(scores: Tensor, n: int) -> Tensor:
    """Estimate the mean score of the best of `n` from N samples for each prompt, without bias.

    The average over all subsets of n of the N samples: the i-th lowest score is the best of
    C(i - 1, n - 1) of the C(N, n) subsets. scores (P, N); returns (P,). Raises ValueError unless
    1 <= n <= N. Source: Coste et al. 2023 (arXiv 2310.02743).
    """
    _at_least_one(n)
    total = scores.shape[-1]
    if n > total:
        raise ValueError(f"the best of {n} needs {n} samples a prompt, and there are {total}")
    shares = [math.comb(i, n - 1) / math.comb(total, n) for i in range(total)]
    weights = torch.tensor(shares, dtype=torch.double, device=scores.device)
    return (scores.double().sort(-1).values * weights).sum(-1)


def best_of_kl_bound(n: int) -> float:
    """Bound the KL of the best of `n` from its reference: log n - (n - 1)/n, in nats.

    It is the KL itself where no two answers have the same score and none is likely, and more than
    the KL otherwise (Beirami et al. 2024, arXiv 2401.01879).
    """
    _at_least_one(n)
    return math.log(n) - (n - 1) / n


def best_of_logprobs(logprobs: Tensor, scores: Tensor, n: int) -> Tensor:
    """Compute the log-probability of every answer under the best of `n`, if all are listed.

    The best of n scores at most s when all n samples do. Answers with equal scores share what falls
    to that score in proportion to their own probabilities. logprobs, scores (Y,), one entry for
    each possible answer; returns (Y,).
    """
    _at_least_one(n)
    levels, level = scores.unique(return_inverse=True)  # levels ascend
    mass = torch.zeros(len(levels), dtype=logprobs.dtype, device=logprobs.device)
    mass = mass.index_add(0, level, logprobs.exp())
    at_most = mass.cumsum(0) / mass.sum()
    falls_to = torch.diff(at_most**n, prepend=at_most.new_zeros(1))
    return logprobs + (falls_to / mass).log()[level]


def _at_least_one(n: int) -> None:
    if n < 1:
        raise ValueError(f"the best of {n} answers: n must be at least 1")


# ---- the policy gradient -------------------------------------------------------------------------


def reinforce_loss(logprobs: Tensor, advantages: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average minus the advantage times the log-probability of the whole answer.

    logprobs (B, R) with gradients, of answers that the policy itself has drawn; advantages (B,)
    without; mask (B, R) True at tokens that count. The value of this scalar means nothing: only its
    gradient does, minus that of the expected score (Williams 1992).
    """
    answers = logprobs if mask is None else torch.where(mask, logprobs, 0)
    return -(advantages.detach() * answers.sum(-1)).mean()


# ---- several answers to a prompt, judged by each other -------------------------------------------


def leave_one_out(totals: Tensor, answers: int) -> Tensor:
    """Subtract from each answer's total the mean of the prompt's other answers; (B,) to (B,).

    The advantages of a prompt add up to zero. Source: Kool et al. 2019; Ahmadian et al. 2024 (arXiv
    2402.14740).
    """
    groups = _groups(totals, answers)
    return (answers / (answers - 1) * (groups - groups.mean(1, keepdim=True))).flatten()


def group_relative(scores: Tensor, answers: int) -> Tensor:
    """Subtract the mean of the prompt's answers and divide by their deviation; (B,) to (B,).

    Zeros where all answers score the same. Source: Shao et al. 2024 (arXiv 2402.03300).
    """
    centred = (groups := _groups(scores, answers)) - groups.mean(1, keepdim=True)
    deviation = groups.std(1, keepdim=True)
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0).flatten()


def _groups(x: Tensor, answers: int) -> Tensor:
    if answers < 2:
        raise ValueError("answers of a prompt are judged by each other: set `answers` to 2 or more")
    return x.view(-1, answers)


def rloo_step(
    policy: Policy, reference: Policy, score: Score, queries: Queries, task: Task,
    config: PPOConfig, optimizer: torch.optim.Optimizer, controller: KLController,
    generator: torch.Generator, ranks: Ranks = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Do one step of RLOO: the KL is part of what an answer earned, its rivals are the baseline.

    Arguments and summary as in `ppo.step`. One epoch of one minibatch is the plain policy gradient.
    """

    def advantages(scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
        kl = torch.where(mask, kl_k1(logprobs, reference), 0).sum(-1)
        return leave_one_out(scores - controller.beta * kl, config.answers)

    return _step(
        policy, reference, score, queries, task, config, optimizer, controller, generator, ranks,
        advantages, beta=0.0,
    )  # fmt: skip


def grpo_step(
    policy: Policy, reference: Policy, score: Score, queries: Queries, task: Task,
    config: PPOConfig, optimizer: torch.optim.Optimizer, controller: KLController,
    generator: torch.Generator, ranks: Ranks = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Do one step of GRPO: scores relative to the prompt's own answers; the KL stands in the loss.

    Arguments and summary as in `ppo.step`. There beta is a price per nat of an answer, here of a
    token's estimate k3, whose mean over tokens joins the loss: the two are not the same number.
    """

    def advantages(scores: Tensor, *_: Tensor) -> Tensor:
        return group_relative(scores, config.answers)

    return _step(
        policy, reference, score, queries, task, config, optimizer, controller, generator, ranks,
        advantages, beta=controller.beta,
    )  # fmt: skip


def _step(
    policy: Policy, reference: Policy, score: Score, queries: Queries, task: Task,
    config: PPOConfig, optimizer: torch.optim.Optimizer, controller: KLController,
    generator: torch.Generator, ranks: Ranks, advantages: Callable[..., Tensor], beta: float,
) -> dict[str, float]:  # fmt: skip
    """Answer, score, compare the answers to each prompt, improve; beta: the price in the loss."""
    temperature, size = task.temperature, ranks.micro_batch
    with torch.no_grad():
        rollout = sampling.sample(
            policy, queries, task.response_length, temperature, generator, size,
            answers=config.answers,
        )  # fmt: skip
        scores = guards.one_each(score(rollout), len(rollout), policy.device, task.response_length)
        replayed = sampling.replay(reference, rollout, temperature, size)
    everything = (rollout, per_response(scores), replayed.logprobs)
    rollout, scores, reference_logprobs = map(ranks.gather, everything)
    guards.finite("a score", scores)
    earned = advantages(scores, rollout.logprobs, reference_logprobs, rollout.mask)  # (B,)

    history = []
    for rows in ppo.minibatches(config, generator):
        rows = ranks.broadcast(rows)
        batch, theirs, advantage = rollout[rows], reference_logprobs[rows], earned[rows]
        optimizer.zero_grad()
        for part in ranks.micro_batches(len(rows)):
            weight = batch.mask[part].sum() / batch.mask.sum()
            old, mask = batch.logprobs[part], batch.mask[part]
            now = sampling.replay(policy, batch[part], temperature).logprobs
            each = advantage[part].unsqueeze(1).expand_as(old)  # every token of an answer
            pg = ppo.policy_loss(now, old, each, mask, config.cliprange)
            (weight * (pg + beta * masked_mean(kl_k3(now, theirs[part]), mask))).backward()
            history.append({"policy_loss": weight * pg.detach()})
        ranks.update(policy, optimizer, config.max_grad_norm)

    summary = ppo.summarize(rollout, scores, reference_logprobs, controller.beta)
    total = ranks.all_reduce(torch.stack([stats["policy_loss"] for stats in history]).sum())
    summary["policy_loss"] = total.item() / (config.epochs * config.minibatches)
    kl = torch.tensor(summary["kl_nats_per_response"], device=scores.device)
    controller.update(ranks.broadcast(kl).item(), config.batch)
    return summary


# ---- the optimum ---------------------------------------------------------------------------------


def optimal_logprobs(reference_logprobs: Tensor, scores: Tensor, beta: float) -> Tensor:
    """Compute log pi* of the policy that maximises E[r] - beta KL(pi | rho): rho exp(r / beta) / Z.

    reference_logprobs, scores (..., Y), one entry for each possible answer; returns (..., Y).
    Raises ValueError unless beta is positive. `evaluation.reweighted` does it on samples.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}: without a price there is no optimum")
    return (reference_logprobs + scores / beta).log_softmax(-1)
