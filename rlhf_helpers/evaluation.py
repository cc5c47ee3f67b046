"""Did it work? Blind judging with an interval, KL from the reference, reward against KL."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from rlhf_helpers import models, sampling, tasks
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Comparison, Label, Queries, Rollout
from rlhf_helpers.runtime import seeds
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import per_response

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """A share of `total` trials with Wilson's 95 % interval; each of the `ties` is half a success.

    A tie varies less than a success or a failure, so with ties the interval is a little too wide,
    never too narrow.
    """

    successes: float
    total: int
    low: float
    high: float
    ties: int = 0

    @property
    def rate(self) -> float:
        return self.successes / self.total

    def __str__(self) -> str:
        ties = f", {self.ties} ties" if self.ties else ""
        return f"{self.rate:.1%} ({self.low:.1%} to {self.high:.1%}, n = {self.total}{ties})"


def wilson(successes: float, total: int, ties: int = 0) -> Proportion:
    """Put Wilson's 95 % interval around successes / total (Wilson 1927).

    Half of each tie is counted in `successes`. Raises ValueError without trials.
    """
    if not 0 <= successes <= total or total == 0:
        raise ValueError(f"{successes} of {total}: there must be at least one trial")
    rate, z2 = successes / total, Z95**2
    centre = (rate + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(rate * (1 - rate) / total + z2 / (4 * total**2))
    low, high = min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half))
    return Proportion(successes, total, low, high, ties)  # 10 of 10 ends at 1, unrounded


def mirrored(comparison_id: str, seed: int = 0) -> bool:
    """Say whether a pair is shown with its sides swapped: a coin from this text alone."""
    return hashlib.sha256(f"{seed} {comparison_id}".encode()).digest()[0] % 2 == 1


def pairs(
    first: Policy, second: Policy, queries: Queries, task: Task, *, seed: int = 0,
    source: str = "judging",
) -> tuple[list[Comparison], list[bool]]:  # fmt: skip
    """Let both policies answer every query, each with draws of its own, and shuffle the sides.

    Returns the pairs, and for each whether `first` is option 0. Raises ValueError if the policies
    have different tokenizers.
    """
    models.check_pair(second, first.tokenizer)
    answers = []
    for number, policy in enumerate((first, second)):
        generator = seeds.generator(seed, "judged answers", number, policy.device)
        rollout = sampling.sample(
            policy, queries, task.response_length, task.temperature, generator
        )
        answers.append(tasks.texts(task, rollout.responses, policy.tokenizer))
    prompts = tasks.query_texts(queries, first.tokenizer)
    return paired(task, prompts, *answers, seed=seed, source=source)


def paired(
    task: Task, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], *,
    seed: int = 0, source: str = "judging",
) -> tuple[list[Comparison], list[bool]]:  # fmt: skip
    """Make blind pairs of texts that are there, whoever wrote them; returns what `pairs` does."""
    comparisons, first_is_zero = [], []
    for number, (prompt, a, b) in enumerate(zip(prompts, first, second, strict=True)):
        swap = mirrored(f"{number} {prompt} {a} {b}", seed)
        comparisons.append(Comparison(task.name, prompt, (b, a) if swap else (a, b), source))
        first_is_zero.append(not swap)
    return comparisons, first_is_zero


def judge(
    comparisons: Sequence[Comparison], first_is_zero: Sequence[bool], labels: Sequence[Label],
    undecided: Collection[str] = ()
) -> Proportion:  # fmt: skip
    """Count how often `first` was preferred, once the sides are uncovered.

    Equal answers are ties, and so are the `undecided` (ids of comparisons). Returns the win rate.
    """
    chosen = {label.comparison_id: label.choice for label in labels}
    if len(chosen) < len(labels) or not set(chosen.values()) <= {0, 1}:
        raise ValueError(
            "one verdict for each pair is needed, 0 or 1: judge the verdicts of each labeler apart"
        )
    wins, total, ties = 0.0, 0, 0
    for comparison, is_zero in zip(comparisons, first_is_zero, strict=True):
        if comparison.id in chosen or comparison.id in undecided:
            tie = comparison.id in undecided or comparison.has_equal_options
            wins += 0.5 if tie else float((chosen[comparison.id] == 0) == is_zero)
            total, ties = total + 1, ties + tie
    return wilson(wins, total, ties)


@torch.no_grad()
def measure(
    policy: Policy,
    reference: Policy,
    queries: Queries,
    task: Task,
    score: Callable[[Rollout], torch.Tensor],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Measure a policy on prompts: score, KL from the reference and entropy, in nats.

    Score and KL come with their standard errors.
    """
    generator = torch.Generator(policy.device).manual_seed(seed)
    rollout = sampling.sample(policy, queries, task.response_length, task.temperature, generator)
    reference_logprobs = sampling.replay(
        reference, rollout, task.temperature, micro_batch=256
    ).logprobs
    kl = (rollout.logprobs - reference_logprobs).sum(-1)
    scores = per_response(score(rollout))
    return {
        "score": scores.mean().item(),
        "score_standard_error": (scores.std() / len(scores) ** 0.5).item(),
        "kl_nats_per_response": kl.mean().item(),
        "kl_standard_error": (kl.std() / len(kl) ** 0.5).item(),
        "entropy_nats_per_response": -rollout.logprobs.sum(-1).mean().item(),
    }


def frontier(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Keep the measurements that no other beats: more score for no more KL. Sorted by KL."""
    best, kept = -math.inf, []
    for row in sorted(rows, key=lambda r: (r["kl_nats_per_response"], -r["score"])):
        if row["score"] > best:
            best = row["score"]
            kept.append(row)
    return kept


def reweighted(scores: torch.Tensor, beta: float) -> dict[str, float]:
    """Estimate the optimum at a KL: the reference reweighted by exp(score / beta).

    No policy scores higher at its KL (paper, mock sentiment task).

    scores (P, N): of N samples of the reference for each of P prompts. Self-normalised importance
    weights w = softmax(scores / beta) over the samples; score sum w s; KL sum w log(N w), in nats.
    Both come out too low where few samples carry the weight: `effective_samples`, 1 / sum w^2, says
    how many do.
    """
    scores = scores.double()
    weights = (scores / beta).softmax(-1)  # (P, N)
    found = (weights * scores).sum(-1)  # (P,)
    return {
        "score": found.mean().item(),
        "score_standard_error": (found.std() / len(found) ** 0.5).item()
        if len(found) > 1
        else math.nan,
        "kl_nats_per_response": torch.special.xlogy(weights, weights * scores.shape[1])
        .sum(-1)
        .mean()
        .item(),
        "effective_samples": (1 / weights.square().sum(-1)).mean().item(),
        "beta": beta,
    }
