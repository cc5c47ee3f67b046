"""Labels collected while the policy trains (paper, section 2.3); one round is offline training.

    round 0         comparisons of the reference are labelled, a reward model learns from them
    PPO             ... until the next round is due
    round 1, 2 ...  comparisons of the policy as it is now are labelled; a new reward model learns
                    from ALL labels, from scratch
    PPO             ... continues with it: same optimizer, controller and falling learning rate

So the reward model has seen texts like those that the policy writes now. Labels come from a source:
`labelers.simulated(task).label`, people (`labels.people.People`), or any other function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from rlhf_helpers import labelers, ppo, reward
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.ppo import PPOConfig
from rlhf_helpers.records import Comparison, Label, Queries, Rollout
from rlhf_helpers.reward import RewardConfig
from rlhf_helpers.runtime import files, seeds
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

# Gives the labels that comparisons have now. It is called before every round with the comparisons
# of ALL rounds so far, so answers that were changed count as they are now. It may raise, for
# instance until people have answered: the same call of `tune` asks again.
Source = Callable[[Sequence[Comparison]], Sequence[Label]]


@dataclass(frozen=True)
class OnlineConfig:
    """How many labels, and when. In brackets: the paper's values for summaries."""

    initial: int = 1_000  # comparisons labelled before training begins
    total: int = 5_000  # comparisons labelled in all [60,000]
    rounds: int = 5  # reward models, each trained from scratch on all labels so far [20]
    normalize_samples: int = 512  # responses of the reference behind gain and bias
    each_token: bool = False  # pay each token for what it adds to the score [off]

    def __post_init__(self) -> None:
        if (
            self.rounds < 1
            or not 0 < self.initial <= self.total
            or (self.rounds == 1 and self.initial != self.total)
        ):
            raise ValueError(
                f"{self.initial} labels first, {self.total} in all, {self.rounds} rounds: give 1 "
                "or more rounds, labels for the first, and at least as many in all; one round "
                "(offline) has all of them at the start"
            )

    def labels(self, round: int) -> int:
        """Return how many labels round number `round` learns from; each adds equally many."""
        return round_half_up(
            self.initial + (self.total - self.initial) * round / max(1, self.rounds - 1)
        )

    def starts(self, steps: int) -> list[int]:
        """Return the step at which each round begins.

        The share of labels collected grows as l = 1 - (1 - progress)^2, and rounds are due at
        evenly spaced l, so most come early (paper, section 2.3). Raises ValueError if two would
        begin at the same step.
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
        """Return the round that step number `step` belongs to."""
        return sum(start <= step for start in self.starts(steps)) - 1


class Rounds:
    """What was asked in each round, and the labels that its reward model learned from.

    Kept in the run's folder, `rounds/00.jsonl` and so on: lines with a `comparison` of the round,
    then lines with a `label` of any round so far. A resumed run learns from the same labels again.
    """

    def __init__(self, run: Run):
        self.run = run
        self.comparisons: list[list[Comparison]] = []
        self.labels: dict[int, list[Label]] = {}
        while (path := self.path(len(self.comparisons))) is not None and path.exists():
            self._read(path)

    def path(self, round: int) -> Path | None:
        """Return the file of a round; None if the run has no folder."""
        folder = self.run.folder
        return folder / "rounds" / f"{round:02}.jsonl" if folder is not None else None

    def so_far(self, round: int) -> list[Comparison]:
        """Return the comparisons of a round and of those before it."""
        if round >= len(self.comparisons):
            raise ValueError(
                f"{self.path(len(self.comparisons))} is missing, but the run has reached round "
                f"{round}: restore the file from a copy, or choose another folder for a new run"
            )
        return [c for group in self.comparisons[: round + 1] for c in group]

    def asked(self, comparisons: list[Comparison]) -> None:
        """Keep the comparisons of the next round."""
        self.comparisons.append(comparisons)
        self._write(len(self.comparisons) - 1)

    def answered(self, round: int, labels: list[Label]) -> None:
        """Keep the labels that the reward model of a round learns from."""
        self.labels[round] = labels
        self._write(round)

    def _write(self, round: int) -> None:
        path = self.path(round)
        if path is not None and self.run.ranks.is_first:
            path.parent.mkdir(exist_ok=True)
            records = [{"comparison": asdict(c)} for c in self.comparisons[round]]
            records += [{"label": asdict(x)} for x in self.labels.get(round, [])]
            files.replace_json_lines(path, records)

    def _read(self, path: Path) -> None:
        records = files.read_json_lines(path)
        try:
            labels = [Label(**x["label"]) for x in records if "label" in x]
            asked = [Comparison(**x["comparison"]) for x in records if "label" not in x]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(files.damaged(path, error)) from error
        if labels:
            self.labels[len(self.comparisons)] = labels
        self.comparisons.append(asked)


def tune(
    policy: Policy, task: Task, pool: Queries, source: Source, run: Run,
    config: OnlineConfig, reward_config: RewardConfig, ppo_config: PPOConfig,
) -> tuple[RewardModel, list[dict[str, float]]]:  # fmt: skip
    """Train policy and reward model in turns; return the last reward model and PPO's summaries.

    A run that was stopped continues and ends as if it had not been; with another policy, pool or
    config it is refused. Raises ValueError if the rounds do not fit into the steps, and whatever
    `source` raises.
    """
    config.starts(ppo_config.steps)
    reference, rounds = policy.frozen_copy(), Rounds(run)
    models: list[RewardModel] = []
    current = -1

    def before_step(step: int) -> None:
        nonlocal current
        due = config.round_at(step, ppo_config.steps)
        if due == current:
            return
        if due == len(rounds.comparisons):
            rounds.asked(collect(policy, task, pool, due, config, run))
        if due not in rounds.labels:
            asked = rounds.so_far(due)
            rounds.answered(due, run.ranks.from_first(lambda: list(source(asked))))
        model = retrain(reference, task, pool, rounds, due, config, reward_config, run)
        current, models[:] = due, [model]

    def score(rollout: Rollout) -> torch.Tensor:
        read = reward.gains if config.each_token else reward.score
        return read(models[0], rollout, task, run.ranks.micro_batch)

    learned = {"online": asdict(config), "fit": asdict(reward_config)}
    lines = ppo.tune(
        policy, score, pool, task, ppo_config, run,
        reference=reference, before_step=before_step, scored_by=learned,
    )  # fmt: skip
    before_step(ppo_config.steps - 1)  # a run that had finished returns its reward model too
    return models[0], lines


def collect(
    policy: Policy, task: Task, pool: Queries, round: int, config: OnlineConfig, run: Run
) -> list[Comparison]:
    """Sample the comparisons of a round from the policy as it is now.

    Their prompts are passes over the pool, in an order of the round's own. Prompts whose answers
    all read the same are left out, and the run says how many.
    """
    count = config.labels(round) - (config.labels(round - 1) if round else 0)
    if count == 0:
        return []
    generator = seeds.generator(run.seed, "prompts of round", round)
    passes = range(-(-count // len(pool)))
    rows = torch.cat([torch.randperm(len(pool), generator=generator) for _ in passes])[:count]
    made = labelers.collect(
        policy, task, pool[rows], seed=seeds.derive(run.seed, "samples of round", round),
        source="policy" if round else "base", round=round,
    )  # fmt: skip
    if len(made) < count and not run.quiet:
        print(
            f"Round {round}: {len(made)} of {count} prompts gave different answers; the others are "
            "left out."
        )
    return run.ranks.from_first(lambda: made)


def retrain(
    reference: Policy, task: Task, pool: Queries, rounds: Rounds, round: int,
    config: OnlineConfig, reward_config: RewardConfig, run: Run,
) -> RewardModel:  # fmt: skip
    """Train a new reward model, from scratch, on all labels up to this round."""
    seed = seeds.derive(run.seed, "reward model of round", round)
    model = RewardModel.from_policy(reference, seed)
    data = reward.encode(task, rounds.so_far(round), rounds.labels[round], reference.tokenizer)
    samples = pool[slice(0, config.normalize_samples)]
    alone = Run(seed=seed, device=run.device, quiet=run.quiet, micro_batch=run.ranks.micro_batch)
    reward.train(model, reference, data, samples, task, reward_config, alone)
    return model


def round_half_up(x: float) -> int:
    """Round to the nearest integer, halves up: Python rounds them to even."""
    return int(x + 0.5)
