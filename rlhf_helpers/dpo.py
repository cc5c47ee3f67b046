"""DPO: from labels to a policy, without a reward model and without sampling.

encode           labelled comparisons as prompts and answers
option_logprobs  how likely each whole option is
dpo_loss         the reward model's loss, with beta log(pi / rho) in the place of the reward
fit              the loop

Source: Rafailov et al. 2023 (arXiv 2305.18290). K options where they have two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_helpers import models, sampling, tasks
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Comparison, Label, Rollout, digest
from rlhf_helpers.reward import choice_loss
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.optim import adam
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task


@dataclass(frozen=True)
class DPOConfig:
    """Settings of DPO. In brackets: the values of Rafailov et al. 2023."""

    batch: int = 16  # comparisons per step [64 pairs]
    epochs: int = 1  # passes over the labels [1]
    lr: float = 1e-4  # Adam, falls linearly to 0 [1e-6, for billions of parameters]
    beta: float = 0.1  # how dear a nat is; the implicit reward is beta log(pi / rho) [0.1]
    max_grad_norm: float | None = None  # clip gradients to this norm; None does not clip [None]

    def __post_init__(self) -> None:
        guards.reward_config(self)
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")


def dpo_loss(logprobs: Tensor, reference_logprobs: Tensor, choices: Tensor, beta: float) -> Tensor:
    """Average -log softmax(beta log(pi / rho))[choice]: the reward model's loss, with the policy in
    its place.

    logprobs, reference_logprobs (B, K) of whole answers; choices (B,). A policy that still is its
    reference scores ln K.
    """
    return choice_loss(beta * (logprobs - reference_logprobs), choices)


@dataclass(frozen=True)
class Options:
    """Labelled comparisons as a policy reads them: B = N K rows, K side by side; choices (N,)."""

    rollout: Rollout
    choices: Tensor

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, rows: Tensor) -> Options:
        k = self.rollout.answers
        along = (rows.unsqueeze(1) * k + torch.arange(k, device=rows.device)).flatten()
        return Options(self.rollout[along], self.choices[rows])


def encode(
    task: Task, comparisons: Sequence[Comparison], labels: Sequence[Label], policy: Policy
) -> Options:
    """Turn labelled comparisons into prompts and answers; raises as `reward.encode` does."""
    rows = guards.labelled_rows(task, comparisons, labels)
    tokenizer, k = policy.tokenizer, len(rows[0][0].options)
    asked = [tasks.text_ids(tokenizer, c.query) for c, _ in rows]
    answers = [tasks.text_ids(tokenizer, option) for c, _ in rows for option in c.options]
    width = max(map(len, answers))
    responses = torch.full((len(answers), width), tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros(responses.shape, dtype=torch.bool)
    for i, answer in enumerate(answers):
        responses[i, : len(answer)] = torch.tensor(answer, dtype=torch.long)
        mask[i, : len(answer)] = True
    queries = tasks.pad_queries(task, asked, tokenizer).repeat(k)
    nothing = torch.zeros(responses.shape)
    rollout = Rollout(queries, responses, mask, nothing, nothing, k)
    return Options(rollout, torch.tensor([choice for _, choice in rows]))


def option_logprobs(policy: Policy, data: Options, task: Task, micro_batch: int = 128) -> Tensor:
    """Compute the log-probability of every whole option: (N, K), with gradients unless they are
    switched off."""
    rollout = data.rollout.to(policy.device)
    found = sampling.replay(policy, rollout, task.temperature, micro_batch).logprobs
    return torch.where(rollout.mask, found, 0).sum(-1).view(len(data), -1)


def fit(
    policy: Policy, data: Options, task: Task, config: DPOConfig, run: Run, *,
    reference: Policy | None = None,
) -> list[dict[str, float]]:  # fmt: skip
    """Fit `policy` in place to labels; return one line per step.

    The reference is the policy as it comes in, unless given. A stopped run goes on as in
    `reward.fit`. Raises FloatingPointError on a loss or gradient that is not finite.
    """
    labels = {"labels": len(data), "labels_digest": digest(data.rollout.responses, data.choices)}
    run.record_settings(dpo=config, task=task, **labels, model=models.fingerprint(policy))
    with torch.no_grad():
        before = option_logprobs(reference or policy, data, task).cpu()  # (N, K)
    size = min(config.batch, len(data))
    steps = -(-len(data) * config.epochs // size)
    optimizer = adam(policy.parameters(), config.lr, True)
    for i in run.progress(run.restore(policy, optimizer), steps, "DPO"):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - i / steps)
        rows = run.batch_indices(len(data), size, i)
        optimizer.zero_grad()
        totals = torch.zeros(2, device=policy.device)  # loss and accuracy
        for part in run.ranks.micro_batches(size):
            batch = data[rows[part]]
            choices, old = batch.choices.to(policy.device), before[rows[part]].to(policy.device)
            logprobs = option_logprobs(policy, batch, task)
            weight = len(choices) / size
            loss = dpo_loss(logprobs, old, choices, config.beta) * weight
            loss.backward()
            right = ((logprobs - old).argmax(-1) == choices).float().mean() * weight
            totals += torch.stack([loss.detach(), right])
        total, right = run.ranks.all_reduce(totals)
        guards.finite(f"the loss of DPO at step {i}", total)
        run.ranks.update(policy, optimizer, config.max_grad_norm)
        run.log(i, {"loss": total.item(), "accuracy": right.item()})
        if run.checkpoint_due(i, steps):
            run.save(i + 1, policy, optimizer)
    return run.metrics()
