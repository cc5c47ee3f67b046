"""Supervised fine-tuning: the policy learns to write what people wrote.

encode    prompts and the texts that should follow them, as tokens
text_loss cross-entropy of those texts, prompts and pads left out
fit       the loop

The paper's supervised baseline for summaries: trained on the references of the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_helpers import models, sampling, tasks
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Rollout, digest
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.optim import adam
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import masked_mean


@dataclass(frozen=True)
class SupervisedConfig:
    """Settings of supervised fine-tuning, for the bundled model."""

    batch: int = 32  # texts per step
    epochs: int = 1  # passes over the texts
    lr: float = 2e-4  # Adam, falls linearly to 0
    max_grad_norm: float | None = 1.0  # clip gradients to this norm; None does not clip

    def __post_init__(self) -> None:
        guards.reward_config(self)


def encode(task: Task, prompts: Sequence[str], answers: Sequence[str], policy: Policy) -> Rollout:
    """Turn prompts and the answers wanted into a rollout of B rows, each answer with its end token.

    Prompts are cut as the task says; where one gives no prompt, or the two together do not fit the
    model's context, its row is left out, and said. Raises ValueError unless there are as many
    answers as prompts, or if no row is left.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts and {len(answers)} answers: give pairs")
    tokenizer, rows = policy.tokenizer, []
    end = [tokenizer.eos_token_id] if getattr(tokenizer, "eos_token_id", None) is not None else []
    around = len(tasks.first_ids(tokenizer)) + sum(
        len(tasks.plain_ids(tokenizer, text)) for text in (task.prefix, task.suffix)
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        asked = tasks.prompt_ids(task, prompt, tokenizer)
        wanted = tasks.text_ids(tokenizer, answer) + end
        room = policy.context is None or around + len(asked or []) + len(wanted) <= policy.context
        rows += [(asked, wanted)] if asked and room else []
    if left_out := len(prompts) - len(rows):
        print(f"{left_out} of {len(prompts)} texts are left out: no prompt, or too long.")
    if not rows:
        raise ValueError("there is no text to learn from: are prompts cut to nothing?")
    width = max(len(wanted) for _, wanted in rows)
    responses = torch.full((len(rows), width), tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros(responses.shape, dtype=torch.bool)
    for i, (_, wanted) in enumerate(rows):
        responses[i, : len(wanted)] = torch.tensor(wanted)
        mask[i, : len(wanted)] = True
    queries = tasks.pad_queries(task, [asked for asked, _ in rows], tokenizer)
    nothing = torch.zeros(responses.shape)
    return Rollout(queries, responses, mask, nothing, nothing)


def text_loss(policy: Policy, batch: Rollout) -> Tensor:
    """Average -log pi(token) over the tokens of the answers, at temperature 1; a scalar in nats."""
    return -masked_mean(sampling.replay(policy, batch).logprobs, batch.mask)


def fit(
    policy: Policy, data: Rollout, task: Task, config: SupervisedConfig, run: Run
) -> list[dict[str, float]]:
    """Fit `policy` in place to answers; return one line per step.

    Each pass takes them in a fresh random order; the learning rate falls linearly to 0. A stopped
    run goes on as in `reward.fit`. Raises FloatingPointError on a loss or gradient that is not
    finite.
    """
    texts = {"texts": len(data), "texts_digest": digest(data.responses, data.queries.tokens)}
    run.record_settings(supervised=config, task=task, **texts, model=models.fingerprint(policy))
    size = min(config.batch, len(data))
    steps = -(-len(data) * config.epochs // size)
    optimizer = adam(policy.parameters(), config.lr, True)
    for i in run.progress(run.restore(policy, optimizer), steps, "supervised"):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - i / steps)
        batch = data[run.batch_indices(len(data), size, i)].to(policy.device)
        optimizer.zero_grad()
        total = torch.zeros((), device=policy.device)
        for part in run.ranks.micro_batches(size):
            weight = batch.mask[part].sum() / batch.mask.sum()  # parts add up to the batch
            loss = weight * text_loss(policy, batch[part])
            loss.backward()
            total += loss.detach()
        total = run.ranks.all_reduce(total)
        guards.finite(f"the loss of supervised fine-tuning at step {i}", total)
        run.ranks.update(policy, optimizer, config.max_grad_norm)
        run.log(i, {"loss_nats_per_token": total.item()})
        if run.checkpoint_due(i, steps):
            run.save(i + 1, policy, optimizer)
    return run.metrics()
