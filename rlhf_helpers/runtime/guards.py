"""What training refuses, in words that say what to do: settings, labels, numbers, collapse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlhf_helpers.records import Comparison, Label


class Collapsed(RuntimeError):
    """The policy has left the language it came from, or gives one answer to everything."""


# ---- settings ------------------------------------------------------------------------------------


def ppo_config(config: Any) -> None:
    """Raise ValueError unless these settings of PPO can be trained with."""
    if not math.isfinite(config.kl_coef):
        raise ValueError(f"kl_coef is {config.kl_coef:g}: it must be a finite number")
    for name in ("lr", "cliprange", "value_coef", "lam"):
        _not_negative(name, getattr(config, name))
    if config.lam > 1:
        raise ValueError(f"lam is {config.lam:g}: it must be between 0 and 1")
    _norm(config.max_grad_norm)
    if config.minibatches < 1:
        raise ValueError(
            f"minibatches is {config.minibatches}: give 1 to use each batch as a whole"
        )
    rows, left = divmod(config.batch, config.minibatches)
    if left or rows < 8:
        raise ValueError(
            f"a batch of {config.batch} in {config.minibatches} minibatches leaves {rows} rows "
            "each: they must be equal, and whitening needs at least 8; raise `batch` or lower "
            "`minibatches`"
        )
    if config.answers < 1 or rows % config.answers:
        raise ValueError(
            f"answers is {config.answers}: the {rows} rows of a minibatch must be a multiple of it"
        )
    if config.leave_one_out and config.answers < 2:
        raise ValueError(
            "leave_one_out needs other answers to a prompt: raise `answers` to 2 or more"
        )
    if config.episodes < config.batch:
        raise ValueError(
            f"{config.episodes} episodes are less than one batch of {config.batch}: raise "
            "`episodes`"
        )
    if config.epochs < 1:
        raise ValueError(f"epochs is {config.epochs}: give 1 or more, or nothing is learned")
    if config.kl_target is None:
        return
    if not config.kl_target > 0:
        raise ValueError(
            f"kl_target is {config.kl_target:g} nats: give more than 0, or None for a fixed kl_coef"
        )
    if 0.2 * config.batch >= config.kl_horizon:
        raise ValueError(
            f"with a kl_horizon of {config.kl_horizon} episodes, one batch of {config.batch} could "
            f"turn beta negative: raise `kl_horizon` above {0.2 * config.batch:g}"
        )


def reward_config(config: Any) -> None:
    """Raise ValueError unless these settings of the reward fit can be trained with."""
    _not_negative("lr", config.lr)
    _norm(config.max_grad_norm)
    if config.batch < 1 or config.epochs < 1:
        raise ValueError(
            f"batch is {config.batch} and epochs is {config.epochs}: both must be 1 or more"
        )


def differing(first: Any, second: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those of two sets of nested settings that differ, under names such as `ppo.lr`."""
    one, other = dict(_flat(first)), dict(_flat(second))
    names = [k for k in one | other if k not in one or k not in other or one[k] != other[k]]
    return {k: one[k] for k in names if k in one}, {k: other[k] for k in names if k in other}


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value:g}: it must be a finite number, 0 or more")


def _norm(limit: float | None) -> None:
    """Raise ValueError unless gradients can be clipped to this norm: -1 would turn them round."""
    if limit is not None and not 0 < limit < math.inf:
        raise ValueError(f"max_grad_norm is {limit:g}: give more than 0, or None not to clip")


# ---- labels --------------------------------------------------------------------------------------


def labelled_rows(
    task: Any, comparisons: Sequence[Comparison], labels: Sequence[Label], keep_equal: bool = False
) -> list[tuple[Comparison, int]]:
    """Pair every label with its comparison; raises ValueError naming the first that fits none.

    A choice between equal options teaches nothing: it is left out, and said, unless `keep_equal`.
    """
    if not labels:
        raise ValueError(
            "there are no labels yet: label some comparisons first (notebook 02), or use the "
            "recorded ones in data/recorded"
        )
    known = {c.id: c for c in comparisons}
    rows = []
    for label in labels:
        comparison = known.get(label.comparison_id)
        if comparison is None:
            raise ValueError(
                f"label of {label.labeler!r}: comparison {label.comparison_id} is not among the "
                f"{len(known)} given; is it from another file?"
            )
        if comparison.task != task.name:
            raise ValueError(
                f"comparison {comparison.id} belongs to the task {comparison.task!r}, not "
                f"{task.name!r}: choose the label file of this task"
            )
        if label.choice >= len(comparison.options):
            raise ValueError(
                f"label of {label.labeler!r} on {comparison.id}: choice {label.choice}, but there "
                f"are {len(comparison.options)} options, counted from 0"
            )
        rows.append((comparison, label.choice))
    informative = [(c, k) for c, k in rows if keep_equal or not c.has_equal_options]
    if left_out := len(rows) - len(informative):
        print(f"{left_out} of {len(rows)} labels are left out: their options are all equal.")
    if not (rows := informative):
        raise ValueError("no label is left: in every comparison the options are all equal")
    if len(counts := {len(c.options) for c, _ in rows}) > 1:
        raise ValueError(
            f"comparisons with {sorted(counts)} options are mixed: fit them separately, or turn "
            "all of them into pairs"
        )
    return rows


def fits_context(context: int | None, mask: Tensor) -> None:
    """Raise ValueError if a text is longer than the model's context. mask (..., T)."""
    longest = int(mask.sum(-1).max())
    if context is not None and longest > context:
        raise ValueError(
            f"a text of {longest} tokens is to be rewarded, but the model's context is {context}: "
            "leave longer texts out, or choose a model with a longer context"
        )


# ---- numbers -------------------------------------------------------------------------------------


def one_each(
    scores: Any, count: int, device: torch.device | str = "cpu", tokens: int | None = None
) -> Tensor:
    """Return the scores as float32 on a device: (count,), or (count, tokens) where that is allowed.

    Raises ValueError if one is missing.
    """
    scores = torch.as_tensor(scores, dtype=torch.float32, device=device)
    if scores.shape not in {(count,), (count, tokens)}:
        each = "" if tokens is None else f", or {tokens} for the tokens of each"
        raise ValueError(
            f"the reward function returned numbers of shape {tuple(scores.shape)} for {count} "
            f"responses: it must return one number for each{each}"
        )
    return scores


def finite(name: str, values: Tensor) -> Tensor:
    """Return `values`, or raise FloatingPointError saying what is not finite and what to try."""
    if not bool(torch.isfinite(values).all()):
        bad = values[~torch.isfinite(values)].flatten()[0].item()
        raise FloatingPointError(
            f"{name} is {bad}: training stopped before it could spoil the model. Look at the "
            "rewards first, then lower the learning rate; the last checkpoint, if there is one, "
            "is intact"
        )
    return values


def alive(step: int, summary: dict[str, float], kl_limit: float, min_entropy: float) -> None:
    """Raise Collapsed if the policy has left its language or gives one answer to everything."""
    kl, entropy = summary["kl_nats_per_response"], summary["entropy_nats_per_response"]
    advice = "lower the learning rate or raise kl_coef; the last checkpoint, if any, is intact"
    if kl > kl_limit:
        raise Collapsed(
            f"step {step}: the KL from the reference is {kl:.0f} nats, over the limit of "
            f"{kl_limit:.0f}: the policy has left the language it came from; {advice}"
        )
    if entropy < min_entropy:
        raise Collapsed(
            f"step {step}: responses hold {entropy:.3f} nats of entropy, under the limit of "
            f"{min_entropy:g}: the policy gives one answer to everything; {advice}"
        )


def varied(run: Any, step: int, summary: dict[str, float]) -> None:
    """Say once when answers have lost half of the variety they began with."""
    lines = run.metrics()
    if not lines or run.quiet or "distinct_bigrams" not in lines[0]:
        return
    limit = 0.5 * lines[0]["distinct_bigrams"]
    if summary["distinct_bigrams"] < limit and all(x["distinct_bigrams"] >= limit for x in lines):
        print(
            f"Step {step}: answers are growing alike (distinct-2 "
            f"{summary['distinct_bigrams']:.2f}, {lines[0]['distinct_bigrams']:.2f} at the "
            "start). Read some of them; a lower kl_target or a higher kl_coef keeps more variety."
        )
