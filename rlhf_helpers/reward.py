"""The reward model learns what people chose (paper, section 2.1).

hold_out    some of the questions for testing, chosen by a hash of the query
encode      labelled comparisons as tokens
train       normalize, fit, normalize: the whole road from labels to a reward model
fit         softmax cross-entropy over the rewards of K options, against the choice
normalize   gain and bias, so that responses of the reference have mean 0 and deviation 1
score       what PPO maximises: the reward of the truncated response, or the penalty
gains       the same, paid token by token: how far each one moves the reward model's opinion
scorer      either with its model and task filled in; `from_texts` makes one of any function
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from rlhf_helpers import models, sampling, tasks
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.records import Comparison, Label, Queries, Rollout, digest
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.optim import adam
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import (
    by_length,
    in_order,
    pack_mask,
    pack_parts,
    positions,
    real_first,
)

# (B,) one number per response, higher is better; or (B, R) rewards of tokens that add up to it
Score = Callable[[Rollout], Tensor]


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the reward fit. In brackets: the released code's value for the style tasks."""

    batch: int = 8  # comparisons per step [32; 8 as printed]
    epochs: int = 2  # passes over the labels; 5,000 labels are few for one pass [1]
    lr: float = 2.5e-4  # Adam, falls linearly to 0 [5e-5, for 124M parameters]
    tensorflow_adam: bool = True  # place eps as TensorFlow does, so that first steps are short [on]
    max_grad_norm: float | None = None  # clip gradients to this norm; None does not clip [None]

    def __post_init__(self) -> None:
        guards.reward_config(self)


# ---- labels as tokens ----------------------------------------------------------------------------

Labelled = tuple[list[Comparison], list[Label]]


def hold_out(
    comparisons: Sequence[Comparison], labels: Sequence[Label], share: float
) -> tuple[Labelled, Labelled]:
    """Split labelled comparisons into a part to fit and a part to test on, by a hash of the query.

    About `share` of the queries go to the second part, with everything asked about them: neither
    the order nor the source of a file matters, and no query is on both sides. Both parts keep the
    order given. Raises ValueError if nothing is left to fit.
    """

    def is_held(query: str) -> bool:
        number = hashlib.sha256(f"held out: {query}".encode()).digest()[:8]
        return int.from_bytes(number, "big") < share * 2**64

    held = {c.id for c in comparisons if is_held(c.query)}
    parts = [
        (
            [c for c in comparisons if (c.id in held) == side],
            [x for x in labels if (x.comparison_id in held) == side],
        )
        for side in (False, True)
    ]
    if labels and not parts[0][1]:
        raise ValueError(
            f"holding out {share:.0%} of the queries leaves none of the {len(labels)} labels to "
            "fit: lower the share, or collect labels on more prompts"
        )
    return parts[0], parts[1]


@dataclass(frozen=True)
class Encoded:
    """Comparisons as tokens, the query in the first Q columns and an answer in the rest.

    tokens, mask (B, K, Q + R); choices (B,).
    """

    tokens: Tensor
    mask: Tensor
    choices: Tensor
    query_columns: int

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, rows: Tensor | slice) -> Encoded:
        return Encoded(self.tokens[rows], self.mask[rows], self.choices[rows], self.query_columns)


def encode(
    task: Task, comparisons: Sequence[Comparison], labels: Sequence[Label],
    tokenizer: PreTrainedTokenizerBase, *, keep_equal: bool = False,
) -> Encoded:  # fmt: skip
    """Turn labelled comparisons into tokens, one row per LABEL: three labels count three times.

    Special tokens inside a text are left out, as `score` leaves them out. Labels on options that
    are all equal are left out too, and counted aloud, unless `keep_equal`. Raises ValueError that
    names the fault: no labels, a label of an unknown comparison, a choice out of range, another
    task, options of unequal number.
    """
    rows = guards.labelled_rows(task, comparisons, labels, keep_equal)
    first = tasks.first_ids(tokenizer)
    queries = [first + tasks.text_ids(tokenizer, c.query) for c, _ in rows]
    answers = [[tasks.text_ids(tokenizer, option) for option in c.options] for c, _ in rows]
    left, right = max(map(len, queries)), max(len(a) for options in answers for a in options)
    shape = (len(rows), len(answers[0]), left + right)
    tokens = torch.full(shape, tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.bool)
    for b, (query, options) in enumerate(zip(queries, answers, strict=True)):
        for k, answer in enumerate(options):
            columns = slice(left - len(query), left + len(answer))
            tokens[b, k, columns] = torch.tensor(query + answer, dtype=torch.long)
            mask[b, k, columns] = True
    return Encoded(tokens, mask, torch.tensor([choice for _, choice in rows]), left)


class Packed(NamedTuple):
    """A query and its K answers in one row of T columns, as many as the longest row needs.

    tokens, position_ids (B, T); attention_mask (B, 1, T, T) bool; last (B, K, R): the column of the
    last real token as far as each token of each option.
    """

    tokens: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    last: Tensor


def pack(batch: Encoded) -> Packed:
    """Write each comparison into one row, so that the query they share is computed once.

    query | answer 0 | answer 1 | ...     An answer attends to the query and to itself, not to its
    neighbours, and its tokens keep the positions they have right after the query. Pads between them
    are left out.
    """
    (b, k, width), q = batch.tokens.shape, batch.query_columns

    def row(x: Tensor) -> Tensor:  # (B, K, Q + R) to (B, Q + K R)
        return torch.cat([x[:, 0, :q], x[:, :, q:].flatten(1)], dim=1)

    position_ids = row(positions(batch.mask.flatten(0, 1)).view(b, k, width))
    last = _last_real(batch)  # in rows of their own
    moved = last + torch.arange(k, device=last.device).view(k, 1) * (width - q)
    last = torch.where(last < q, last, moved)  # before an answer's first token ends its query
    mask = row(batch.mask)
    taken = real_first(mask)  # (B, T): the columns that stay
    parts = pack_parts(q, k, width - q).to(mask.device)[taken]
    return Packed(
        row(batch.tokens).gather(1, taken),
        pack_mask(mask.gather(1, taken), parts),
        position_ids.gather(1, taken),
        _moved(mask, last.flatten(1)).view(last.shape),
    )


def _last_real(batch: Encoded) -> Tensor:
    """Find the column of the last real token as far as each token of an answer: (B, K, R)."""
    index = torch.arange(batch.mask.shape[-1], device=batch.mask.device)
    return torch.where(batch.mask, index, 0).cummax(-1).values[..., batch.query_columns :]


def _moved(mask: Tensor, columns: Tensor) -> Tensor:
    """Say where columns are once the pads are out: mask (B, T), columns (B, N) to (B, N)."""
    return (mask.long().cumsum(-1) - 1).gather(1, columns).clamp(min=0)


def option_rewards(
    model: RewardModel, batch: Encoded, *, each_token: bool = False, pads: bool = True
) -> Tensor:
    """Reward every option of every comparison; returns (B, K), or (B, K, R): as far as each token.

    What is no text (a pad, a special token) changes nothing: the reward before it stays. Each
    comparison is packed into one row, or takes K rows in models that no mask can be given; without
    `pads` those are as long as the longest needs.
    """
    k, width = batch.tokens.shape[1:]
    if k > 1 and model.packs(width):
        packed = Packed(*(x.to(model.device) for x in pack(batch)))
        hidden = model.run_trunk(
            model.classifier, packed.tokens, packed.attention_mask, position_ids=packed.position_ids
        )
        last = packed.last if each_token else packed.last[..., -1:]
        rewards = model.read(hidden, last.flatten(1)).view(last.shape)
    else:
        last = _last_real(batch) if each_token else _last_real(batch)[..., -1:]
        tokens, mask, columns = (x.flatten(0, 1) for x in (batch.tokens, batch.mask, last))
        if not pads:
            taken, columns = real_first(mask), _moved(mask, columns)
            tokens, mask = tokens.gather(1, taken), mask.gather(1, taken)
        tokens, mask, columns = (x.to(model.device) for x in (tokens, mask, columns))
        hidden = model.run_trunk(model.classifier, tokens, mask)
        rewards = model.read(hidden, columns).view(last.shape)
    return rewards if each_token else rewards.squeeze(-1)


def _in_parts(model: RewardModel, data: Encoded, size: int, each_token: bool = False) -> Tensor:
    """Reward every option, `size` comparisons of similar length at a time."""
    parts = by_length(data.mask.flatten(1), size)
    if len(parts) == 1:
        return option_rewards(model, data, each_token=each_token)
    found = [option_rewards(model, data[x], each_token=each_token, pads=False) for x in parts]
    return in_order(found, parts)


# ---- learning from them --------------------------------------------------------------------------


def choice_loss(rewards: Tensor, choices: Tensor) -> Tensor:
    """Average -log softmax(rewards)[choice] over comparisons (paper, equation 1).

    rewards (B, K), choices (B,); returns a scalar in nats. Guessing scores ln K.
    """
    return cross_entropy(rewards, choices)


def train(
    model: RewardModel, policy: Policy, data: Encoded, queries: Queries, task: Task,
    config: RewardConfig, run: Run,
) -> list[dict[str, float]]:  # fmt: skip
    """Normalise a reward model on samples of `policy`, fit it to labels, normalise it again.

    The first normalisation lets the softmax begin with rewards of deviation 1, the second gives
    PPO its unit, as in the released code. queries (B, Q): prompts to sample for. Returns `fit`'s
    lines, one per step.
    """
    normalize(model, policy, queries, task, seed=run.seed, micro_batch=run.ranks.micro_batch)
    lines = fit(model, data, config, run)
    normalize(model, policy, queries, task, seed=run.seed, micro_batch=run.ranks.micro_batch)
    return lines


def fit(
    model: RewardModel, data: Encoded, config: RewardConfig, run: Run
) -> list[dict[str, float]]:
    """Fit the reward model in place and return one line per step; gain and bias are not touched.

    Each pass takes the labels in a fresh random order; the learning rate falls linearly to 0. Call
    `normalize` afterwards, or let `train` do both. Raises FloatingPointError on a loss or gradient
    that is not finite.
    """
    guards.fits_context(model.context, data.mask)
    labels = {"labels": len(data), "labels_digest": digest(data.tokens, data.mask, data.choices)}
    about = {"reward": config, **labels, "model": models.fingerprint(model)}
    run.record_settings(**about)
    size = min(config.batch, len(data))
    steps = -(-len(data) * config.epochs // size)  # rounded up: few labels get their passes too
    optimizer = adam(model.parameters(), config.lr, config.tensorflow_adam)
    for i in run.progress(run.restore(model, optimizer), steps, "reward model"):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * (1 - i / steps)
        batch = data[run.batch_indices(len(data), size, i)]
        optimizer.zero_grad()
        totals = torch.zeros(2, device=model.device)  # loss and accuracy
        for part in run.ranks.micro_batches(size):
            rewards = option_rewards(model, batch[part])  # (B, K)
            choices = batch.choices[part].to(model.device)
            weight = len(choices) / size  # parts add up to the whole batch
            loss = choice_loss(rewards, choices) * weight
            loss.backward()
            right = (rewards.argmax(-1) == choices).float().mean() * weight
            totals += torch.stack([loss.detach(), right])
        total, right = run.ranks.all_reduce(totals)
        guards.finite(f"the reward model's loss at step {i}", total)
        run.ranks.update(model, optimizer, config.max_grad_norm)
        run.log(i, {"loss": total.item(), "accuracy": right.item()})
        if run.checkpoint_due(i, steps):
            run.save(i + 1, model, optimizer)
    return run.metrics()


@torch.no_grad()
def predictions(model: RewardModel, data: Encoded, micro_batch: int = 128) -> Tensor:
    """Reward every option of held-out comparisons; returns (B, K) on the CPU."""
    guards.fits_context(model.context, data.mask)
    return _in_parts(model, data, micro_batch).cpu()


def accuracy(rewards: Tensor, choices: Tensor) -> float:
    """Share of comparisons whose chosen option has the highest reward. (B, K), (B,) to a number."""
    return (rewards.argmax(-1) == choices).float().mean().item()


# ---- scoring responses ---------------------------------------------------------------------------


@torch.no_grad()
def normalize(
    model: RewardModel, policy: Policy, queries: Queries, task: Task, *, seed: int = 0,
    micro_batch: int | None = None,
) -> None:  # fmt: skip
    """Set gain and bias so that `policy`'s responses to `queries` score mean 0 and deviation 1.

    Whole responses, without truncation and penalty, population standard deviation (paper, section
    2.1; released code). `micro_batch` rows run at a time. Raises ValueError if all score the same.
    """
    models.check_pair(model, policy.tokenizer)
    model.gain.fill_(1.0)
    model.bias.fill_(0.0)
    generator = torch.Generator(policy.device).manual_seed(seed)
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, generator, micro_batch or 128
    )
    raw = _read(model, rollout, rollout.mask, micro_batch)
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
    model: RewardModel, rollout: Rollout, task: Task, micro_batch: int | None = None
) -> Tensor:
    """Score responses as PPO sees them: the reward of query and truncated response, or the penalty.

    The penalty for an answer without an end replaces the NORMALISED reward (paper, section 3.1.2).
    `micro_batch` rows run at a time (256 by default). Returns (B,).
    """
    kept, finished = tasks.truncate(task, rollout.responses, model.tokenizer)
    rewards = _read(model, rollout, kept & rollout.mask, micro_batch)
    return torch.where(finished, rewards, task.penalty)


@torch.no_grad()
def gains(
    model: RewardModel, rollout: Rollout, task: Task, micro_batch: int | None = None
) -> Tensor:
    """Pay each token by how far it moves the reward model's opinion; a row adds up to its `score`.

    The first token is paid the reward of the text up to itself, every later one the change that it
    makes; what is cut off gets nothing, and the last token that counts also settles the penalty.
    The sum is what it was, so the best policy is the same (potential-based shaping: Ng et al.
    1999), but the credit arrives where it was earned. Returns (B, R).
    """
    kept, finished = tasks.truncate(task, rollout.responses, model.tokenizer)
    kept = kept & rollout.mask
    opinions = _read(model, rollout, kept, micro_batch, each_token=True)  # (B, R)
    end = kept.shape[1] - 1 - kept.flip(-1).long().argmax(-1, keepdim=True)  # (B, 1)
    settled = torch.arange(kept.shape[1], device=kept.device) >= end
    opinions = torch.where(settled & ~finished.unsqueeze(-1), task.penalty, opinions)
    return opinions.diff(dim=1, prepend=torch.zeros_like(opinions[:, :1]))


def _read(
    model: RewardModel, rollout: Rollout, kept: Tensor, micro_batch: int | None,
    each_token: bool = False,
) -> Tensor:  # fmt: skip
    """Reward what a labeler sees: the query's text and the kept part of the response.

    Returns (B,), or (B, R): as far as each token.
    """
    tokens = torch.cat([rollout.queries.tokens, rollout.responses], dim=1)
    answer = kept & tasks.is_text(rollout.responses, model.tokenizer)
    mask = torch.cat([rollout.queries.text, answer], dim=1)
    guards.fits_context(model.context, mask)
    groups = (-1, rollout.answers, tokens.shape[1])  # (P, G, Q + R): options of one comparison
    data = Encoded(
        tokens.view(groups), mask.view(groups), tokens[:: rollout.answers, 0],
        rollout.queries.tokens.shape[1],
    )  # fmt: skip
    size = (micro_batch or 256) // rollout.answers
    return _in_parts(model, data, size, each_token).flatten(0, 1)


def scorer(
    model: RewardModel, task: Task, micro_batch: int | None = None, *, each_token: bool = False
) -> Score:
    """Make the function that PPO maximises: a rollout in, `score` of each response out.

    With `each_token`, the `gains` of each token, which add up to the score.
    """
    read = gains if each_token else score

    def scored(rollout: Rollout) -> Tensor:
        return read(model, rollout, task, micro_batch)

    scored.tokenizer = model.tokenizer  # `ppo.tune` compares it with the policy's
    unit = f"gain {model.gain.item():.6g}, bias {model.bias.item():.6g}"
    paid = ", paid token by token" if each_token else ""
    scored.name = f"{models.fingerprint(model)}, {unit}{paid}"  # and does not go on with another
    return scored


def from_texts(
    function: Callable[[list[str], list[str]], Sequence[float]],
    task: Task, tokenizer: PreTrainedTokenizerBase,
) -> Score:  # fmt: skip
    """Make what PPO maximises of any function of texts: `function(prompts, answers)`.

    It gets two lists of B texts as a labeler sees them and returns B numbers, higher is better. An
    answer without an end scores the task's penalty instead. Nothing is normalised: one unit of
    this reward is worth 1 / beta nats of KL. Raises ValueError unless there are B numbers.
    """

    def score(rollout: Rollout) -> Tensor:
        prompts = tasks.query_texts(rollout.queries, tokenizer)
        answers = tasks.texts(task, rollout.responses, tokenizer)
        numbers = torch.tensor([float(x) for x in function(prompts, answers)])
        guards.one_each(numbers, len(rollout))
        _, finished = tasks.truncate(task, rollout.responses, tokenizer)
        return torch.where(finished, numbers.to(finished.device), task.penalty)

    with suppress(OSError, TypeError):  # no source, as in an interactive Python
        source = inspect.getsource(function)
        score.name = f"function {hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return score
