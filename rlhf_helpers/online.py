"""Labels collected while the policy trains (paper, section 2.3). Offline training is the case of
one round.

    round 0         comparisons of the reference are labelled, a reward model learns from them
    PPO             ... until the next round is due
    round 1, 2 ...  comparisons of the policy as it is now are labelled; a new reward model learns from ALL labels, from scratch
    PPO             ... goes on with the new one: same optimizer, same controller, same falling learning rate

The reward model is asked about texts that the policy writes now, not about those it wrote at the
start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlhf_helpers import labelers, ppo, reward
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label, Queries, Rollout
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

Ask = Callable[[Sequence[Comparison]], Sequence[Label]]


@dataclass(frozen=True)
class OnlineConfig:
    """How many labels, and when. In brackets: the paper's values for summaries."""

    initial: int = 1_000  # comparisons labelled before training begins
    total: int = 5_000  # comparisons labelled in all [60,000]
    # reward models trained, each from scratch on all labels so far [20]; 1 is offline
    rounds: int = 5
    normalize_samples: int = 512  # responses of the reference behind gain and bias

    def __post_init__(self) -> None:
        if (
            self.rounds < 1
            or not 0 < self.initial <= self.total
            or (self.rounds == 1 and self.initial != self.total)
        ):
            raise ValueError(
                f"{self.initial} labels first, {self.total} in all, {self.rounds} rounds: there "
                "must be labels before the first round, "
                "none can be taken away later, and one round (offline) has them all at the start"
            )

    def labels(self, round: int) -> int:
        """Say how many labels round number `round` learns from: every round brings as many new
        ones, the last brings the `total`."""
        return round_half_up(
            self.initial + (self.total - self.initial) * round / max(1, self.rounds - 1)
        )

    def starts(self, steps: int) -> list[int]:
        """Say at which step each round begins: labels grow as l = 1 - (1 - progress)^2, and a round
        is due at evenly spaced l.

        So many rounds come early and few late (paper, section 2.3). Raises ValueError if two would
        begin at one step.
        """
        starts = [
            round_half_up(steps * (1 - (1 - k / self.rounds) ** 0.5)) for k in range(self.rounds)
        ]
        if len(set(starts)) < self.rounds:
            raise ValueError(
                f"{self.rounds} rounds do not fit into {steps} steps of PPO: lower `rounds` or "
                "raise `episodes`"
            )
        return starts

    def round_at(self, step: int, steps: int) -> int:
        """Say which round step number `step` belongs to."""
        return sum(start <= step for start in self.starts(steps)) - 1


class Asked:
    """The comparisons that a run has asked about, round by round; kept in its folder, so that it
    finds its own in any store again."""

    def __init__(self, store: Any, task: Task, run: Run):
        self.store, self.task, self.run = store, task, run
        self.ids: list[list[str]] = run.load_json("asked", [])

    def rounds(self, first: int, last: int) -> list[Comparison]:
        """Read the comparisons of these rounds (both included) from the store; raises ValueError if
        they are not all there."""
        known = {c.id: c for c in self.store.comparisons(self.task.name)}
        wanted = [each for ids in self.ids[first : last + 1] for each in ids]
        if last >= len(self.ids) or not known.keys() >= set(wanted):
            raise ValueError(
                f"{self.store.name} and asked.json in {self.run.folder} do not belong together: "
                "open the store and the folder that this "
                "run began with, or choose another folder for a new run"
            )
        return [known[each] for each in wanted]

    def add(self, comparisons: Sequence[Comparison]) -> None:
        """Put the comparisons of the next round into the store, then write down which they are."""
        self.store.add(comparisons)
        self.ids.append([c.id for c in comparisons])
        self.run.save_json("asked", self.ids)


def tune(
    policy: Policy, task: Task, pool: Queries, ask: Ask,
    store: Any, run: Run, config: OnlineConfig, reward_config: RewardConfig, ppo_config: PPOConfig,
) -> tuple[RewardModel, list[dict[str, float]]]:  # fmt: skip
    """Train policy and reward model in turns; returns the last reward model and PPO's summaries,
    one per step.

    `ask` labels comparisons: `labelers.simulated(task).label`, or `People(store)`. Comparisons and
    labels are kept in `store`; others in there are left alone. A run that was stopped goes on and
    ends as if it had not been. Raises ValueError if the rounds do not fit into the steps.
    """
    config.starts(ppo_config.steps)
    reference, asked = policy.frozen_copy(), Asked(store, task, run)
    current: list[RewardModel] = []
    round = -1

    def before_step(step: int) -> None:
        nonlocal round
        wanted = config.round_at(step, ppo_config.steps)
        if wanted == round:
            return
        label_round(policy, task, pool, ask, asked, wanted, config, run.seed)
        round, current[:] = (
            wanted,
            [retrain(reference, task, pool, ask, asked, wanted, config, reward_config, run)],
        )

    def score(rollout: Rollout) -> torch.Tensor:
        return reward.score(current[0], rollout, task, run.ranks.micro_batch)

    lines = ppo.tune(
        policy, score, pool, task, ppo_config, run, reference=reference, before_step=before_step
    )
    # a finished run that is opened again gives its reward model back too
    before_step(ppo_config.steps - 1)
    return current[0], lines


def label_round(
    policy: Policy, task: Task, pool: Queries, ask: Ask,
    asked: Asked, round: int, config: OnlineConfig, seed: int,
) -> None:  # fmt: skip
    """Collect the comparisons of a round from the policy as it is now, unless that is done, and
    have them labelled."""
    if round == len(asked.ids):
        count = config.labels(round) - (config.labels(round - 1) if round else 0)
        asked.add(collect(policy, task, pool, count, round, seed))
    answered = {
        e.comparison_id for e in asked.store.events(task.name, labeler_of(ask), standing=True)
    }
    if missing := [c for c in asked.rounds(round, round) if c.id not in answered]:
        asked.store.add_labels(ask(missing))


def collect(
    policy: Policy, task: Task, pool: Queries, count: int,
    round: int, seed: int
) -> list[Comparison]:  # fmt: skip
    """Sample comparisons for `count` prompts: passes over the pool, in an order and with a sampling
    seed of the round's own."""
    if count == 0:
        return []
    generator = torch.Generator().manual_seed(seed * 100_003 + round)
    rows = torch.cat(
        [torch.randperm(len(pool), generator=generator) for _ in range(-(-count // len(pool)))]
    )[:count]
    source = "policy" if round else "base"
    return labelers.collect(
        policy, task, pool[rows], seed=seed * 100_003 + round, source=source, round=round
    )


def retrain(
    reference: Policy, task: Task, pool: Queries, ask: Ask,
    asked: Asked, round: int, config: OnlineConfig, reward_config: RewardConfig, run: Run,
) -> RewardModel:  # fmt: skip
    """Fit a new reward model, from scratch, on all labels up to this round; normalised on the
    reference before and after."""
    comparisons = asked.rounds(0, round)
    known = {c.id for c in comparisons}
    labels = [x for x in asked.store.labels(task.name, labeler_of(ask)) if x.comparison_id in known]
    model = RewardModel.from_policy(reference, run.seed + round)
    data = reward.encode(task, comparisons, labels, reference.tokenizer)
    samples = pool[slice(0, config.normalize_samples)]
    alone = Run(
        seed=run.seed + round, device=run.device, quiet=run.quiet, micro_batch=run.ranks.micro_batch
    )
    reward.train(model, reference, data, samples, task, reward_config, alone)
    return model


def labeler_of(ask: Ask) -> str | None:
    """Say whose labels count: those of the one person asked, or all."""
    return getattr(ask, "labeler", None)


def round_half_up(x: float) -> int:
    return int(x + 0.5)
