"""Floor 5: labels collected while the policy trains (paper, section 2.3). Offline training is the case of one round.

    round 0         comparisons of the reference are labelled, a reward model learns from them
    PPO             ... until the next boundary
    round 1, 2 ...  comparisons of the policy as it is now are labelled; a new reward model learns from ALL labels, from scratch
    PPO             ... goes on with the new one: same optimizer, same controller, same falling learning rate

The reward model is asked about texts that the policy writes now, not about those it wrote at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_helpers import labelers, ppo, reward
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label, Queries, Rollout
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runs import Run
from rlhf_helpers.store import LabelStore
from rlhf_helpers.tasks import Task

Ask = Callable[[Sequence[Comparison]], Sequence[Label]]


@dataclass(frozen=True)
class OnlineConfig:
    """How many labels, and when. In brackets: the paper's values for summaries."""

    initial: int = 1_000  # comparisons labelled before training begins
    total: int = 5_000  # comparisons labelled in all [60,000]
    rounds: int = 5  # reward models trained, each from scratch on all labels so far [20]; 1 is offline
    normalize_samples: int = 512  # responses of the reference behind gain and bias

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.initial <= self.total or (self.rounds == 1 and self.initial != self.total):
            raise ValueError(
                f"{self.initial} labels first, {self.total} in all, {self.rounds} rounds: there must be labels before the first round, "
                "none can be taken away later, and one round (offline) has them all at the start"
            )

    def labels(self, round: int) -> int:
        """Say how many labels round number `round` learns from: many early, fewer later, as 1 - (1 - progress)^2 (paper, section 2.3)."""
        progress = round / (self.rounds - 1) if self.rounds > 1 else 1.0
        return round_half_up(self.initial + (self.total - self.initial) * (1 - (1 - progress) ** 2))

    def round_at(self, step: int, steps: int) -> int:
        """Say which round step number `step` belongs to: rounds begin at evenly spaced steps."""
        return max(k for k in range(self.rounds) if k * steps // self.rounds <= step)


class MoreLabels(RuntimeError):
    """Training waits for people: label what is in the store, then run the same cell again."""


def from_people(store: LabelStore, labeler: str | None = None) -> Ask:
    """Make an `ask` that takes what people (one of them, or all) have labelled in the store; raises MoreLabels while some are missing.

    The comparisons are in the store by then, so that `widgets.label(store, task)` shows them; training goes on where it stopped.
    """

    def ask(comparisons: Sequence[Comparison]) -> list[Label]:
        wanted = {c.id for c in comparisons}
        labels = [x for x in store.labels(labeler=labeler) if x.comparison_id in wanted]
        answered = wanted & {e.comparison_id for e in store.events(labeler=labeler, standing=True)}  # a skip is an answer too
        if missing := len(wanted - answered):
            raise MoreLabels(
                f"{missing} of {len(wanted)} comparisons wait in {store.name} for a label: show them with widgets.label, "
                "then run this again; training goes on from its last checkpoint"
            )
        return labels

    return ask


def tune(
    policy: Policy, tokenizer: PreTrainedTokenizerBase, task: Task, pool: Queries, ask: Ask, store: LabelStore, run: Run,
    config: OnlineConfig, reward_config: RewardConfig, ppo_config: PPOConfig,
) -> tuple[RewardModel, list[dict[str, float]]]:  # fmt: skip
    """Train policy and reward model in turns; returns the last reward model and PPO's summaries, one per step.

    `ask` labels comparisons: `labelers.simulated(task).label`, or `from_people(store)`. Comparisons and labels are kept in `store`,
    which must hold nothing of this task but this run's, so that a run that was stopped goes on and ends as if it had not been.
    """
    reference = policy.frozen_copy()
    current: list[RewardModel] = []
    round = -1

    def before_step(step: int) -> None:
        nonlocal round
        wanted = config.round_at(step, ppo_config.steps)
        if wanted == round:
            return
        label_round(policy, tokenizer, task, pool, ask, store, wanted, config, run.seed)
        round, current[:] = wanted, [retrain(reference, tokenizer, task, pool, store, wanted, config, reward_config, run)]

    def score(rollout: Rollout) -> torch.Tensor:
        return reward.score(current[0], rollout, task, tokenizer)

    lines = ppo.tune(policy, score, pool, task, ppo_config, run, reference=reference, before_step=before_step)
    before_step(ppo_config.steps - 1)  # a finished run that is opened again gives its reward model back too
    return current[0], lines


def label_round(
    policy: Policy, tokenizer: PreTrainedTokenizerBase, task: Task, pool: Queries, ask: Ask, store: LabelStore, round: int,
    config: OnlineConfig, seed: int,
) -> None:  # fmt: skip
    """Collect the comparisons of a round from the policy as it is now, unless the store has them, and have them labelled."""
    asked = [c for c in store.comparisons(task.name) if c.round == round]
    if not asked:
        count = config.labels(round) - (config.labels(round - 1) if round else 0)
        generator = torch.Generator().manual_seed(seed * 100_003 + round)
        rows = torch.cat([torch.randperm(len(pool), generator=generator) for _ in range(-(-count // len(pool)))])[:count]
        source = "policy" if round else "base"
        asked = labelers.collect(policy, tokenizer, task, pool[rows], seed=seed * 100_003 + round, source=source, round=round)
        store.add(asked)
    known = {e.comparison_id for e in store.events(task.name, standing=True)}
    if missing := [c for c in asked if c.id not in known]:
        store.add_labels(ask(missing))


def retrain(
    reference: Policy, tokenizer: PreTrainedTokenizerBase, task: Task, pool: Queries, store: LabelStore, round: int,
    config: OnlineConfig, reward_config: RewardConfig, run: Run,
) -> RewardModel:  # fmt: skip
    """Fit a new reward model, from scratch, on all labels up to this round; normalised on the reference before and after."""
    comparisons = [c for c in store.comparisons(task.name) if c.round <= round]
    known = {c.id for c in comparisons}
    labels = [x for x in store.labels(task.name) if x.comparison_id in known]
    model = RewardModel.from_policy(reference, run.seed + round)
    data = reward.encode(task, comparisons, labels, tokenizer)
    samples = pool[slice(0, config.normalize_samples)]
    reward.normalize(model, reference, samples, task, tokenizer, seed=run.seed)  # the fit begins in this unit
    reward.fit(model, data, reward_config, Run(seed=run.seed + round, device=run.device, quiet=run.quiet))
    reward.normalize(model, reference, samples, task, tokenizer, seed=run.seed)
    return model


def round_half_up(x: float) -> int:
    return int(x + 0.5)
