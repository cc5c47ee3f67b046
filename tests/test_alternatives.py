"""Best of n, the policy gradient and the optimum, against worlds in which every answer can be
listed."""

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from rlhf_helpers import alternatives, sampling
from rlhf_helpers.records import Queries

WORLD = [0.4, 0.3, 0.2, 0.1]  # four answers
TIED = [1.0, 3.0, 3.0, -2.0]  # two of them equally good


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def letters_sum(rollout):
    return rollout.responses.sum(-1).float()


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def by_tuples(probabilities, scores, n):
    """The best of n by brute force: all tuples of n answers, equally good ones share."""
    found = [0.0] * len(probabilities)
    for drawn in itertools.product(range(len(probabilities)), repeat=n):
        likely = math.prod(probabilities[y] for y in drawn)
        best = [y for y in drawn if scores[y] == max(scores[z] for z in drawn)]
        for y in best:
            found[y] += likely / len(best)
    return found


# ---- best of n -----------------------------------------------------------------------------------


def test_the_best_of_one_is_sampling_bit_for_bit(policy, task, ragged):
    kept, scores = alternatives.best_of(policy, letters_sum, ragged, task, 1, generator())
    plain = sampling.sample(policy, ragged, task.response_length, task.temperature, generator())
    for name in ("responses", "logprobs", "values", "mask"):
        assert torch.equal(getattr(kept, name), getattr(plain, name)), name
    assert torch.equal(scores, letters_sum(plain)) and kept.answers == 1


def test_the_best_of_n_is_the_best_of_the_same_n_samples(policy, task, ragged):
    kept, scores = alternatives.best_of(policy, letters_sum, ragged, task, 7, generator())
    drawn = sampling.sample(
        policy, ragged, task.response_length, task.temperature, generator(), answers=7
    )
    for i, group in enumerate(letters_sum(drawn).view(4, 7).tolist()):
        row = 7 * i + group.index(max(group))
        assert scores[i] == max(group)
        assert torch.equal(kept.responses[i], drawn.responses[row])
        assert torch.equal(kept.logprobs[i], drawn.logprobs[row])
        assert torch.equal(kept.queries.tokens[i], ragged.tokens[i])


def test_the_best_of_n_occurs_as_often_as_its_exact_distribution_says(make_policy, task):
    """5 letters, one token: 5 answers; the policy's own probabilities by transformers' forward."""
    policy = make_policy(vocabulary=5)
    asked = Queries(torch.tensor([[3, 1]]), torch.ones(1, 2, dtype=torch.bool))
    with torch.no_grad():
        logits = policy.lm(asked.tokens).logits[0, -1].double()
    reference, values = (logits / 0.7).log_softmax(-1), doubles([0.0, 2.0, 1.0, 2.0, -1.0])
    one = task.__class__("toy", "none", 2, 1, ".", 0, temperature=0.7)
    kept, _ = alternatives.best_of(
        policy, lambda r: values[r.responses[:, 0]].float(), asked.repeat(20_000), one, 3,
        generator(), micro_batch=20_000,
    )  # fmt: skip
    found = kept.responses[:, 0].bincount(minlength=5).double() / 20_000
    exact = doubles(by_tuples(reference.exp().tolist(), values.tolist(), 3))
    error = (exact * (1 - exact) / 20_000).sqrt()
    assert ((found - exact).abs() <= 4 * error + 1e-12).all()
    assert (found - reference.exp()).abs().max() > 0.05  # choosing does change something


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_exact_distribution_is_that_of_all_tuples(n):
    ours = alternatives.best_of_logprobs(doubles(WORLD).log(), doubles(TIED), n)
    assert ours.exp().tolist() == pytest.approx(by_tuples(WORLD, TIED, n), abs=1e-12)


def test_the_best_of_two_hand_worked():
    # both samples must be the worst: .25; at most the middle one: .64 - .25; the rest
    ours = alternatives.best_of_logprobs(doubles([0.5, 0.3, 0.2]).log(), doubles([1, 2, 3]), 2)
    assert ours.exp().tolist() == pytest.approx([0.25, 0.39, 0.36])


@pytest.mark.parametrize("n", [1, 2, 4, 16, 64])
def test_the_kl_of_the_best_of_n_is_below_the_bound_and_reaches_it_with_many_answers(n):
    bound = alternatives.best_of_kl_bound(n)
    few, many = doubles(WORLD), torch.full((100_000,), 1e-5, dtype=torch.float64)
    for reference, scores, close in (
        (few, doubles(TIED), None),
        (many, torch.arange(100_000).double(), 1e-3),
    ):
        best = alternatives.best_of_logprobs(reference.log(), scores, n)
        kl = kl_divergence(Categorical(logits=best), Categorical(probs=reference)).item()
        assert kl <= bound + 1e-9
        if close is not None:
            assert kl == pytest.approx(bound, abs=close)
        elif n > 1:
            assert kl < bound - 0.01  # with ties it is a bound only


def test_the_kl_bound_hand_worked():
    assert alternatives.best_of_kl_bound(1) == 0
    assert alternatives.best_of_kl_bound(2) == pytest.approx(math.log(2) - 0.5)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_estimate_from_one_pool_averages_over_all_subsets(n):
    scores = torch.randn(2, 6, generator=generator(1), dtype=torch.float64)
    for row, ours in zip(scores.tolist(), alternatives.expected_best(scores, n).tolist()):
        subsets = [max(subset) for subset in itertools.combinations(row, n)]
        assert ours == pytest.approx(sum(subsets) / len(subsets))


def test_the_estimate_from_one_pool_has_no_bias():
    """Averaged over all pools of 4 from a world of 3 answers, weighted by how often they occur."""
    probabilities, values = [0.5, 0.3, 0.2], [0.0, 1.0, 4.0]
    average = 0.0
    for pool in itertools.product(range(3), repeat=4):
        likely = math.prod(probabilities[y] for y in pool)
        scores = doubles([[values[y] for y in pool]])
        average += likely * alternatives.expected_best(scores, 2).item()
    exact = sum(p * v for p, v in zip(by_tuples(probabilities, values, 2), values))
    assert average == pytest.approx(exact)


def test_impossible_numbers_of_samples_are_refused(policy, task, ragged):
    with pytest.raises(ValueError, match="best of 0 answers"):
        alternatives.best_of(policy, letters_sum, ragged, task, 0)
    with pytest.raises(ValueError, match="needs 5 samples a prompt, and there are 4"):
        alternatives.expected_best(torch.zeros(1, 4), 5)
    with pytest.raises(FloatingPointError, match="score"):
        alternatives.best_of(policy, lambda r: letters_sum(r) / 0, ragged, task, 2, generator())


# ---- the policy gradient -------------------------------------------------------------------------


def small_world():
    """Two tokens of three words: logits for each prefix, and a reward for each of nine answers."""
    theta = torch.randn(4, 3, generator=generator(2), dtype=torch.float64).requires_grad_()
    rewards = torch.randn(9, generator=generator(3), dtype=torch.float64)
    answers = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    prefixes = torch.stack([torch.zeros(9, dtype=torch.long), 1 + answers[:, 0]], -1)
    return theta, theta.log_softmax(-1)[prefixes, answers], rewards


@pytest.mark.parametrize("baseline", [0.0, -7.5])
def test_the_reinforce_loss_has_the_exact_gradient_on_average(baseline):
    """Weighted by how often each answer is drawn, against the gradient of the sum over all
    answers."""
    theta, logprobs, rewards = small_world()
    probabilities = logprobs.sum(-1).exp()
    (exact,) = torch.autograd.grad((probabilities * rewards).sum(), theta, retain_graph=True)
    total = torch.zeros_like(theta)
    for y, often in enumerate(probabilities.tolist()):
        row = slice(y, y + 1)
        loss = alternatives.reinforce_loss(logprobs[row], rewards[row] - baseline)
        total -= often * torch.autograd.grad(loss, theta, retain_graph=True)[0]
    assert torch.allclose(total, exact, atol=1e-12)


def test_tokens_that_do_not_count_are_left_out_and_advantages_are_constants():
    logprobs = torch.randn(2, 3, generator=generator(4)).requires_grad_()
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages = torch.tensor([2.0, -1.0], requires_grad=True)
    loss = alternatives.reinforce_loss(logprobs, advantages, mask)
    loss.backward()
    assert advantages.grad is None
    assert logprobs.grad.tolist() == [[-1.0, -1.0, -1.0], [0.5, 0.0, 0.0]]


# ---- the optimum ---------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [3.0, 0.5])
def test_no_policy_beats_the_optimum_and_its_value_is_beta_log_z(beta):
    reference, scores = doubles(WORLD).log(), doubles([1.0, -0.5, 2.0, 0.25])

    def value(logprobs):
        p, q = Categorical(logits=logprobs), Categorical(logits=reference)
        return (p.probs * scores).sum() - beta * kl_divergence(p, q)

    optimum = alternatives.optimal_logprobs(reference, scores, beta)
    z = sum(p * math.exp(s / beta) for p, s in zip(WORLD, scores.tolist()))
    assert value(optimum).item() == pytest.approx(beta * math.log(z))
    for seed in range(200):
        other = optimum + 0.3 * torch.randn(4, generator=generator(seed), dtype=torch.float64)
        assert value(other.log_softmax(-1)) < value(optimum)


def test_without_a_price_there_is_no_optimum():
    with pytest.raises(ValueError, match="beta must be positive"):
        alternatives.optimal_logprobs(torch.zeros(2), torch.zeros(2), 0.0)
