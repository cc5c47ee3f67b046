"""PPO as in the paper. Read `step` first: it is the whole algorithm.

Source: Ziegler et al. 2019, section 2.2 and appendix, and the released code (train_policy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers import models, sampling
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries, Rollout, digest
from rlhf_helpers.reward import Score
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.optim import adam
from rlhf_helpers.runtime.ranks import ALONE, Ranks, detecting_lost_ranks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import (
    distinct_bigrams,
    explained_variance,
    gae,
    kl_k1,
    masked_mean,
    per_response,
    rescale,
    standardize,
)  # fmt: skip


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO. In brackets: the paper's value for the style tasks (released code)."""

    episodes: int = 10_000  # responses sampled in all [1,000,000]
    batch: int = 64  # responses per step [512]
    answers: int = 1  # per prompt; several share its computation [1]
    minibatches: int = 2  # per epoch; whitening is per minibatch [1]
    epochs: int = 4  # passes over each batch [4]
    lr: float = 1e-4  # Adam, falls linearly to 0 [1e-5, for 124M parameters]
    kl_coef: float = 0.25  # beta at the start, reward per nat of KL [0.15]
    kl_target: float | None = 9.0  # nats per response; None fixes beta [6; printed: 10 (sentiment)]
    kl_horizon: int = 1_250  # episodes in which beta may move by about 20 % [10,000]
    cliprange: float = 0.2  # of the probability ratio and of the value [0.2]
    value_coef: float = 0.1  # weight of the value loss [0.1]
    lam: float = 1.0  # GAE lambda, gamma is 1; 1 while values know nothing yet [0.95]
    leave_one_out: bool = False  # baseline: the prompt's other answers, not the values [off]
    whiten_rewards: bool = False  # rescale rewards and keep their mean [on]
    tensorflow_adam: bool = True  # place eps as TensorFlow does, so that first steps are short [on]
    max_grad_norm: float | None = None  # clip gradients to this norm; None does not clip [None]

    def __post_init__(self) -> None:
        guards.ppo_config(self)

    @property
    def steps(self) -> int:
        return self.episodes // self.batch


# ---- the algorithm -------------------------------------------------------------------------------


def step(
    policy: Policy, reference: Policy, score: Score, queries: Queries, task: Task,
    config: PPOConfig, optimizer: torch.optim.Optimizer, controller: KLController,
    generator: torch.Generator, ranks: Ranks = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Do one step of PPO: answer, score, shape the rewards, then epochs of clipped improvement.

    queries (batch / answers, Q), or this rank's share. Returns a summary, units in the names.
    Raises FloatingPointError on a score or gradient that is not finite.
    """
    length, temperature, rows_at_a_time = task.response_length, task.temperature, ranks.micro_batch
    with torch.no_grad():
        rollout = sampling.sample(
            policy, queries, length, temperature, generator, rows_at_a_time, answers=config.answers
        )
        scores = guards.one_each(score(rollout), len(rollout), policy.device, length)
        replayed = sampling.replay(reference, rollout, temperature, rows_at_a_time)
    everything = (rollout, scores, replayed.logprobs)
    rollout, scores, reference_logprobs = map(ranks.gather, everything)  # of all ranks
    guards.finite("a score", scores)
    rewards = shape_rewards(
        scores, rollout.logprobs, reference_logprobs, rollout.mask, controller.beta
    )

    history = []
    for rows in minibatches(config, generator):
        batch = rollout[ranks.broadcast(rows)]
        advantages, returns = targets(batch, rewards[rows], config)
        explained = explained_variance(batch.values, returns, batch.mask)
        optimizer.zero_grad()
        for part in ranks.micro_batches(len(rows)):
            weight = batch.mask[part].sum() / batch.mask.sum()  # parts add up to the minibatch
            loss, stats = losses(policy, batch[part], advantages[part], returns[part], task, config)
            (weight * loss).backward()
            stats["value_explained_variance"] = explained
            history.append({name: weight * value for name, value in stats.items()})
        ranks.update(policy, optimizer, config.max_grad_norm)

    summary = summarize(rollout, scores, reference_logprobs, controller.beta)
    for name in history[0]:
        total = ranks.all_reduce(torch.stack([stats[name] for stats in history]).sum())
        summary[name] = total.item() / (config.epochs * config.minibatches)
    kl = torch.tensor(summary["kl_nats_per_response"], device=scores.device)
    controller.update(ranks.broadcast(kl).item(), config.batch)  # beta is the same on every rank
    return summary


def minibatches(config: PPOConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield row numbers: each epoch a fresh permutation of the prompts, in equal minibatches.

    The answers to one prompt stay together, side by side.
    """
    prompts, device = config.batch // config.answers, generator.device
    along = torch.arange(config.answers, device=device)
    for _ in range(config.epochs):
        order = torch.randperm(prompts, generator=generator, device=device)  # (P,)
        rows = (order.unsqueeze(1) * config.answers + along).flatten()  # (P * G,)
        yield from rows.chunk(config.minibatches)


def shape_rewards(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """Spread the reward over tokens: -beta log(pi / rho) on each, the score on the last.

    scores (B,), or (B, R) where each token has a part of its own; the others (B, R); returns
    (B, R). Source: paper, equation 2.
    """
    rewards = torch.where(mask, -beta * kl_k1(logprobs, reference_logprobs), 0)
    if scores.dim() == 2:
        return rewards + torch.where(mask, scores, 0)
    last = mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)  # (B,) last token that counts
    return rewards.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1))


def targets(batch: Rollout, rewards: Tensor, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Compute what a minibatch teaches: advantages for the policy, returns for the values.

    rewards (B, R); returns two (B, R). Returns are formed before the advantages are standardised,
    or the value head would learn a scale that is not the rewards'.
    """
    if config.whiten_rewards:
        rewards = rescale(rewards, batch.mask)
    if config.leave_one_out:
        returns = gae(rewards, torch.zeros_like(rewards), batch.mask, lam=1.0)  # rewards to go
        advantages = returns - others_mean(returns, config.answers)
    else:
        advantages = gae(rewards, batch.values, batch.mask, lam=config.lam)
        returns = advantages + batch.values
    return standardize(advantages, batch.mask), returns


def others_mean(x: Tensor, answers: int) -> Tensor:
    """Average over the other answers to the same prompt, column by column. Shapes: (B, R), (B, R).

    A baseline that costs no bias, as the other answers do not depend on this one (Kool et al. 2019,
    Ahmadian et al. 2024).
    """
    groups = x.view(-1, answers, x.shape[-1])  # (P, G, R)
    return ((groups.sum(1, keepdim=True) - groups) / (answers - 1)).view_as(x)


def losses(
    policy: Policy, batch: Rollout, advantages: Tensor, returns: Tensor, task: Task,
    config: PPOConfig,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Replay the responses under the policy as it is now; return the loss and its statistics.

    advantages, returns (B, R). All are means over the tokens that count, scalars.
    """
    now, mask = sampling.replay(policy, batch, task.temperature), batch.mask
    pg = policy_loss(now.logprobs, batch.logprobs, advantages, mask, config.cliprange)
    vf = value_loss(now.values, batch.values, returns, mask, config.cliprange)
    log_ratio = (now.logprobs - batch.logprobs).detach()
    clipped = (log_ratio.exp() - 1).abs().gt(config.cliprange)
    return pg + config.value_coef * vf, {
        "policy_loss": pg.detach(),
        "value_loss": vf.detach(),
        "approx_kl_nats_per_token": 0.5 * masked_mean(log_ratio**2, mask),
        "clip_fraction": masked_mean(clipped.float(), mask),
    }


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> Tensor:
    """Average PPO's clipped loss over tokens: the larger of -A r and -A clip(r).

    All (B, R); returns a scalar.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    return masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange: float
) -> Tensor:
    """Average half the squared error of the values, the larger of plain and clipped to the old.

    All (B, R); returns a scalar.
    """
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def summarize(
    rollout: Rollout, scores: Tensor, reference_logprobs: Tensor, beta: float
) -> dict[str, float]:
    """Sum up the answers of one step: score, KL and entropy per response, diversity."""
    scores = per_response(scores)
    kl = torch.where(rollout.mask, kl_k1(rollout.logprobs, reference_logprobs), 0).sum(-1).mean()
    surprise = torch.where(rollout.mask, -rollout.logprobs, 0).sum(-1).mean()
    return {
        "score": scores.mean().item(),
        "score_std": scores.std().item(),
        "kl_nats_per_response": kl.item(),
        "beta": beta,
        "score_minus_kl_penalty": scores.mean().item() - beta * kl.item(),
        "entropy_nats_per_response": surprise.item(),
        "distinct_bigrams": distinct_bigrams(rollout.responses, rollout.mask).item(),
    }


@dataclass
class KLController:
    """Steer beta so that the KL from the reference settles at a target (paper, section 2.2).

    e = clip(KL / target - 1, -0.2, 0.2); beta <- beta (1 + e n / horizon) after a batch of n
    episodes, as in the released code. Without a target, beta is fixed.
    """

    beta: float
    target: float | None
    horizon: int

    def update(self, kl: float, episodes: int) -> None:
        """Move beta after a batch of `episodes` responses with a mean KL of `kl` nats."""
        if self.target is not None:
            error = max(-0.2, min(0.2, kl / self.target - 1))
            self.beta *= 1 + error * episodes / self.horizon


# ---- the loop around it --------------------------------------------------------------------------


def tune(
    policy: Policy, score: Score, pool: Queries, task: Task, config: PPOConfig, run: Run, *,
    reference: Policy | None = None, before_step: Callable[[int], None] | None = None,
    scored_by: str | dict[str, Any] = "", kl_limit: float = 100.0, min_entropy: float = 0.05,
    algorithm: Callable[..., dict[str, float]] = step,
) -> list[dict[str, float]]:  # fmt: skip
    """Fine-tune `policy` in place on prompts from `pool`; return one summary per step.

    `score` is any function from a rollout to (B,) numbers, or to (B, R) that add up to them:
    `reward.scorer(model, task)`, or `reward.from_texts(function, ...)`. The reference is the policy
    as it comes in, unless given. A run that was stopped goes on from its last checkpoint and ends
    as if it had not been; with another policy, pool, config or reward (`scored_by`: its name or
    settings) it is refused.
    `before_step` is called with the number of each step about to be done; `algorithm` is another
    step (`alternatives.rloo_step`). Raises FloatingPointError on numbers that are not finite,
    `guards.Collapsed` if the KL passes `kl_limit` or the entropy falls below `min_entropy` nats.
    """
    if policy.tokenizer is not None and hasattr(score, "tokenizer"):
        models.check_pair(policy, score.tokenizer)
    drawn = {"prompts": len(pool), "prompts_digest": digest(pool.tokens, pool.mask)}
    about = {"ppo": config, "task": task, **drawn, "model": models.fingerprint(policy)}
    other = {} if algorithm is step else {"algorithm": algorithm.__name__}
    run.record_settings(**about, **other, reward_model=scored_by or getattr(score, "name", ""))
    reference = reference or policy.frozen_copy()
    optimizer = adam(policy.parameters(), config.lr, config.tensorflow_adam)
    controller = KLController(config.kl_coef, config.kl_target, config.kl_horizon)
    start = run.restore(policy, optimizer, controller)
    for i in run.progress(start, config.steps, "PPO"):
        for group in optimizer.param_groups:
            group["lr"] = lr = config.lr * (1 - i / config.steps)
        if before_step is not None:
            before_step(i)
        prompts = config.batch // config.answers
        rows = run.batch_indices(len(pool), prompts, i)[run.ranks.local_rows(prompts)]
        with detecting_lost_ranks():
            summary = algorithm(
                policy, reference, score, pool[rows].to(policy.device), task, config,
                optimizer, controller, run.generator, run.ranks,
            )  # fmt: skip
        guards.alive(i, summary, kl_limit, min_entropy)
        guards.varied(run, i, summary)
        run.log(i, summary | {"episodes": (i + 1) * config.batch, "lr": lr})
        if run.checkpoint_due(i, config.steps):
            run.save(i + 1, policy, optimizer, controller)
    return run.metrics()
