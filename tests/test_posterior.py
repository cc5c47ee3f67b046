"""The exact fit of a taste, against torch's own derivatives and optimum and by integration."""

import math

import pytest
import torch

from rlhf_helpers import posterior
from rlhf_helpers.posterior import Clicks, Guess
from rlhf_helpers.runtime import seeds

SIZES = {"states": 3, "length": 1, "words": 4}
OPTIONS = 3


@pytest.fixture
def features():
    """Of six comparisons with three options: (6, 3, 8)."""
    return torch.randn(6, OPTIONS, 8, generator=torch.Generator().manual_seed(3))


ROWS = [("a", 0), ("b", 2), ("c", None), ("d", 1), ("e", None), ("f", 0)]


@pytest.fixture
def clicks(features):
    made = Clicks(SIZES, OPTIONS)
    made.add(ROWS, features)
    made.fit()
    return made


def loss(weights, clicks, features):
    """Minus the log posterior, written down in weights: choices, prior, nothing else."""
    logp = (features.double() @ weights).log_softmax(-1)
    total = -(weights.square() / clicks.variances()).sum() / 2
    for row, (_, choice) in zip(logp, clicks.rows, strict=True):
        total = total + (row.mean() if choice is None else row[choice])
    return -total


def test_contrasts_are_orthonormal_and_blind_to_what_options_share():
    for options in (2, 3, 4, 7):
        q = posterior.contrasts(options)
        assert torch.allclose(q.T @ q, torch.eye(options - 1).double())
        assert torch.allclose(q.sum(0), torch.zeros(options - 1).double(), atol=1e-12)


def test_the_mode_is_where_torchs_optimizer_stops(clicks, features):
    weights = torch.zeros(8, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-12, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = loss(weights, clicks, features)
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.allclose(clicks.weights()[0], weights.detach(), atol=1e-6)


def test_at_the_mode_finite_differences_of_the_posterior_are_zero(clicks, features):
    weights, step = clicks.weights()[0], 1e-4
    for move in torch.eye(8).double() * step:
        up, down = (loss(weights + sign * move, clicks, features) for sign in (1, -1))
        assert abs(up - down) / (2 * step) < 1e-5


def test_the_covariance_inverts_the_hessian_by_finite_differences(clicks, features):
    weights, factor = clicks.weights()
    covariance = torch.diag(clicks.variances()) - factor.T @ factor
    step, axes = 1e-3, torch.eye(8).double()
    hessian = torch.zeros(8, 8).double()
    for i in range(8):
        for j in range(8):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = weights + step * (a * axes[i] + b * axes[j])
                hessian[i, j] += a * b * loss(moved, clicks, features) / (4 * step**2)
    assert torch.allclose(covariance @ hessian, axes, atol=1e-3)


def test_the_evidence_is_laplaces_by_autograd(clicks, features):
    weights = clicks.weights()[0]
    hessian = torch.autograd.functional.hessian(lambda w: loss(w, clicks, features), weights)
    expected = -loss(weights, clicks, features)
    expected -= (torch.logdet(hessian) + clicks.variances().log().sum()) / 2
    assert clicks.mode.evidence == pytest.approx(expected.item(), abs=1e-4)


def test_the_evidence_of_one_weight_is_close_to_the_integral():
    """Brute force: the probability of the clicks, averaged over the prior of a single weight."""
    x = torch.randn(5, 4, 1, generator=torch.Generator().manual_seed(1)).double()
    q, choices, variance = posterior.contrasts(4), torch.tensor([0, 3, 3, 1, 2]), 1.5
    flat = (q.T @ x).flatten(0, 1)
    targets = torch.eye(4)[choices].double()
    found = posterior.find_mode(variance * flat @ flat.T, targets).evidence
    grid = torch.linspace(-12, 12, 20_001).double()
    logp = (x.squeeze(-1) * grid.view(-1, 1, 1)).log_softmax(-1)  # (G, 5, 4)
    likelihood = logp.gather(2, choices.expand(len(grid), 5).unsqueeze(2)).sum((1, 2)).exp()
    prior = torch.exp(-grid.square() / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    exact = math.log((likelihood * prior).sum().item() * (grid[1] - grid[0]).item())
    assert found == pytest.approx(exact, abs=0.03)


def test_the_evidence_of_ties_alone_is_that_of_the_search():
    x = torch.randn(7 * 3, 20, generator=torch.Generator().manual_seed(2)).double()
    gram, targets = x @ x.T, torch.full((7, 4), 0.25).double()
    mode = posterior.find_mode(gram, targets)
    assert mode.dual.abs().max() < 1e-12
    assert posterior.evidence_of_ties(gram, 4) == pytest.approx(mode.evidence)


def test_ties_do_not_make_the_prior_narrow():
    """With 80 of 100 answers "cannot tell", the evidence of all of them chose a narrow prior, and a
    taste for particular things lost its edge."""
    x = torch.randn(100, OPTIONS, 8, generator=torch.Generator().manual_seed(7))
    x[:80] *= 0.3
    rows = [(str(i), None if i < 80 else int(row.argmax())) for i, row in enumerate(x[:, :, 6])]
    made = Clicks(SIZES, OPTIONS)
    made.add(rows, x)
    made.fit(choose_prior=True)
    assert sum(made.prior) > 3


def test_a_far_start_and_steep_rewards_end_at_the_same_mode(clicks, features):
    clicks.prior = posterior.Prior(400.0, 400.0, 400.0)
    clicks.fit()
    weights = clicks.weights()[0]
    clicks.dual = 5 * torch.randn(12, generator=torch.Generator().manual_seed(0)).double()
    clicks.fit()
    assert torch.allclose(clicks.weights()[0], weights, atol=1e-4)


def test_clicks_added_one_by_one_are_those_added_at_once(clicks, features):
    one = Clicks(SIZES, OPTIONS)
    for row, x in zip(ROWS, features, strict=True):
        one.add([row], x[None])
        one.fit()
    assert torch.allclose(one.weights()[0], clicks.weights()[0], atol=1e-5)
    assert all(torch.allclose(a, b) for a, b in zip(one.grams, clicks.grams, strict=True))


def test_a_click_taken_back_leaves_no_trace(clicks, features):
    stays = [0, 2, 3, 5]
    kept, fresh = clicks.keep(stays), Clicks(SIZES, OPTIONS)
    fresh.add([ROWS[i] for i in stays], features[stays])
    for made in (kept, fresh):
        made.fit()
    assert kept.rows == fresh.rows
    assert torch.allclose(kept.weights()[0], fresh.weights()[0], atol=1e-5)


def test_a_guess_is_what_the_weights_say_of_options_not_yet_asked(clicks):
    x = torch.randn(OPTIONS, 8, generator=torch.Generator().manual_seed(9))
    weights, factor = clicks.weights()
    guess = clicks.guess(("new", 1), x)
    by_hand = torch.exp(x.double() @ weights)
    assert torch.allclose(guess.probabilities, by_hand / by_hand.sum())
    covariance = torch.diag(clicks.variances()) - factor.T @ factor
    contrasts = posterior.contrasts(OPTIONS).T @ x.double()
    assert torch.allclose(guess.covariance, contrasts @ covariance @ contrasts.T)
    assert torch.allclose(guess.mean, contrasts @ weights)


def test_before_any_click_every_option_is_as_likely():
    guess = Clicks(SIZES, OPTIONS).guess(("first", 0), torch.randn(OPTIONS, 8))
    assert guess.probabilities.tolist() == pytest.approx([1 / 3] * 3)


def test_cannot_tell_brings_rewards_together(clicks, features):
    """Where the options were found alike, they end closer than had nothing been said."""
    silent = clicks.keep([0, 1, 3, 5])
    silent.fit()

    def spread(made):
        return (features[2].double() @ made.weights()[0]).std()

    assert spread(clicks) < spread(silent)


def test_the_evidence_chooses_the_prior_of_the_block_that_tells(features):
    """Choices by one of the words alone, many of them: much is expected of words."""
    x = torch.randn(60, OPTIONS, 8, generator=torch.Generator().manual_seed(5))
    made = Clicks(SIZES, OPTIONS)
    made.add([(str(i), int(row.argmax())) for i, row in enumerate(x[:, :, 6])], x)
    made.fit(choose_prior=True)
    assert made.prior.words > made.prior.states
    other = Clicks(SIZES, OPTIONS)
    other.add([(str(i), int(row.argmax())) for i, row in enumerate(x[:, :, 1])], x)
    other.fit(choose_prior=True)
    assert other.prior.states > other.prior.words


@pytest.mark.parametrize("true_width", [0.5, 2.0])
def test_calibration_finds_how_wide_the_truth_spreads(true_width):
    """Truths drawn as wide as `true_width` times what the posterior says; the best is chosen."""
    generator = torch.Generator().manual_seed(0)
    q, guesses = posterior.contrasts(4), []
    for i in range(400):
        mean = torch.randn(3, generator=generator).double()
        truth = mean + true_width * torch.randn(3, generator=generator)
        choice = int((q @ truth).argmax())
        guesses.append(Guess(str(i), choice, (q @ mean).softmax(-1), mean, torch.eye(3).double()))
    assert posterior.calibrated_width(guesses) == pytest.approx(true_width, rel=0.3)
    assert posterior.calibrated_width([]) == 1


def test_the_width_is_the_likeliest_of_those_tried_by_counting_favourites():
    """By hand: of many draws, how often is the chosen option the best one, for each width."""
    generator = torch.Generator().manual_seed(3)
    q, guesses = posterior.contrasts(4), []
    for n in range(60):
        root = torch.randn(3, 3, generator=generator).double()
        mean = torch.randn(3, generator=generator).double()
        p = (q @ mean).softmax(-1)
        choice = int(torch.multinomial(p, 1, generator=generator))
        guesses.append(posterior.Guess(str(n), choice, p, mean, root @ root.T))
    same = seeds.generator(0, "calibration")  # the draws that are made there
    noise = torch.randn(posterior.DRAWS, 60, 3, generator=same).double()
    roots = torch.linalg.cholesky(torch.stack([g.covariance for g in guesses]))
    moves = torch.einsum("nij,dnj->dni", roots, noise)

    def likelihood(width):
        rewards = (torch.stack([g.mean for g in guesses]) + width * moves) @ q.T
        hit = rewards.argmax(-1) == torch.tensor([g.choice for g in guesses])
        shares = (hit.double().sum(0) + 0.5) / (len(hit) + 1)
        return float(shares.log().sum()) - math.log(width) ** 2 / 2

    tried = [2 ** (i / 4) for i in range(-8, 17)]
    assert posterior.calibrated_width(guesses) == max(tried, key=likelihood)
