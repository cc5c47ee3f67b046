"""The reader of notebook 08. What it wants is known exactly, so that a reward model can be caught.

contentment   its utility: happy words, but nothing twice
reader        a simulated labeler who has it, and the noise of people
LazyLabeler   one who also prefers what stands first on the card
wordy         the utility of one who also prefers longer texts
Gold          contentment in deviations of the base model's answers
look          a policy at one moment of its training, in the eyes of proxy, gold and judge
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from rlhf_helpers import evaluation, labelers, sampling, tasks, tensors
from rlhf_helpers.labelers import NOISE, SimulatedLabeler
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Queries
from rlhf_helpers.reward import Score
from rlhf_helpers.runtime import seeds
from rlhf_helpers.tasks import Task
from rlhf_helpers.tensors import per_response

BOREDOM = 3.0  # what a repeated word costs: as much as the happiest one can win
LETTERS = 4  # shorter words may come again
FIRST = 1.0  # what the first place is worth to a lazy labeler, in units of its noise (notebook 02)
WORDY = 0.25  # what a word more is worth to a wordy one (notebook 02)


def repeats(text: str) -> int:
    """Count the words of four letters or more that the text has said before."""
    said = [word for word in labelers.words(text) if len(word) >= LETTERS]
    return len(said) - len(set(said))


def contentment(text: str) -> float:
    """Score how content the reader is: the sentiment of the text, less 3 for each repetition."""
    return labelers.sentiment(text) - BOREDOM * repeats(text)


def wordy(text: str) -> float:
    """Score how content a reader is who also likes length: a quarter of a point for every word."""
    return contentment(text) + WORDY * len(labelers.words(text))


def reader(
    name: str = "reader", seed: int = 0, temperature: float | None = None
) -> SimulatedLabeler:
    """Make the simulated labeler of contentment, as noisy as people are unless told otherwise."""
    noise = NOISE["sentiment"] if temperature is None else temperature
    return SimulatedLabeler(name, contentment, noise, seed)


# ---- a bad habit ---------------------------------------------------------------------------------


def shortest_first(options: Sequence[str]) -> int:
    """Say which option stands first on a card that begins with the shortest."""
    return min(range(len(options)), key=lambda k: (len(labelers.words(options[k])), k))


def shuffled(options: Sequence[str]) -> int:
    """Say which option stands first on a card in a random order, the same whenever it is shown."""
    digest = hashlib.sha256("\n".join(options).encode()).digest()
    return int.from_bytes(digest[:4], "big") % len(options)


@dataclass(frozen=True)
class LazyLabeler(SimulatedLabeler):
    """A labeler for whom what stands first is `bonus` times the noise better than it is."""

    first: Callable[[Sequence[str]], int] = shuffled
    bonus: float = FIRST

    def probabilities(self, options: Sequence[str]) -> list[float]:
        """Say how likely each option is to be chosen on this card."""
        values = [self.utility(option) for option in options]
        values[self.first(options)] += self.bonus * self.temperature
        return labelers.softmax(values, self.temperature)


# ---- proxy and gold ------------------------------------------------------------------------------


class Gold(NamedTuple):
    """The reader's contentment, so that the base model's answers have mean 0 and deviation 1, as
    they have in the eyes of a reward model."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> Gold:
        """Take the unit from answers of the base model."""
        found = [contentment(text) for text in texts]
        return cls(statistics.fmean(found), statistics.pstdev(found))

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the gold of each text: (B,)."""
        return torch.tensor([(contentment(t) - self.mean) / self.deviation for t in texts])


@torch.no_grad()
def look(
    policy: Policy, base: Policy, queries: Queries, task: Task, proxy: Score, gold: Gold,
    rivals: Sequence[str], *, judge: SimulatedLabeler, seed: int = 0, shown: int = 3,
) -> dict[str, Any]:  # fmt: skip
    """Let a policy answer, and measure it.

    queries (P, Q). A noisy judge compares the first answers with as many `rivals`, written by the
    base model to the same prompts; proxy and gold are means over the other prompts, so that a
    policy may be picked by the one and reported by the other. The same dice whenever it is called.
    kl_nats, surprise_nats: per answer, from and in the eyes of the base model.
    """
    dice = seeds.generator(seed, "a look at a policy", 0, policy.device)
    options = (task.response_length, task.temperature)
    rollout = sampling.sample(policy, queries, *options, dice)
    theirs = sampling.replay(base, rollout, task.temperature, micro_batch=128).logprobs
    texts = tasks.texts(task, rollout.responses, policy.tokenizer)
    prompts, judged = tasks.query_texts(queries, policy.tokenizer), len(rivals)
    pairs, sides = evaluation.paired(task, prompts[:judged], texts[:judged], rivals)
    return {
        "kl_nats": (rollout.logprobs - theirs).sum(-1).mean().item(),
        "proxy": per_response(proxy(rollout)).cpu()[judged:].mean().item(),
        "gold": gold(texts[judged:]).mean().item(),
        "wins": evaluation.judge(pairs, sides, judge.label(pairs)).rate,
        "surprise_nats": -theirs.sum(-1).mean().item(),
        "entropy_nats": -rollout.logprobs.sum(-1).mean().item(),
        "distinct_bigrams": tensors.distinct_bigrams(rollout.responses, rollout.mask).item(),
        "words": statistics.fmean(len(labelers.words(t)) for t in texts),
        "repeats": statistics.fmean(map(repeats, texts)),
        "texts": texts[:shown],
    }  # fmt: skip
