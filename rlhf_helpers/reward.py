"""The reward model learns what people chose (paper, section 2.1).

fit         softmax cross-entropy over the rewards of K options, against the choice
normalize   gain and bias, so that responses of the reference have mean 0 and deviation 1
score       what PPO maximises: the reward of the truncated response, or the penalty
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from rlhf_helpers import models, sampling, tasks
from rlhf_helpers.models import Policy, RewardModel, positions
from rlhf_helpers.records import Comparison, Label, Queries, Rollout, digest
from rlhf_helpers.runtime import pretrained
from rlhf_helpers.runtime.optim import PyTorchAdam, TensorFlowAdam
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task


@dataclass(frozen=True)
class RewardConfig:
    """The knobs of the reward fit. In brackets: the paper's value for the style tasks (released
    code)."""

    batch: int = 8  # comparisons per step [32; 8 as printed]
    # passes over the labels [1]; a small model needs more steps than 5,000 labels give in one
    epochs: int = 2
    lr: float = 2.5e-4  # Adam, falls to 0 in a straight line [5e-5, for 124M parameters]
    # eps where TensorFlow has it, so that the first steps are short; False: where PyTorch has it
    # [on]
    tensorflow_adam: bool = True
    # gradients longer than this are shortened to it; None leaves all as they are [None]
    max_grad_norm: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf:
            raise ValueError(f"lr is {self.lr:g}: it must be a number, 0 or more")
        if self.batch < 1 or self.epochs < 1:
            raise ValueError(
                f"batches of {self.batch} in {self.epochs} epochs teach a reward model nothing: "
                "both must be 1 or more"
            )


@dataclass(frozen=True)
class Encoded:
    """Comparisons as tokens: tokens, mask (B, K, Q + R), the query in the first Q columns, an
    answer in the rest; choices (B,)."""

    tokens: Tensor
    mask: Tensor
    choices: Tensor
    query_columns: int

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, rows: Tensor | slice) -> Encoded:
        return Encoded(self.tokens[rows], self.mask[rows], self.choices[rows], self.query_columns)


def encode(
    task: Task,
    comparisons: Sequence[Comparison],
    labels: Sequence[Label],
    tokenizer: PreTrainedTokenizerBase,
) -> Encoded:
    """Turn labelled comparisons into tokens; one row per LABEL, so that a comparison labelled by
    three people counts three times.

    Raises ValueError, naming the fault, on no labels, a label of an unknown comparison, a choice
    out of range, another task, or options of unequal number.
    """
    if not labels:
        raise ValueError(
            "there are no labels yet: label some comparisons first (notebook 02), or use the "
            "recorded ones in data/recorded"
        )
    known = {c.id: c for c in comparisons}
    rows: list[tuple[Comparison, int]] = []
    for label in labels:
        comparison = known.get(label.comparison_id)
        if comparison is None:
            raise ValueError(
                f"label of {label.labeler!r}: comparison {label.comparison_id} is not among the "
                f"{len(known)} given; another file's labels?"
            )
        if comparison.task != task.name:
            raise ValueError(
                f"comparison {comparison.id} belongs to the task {comparison.task!r}, not "
                f"{task.name!r}: choose the matching label file"
            )
        if label.choice >= len(comparison.options):
            raise ValueError(
                f"label of {label.labeler!r} on {comparison.id}: choice {label.choice}, but there "
                f"are {len(comparison.options)} options"
            )
        rows.append((comparison, label.choice))
    if len(counts := {len(c.options) for c, _ in rows}) > 1:
        raise ValueError(
            f"comparisons with {sorted(counts)} options are mixed: fit them apart, or turn all "
            "into pairs"
        )
    first = tasks.first_ids(tokenizer)
    queries = [
        first + ids
        for ids in tokenizer([c.query for c, _ in rows], add_special_tokens=False)["input_ids"]
    ]
    answers = [tokenizer(list(c.options), add_special_tokens=False)["input_ids"] for c, _ in rows]
    left, right = max(map(len, queries)), max(len(a) for options in answers for a in options)
    shape = (len(rows), counts.pop(), left + right)
    tokens = torch.full(shape, tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.bool)
    for b, (query, options) in enumerate(zip(queries, answers, strict=True)):
        for k, answer in enumerate(options):
            tokens[b, k, left - len(query) : left + len(answer)] = torch.tensor(query + answer)
            mask[b, k, left - len(query) : left + len(answer)] = True
    return Encoded(tokens, mask, torch.tensor([choice for _, choice in rows]), left)


class Packed(NamedTuple):
    """A query and its K answers in one row of T = Q + K R columns: tokens, places (B, T); sees (B,
    1, T, T) bool; last (B, K)."""

    tokens: Tensor
    sees: Tensor
    places: Tensor
    last: Tensor


def pack(batch: Encoded) -> Packed:
    """Write each comparison into one row, so that the query they share is computed once.

    query | answer 0 | answer 1 | ...     An answer sees the query and itself, not its neighbours
    (`sees`), and its tokens keep the positions that they have right after the query (`places`);
    `last` is the column of each option's last real token.
    """
    (b, k, width), q = batch.tokens.shape, batch.query_columns

    def row(x: Tensor) -> Tensor:  # (B, K, Q + R) to (B, Q + K R)
        return torch.cat([x[:, 0, :q], x[:, :, q:].flatten(1)], dim=1)

    # (T,) 0: query; 1, 2, ...: answers
    part = torch.cat([torch.zeros(q), torch.arange(1.0, k + 1).repeat_interleave(width - q)])
    mine = ((part.unsqueeze(1) == part) | (part == 0)).tril()  # (T, T)
    # a pad sees itself: a softmax over nothing is not a number
    alone = torch.eye(len(part), dtype=torch.bool)
    sees = mine & row(batch.mask).unsqueeze(1) | alone  # (B, T, T)
    places = row(positions(batch.mask.flatten(0, 1)).view(b, k, width))
    last = width - 1 - batch.mask.flip(-1).long().argmax(-1)  # (B, K) in rows of their own
    # an empty answer ends where its query ends
    last = torch.where(last < q, last, last + torch.arange(k) * (width - q))
    return Packed(row(batch.tokens), sees.unsqueeze(1), places, last)


def option_rewards(model: RewardModel, batch: Encoded) -> Tensor:
    """Reward every option of every comparison: returns (B, K). In one row each, or in K rows where
    a model cannot be told who sees whom."""
    if model.takes_positions and pretrained.takes_any_mask(
        model.classifier, batch.tokens.shape[-1]
    ):
        tokens, sees, places, last = (x.to(model.device) for x in pack(batch))
        return model.read(model.run_trunk(model.classifier, tokens, sees, places=places), last)
    tokens, mask = (x.flatten(0, 1).to(model.device) for x in (batch.tokens, batch.mask))
    return model(tokens, mask).view(batch.tokens.shape[:2])


def check_length(model: RewardModel, mask: Tensor) -> None:
    """Raise ValueError if a text is longer than the model's context. mask (..., T)."""
    longest = int(mask.sum(-1).max())
    if model.context is not None and longest > model.context:
        raise ValueError(
            f"a text to be rewarded takes {longest} tokens but the model's context is "
            f"{model.context}: leave longer ones out, or choose a "
            "model with a longer context"
        )


def choice_loss(rewards: Tensor, choices: Tensor) -> Tensor:
    """-log softmax(rewards)[choice], averaged (paper, equation 1). rewards (B, K), choices (B,);
    chance is ln K."""
    return cross_entropy(rewards, choices)


def fit(
    model: RewardModel, data: Encoded, config: RewardConfig, run: Run
) -> list[dict[str, float]]:
    """Fit the reward model in place, a few passes in random orders, learning rate falling to 0;
    returns one line per step.

    Gain and bias stay as they are. The paper normalises before the fit, so that the softmax begins
    with rewards of deviation 1, and again after it, for PPO; so do `online.retrain` and the command
    line. Call `normalize` after this in any case.
    """
    check_length(model, data.mask)
    labels = {"labels": len(data), "labels_digest": digest(data.tokens, data.mask, data.choices)}
    about = {"reward": config, **labels, "model": models.outline(model)}
    run.ranks.check_same("settings, labels and model", (run.seed, about))
    run.describe(**about)
    steps = max(1, len(data) * config.epochs // config.batch)
    optimizer = (TensorFlowAdam if config.tensorflow_adam else PyTorchAdam)(
        model.parameters(), lr=config.lr
    )
    for i in run.progress(run.restore(model, optimizer), steps, "reward model"):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - i / steps)
        batch = data[run.rows(len(data), min(config.batch, len(data)), i)]
        optimizer.zero_grad()
        totals = torch.zeros(2, device=model.device)  # loss and accuracy
        for part in run.ranks.parts(len(batch)):
            rewards, choices = (
                option_rewards(model, batch[part]),
                batch.choices[part].to(model.device),
            )
            # its share: parts add up to the whole batch
            loss = choice_loss(rewards, choices) * (len(choices) / len(batch))
            loss.backward()
            totals += torch.stack(
                [loss.detach(), (rewards.argmax(-1) == choices).sum() / len(batch)]
            )
        total, right = run.ranks.add(totals).tolist()
        run.ranks.add_gradients(model)
        for name, number in (
            ("loss", total),
            ("gradient", run.ranks.clip_gradients(model, config.max_grad_norm).item()),
        ):
            if not math.isfinite(number):
                raise FloatingPointError(
                    f"step {i}: the reward model's {name} is {number}; lower the learning rate "
                    f"({config.lr:g})"
                )
        optimizer.step()
        run.log(i, {"loss": total, "accuracy": right})
        if run.is_checkpoint(i, steps):
            run.save(i + 1, model, optimizer)
    return run.metrics()


@torch.no_grad()
def predictions(model: RewardModel, data: Encoded, chunk: int = 128) -> Tensor:
    """Reward every option of held-out comparisons: (B, K), on the CPU."""
    check_length(model, data.mask)
    return torch.cat(
        [option_rewards(model, data[slice(i, i + chunk)]).cpu() for i in range(0, len(data), chunk)]
    )


def accuracy(rewards: Tensor, choices: Tensor) -> float:
    """Share of comparisons in which the chosen option has the highest reward. rewards (B, K),
    choices (B,)."""
    return (rewards.argmax(-1) == choices).float().mean().item()


@torch.no_grad()
def normalize(
    model: RewardModel, policy: Policy, queries: Queries, task: Task,
    tokenizer: PreTrainedTokenizerBase, *, seed: int = 0, micro_batch: int | None = None,
) -> None:  # fmt: skip
    """Set gain and bias so that whole responses of `policy` to `queries` score mean 0, standard
    deviation 1 (paper, section 2.1).

    Untruncated responses without the penalty, population standard deviation, as released;
    `micro_batch` rows run at a time. Raises ValueError if all score the same.
    """
    model.gain.fill_(1.0)
    model.bias.fill_(0.0)
    generator = torch.Generator(policy.device).manual_seed(seed)
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, generator, micro_batch or 128
    )
    raw = _raw_score(model, rollout, rollout.mask, task, tokenizer, micro_batch)
    std = raw.std(correction=0)
    if not std > 0:
        raise ValueError(
            f"the reward model gives {raw[0].item():.3g} to every text, so it cannot be "
            "normalised: was it trained?"
        )
    model.gain.fill_(1 / std)
    model.bias.fill_(-raw.mean() / std)


@torch.no_grad()
def score(
    model: RewardModel, rollout: Rollout, task: Task, tokenizer: PreTrainedTokenizerBase,
    micro_batch: int | None = None
) -> Tensor:  # fmt: skip
    """Score a rollout as PPO sees it: reward of query and truncated response, or the penalty where
    it never ends. Returns (B,).

    The penalty replaces the NORMALISED reward (paper, section 3.1.2). `micro_batch` rows run at a
    time (256 by default).
    """
    kept, finished = tasks.truncate(task, rollout.responses, tokenizer)
    rewards = _raw_score(model, rollout, kept & rollout.mask, task, tokenizer, micro_batch)
    return torch.where(finished, rewards, task.penalty)


def _raw_score(
    model: RewardModel,
    rollout: Rollout,
    kept: Tensor,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    micro_batch: int | None = None,
) -> Tensor:
    """Reward query and kept response; prefix, suffix and special tokens of the response are masked
    away, as if they were not there.

    `tasks.texts` drops special tokens too: a policy must not be scored for what no labeler sees.
    """
    models.check_pair(model, tokenizer)
    first = len(tasks.first_ids(tokenizer))
    before, after = (len(tasks.plain_ids(tokenizer, s)) for s in (task.prefix, task.suffix))
    mask = rollout.queries.mask
    place = mask.long().cumsum(-1)  # (B, Q) counts real tokens from 1
    mask = mask & ((place <= first) | (place > first + before))
    if after:
        mask = torch.cat([mask[:, :-after], torch.zeros_like(mask[:, -after:])], dim=1)
    tokens = torch.cat([rollout.queries.tokens, rollout.responses], dim=1)
    special = torch.tensor(
        getattr(tokenizer, "all_special_ids", []), dtype=torch.long, device=kept.device
    )
    mask = torch.cat([mask, kept & ~torch.isin(rollout.responses, special)], dim=1)
    check_length(model, mask)
    chunk = micro_batch or 256
    return torch.cat(
        [model(tokens[i : i + chunk], mask[i : i + chunk]) for i in range(0, len(tokens), chunk)]
    )
