"""What labels buy: how much a label tells, how much of that a model has, labels for a goal.

bits_in_labels    what a label tells at most of what its labeler wants
bits_foreseen     how much of other labels a model foresees, in the same unit
information       what the answer to a question would tell of several tastes, which of them it is
share_attained    what a model's favourites have of the utility that can be had
labels_for        labels at which a learning curve reaches a goal
crossing          labels from which one learning curve lies above another

Before any label every option is as likely, and to foresee a choice costs log2 K bits. Whoever knows
the labeler's chances p pays the entropy of p, the noise. What lies between is about the taste:

    bits in a label  =  log2 K - H(p)              mean over comparisons
    bits foreseen    =  log2 K - H(p, model)       H(p, model) is the model's loss in bits
    their difference =  KL(p | model)              what there is left to learn from the next label

A Bayesian who foresees with all that the labels so far say pays on average, for the next one, its
noise and the bits that it will tell of the taste (`information`). So these bits, added up label by
label, are the mutual information of labels and taste; a learner who makes less of labels pays more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# a model's rewards may be on any scale: these are tried, 0 is to foresee nothing
SCALES = (0.0, *(2 ** (i / 4) for i in range(-24, 21)))


def bits_in_labels(chances: Tensor) -> float:
    """Return log2 K less the mean entropy of choices with these chances (N, K)."""
    return math.log2(chances.shape[-1]) - entropy_bits(chances.double()).mean().item()


def bits_foreseen(rewards: Tensor, chances: Tensor, *, rescaled: bool = True) -> float:
    """Return log2 K less the model's mean loss in bits on other labels.

    rewards (N, K) of the model; chances (N, K) of the labeler, or one at what it chose. A model
    that is too sure of itself may foresee less than nothing; `rescaled`: the scale of its rewards
    is chosen on one half of the comparisons for the other, so that only what it knows counts.
    """
    rewards, chances = rewards.double(), chances.double()
    if not rescaled:
        return math.log2(rewards.shape[-1]) - _loss_bits(rewards, chances)
    halves = (slice(0, None, 2), slice(1, None, 2))
    losses = []
    for here, other in (halves, halves[::-1]):
        scale = min(SCALES, key=lambda s: _loss_bits(s * rewards[other], chances[other]))
        losses.append(_loss_bits(scale * rewards[here], chances[here]))
    return math.log2(rewards.shape[-1]) - sum(losses) / 2


def information(weights: Tensor, chances: Tensor) -> Tensor:
    """Return the bits that an answer tells on average: of several tastes, which of them it is.

    weights (T,): how likely each taste is now; chances (..., T, K): how often it makes each choice.
    Entropy of the answer, less the part that is noise whatever the taste; returns (...).
    """
    weights, chances = weights.double(), chances.double()
    mixed = torch.einsum("t,...tk->...k", weights, chances)
    return entropy_bits(mixed) - entropy_bits(chances) @ weights


def entropy_bits(p: Tensor) -> Tensor:
    """Return -sum p log2 p over the last dimension."""
    return -torch.special.xlogy(p, p).sum(-1) / math.log(2)


def share_attained(rewards: Tensor, utilities: Tensor) -> float:
    """Return what a model's favourites have more than the mean option, of what the best have more.

    rewards, utilities (N, K). 0 is what chance gets, 1 all there is; NaN if all options are alike.
    """
    mean = utilities.mean(1)
    gained = utilities.gather(1, rewards.argmax(1, keepdim=True)).squeeze(1) - mean
    return (gained.mean() / (utilities.amax(1) - mean).mean()).item()


def labels_for(counts: Sequence[float], values: Sequence[float], goal: float) -> float:
    """Return how many labels a curve needs to reach a goal: straight lines between its points, on
    a logarithmic axis of counts.

    counts ascend. The first count if it is reached there already, infinity if it never is.
    """
    if values[0] >= goal:
        return float(counts[0])
    points = list(zip(counts, values, strict=True))
    for (n, low), (more, high) in zip(points, points[1:], strict=False):
        if high >= goal:
            return n * (more / n) ** ((goal - low) / (high - low))
    return math.inf


def crossing(
    first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]
) -> float | None:
    """Return the labels from which `second` lies above `first`, to the end of what both cover.

    Curves are (count, value) pairs, counts ascending; between them straight lines on a logarithmic
    axis. None if second is not above at the end, or was above all along.
    """
    low, high = max(first[0][0], second[0][0]), min(first[-1][0], second[-1][0])
    counts = sorted({n for n, _ in [*first, *second] if low <= n <= high})
    ahead = [_at(second, n) - _at(first, n) for n in counts]
    if not ahead or ahead[-1] <= 0 or all(x > 0 for x in ahead):
        return None
    last = max(i for i, x in enumerate(ahead) if x <= 0)  # the last time that it was not
    return labels_for(counts[last : last + 2], ahead[last : last + 2], 0.0)


def _at(curve: Sequence[tuple[float, float]], count: float) -> float:
    """Read a curve at a count that it covers."""
    for (n, low), (more, high) in zip(curve, curve[1:], strict=False):
        if n <= count <= more:
            return low + (high - low) * math.log(count / n) / math.log(more / n)
    return curve[0][1]  # of a single point


def _loss_bits(rewards: Tensor, chances: Tensor) -> float:
    return cross_entropy(rewards, chances).item() / math.log(2)
