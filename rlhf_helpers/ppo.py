"""PPO as in the paper. Read `step` first: it is the whole algorithm; everything it calls stands
above it.

Source: Ziegler et al. 2019, section 2.2 and appendix, and the released code (train_policy.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_helpers import models, sampling
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries, Rollout, digest
from rlhf_helpers.runtime.optim import PyTorchAdam, TensorFlowAdam
from rlhf_helpers.runtime.ranks import ALONE, Ranks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import explained_variance, gae, kl_k1, masked_mean, rescale, standardize

Score = Callable[[Rollout], Tensor]  # (B,) one number per response, higher is better


@dataclass(frozen=True)
class PPOConfig:
    """The knobs of PPO. In brackets: the paper's value for the style tasks (released code)."""

    episodes: int = 10_000  # responses sampled in all [1,000,000]
    batch: int = 64  # responses per step [512]
    # per epoch [1]; a short run needs many updates; whitening is per minibatch
    minibatches: int = 2
    epochs: int = 4  # passes over each batch [4]
    lr: float = 1e-4  # Adam, falls to 0 in a straight line [1e-5, for 124M parameters]
    kl_coef: float = 0.25  # beta at the start, reward per nat of KL [0.15]
    # nats per response; None keeps beta fixed [6; printed for sentiment: 10]
    kl_target: float | None = 9.0
    kl_horizon: int = 1_250  # episodes in which the controller may move beta by about 20 % [10,000]
    cliprange: float = 0.2  # of the probability ratio and of the value [0.2]
    value_coef: float = 0.1  # weight of the value loss [0.1]
    # GAE; gamma is 1 [0.95]; a short run has no values yet that could say which early token earned
    # the score
    lam: float = 1.0
    whiten_rewards: bool = False  # rescale rewards without moving their mean [on]
    # eps where TensorFlow has it, so that the first steps are short; False: where PyTorch has it
    # [on]
    tensorflow_adam: bool = True
    # gradients longer than this are shortened to it; None leaves all as they are [None]
    max_grad_norm: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.kl_coef):
            raise ValueError(f"kl_coef is {self.kl_coef:g}: it must be a number")
        for name in ("lr", "cliprange", "value_coef", "lam"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}: it must be a number, 0 or more"
                )
        if self.minibatches < 1:
            raise ValueError(
                f"{self.minibatches} minibatches cannot be: give 1 to take the batch whole"
            )
        if self.batch % self.minibatches or self.batch // self.minibatches < 8:
            raise ValueError(
                f"a batch of {self.batch} in {self.minibatches} minibatches leaves "
                f"{self.batch // self.minibatches} rows each: "
                "whitening needs at least 8, and they must be equal; raise `batch` or lower "
                "`minibatches`"
            )
        if self.episodes < self.batch:
            raise ValueError(
                f"{self.episodes} episodes are less than one batch of {self.batch}: raise "
                "`episodes`"
            )
        if self.epochs < 1:
            raise ValueError(
                f"{self.epochs} epochs leave the policy as it is: there must be 1 or more"
            )
        if self.kl_target is not None and not self.kl_target > 0:
            raise ValueError(
                f"a KL target of {self.kl_target:g} nats cannot be steered to: give more than 0, "
                "or None for a fixed kl_coef"
            )
        if self.kl_target is not None and 0.2 * self.batch >= self.kl_horizon:
            raise ValueError(
                f"with a horizon of {self.kl_horizon} episodes, one batch of {self.batch} could "
                "turn beta negative: "
                f"raise `kl_horizon` over {0.2 * self.batch:g}"
            )

    @property
    def steps(self) -> int:
        return self.episodes // self.batch


@dataclass
class KLController:
    """Steer beta so that the KL from the reference settles at a target (paper, section 2.2;
    released code's horizon).

    e = clip(KL / target - 1, -0.2, 0.2); beta <- beta (1 + e n / horizon) after a batch of n
    episodes.
    """

    beta: float
    target: float | None
    horizon: int

    def update(self, kl: float, episodes: int) -> None:
        if self.target is not None:
            error = max(-0.2, min(0.2, kl / self.target - 1))
            self.beta *= 1 + error * episodes / self.horizon


def shape_rewards(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """Spread the reward over tokens: -beta log(pi / rho) on each, plus the score on the last
    (equation 2).

    scores (B,); the others (B, R); returns (B, R).
    """
    rewards = torch.where(mask, -beta * kl_k1(logprobs, reference_logprobs), 0)
    # (B,) column of the last token that counts
    last = mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)
    return rewards.scatter_add(1, last.unsqueeze(1), scores.unsqueeze(1))


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> Tensor:
    """PPO's clipped loss: the worse of -A r and -A clip(r), averaged over tokens. All (B, R);
    returns a scalar."""
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    return masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange: float
) -> Tensor:
    """Half the squared error of the values, the worse of plain and clipped to old +- cliprange. All
    (B, R); returns a scalar."""
    clipped = old_values + (values - old_values).clamp(-cliprange, cliprange)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask)


def minibatches(config: PPOConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield row numbers: each epoch a fresh permutation of the batch, cut into equal
    minibatches."""
    for _ in range(config.epochs):
        yield from torch.randperm(config.batch, generator=generator, device=generator.device).chunk(
            config.minibatches
        )


def losses(
    policy: Policy, batch: Rollout, rewards: Tensor, task: Task, config: PPOConfig,
    part: slice = slice(None)
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Compute PPO's loss on one minibatch: rescale, GAE, returns, standardize, replay, two clipped
    losses.

    With `part`, the share that these rows have in it: losses and statistics of parts add up to
    those of the whole minibatch.
    """
    if config.whiten_rewards:
        rewards = rescale(rewards, batch.mask)
    advantages = gae(rewards, batch.values, batch.mask, lam=config.lam)
    # before whitening, or the value head learns a scale that is not the rewards'
    returns = advantages + batch.values
    advantages = standardize(advantages, batch.mask)
    explained, share = (
        explained_variance(batch.values, returns, batch.mask),
        batch.mask[part].sum() / batch.mask.sum(),
    )
    batch, advantages, returns = batch[part], advantages[part], returns[part]
    now = sampling.replay(policy, batch, task.temperature)
    pg = policy_loss(now.logprobs, batch.logprobs, advantages, batch.mask, config.cliprange)
    vf = value_loss(now.values, batch.values, returns, batch.mask, config.cliprange)
    ratio = (now.logprobs - batch.logprobs).detach()
    stats = {
        "policy_loss": pg.detach(),
        "value_loss": vf.detach(),
        "approx_kl_nats_per_token": 0.5 * masked_mean(ratio**2, batch.mask),
        "clip_fraction": masked_mean(
            (ratio.exp() - 1).abs().gt(config.cliprange).float(), batch.mask
        ),
        "value_explained_variance": explained,
    }
    return share * (pg + config.value_coef * vf), {
        name: share * value for name, value in stats.items()
    }


def step(
    policy: Policy, reference: Policy, score: Score, queries: Queries, task: Task,
    config: PPOConfig, optimizer: torch.optim.Optimizer, controller: KLController,
    generator: torch.Generator, ranks: Ranks = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Do one step of PPO: answer, score, shape the rewards, then a few epochs of clipped
    improvement.

    queries (batch, Q), this rank's share of it if there are several `ranks`. Returns a summary;
    units in the names. Raises FloatingPointError on a score, loss or gradient that is not a number.
    """
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, generator, ranks.micro_batch
    )
    scores = check_shape(score(rollout), rollout)  # (B,)
    with torch.no_grad():
        # (B, R)
        reference_logprobs = sampling.replay(
            reference, rollout, task.temperature, ranks.micro_batch
        ).logprobs
    rollout, scores, reference_logprobs = (
        ranks.gather(x) for x in (rollout, scores, reference_logprobs)
    )
    check_finite("score", scores)
    rewards = shape_rewards(
        scores, rollout.logprobs, reference_logprobs, rollout.mask, controller.beta
    )

    history = []
    for rows in minibatches(config, generator):
        rows = ranks.agree(rows)
        optimizer.zero_grad()
        for part in ranks.parts(len(rows)):
            loss, stats = losses(policy, rollout[rows], rewards[rows], task, config, part)
            check_finite("loss", loss).backward()
            history.append(stats)
        ranks.add_gradients(policy)
        check_finite("gradient", ranks.clip_gradients(policy, config.max_grad_norm))
        optimizer.step()

    kl = ranks.agree(
        torch.where(rollout.mask, kl_k1(rollout.logprobs, reference_logprobs), 0).sum(-1).mean()
    ).item()
    summary = {
        "score": scores.mean().item(),
        "score_std": scores.std().item(),
        "kl_nats_per_response": kl,
        "beta": controller.beta,
    }
    summary["score_minus_kl_penalty"] = summary["score"] - controller.beta * kl
    summary["entropy_nats_per_response"] = (
        -torch.where(rollout.mask, rollout.logprobs, 0).sum(-1).mean().item()
    )
    updates = config.epochs * config.minibatches
    summary |= {
        name: ranks.add(torch.stack([h[name] for h in history]).sum()).item() / updates
        for name in history[0]
    }
    controller.update(kl, config.batch)
    return summary


def tune(
    policy: Policy, score: Score, pool: Queries, task: Task, config: PPOConfig, run: Run, *,
    reference: Policy | None = None, before_step: Callable[[int], None] | None = None,
    scored_by: str = "", kl_limit: float = 100.0, least_entropy: float = 0.05,
) -> list[dict[str, float]]:  # fmt: skip
    """Fine-tune `policy` in place on prompts from `pool`, and return one summary per step (also in
    the run's metrics file).

    The reference is the policy as it comes in, unless given. A run that was stopped goes on from
    its last checkpoint and ends as if it had not been. Raises FloatingPointError on numbers that
    are not finite, RuntimeError when the KL passes `kl_limit` nats or the entropy of a response
    falls under `least_entropy` nats; the last checkpoint stays. `before_step` is called with the
    number of each step about to be done (online training changes the score there). `scored_by` says
    which model `score` asks: going on with another is refused, as with another policy, other
    prompts or settings.
    """
    texts = {"prompts": len(pool), "prompts_digest": digest(pool.tokens, pool.mask)}
    about = {
        "ppo": config,
        "task": task,
        **texts,
        "model": models.outline(policy),
        "reward_model": scored_by,
    }
    run.ranks.check_same("settings and model", (run.seed, about))
    run.describe(**about)
    reference = reference or policy.frozen_copy()
    adam = TensorFlowAdam if config.tensorflow_adam else PyTorchAdam
    optimizer = adam(policy.parameters(), lr=config.lr)
    controller = KLController(config.kl_coef, config.kl_target, config.kl_horizon)
    start = run.restore(policy, optimizer, controller)
    for i in run.progress(start, config.steps, "PPO"):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - i / config.steps)
        if before_step is not None:
            before_step(i)
        queries = pool[run.rows(len(pool), config.batch, i)][run.ranks.share(config.batch)].to(
            policy.device
        )
        with run.ranks.company():
            summary = step(
                policy, reference, score, queries, task, config,
                optimizer, controller, run.generator, run.ranks,
            )  # fmt: skip
        check_alive(i, summary, config, kl_limit, least_entropy, run)
        run.log(
            i,
            summary
            | {"episodes": (i + 1) * config.batch, "lr": config.lr * (1 - i / config.steps)},
        )
        if run.is_checkpoint(i, config.steps):
            run.save(i + 1, policy, optimizer, controller)
    return run.metrics()


def check_alive(
    step: int,
    summary: dict[str, float],
    config: PPOConfig,
    kl_limit: float,
    least_entropy: float,
    run: Run,
) -> None:
    """Raise RuntimeError, with the way out, if the policy has left the language it came from or
    says one thing only."""
    kl, entropy = summary["kl_nats_per_response"], summary["entropy_nats_per_response"]
    kept = (
        f"the last checkpoint in {run.folder} is from before this step"
        if run.folder
        else "nothing was kept, as the run has no folder"
    )
    way_out = (
        f"Lower the learning rate ({config.lr:g}) or raise kl_coef ({config.kl_coef:g}); {kept}"
    )
    if kl > kl_limit:
        raise RuntimeError(
            f"step {step}: the KL from the reference is {kl:.0f} nats, over the limit of "
            f"{kl_limit:.0f}: "
            f"the policy has left the language it came from. {way_out}"
        )
    if entropy < least_entropy:
        raise RuntimeError(
            f"step {step}: the policy has collapsed, its responses hold {entropy:.3f} nats of "
            f"entropy (under {least_entropy:g}): "
            f"it says the same to everything. {way_out}"
        )


def check_shape(scores: Tensor, rollout: Rollout) -> Tensor:
    """Return the scores, or raise ValueError unless there is one for each response."""
    if scores.shape != (len(rollout),):
        raise ValueError(
            f"the scorer gave numbers of shape {tuple(scores.shape)} for {len(rollout)} responses: "
            "it must give one for each"
        )
    return scores


def check_finite(name: str, values: Tensor) -> Tensor:
    """Return `values`, or raise FloatingPointError that says what was not finite and what to
    try."""
    if not bool(torch.isfinite(values).all()):
        bad = values[~torch.isfinite(values)].flatten()[0].item()
        raise FloatingPointError(
            f"{name} is {bad}: training stopped before it could spoil the policy. Look at the "
            "reward model's scores first, then lower the "
            "learning rate; the last checkpoint, if there is one, is intact"
        )
    return values
