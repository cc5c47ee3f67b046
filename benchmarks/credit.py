"""How much score does a first step of PPO gain, for which lambda and which values? Prints a table
(about three minutes on one core).

Half of the batches give a gradient g for each way of computing advantages, divided by its own root
mean square as Adam does. The other half give the gradient h of the true objective (lambda 1, so
that no value can bias it). A step along g of a given length in nats (by the diagonal of the Fisher
matrix) gains score in proportion to <g, h> / |g|. Printed is the mean of that over batches, as a
share of what lambda 1 gains with values 0, and the standard error of the difference from it, batch
by batch.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from rlhf_helpers import models, reward, sampling, tasks
from rlhf_helpers.course.profile import RECORDED
from rlhf_helpers.records import Rollout
from rlhf_helpers.tensors import gae, masked_mean, standardize

LAMBDAS = (0.9, 0.95, 0.98, 1.0)


def gradient(
    policy: models.Policy, rollout: Rollout, scores: Tensor, values: Tensor, lam: float
) -> Tensor:
    """Take the gradient of the unclipped objective at the policy that sampled. scores (B,), values
    (B, R); returns (weights,)."""
    rewards = torch.zeros_like(values)
    rewards[:, -1] = scores
    advantages = standardize(gae(rewards, values, rollout.mask, lam=lam), rollout.mask)
    logprobs = sampling.replay(policy, rollout, tasks.SENTIMENT.temperature).logprobs
    weights = [w for w in policy.lm.parameters() if w.requires_grad]
    return torch.cat(
        [
            g.flatten()
            for g in torch.autograd.grad(masked_mean(advantages * logprobs, rollout.mask), weights)
        ]
    )


def gains(steps: Tensor, truth: Tensor) -> Tensor:
    """Return the gain of each row of `steps` (batches, weights) along `truth` (weights,)."""
    # Adam's, with its epsilon; its square is the Fisher matrix's diagonal
    scale = steps.square().mean(0).sqrt().clamp(min=1e-5)
    return (steps / scale @ truth) / steps.norm(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64)
    args = parser.parse_args()
    policy, tokenizer, task = models.Policy.load(), models.load_tokenizer(), tasks.SENTIMENT
    model = models.RewardModel.load(RECORDED / "reward_sentiment")
    pool = tasks.queries(task, tokenizer, args.batches * args.rows, seed=0)
    batches = []
    for i in range(args.batches):
        queries = pool[slice(i * args.rows, (i + 1) * args.rows)]
        rollout = sampling.sample(
            policy,
            queries,
            task.response_length,
            task.temperature,
            torch.Generator().manual_seed(i),
        )
        with torch.no_grad():
            tokens = torch.cat([queries.tokens, rollout.responses[:, :-1]], 1)
            mask = torch.cat([queries.mask, rollout.mask[:, :-1]], 1)
            hidden = model.run_trunk(model.classifier, tokens, mask)
            columns = torch.arange(tokens.shape[1] - task.response_length, tokens.shape[1]).expand(
                args.rows, -1
            )
            batches.append(
                (
                    rollout,
                    reward.score(model, rollout, task),
                    model.read(hidden, columns),
                )
            )
    half = args.batches // 2
    truth = torch.stack([gradient(policy, *batch, 1.0) for batch in batches[half:]]).mean(0)
    truth /= truth.norm()
    found = {}
    for name, known in (
        ("0, as at the start of a run", False),
        ("the reward model's, of the unfinished text", True),
    ):
        for lam in LAMBDAS:
            steps = [
                gradient(policy, r, s, v if known else torch.zeros_like(v), lam)
                for r, s, v in batches[:half]
            ]
            found.setdefault(name, []).append(gains(torch.stack(steps), truth))
    unit = found["0, as at the start of a run"][-1]
    print(
        f"| values | {' | '.join(f'lambda {lam:g}' for lam in LAMBDAS)} "
        f"|\n|{'---|' * (len(LAMBDAS) + 1)}"
    )
    for name, row in found.items():
        cells = [
            f"{g.mean() / unit.mean():.2f} ± {(g - unit).std() / len(g) ** 0.5 / unit.mean():.2f}"
            for g in row
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
