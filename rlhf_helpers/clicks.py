"""The reward model of few labels: a taste from a hundred clicks.

    features   phi(x) of an answer x, read off the frozen base model       (`features`)
    reward     r(x) = w . phi(x)                                           linear
    choice     P(k) = softmax(r)[k]                                        as in `reward`
    prior      w ~ N(0, S): S says how much is expected of states, length and words

fit          the likeliest w (a convex problem, solved exactly), S by the evidence, and how sure
             that is (Laplace); every click is predicted before it is learned from
learn        the same for clicks in the order in which they were given, one after another
next         which comparison to ask next
Taste        rewards, uncertainty, score (what PPO maximises), save, load
ceiling      how often anybody could guess this labeler's choices

"Cannot tell" is an answer: each of the K options chosen in equal parts. It teaches a taste for
particular things, to which most comparisons say nothing, as much as a choice does.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlhf_helpers import models, tasks
from rlhf_helpers.evaluation import Proportion, wilson
from rlhf_helpers.features import Features
from rlhf_helpers.models import Policy
from rlhf_helpers.posterior import PRIORS, Clicks, Guess, Prior, calibrated_width
from rlhf_helpers.records import Comparison, Label, Rollout, digest
from rlhf_helpers.reward import Score
from rlhf_helpers.runtime import guards, seeds
from rlhf_helpers.runtime.files import read_tensors, replacing, writing
from rlhf_helpers.tasks import Task

EVERY = 10  # clicks between two choices of a prior

# ---- the taste -----------------------------------------------------------------------------------


class Taste:
    """What was learned from a person's clicks: a reward for any answer, and how sure it is.

    weights (D,) and factor (n, D), float32: the posterior of w is N(weights, S - factor' factor)
    with S the diagonal of `variances` (D,). gain and bias give the answers to the comparisons of
    the fit mean 0 and deviation 1; ladder: theirs, ascending. width: what deviations are multiplied
    by, from the clicks that were predicted. guesses: those predictions, oldest first.
    """

    def __init__(
        self, features: Features, tensors: dict[str, Tensor], clicks: Clicks | None = None,
        guesses: Sequence[Guess] = (),
    ) -> None:  # fmt: skip
        self.features, self.tensors = features, tensors
        self.clicks, self.guesses = clicks, list(guesses)

    @property
    def prior(self) -> Prior:
        """The prior that the evidence chose."""
        return Prior(*self.tensors["prior"].tolist())

    def rewards(self, comparisons: Sequence[Comparison]) -> Tensor:
        """Reward every option: (N, K). Answers of the reference have mean 0 and deviation 1."""
        return self._reward(self.features(comparisons))

    def uncertainty(self, comparisons: Sequence[Comparison]) -> Tensor:
        """Return the deviation of each reward from the mean of its comparison's options: (N, K)."""
        x = self.features(comparisons)
        return self.deviation(x - x.mean(1, keepdim=True))

    def probabilities(self, comparisons: Sequence[Comparison]) -> Tensor:
        """Say how likely each option is to be chosen: (N, K)."""
        return (self.features(comparisons) @ self.tensors["weights"]).softmax(-1)

    @property
    def score(self) -> Score:
        """Score a rollout, `taste.score(rollout)`: plain rewards, nothing off for uncertainty."""
        return self.scorer()

    def scorer(self, *, lower_bound: float = 0.0, ranked: bool = False) -> Score:
        """Make a score: the reward of each truncated response, or the task's penalty for one
        without an end.

        `lower_bound` deviations are taken off. ranked: not the reward but its rank, the share of
        the reference's answers below it (mean 0 and deviation 1 again, so at most sqrt(3)). A few
        words that weigh much give one sentence a reward that no other has, and PPO then says
        nothing else; a rank makes it worth hardly more than the other good ones. (The expected
        rank is how often the taste prefers an answer to the reference's, as in Azar et al. 2023.)
        """

        def score(rollout: Rollout) -> Tensor:
            task, tokenizer = self.features.task, self.features.policy.tokenizer
            kept, finished = tasks.truncate(task, rollout.responses, tokenizer)
            x = self.features.of_rollout(rollout, kept)
            rewards = self._reward(x) - (lower_bound * self.deviation(x) if lower_bound else 0)
            if ranked:
                rewards = self.rank(rewards)
            return torch.where(finished, rewards.to(finished.device), task.penalty)

        score.tokenizer = self.features.policy.tokenizer  # `ppo.tune` compares it with its policy's
        kind = ", ranked" if ranked else ""
        score.name = f"{self.name}, lower bound {lower_bound:g}{kind}"  # and goes on with no other
        return score

    def rank(self, rewards: Tensor) -> Tensor:
        """Return for each reward the share of the reference's answers below it, brought to mean 0
        and deviation 1: from -sqrt(3) to sqrt(3)."""
        ladder = self.tensors["ladder"]
        share = torch.searchsorted(ladder, rewards.contiguous()) / len(ladder)
        return math.sqrt(12) * (share - 0.5)

    @property
    def name(self) -> str:
        """Sum the taste up in characters that change with its model, features and clicks."""
        return f"taste {digest(*self._all_tensors().values())} of {self.features.name}"

    def save(self, path: Path | str) -> None:
        """Write one safetensors file: features and weights, without the clicks themselves."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"model": self.features.name, "task": json.dumps(asdict(self.features.task))}
        with writing(str(path)), replacing(path) as new:
            save_file({k: v.contiguous() for k, v in self._all_tensors().items()}, new, about)

    @classmethod
    def load(cls, path: Path | str, policy: Policy) -> Taste:
        """Load a taste; raises ValueError if it was fitted on another model than `policy`."""
        tensors = read_tensors(Path(path))
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        if about.get("model") != models.fingerprint(policy):
            raise ValueError(
                f"the taste in {path} was fitted on {about.get('model', 'no model')}, not on "
                f"{models.fingerprint(policy)}: load the model that it was fitted on"
            )
        mine = {k.removeprefix("taste_"): v for k, v in tensors.items() if k.startswith("taste_")}
        if "ladder" not in mine:
            raise ValueError(
                f"the taste in {path} was fitted by an older version and cannot rank answers: fit "
                "it again (notebook 03)"
            )
        others = {k: v for k, v in tensors.items() if not k.startswith("taste_")}
        task = Task(**json.loads(about["task"]))
        return cls(Features.of_tensors(policy, task, others), mine)

    def _all_tensors(self) -> dict[str, Tensor]:
        mine = {f"taste_{name}": tensor for name, tensor in self.tensors.items()}
        return dict(sorted((self.features.tensors | mine).items()))

    def _reward(self, x: Tensor) -> Tensor:
        return x @ self.tensors["weights"] * self.tensors["gain"] + self.tensors["bias"]

    def deviation(self, x: Tensor) -> Tensor:
        """Return the posterior deviation of the rewards of features x (..., D), or of differences
        between features: (...), in units of the reward."""
        t = self.tensors
        variance = (x.square() @ t["variances"]) - (x @ t["factor"].T).square().sum(-1)
        return variance.clamp(min=0).sqrt() * t["gain"] * t["width"]


def fit(
    policy: Policy, task: Task, comparisons: Sequence[Comparison], labels: Sequence[Label], *,
    cannot_tell: Collection[str] = (), features: Features | None = None,
    previous: Taste | None = None, predict: bool = True,
) -> Taste:  # fmt: skip
    """Fit a taste to clicks, and predict each one before it is learned from (unless not `predict`).

    comparisons: all there are, labelled or not; `features` of them may be shared by several fits.
    labels: in the order in which they were given. cannot_tell: ids of comparisons whose options
    their labeler found alike, which says as much as a choice; skipped ones say nothing and are not
    given here. previous: an earlier fit, from which all goes on that was not taken back; its
    features and predictions are kept. Raises ValueError as `reward.encode` does.
    """
    known = {c.id: c for c in comparisons}
    rows: list[tuple[str, int | None]] = []
    if labels:
        rows = [(c.id, k) for c, k in guards.labelled_rows(task, comparisons, labels)]
    if unknown := [i for i in cannot_tell if i not in known]:
        raise ValueError(
            f"cannot tell: comparison {unknown[0]} is not among the {len(known)} given"
        )
    rows += [(i, None) for i in cannot_tell if not known[i].has_equal_options]
    if previous is None or previous.clicks is None:
        features = features or Features(policy, task, comparisons)
    else:
        features = previous.features
    return learn(features, known, rows, previous=previous, predict=predict)


def learn(
    features: Features, known: Mapping[str, Comparison],
    rows: Sequence[tuple[str, int | None]], *, previous: Taste | None = None, predict: bool = True,
) -> Taste:  # fmt: skip
    """Fit a taste to clicks in the order in which they were given; see `fit`.

    known: comparisons by id. rows: the clicks that stand, (comparison id, choice), None for
    "cannot tell". What `previous` has learned and is no longer among them is forgotten, the prior
    that it chose included.
    """
    if not rows:
        raise ValueError("there are no clicks yet: label some comparisons first (notebook 02)")
    rows, guesses = list(rows), []
    if previous is not None and previous.clicks is not None:
        clicks, guesses, rows = _go_on(previous.clicks, previous.guesses, rows)
    else:
        clicks = Clicks(features.sizes, len(known[rows[0][0]].options))
    for part in [[row] for row in rows] if predict else [rows] if rows else []:
        x = features([known[i] for i, _ in part])
        if predict and part[0][1] is not None:
            guesses.append(clicks.guess(part[0], x[0]))
        clicks.add(part, x)
        clicks.fit(choose_prior=len(clicks.rows) % EVERY == 0 or not predict)
    if clicks.mode is None:
        clicks.fit()
    return _taste(features, clicks, guesses)


def _go_on(
    before: Clicks, guesses: Sequence[Guess], rows: Sequence[tuple[str, int | None]]
) -> tuple[Clicks, list[Guess], list[tuple[str, int | None]]]:
    """Keep what still stands of earlier clicks and of their predictions; return the new rows too.

    The prior was chosen when the number of clicks was last a multiple of EVERY; if other clicks
    stood there then, it is chosen again.
    """
    if rows[: len(before.rows)] == before.rows:  # as after most clicks
        return before.keep(range(len(before.rows))), list(guesses), list(rows[len(before.rows) :])
    left = Counter(rows)
    stay = [i for i, row in enumerate(before.rows) if left[row] > 0 and not left.subtract([row])]
    clicks, settled = before.keep(stay), len(stay) // EVERY * EVERY
    moved = stay[:settled] != list(range(settled))
    if moved or len(before.rows) // EVERY * EVERY != settled:
        then = clicks.keep(range(settled))
        then.prior = PRIORS[0]
        if settled:
            then.fit(choose_prior=True)
        clicks.prior = then.prior
    if stay and clicks.mode is None:
        clicks.fit()  # the next click is predicted from these
    given = Counter(clicks.rows)
    guesses = [
        g
        for g in guesses
        if given[row := (g.comparison_id, g.choice)] > 0 and not given.subtract([row])
    ]
    left = Counter(clicks.rows)
    return clicks, guesses, [row for row in rows if left[row] <= 0 or left.subtract([row])]


def _taste(features: Features, clicks: Clicks, guesses: Sequence[Guess]) -> Taste:
    """Read weights and uncertainty off a fit, and bring rewards to mean 0 and deviation 1."""
    weights, factor = clicks.weights()
    rewards = features.pool.flatten(0, -2) @ weights.float()
    deviation = rewards.std(correction=0).clamp(min=1e-6)
    gain, bias = 1 / deviation, -rewards.mean() / deviation
    numbers = {
        "weights": weights, "factor": factor, "variances": clicks.variances(),
        "gain": gain, "bias": bias, "ladder": (rewards * gain + bias).sort().values,
        "prior": torch.tensor(clicks.prior), "width": torch.tensor(calibrated_width(guesses)),
    }  # fmt: skip
    return Taste(features, {k: v.float() for k, v in numbers.items()}, clicks, guesses)


# ---- how good it is, and what is next ------------------------------------------------------------


def accuracy(guesses: Sequence[Guess], among: Collection[str] | None = None) -> Proportion:
    """Count how often the likeliest option was the chosen one, each click predicted beforehand.

    `among`: ids of comparisons that were asked at random. Those that a model picked are hard or
    easy ones, and say less about how it does on others. Raises ValueError without predictions.
    """
    hits = [g.hit for g in guesses if among is None or g.comparison_id in among]
    return wilson(sum(hits), len(hits))


def ceiling(agreement: float, options: int) -> float:
    """Bound the share of choices that anybody could guess, from a labeler's agreement with itself.

    Two answers to one comparison agree with probability a = sum p^2. Given that, the favourite is
    likeliest if all others share the rest alike: p = (1 + sqrt((K - 1)(K a - 1))) / K; and that is
    concave in a, so it bounds the mean of many comparisons too. An agreement at chance gives 1 / K.
    """
    inside = (options - 1) * max(0.0, options * agreement - 1)
    return (1 + math.sqrt(inside)) / options


class Question(NamedTuple):
    """What to ask next, and how it was picked, "random" or "thompson".

    A label store keeps `how` with the answer, so that `accuracy` can be measured on random ones.
    """

    comparison: Comparison
    how: str


def next(
    taste: Taste | None, pool: Sequence[Comparison], asked: Collection[str], *,
    how: str = "thompson", random_share: float = 0.25, seed: int = 0,
) -> Question | None:  # fmt: skip
    """Pick the next comparison from a pool; None if all were asked.

    Never one that was asked, or whose options are equal. Thompson: two draws from the posterior,
    and the comparison in which the second one's favourite loses most in the eyes of the first. The
    fifth of the pool whose options differ least is left for the end. A `random_share` of the
    questions is drawn at random from all that are open, so that something is left to measure on.
    """
    if how not in ("thompson", "random"):
        raise ValueError(f"{how!r} is no way to pick a comparison: choose thompson or random")
    open_ = [c for c in pool if c.id not in asked and not c.has_equal_options]
    if not open_:
        return None
    generator = seeds.generator(seed, "next comparison", len(asked))
    coin, place = torch.rand(2, generator=generator).tolist()
    if taste is None or how == "random" or coin < random_share:
        return Question(open_[int(place * len(open_))], "random")
    x = taste.features(open_)
    differ = (x - x.mean(1, keepdim=True)).square().sum((1, 2))
    first, second = (x @ w for w in _draws(taste, 2, generator))  # (N, K)
    missed = first.amax(-1) - first.gather(1, second.argmax(-1, keepdim=True)).squeeze(1)
    missed[differ < differ.quantile(0.2)] = -1
    return Question(open_[int(missed.argmax())], "thompson")


def _draws(taste: Taste, count: int, generator: torch.Generator) -> Tensor:
    """Draw weights from the posterior: (count, D).

    A draw from the prior is corrected by what the clicks say of it, noise included: with F the
    factor, w + v - F' (F S^-1 v + C e), v ~ N(0, S), C C' = I - F S^-1 F' (Matheron's rule).
    """
    t = taste.tensors
    root, factor = t["variances"].sqrt(), t["factor"]
    m = factor / root
    left = torch.eye(len(m)) * (1 + 1e-6) - m @ m.T
    z = torch.randn(count, len(root), generator=generator)
    e = torch.randn(count, len(m), generator=generator)
    seen = z @ m.T + e @ torch.linalg.cholesky(left).T
    return t["weights"] + z * root - seen @ factor
