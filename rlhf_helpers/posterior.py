"""The exact fit of a taste: the likeliest rewards, the evidence for a prior, how sure it all is.

    f = rewards of the clicked options, prior N(0, gram); P(k) = softmax(f)[k] for each click

With 100 clicks and 1,000 features, the likeliest w lies in the span of the clicked answers: w = S
Phi' dual. So all is computed in `dual`, which has K - 1 numbers for each click (only differences
between options matter), and a refit takes milliseconds. Newton's method finds the one maximum; the
curvature there gives the evidence and the posterior (Laplace). Source: Rasmussen and Williams 2006,
sections 3.5 and 5.5; their K is our gram.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_helpers.runtime import seeds


class Prior(NamedTuple):
    """How much reward is expected of each block: the variance of w . phi in it, per option."""

    states: float
    length: float
    words: float


# The evidence chooses among these: how far apart rewards lie, and how much of that is words. It
# would often choose narrower ones, under which other comparisons are told apart worse (benchmarks).
PRIORS = tuple(
    Prior(width * (1 - words), 0.1 * width * (1 - words), width * words)
    for width in (2.0, 4.0, 8.0)
    for words in (0.4, 0.7)
)
DRAWS = 256  # of the posterior, to calibrate it


# ---- one fit -------------------------------------------------------------------------------------


def contrasts(options: int) -> Tensor:
    """Return (K, K - 1): orthonormal columns that sum to 0, as only differences between options
    tell which is chosen."""
    start = torch.cat([torch.ones(options, 1), torch.eye(options)[:, :-1]], 1).double()
    return torch.linalg.qr(start).Q[:, 1:]


class Mode(NamedTuple):
    """Where the likeliest rewards lie, and how sharply: rewards = gram @ dual, n = N (K - 1) of
    them; the logarithm of the evidence; and what `spread` needs: blocks (N, K - 1, K - 1) and chol
    (n, n), with R R' the curvature, R of these blocks, and chol chol' = I + R' gram R.
    """

    dual: Tensor
    evidence: float
    blocks: Tensor
    chol: Tensor

    def spread(self, cross: Tensor) -> Tensor:
        """Return V (n, m) for prior covariances `cross` (n, m) of the clicked answers with others.

        The others' posterior covariance is their prior covariance less V'V.
        """
        return torch.linalg.solve_triangular(self.chol, _times(self.blocks.mT, cross), upper=False)


def find_mode(gram: Tensor, targets: Tensor, start: Tensor | None = None) -> Mode:
    """Maximise sum targets . log softmax(f) - f' gram^-1 f / 2 over rewards f, by Newton's method.

    gram (n, n): prior covariance of the contrasts of N comparisons, float64. targets (N, K): one at
    the choice, or 1 / K each for "cannot tell". `start`: the dual of an earlier fit. The curvature
    costs most by far: it is kept while steps shrink fast with it, and taken anew at the top.
    """
    (count, options), q = targets.shape, contrasts(targets.shape[1])
    dual = gram.new_zeros(len(gram)) if start is None else start
    rewards, tiny = gram @ dual, 1e-12 * torch.eye(options - 1, dtype=gram.dtype)

    def curve(p: Tensor) -> tuple[Tensor, Tensor]:
        curvature = q.T @ (torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)) @ q
        blocks = torch.linalg.cholesky(curvature + tiny)
        half = _times(blocks.mT, gram).T  # gram R
        inner = _times(blocks.mT, half.contiguous())
        inner.diagonal().add_(1)
        return blocks, torch.linalg.cholesky(inner)

    def value(dual: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
        logp = (rewards.view(count, -1) @ q.T).log_softmax(-1)
        return (targets * logp).sum() - dual @ rewards / 2, logp.exp()

    (now, p), gain, slow = value(dual, rewards), math.inf, True
    while True:
        if fresh := slow or gain <= 1e-7:
            blocks, chol = curve(p)
        up = ((targets - p) @ q).flatten() - dual
        solved = torch.cholesky_solve(_times(blocks.mT, (gram @ up)[:, None]), chol)
        step = up - _times(blocks, solved)[:, 0]
        moved, size = gram @ step, 1.0
        while size > 1e-6:  # a step is halved only far from the top
            better, p = value(dual + size * step, rewards + size * moved)
            if better >= now - 1e-9:
                break
            size /= 2
        dual, rewards, before = dual + size * step, rewards + size * moved, gain
        now, gain = better, float(better - now)
        slow = gain > 0.1 * before
        if fresh and gain <= 1e-7:
            return Mode(dual, (now - chol.diagonal().log().sum()).item(), blocks, chol)


def evidence_of_ties(gram: Tensor, options: int) -> float:
    """Return the log evidence where every answer is "cannot tell": the mode is 0, so no search."""
    inner = torch.eye(len(gram), dtype=gram.dtype) + gram / options
    lost = torch.linalg.cholesky(inner).diagonal().log().sum().item()
    return -(len(gram) // (options - 1)) * math.log(options) - lost


def _times(blocks: Tensor, x: Tensor) -> Tensor:
    """Multiply the block-diagonal matrix of `blocks` (N, K - 1, K - 1) by x (n, m)."""
    return (blocks @ x.view(*blocks.shape[:2], -1)).view(x.shape)


# ---- one click after another ---------------------------------------------------------------------


class Guess(NamedTuple):
    """What was expected of a click before it was given.

    probabilities (K,); mean (K - 1,) and covariance (K - 1, K - 1) of the contrasts of rewards.
    """

    comparison_id: str
    choice: int
    probabilities: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def hit(self) -> float:
        """1 if the likeliest option was the chosen one. Options that are equally likely share it,
        so what was chosen before there was anything to go by counts as chance, 1 / K."""
        likeliest = self.probabilities >= self.probabilities.max() - 1e-9
        return likeliest[self.choice].item() / likeliest.sum().item()


class Clicks:
    """The clicks so far, and the fit to them: what a next click can be added to in milliseconds.

    rows: (comparison id, choice), None for "cannot tell"; x (n, D): contrasts of their features;
    grams: x x' for each block.
    """

    def __init__(self, sizes: dict[str, int], options: int) -> None:
        self.sizes, self.options = sizes, options
        self.rows: list[tuple[str, int | None]] = []
        self.x = torch.zeros(0, sum(sizes.values()), dtype=torch.double)
        self.grams = [torch.zeros(0, 0, dtype=torch.double) for _ in sizes]
        self.dual = torch.zeros(0, dtype=torch.double)
        self.prior, self.mode = PRIORS[0], None

    def keep(self, numbers: Sequence[int]) -> Clicks:
        """Return the clicks with these numbers alone, with everything computed for them."""
        if list(numbers) == list(range(len(self.rows))):
            return copy.copy(self)  # with the mode; nothing here is changed in place
        kept = Clicks(self.sizes, self.options)
        at = self._at(numbers)
        kept.rows, kept.prior = [self.rows[i] for i in numbers], self.prior
        kept.x, kept.dual = self.x[at], self.dual[at]
        kept.grams = [gram[at][:, at] for gram in self.grams]
        return kept

    def add(self, rows: Sequence[tuple[str, int | None]], features: Tensor) -> None:
        """Add clicks with the features (M, K, D) of their options; nothing is fitted yet."""
        x = self._contrasts(features)
        at = len(self.x)
        self.rows, self.x = self.rows + list(rows), torch.cat([self.x, x])
        self.dual = torch.cat([self.dual, self.dual.new_zeros(len(x))])
        parts, grams = self.x.split(list(self.sizes.values()), -1), []
        for gram, part in zip(self.grams, parts, strict=True):
            side = part @ part[at:].T  # (n, m)
            grams.append(torch.cat([torch.cat([gram, side[:at]], 1), side.T], 0))
        self.grams = grams

    def fit(self, *, choose_prior: bool = False) -> None:
        """Find the mode again, from where it was; `choose_prior`: under the likeliest prior.

        Likeliest given which comparisons are told apart at all: where "cannot tell" is the answer
        to most, as for a taste for particular things, any width would else look too large.
        """
        each = [*torch.eye(self.options).double(), torch.full((self.options,), 1 / self.options)]
        targets = torch.stack([each[-1 if choice is None else choice] for _, choice in self.rows])
        alike = [row for row, (_, choice) in enumerate(self.rows) if choice is None]
        at, found = self._at(alike), []
        for prior in PRIORS if choose_prior else (self.prior,):
            gram = sum(s * g for s, g in zip(prior, self.grams, strict=True))
            mode = find_mode(gram, targets, self.dual)
            given = evidence_of_ties(gram[at][:, at], self.options)
            found.append((mode.evidence - given, mode, prior))
        _, self.mode, self.prior = max(found, key=lambda x: x[0])
        self.dual = self.mode.dual

    def guess(self, row: tuple[str, int], features: Tensor) -> Guess:
        """Predict a click on options with features (K, D), before it is added."""
        x = self._contrasts(features[None])
        scaled = x * self.variances()
        mean, covariance = torch.zeros(len(x)).double(), scaled @ x.T
        if self.mode is not None:
            cross = self.x @ scaled.T  # (n, K - 1)
            mean, v = cross.T @ self.dual, self.mode.spread(cross)
            covariance = covariance - v.T @ v
        p = (contrasts(self.options) @ mean).softmax(-1)
        return Guess(*row, p, mean, covariance)

    def variances(self) -> Tensor:
        """Return the prior variance of each weight: (D,)."""
        counts = torch.tensor(list(self.sizes.values()))
        return torch.tensor(self.prior).double().repeat_interleave(counts)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return the likeliest weights (D,) and V (n, D): their covariance is S - V'V."""
        scaled = self.x * self.variances()
        return self.dual @ scaled, self.mode.spread(scaled)

    def _at(self, numbers: Sequence[int]) -> Tensor:
        """Return where the contrasts of clicks stand in `x`."""
        width = self.options - 1
        return (torch.tensor(numbers).view(-1, 1) * width + torch.arange(width)).flatten().long()

    def _contrasts(self, features: Tensor) -> Tensor:
        """Turn features (M, K, D) into contrasts (M (K - 1), D)."""
        return (contrasts(self.options).T @ features.double()).flatten(0, 1)


def calibrated_width(guesses: Sequence[Guess]) -> float:
    """Find what to multiply the posterior's deviations by, from the clicks that were predicted.

    The width under which the chosen options were likeliest to be the best ones, with a mild prior
    (log width ~ N(0, 1)). It is 1 without predictions. Where a person is inconsistent it grows, as
    their clicks then tell less about what they like.
    """
    if not guesses:
        return 1.0
    q = contrasts(len(guesses[0].probabilities))
    generator = seeds.generator(0, "calibration")
    noise = torch.randn(DRAWS, len(guesses), q.shape[1], generator=generator).double()
    means = torch.stack([g.mean for g in guesses])
    tiny = 1e-9 * torch.eye(q.shape[1])
    roots = torch.linalg.cholesky(torch.stack([g.covariance for g in guesses]) + tiny)
    choices = torch.tensor([g.choice for g in guesses])
    moves = torch.einsum("nij,dnj->dni", roots, noise)
    others = torch.tensor([[j for j in range(len(q)) if j != k] for k in range(len(q))])[choices]
    ahead = q[choices].unsqueeze(1) - q[others]  # (N, K - 1, K - 1): chosen less each other one
    leads = torch.einsum("nji,ni->nj", ahead, means)
    moves = torch.einsum("nji,dni->dnj", ahead, moves)

    # a draw's chosen option is the best one for widths from `least` to `most`
    turn = -leads / moves  # (draws, N, K - 1): where it comes level with another
    least = torch.where(moves > 0, turn, 0).amax(-1)
    most = torch.where(moves > 0, math.inf, turn).amin(-1)

    def likelihood(width: float) -> float:
        found = ((least <= width) & (width <= most)).double().sum(0)  # (N,)
        return ((found + 0.5) / (DRAWS + 1)).log().sum().item() - math.log(width) ** 2 / 2

    return max((2 ** (i / 4) for i in range(-8, 17)), key=likelihood)
