"""Best of n, the policy gradient and the optimum, against worlds in which every answer can be
listed."""

import itertools
import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from rlhf_helpers import alternatives, ppo, sampling
from rlhf_helpers.records import Queries
from rlhf_helpers.runtime.runs import Run

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


# ---- several answers to a prompt, judged by each other -------------------------------------------


def test_leave_one_out_by_hand_adds_up_to_zero():
    totals = doubles([1.0, 4.0, 7.0, 0.0, 0.0, 3.0])
    found = alternatives.leave_one_out(totals, 3)
    by_hand = [1 - (4 + 7) / 2, 4 - (1 + 7) / 2, 7 - (1 + 4) / 2, -1.5, -1.5, 3.0]
    assert found.tolist() == pytest.approx(by_hand)
    assert found.view(2, 3).sum(-1).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_group_relative_by_hand_and_zero_where_all_score_the_same():
    found = alternatives.group_relative(doubles([1.0, 4.0, 7.0, 0.3, 0.3, 0.3]), 3)
    assert found.tolist() == pytest.approx([-1, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("function", [alternatives.leave_one_out, alternatives.group_relative])
def test_one_answer_has_no_rivals(function):
    with pytest.raises(ValueError, match="set `answers` to 2 or more"):
        function(doubles([1.0, 2.0]), 1)


def one_step(algorithm, make_policy, task, ragged, beta, reference=None, **settings):
    """Take one step of plain gradient descent with rate 1; return the weights' negative move."""
    policy, reference = make_policy(), reference or make_policy()
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    config = ppo.PPOConfig(
        episodes=12, batch=12, answers=3, minibatches=1, epochs=1, kl_coef=beta, kl_target=None,
        **settings,
    )  # fmt: skip
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    controller = ppo.KLController(beta, None, 1)
    summary = algorithm(
        policy, reference, letters_sum, ragged, task, config, optimizer, controller, generator()
    )
    moved = {name: before[name] - p.detach() for name, p in policy.named_parameters()}
    return moved, summary


def drawn(make_policy, task, ragged):
    """The twelve answers of that step, with transformers' own log-probabilities (B, R)."""
    policy = make_policy()
    rollout = sampling.sample(
        policy, ragged, task.response_length, task.temperature, generator(), answers=3
    )
    rows = []
    for prompt, mask, answer in zip(
        rollout.queries.tokens, rollout.queries.mask, rollout.responses, strict=True
    ):
        tokens = torch.cat([prompt[mask], answer]).unsqueeze(0)
        logits = policy.lm(tokens).logits[0, mask.sum() - 1 : -1] / task.temperature
        rows.append(logits.log_softmax(-1).gather(1, answer.unsqueeze(1)).squeeze(1))
    return policy, rollout, torch.stack(rows)


def agree(moved, policy):
    for name, p in policy.named_parameters():
        expected = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(moved[name], expected, rtol=1e-3, atol=1e-5)  # float32 sums


def test_a_step_of_rloo_is_the_policy_gradient_with_the_rivals_mean_as_baseline(
    make_policy, task, ragged
):
    """The KL from a reference that differs is part of what each answer earned."""
    beta, reference = 0.3, make_policy(5)
    moved, _ = one_step(alternatives.rloo_step, make_policy, task, ragged, beta, reference)
    policy, rollout, logprobs = drawn(make_policy, task, ragged)
    theirs = sampling.replay(reference, rollout, task.temperature).logprobs
    earned = letters_sum(rollout) - beta * (logprobs - theirs).sum(-1)
    rivals = [
        sum(earned[j] for j in range(12) if j // 3 == i // 3 and j != i).item() / 2
        for i in range(12)
    ]
    advantages = earned.detach() - torch.tensor(rivals)
    (-(advantages * logprobs.sum(-1)).sum() / logprobs.numel()).backward()
    agree(moved, policy)


def test_a_step_of_grpo_adds_k3_to_the_loss(make_policy, task, ragged):
    beta, reference = 0.3, make_policy(5)
    moved, _ = one_step(alternatives.grpo_step, make_policy, task, ragged, beta, reference)
    policy, rollout, logprobs = drawn(make_policy, task, ragged)
    theirs = sampling.replay(reference, rollout, task.temperature).logprobs.detach()
    groups = letters_sum(rollout).view(4, 3)
    relative = (groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True)
    relative = relative.nan_to_num(0).flatten()
    k3 = (theirs - logprobs).exp() - 1 - (theirs - logprobs)
    (-(relative * logprobs.sum(-1)).sum() / logprobs.numel() + beta * k3.mean()).backward()
    agree(moved, policy)


@pytest.mark.parametrize("algorithm", [alternatives.rloo_step, alternatives.grpo_step])
def test_without_a_score_worth_having_and_at_the_reference_nothing_moves(
    algorithm, make_policy, task, ragged
):
    policy = make_policy()
    before = [p.detach().clone() for p in policy.parameters()]
    config = ppo.PPOConfig(
        episodes=12, batch=12, answers=3, minibatches=1, epochs=1, kl_target=None
    )
    algorithm(
        policy, make_policy(), lambda r: torch.ones(len(r)), ragged, task, config,
        torch.optim.SGD(policy.parameters(), lr=1.0), ppo.KLController(0.0, None, 1), generator(),
    )  # fmt: skip
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), before, strict=True))


@pytest.mark.parametrize("algorithm", [alternatives.rloo_step, alternatives.grpo_step])
def test_both_raise_the_score_in_the_loop_of_ppo_and_say_which_they_are(
    algorithm, make_policy, task, ragged, tmp_path
):
    policy = make_policy()
    config = ppo.PPOConfig(
        episodes=1_200, batch=48, answers=6, minibatches=1, epochs=1, lr=1e-2, kl_target=None,
        kl_coef=0.05,
    )  # fmt: skip

    def few(rollout):  # letters with a low number are liked
        return -rollout.responses.float().mean(-1)

    def tune(policy, algorithm):
        run = Run(tmp_path / "run", device="cpu", quiet=True)
        words = {"algorithm": algorithm, "scored_by": "few"}
        return ppo.tune(policy, few, ragged, task, config, run, **words)

    lines = tune(policy, algorithm)
    first, last = ([x["score"] for x in part] for part in (lines[:3], lines[-3:]))
    assert min(last) > max(first) + 1 and abs(lines[0]["kl_nats_per_response"]) < 1e-5
    with pytest.raises(ValueError, match="algorithm"):
        tune(make_policy(), ppo.step)
