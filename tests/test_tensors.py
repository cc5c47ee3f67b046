"""The maths against hand-worked numbers, explicit sums in float64, torch.distributions and
enumeration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from rlhf_helpers import tensors

VALUES = st.floats(-3, 3, allow_nan=False, width=32)


def ragged_rows():
    """Draw (values, mask) of one row; at least one position counts."""
    row = st.lists(st.tuples(VALUES, VALUES, st.booleans()), min_size=1, max_size=7)
    return row.filter(lambda cells: any(counts for *_, counts in cells))


def test_draw_takes_the_stretch_on_which_the_number_falls():
    """Hand-worked: probabilities 1/4, 0, 1/2, 1/4 lay the borders at 0.25, 0.25, 0.75; a border
    belongs to the token behind it."""
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1 - 2**-24])
    logits = torch.tensor([0.25, 0.0, 0.5, 0.25]).log().expand(7, 4)
    assert tensors.draw(logits, uniform).squeeze(1).tolist() == [0, 0, 2, 2, 2, 3, 3]


def test_draw_follows_a_large_vocabulary_to_its_end():
    """50,257 equal tokens: the k-th stretch is exactly [k, k + 1) / 50,257, so rounding that adds
    up would show."""
    tokens = torch.tensor([0, 1, 25_000, 50_000, 50_255, 50_256])
    uniform = (tokens + 0.5) / 50_257
    assert tensors.draw(torch.zeros(6, 50_257), uniform).squeeze(1).tolist() == tokens.tolist()


def test_masked_mean_and_variance_hand_worked():
    x = torch.tensor([[1.0, 2.0, 99.0], [6.0, float("nan"), float("inf")]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert tensors.masked_mean(x, mask).item() == 3.0
    # divided by n, not n - 1
    assert tensors.masked_variance(x, mask).item() == pytest.approx((4 + 1 + 9) / 3)
    assert tensors.masked_mean(torch.tensor([1.0, 2.0, 6.0])).item() == 3.0


def test_masked_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing to average"):
        tensors.masked_mean(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))


def test_masked_mean_sends_no_gradient_to_masked_positions():
    x = torch.randn(3, 4, requires_grad=True)
    mask = torch.tensor([[True, True, False, False]] * 3)
    tensors.masked_mean(x, mask).backward()
    assert torch.equal(x.grad, mask.float() / 6)


def test_rescale_keeps_the_mean_and_standardize_removes_it():
    x = 5 + 3 * torch.randn(64, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept, centred = tensors.rescale(x), tensors.standardize(x)
    assert kept.mean().item() == pytest.approx(x.mean().item(), rel=1e-12)
    assert abs(centred.mean().item()) < 1e-12
    for whitened in (kept, centred):
        assert whitened.var(correction=0).item() == pytest.approx(1, abs=1e-7)
    assert (kept - centred).std().item() < 1e-12  # they differ by the mean and nothing else


def test_whitening_hand_worked():
    x = torch.tensor([[1.0, 3.0]])  # mean 2, standard deviation 1 (divided by n)
    assert torch.allclose(tensors.rescale(10 * x), torch.tensor([[19.0, 21.0]]))
    assert torch.allclose(tensors.standardize(10 * x), torch.tensor([[-1.0, 1.0]]))


def test_whitening_of_equal_numbers_stays_finite():
    assert torch.equal(tensors.standardize(torch.full((2, 3), 4.0)), torch.zeros(2, 3))
    assert torch.equal(tensors.rescale(torch.full((2, 3), 4.0)), torch.full((2, 3), 4.0))


@pytest.mark.parametrize("whiten", [tensors.rescale, tensors.standardize])
@pytest.mark.parametrize("garbage", [1e9, float("nan"), float("-inf")])
def test_garbage_under_the_mask_changes_no_whitened_number(whiten, garbage):
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(6, 5, generator=torch.Generator().manual_seed(2)) < 0.6
    alone = whiten(x[mask])
    assert torch.allclose(whiten(torch.where(mask, x, garbage), mask)[mask], alone, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 2.5])
def test_logprobs_and_entropy_equal_torch_distributions(temperature):
    logits = 3 * torch.randn(
        4, 5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    tokens = torch.randint(11, (4, 5), generator=torch.Generator().manual_seed(4))
    exact = Categorical(logits=logits / temperature)
    ours = tensors.token_logprobs(logits.float(), tokens, temperature)
    assert torch.allclose(ours.double(), exact.log_prob(tokens), atol=1e-5)
    assert torch.allclose(
        tensors.entropy(logits.float(), temperature).double(), exact.entropy(), atol=1e-5
    )


def test_logprobs_survive_huge_logits():
    logits = torch.tensor([[[1e4, 0.0, -1e4]]])
    assert tensors.token_logprobs(logits, torch.tensor([[1]])).item() == -1e4
    assert tensors.entropy(logits).item() == 0


def test_half_precision_logits_are_scored_in_float32():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(5)).bfloat16()
    tokens = torch.randint(7, (2, 3), generator=torch.Generator().manual_seed(6))
    ours = tensors.token_logprobs(logits, tokens)
    assert ours.dtype == torch.float32
    assert torch.allclose(
        ours.double(), Categorical(logits=logits.double()).log_prob(tokens), atol=1e-5
    )


def two_distributions():
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(6, dtype=torch.float64, generator=generator).log_softmax(-1) for _ in range(2)
    ]


def test_k1_and_k3_are_unbiased_by_enumeration():
    policy, reference = two_distributions()
    exact = kl_divergence(Categorical(logits=policy), Categorical(logits=reference))
    for estimator in (tensors.kl_k1, tensors.kl_k3):
        assert (policy.exp() * estimator(policy, reference)).sum().item() == pytest.approx(
            exact.item(), rel=1e-9
        )
    assert (policy.exp() * tensors.kl_k2(policy, reference)).sum().item() != pytest.approx(
        exact.item(), rel=1e-3
    )


def test_k2_and_k3_are_never_negative_and_k1_can_be():
    policy, reference = two_distributions()
    assert (tensors.kl_k1(policy, reference) < 0).any()
    assert (tensors.kl_k2(policy, reference) >= 0).all() and (
        tensors.kl_k3(policy, reference) >= 0
    ).all()


def test_kl_estimators_hand_worked():
    p, q = torch.tensor(math.log(0.5)), torch.tensor(math.log(0.25))
    assert tensors.kl_k1(p, q).item() == pytest.approx(math.log(2))
    assert tensors.kl_k2(p, q).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert tensors.kl_k3(p, q).item() == pytest.approx(0.5 - 1 + math.log(2))


def double_sum(rewards, values, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t+l}, written out (Schulman et al. 2016, equation 16)."""
    n = len(rewards)
    deltas = [
        rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0) - values[t] for t in range(n)
    ]
    return [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n)) for t in range(n)]


@settings(max_examples=60, deadline=None)
@given(ragged_rows(), st.sampled_from([1.0, 0.9]), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_gae_equals_the_double_sum_over_the_tokens_that_count(cells, gamma, lam):
    rewards, values, mask = (torch.tensor([column]) for column in zip(*cells))
    rewards, values = rewards.double(), values.double()
    expected = double_sum(rewards[mask].tolist(), values[mask].tolist(), gamma, lam)
    ours = tensors.gae(rewards, values, mask, gamma, lam)
    assert ours[mask].tolist() == pytest.approx(expected, abs=1e-9)
    assert not ours[~mask].any()


def test_gae_hand_worked():
    rewards, values = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    # delta_1 = 2 + 0 - 1 = 1; delta_0 = 1 + 1 - 0.5 = 1.5; A_0 = 1.5 + 0.95
    assert tensors.gae(rewards, values, mask).tolist() == [pytest.approx([2.45, 1.0])]


def test_gae_with_lambda_one_is_what_is_still_to_come_less_the_value():
    generator = torch.Generator().manual_seed(8)
    rewards, values = (
        torch.randn(3, 9, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    to_come = rewards.flip(-1).cumsum(-1).flip(-1)
    ours = tensors.gae(rewards, values, torch.ones(3, 9, dtype=torch.bool), lam=1.0)
    assert torch.allclose(ours, to_come - values)


def test_garbage_under_the_mask_changes_no_advantage():
    generator = torch.Generator().manual_seed(9)
    rewards, values = (torch.randn(4, 6, generator=generator) for _ in range(2))
    mask = torch.arange(6) < torch.tensor([[6], [4], [1], [3]])
    nan = torch.tensor(float("nan"))
    spoilt = tensors.gae(torch.where(mask, rewards, nan), torch.where(mask, values, nan), mask)
    assert torch.equal(spoilt, tensors.gae(rewards, values, mask))
    assert spoilt.isfinite().all()


def test_explained_variance_of_good_useless_and_harmful_predictions():
    actual = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    # a constant offset is not variance
    assert tensors.explained_variance(actual + 5, actual).item() == 1
    assert tensors.explained_variance(torch.full_like(actual, 9), actual).item() == 0
    # Var(2 actual) = 4 Var(actual)
    assert tensors.explained_variance(-actual, actual).item() == pytest.approx(-3)
    mask = torch.tensor([[True, True, True, False]])
    assert (
        tensors.explained_variance(torch.tensor([[1.0, 2.0, 3.0, -70.0]]), actual, mask).item() == 1
    )


def test_explained_variance_of_a_constant_is_not_a_number():
    assert math.isnan(
        tensors.explained_variance(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])).item()
    )


@pytest.mark.parametrize("token", [-100, -1, 5])
def test_a_token_that_does_not_exist_has_no_log_probability(token):
    """-100, which cross_entropy ignores by default, would have had the log-probability 0:
    certain."""
    with pytest.raises((IndexError, RuntimeError)):
        tensors.token_logprobs(torch.zeros(1, 2, 5), torch.tensor([[0, token]]))


def test_distinct_bigrams_by_hand():
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 9, 9], [5, 5, 5, 5]])
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2:] = False
    # 12 23 34 | 12 | 55 55 55: of seven pairs four are different
    assert tensors.distinct_bigrams(tokens, mask).item() == pytest.approx(4 / 7)
    assert tensors.distinct_bigrams(tokens[:1], mask[:1]).item() == 1
    assert tensors.distinct_bigrams(tokens[:, :1], mask[:, :1]).isnan()
