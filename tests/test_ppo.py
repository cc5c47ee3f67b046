"""PPO: every formula by hand, one whole step derived again from the paper, and the optimum it must
reach by enumeration."""

import dataclasses
import inspect
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Categorical

from rlhf_helpers import models, ppo, reward, sampling
from rlhf_helpers.ppo import KLController, PPOConfig
from rlhf_helpers.records import Queries, Rollout
from rlhf_helpers.runtime import guards
from rlhf_helpers.runtime.ranks import ALONE, Ranks
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task

SMALL = PPOConfig(
    episodes=48, batch=8, minibatches=1, epochs=2, lr=1e-3, kl_target=1.0, kl_horizon=100
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def letter_score(rollout):
    """Like even tokens, the first ones most."""
    return ((rollout.responses % 2 == 0).float() * torch.tensor([2.0, 1.0, 1.0, 1.0, 0.5])).sum(
        -1
    ) - 2


# ---- rewards and controller ----------------------------------------------------------------------


def test_every_token_pays_its_kl_and_the_last_gets_the_score():
    logprobs, reference = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.5, -1.0, -0.5]])
    rewards = ppo.shape_rewards(
        torch.tensor([4.0]), logprobs, reference, torch.ones(1, 3, dtype=torch.bool), beta=0.1
    )
    # The log ratios are 0.5, -1 and 0: going where the reference would rather not go costs, the
    # opposite pays.
    assert rewards.tolist() == [pytest.approx([-0.05, 0.1, 4.0])]


def test_under_a_mask_the_score_goes_to_the_last_token_that_counts_and_garbage_nowhere():
    mask = torch.tensor(
        [[True, True, False, False], [True, True, True, True], [True, False, False, False]]
    )
    logprobs = torch.where(mask, -1.0, float("nan"))
    rewards = ppo.shape_rewards(
        torch.tensor([1.0, 2.0, 3.0]), logprobs, torch.full((3, 4), -2.0), mask, beta=0.5
    )
    assert rewards.tolist() == [[-0.5, 0.5, 0, 0], [-0.5, -0.5, -0.5, 1.5], [2.5, 0, 0, 0]]


def test_the_rewards_of_a_response_sum_to_score_minus_beta_kl():
    logprobs, reference = torch.randn(2, 6, 5, generator=generator())
    scores = torch.randn(6, generator=generator(1))
    rewards = ppo.shape_rewards(
        scores, logprobs, reference, torch.ones(6, 5, dtype=torch.bool), beta=0.3
    )
    assert torch.allclose(rewards.sum(-1), scores - 0.3 * (logprobs - reference).sum(-1), atol=1e-5)


def test_rewards_of_tokens_stay_where_they_were_earned():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    logprobs = torch.where(mask, -1.0, float("nan"))
    paid = torch.tensor([[0.5, -1.0, 2.0], [3.0, 0.25, float("nan")]])
    rewards = ppo.shape_rewards(paid, logprobs, torch.full((2, 3), -2.0), mask, beta=0.5)
    assert rewards.tolist() == [[0.0, -1.5, 1.5], [2.5, -0.25, 0.0]]


@pytest.mark.parametrize("kl, expected", [
    (6.0, 0.15),  # on target
    (6.6, 0.15 * (1 + 0.1 * 512 / 10_000)),  # 10 % over
    (5.4, 0.15 * (1 - 0.1 * 512 / 10_000)),
    (60.0, 0.15 * (1 + 0.2 * 512 / 10_000)),  # clipped: 1.02 % at most
    (-3.0, 0.15 * (1 - 0.2 * 512 / 10_000)),  # an estimate may be negative
])  # fmt: skip
def test_the_controller_moves_beta_towards_the_target_by_a_clipped_error(kl, expected):
    controller = KLController(beta=0.15, target=6.0, horizon=10_000)
    controller.update(kl, episodes=512)
    assert controller.beta == pytest.approx(expected, rel=1e-12)


def test_without_a_target_beta_stays():
    controller = KLController(beta=0.03, target=None, horizon=10_000)
    controller.update(50.0, 512)
    assert controller.beta == 0.03


# ---- the two clipped losses ----------------------------------------------------------------------


@pytest.mark.parametrize("advantage, ratio, loss, slope", [
    (2.0, 1.1, -2.2, -2.2),  # inside: the gradient in log p is -A r
    (2.0, 1.5, -2.4, 0.0),  # better already than the clip allows to count: no gradient at all
    (2.0, 0.5, -1.0, -1.0),  # a good token made rarer: never clipped
    (-2.0, 0.9, 1.8, 1.8),
    (-2.0, 0.5, 1.6, 0.0),  # a bad token made rarer already: no gradient
    (-2.0, 1.5, 3.0, 3.0),  # a bad token made more frequent: never clipped
])  # fmt: skip
def test_policy_loss_and_gradient_hand_worked(advantage, ratio, loss, slope):
    old = torch.tensor([[-1.3]])
    now = (old + math.log(ratio)).requires_grad_()
    ours = ppo.policy_loss(
        now, old, torch.tensor([[advantage]]), torch.ones(1, 1, dtype=torch.bool), cliprange=0.2
    )
    ours.backward()
    assert ours.item() == pytest.approx(loss, rel=1e-5)
    assert now.grad.item() == pytest.approx(slope, rel=1e-5) and (
        slope != 0 or now.grad.item() == 0
    )


@pytest.mark.parametrize("value, target, loss, slope", [
    (1.1, 3.0, 3.61 / 2, -1.9),  # inside: half the square, slope v - R
    (1.5, 3.0, 3.24 / 2, 0.0),  # moved far towards the target: judged as if at 1.2, no gradient
    (0.5, 3.0, 6.25 / 2, -2.5),  # moved away: judged as it is
    (0.5, -3.0, 14.44 / 2, 0.0),  # the same, mirrored: judged as if at 0.8
    (1.5, -3.0, 20.25 / 2, 4.5),
])  # fmt: skip
def test_value_loss_and_gradient_hand_worked(value, target, loss, slope):
    now = torch.tensor([[value]], requires_grad=True)
    ours = ppo.value_loss(
        now,
        torch.tensor([[1.0]]),
        torch.tensor([[target]]),
        torch.ones(1, 1, dtype=torch.bool),
        cliprange=0.2,
    )
    ours.backward()
    assert ours.item() == pytest.approx(loss, rel=1e-5)
    assert now.grad.item() == pytest.approx(slope, rel=1e-5) and (
        slope != 0 or now.grad.item() == 0
    )


def test_losses_average_over_tokens_that_count_and_garbage_has_no_gradient():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    numbers = torch.randn(3, 2, 3, generator=generator(2))
    for loss in (ppo.policy_loss, ppo.value_loss):
        now = numbers[0].clone().requires_grad_()
        ours = loss(now, numbers[1], numbers[2], mask, 0.2)
        assert ours.item() == pytest.approx(
            loss(numbers[0][mask], numbers[1][mask], numbers[2][mask], mask[mask], 0.2).item(),
            rel=1e-5,
        )
        ours.backward()
        assert not now.grad[~mask].any()
        spoilt = [torch.where(mask, n, float("inf")) for n in numbers]
        assert loss(*spoilt, mask, 0.2).item() == pytest.approx(ours.item(), rel=1e-6)


# ---- minibatches and config ----------------------------------------------------------------------


def test_every_epoch_is_a_fresh_permutation_cut_into_equal_parts():
    config = PPOConfig(episodes=64, batch=64, minibatches=4, epochs=3)
    parts = list(ppo.minibatches(config, generator()))
    assert [len(p) for p in parts] == [16] * 12
    epochs = [torch.cat(parts[i : i + 4]) for i in (0, 4, 8)]
    assert all(torch.equal(e.sort().values, torch.arange(64)) for e in epochs)
    assert len({tuple(e.tolist()) for e in epochs}) == 3
    assert all(torch.equal(a, b) for a, b in zip(parts, ppo.minibatches(config, generator())))


@pytest.mark.parametrize("settings, message", [
    ({"batch": 32, "minibatches": 8}, "leaves 4 rows each"),  # the released code asserts the same 8
    ({"batch": 4, "minibatches": 1}, "leaves 4 rows each"),
    ({"batch": 30, "minibatches": 4}, "must be equal"),
    ({"episodes": 63, "batch": 64}, "less than one batch"),
])  # fmt: skip
def test_batches_too_small_to_whiten_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


@pytest.mark.parametrize("settings, message", [
    ({"epochs": 0}, "epochs is 0: give 1 or more"),
    ({"kl_target": 0.0}, "kl_target is 0 nats"),
    ({"kl_target": -6.0}, "kl_target is -6 nats"),
    ({"batch": 512, "kl_horizon": 102}, "could turn beta negative: raise `kl_horizon` above 102.4"),
])  # fmt: skip
def test_a_controller_that_cannot_steer_and_training_without_epochs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


def test_the_shortest_horizon_that_is_allowed_keeps_beta_positive():
    config = PPOConfig(batch=512, kl_horizon=103, kl_target=6.0)
    controller = KLController(0.15, config.kl_target, config.kl_horizon)
    controller.update(-100.0, config.batch)  # the strongest pull down
    assert 0 < controller.beta < 0.001
    PPOConfig(batch=512, kl_horizon=1, kl_target=None)  # without a target nothing moves


@pytest.mark.parametrize("shape", [(8, 1), (16,), ()])
def test_a_scorer_must_give_one_number_for_each_response(policy, task, ragged, shape):
    with pytest.raises(ValueError, match=r"numbers of shape \(.*\) for 8 responses"):
        ppo.tune(
            policy,
            lambda rollout: torch.zeros(shape),
            ragged.repeat(2),
            task,
            SMALL,
            Run(device="cpu", quiet=True),
        )


def test_steps_are_whole_batches():
    assert (
        PPOConfig(episodes=1_000_000, batch=512).steps == 1953
        and PPOConfig(batch=32, minibatches=4, episodes=32).steps == 1
    )


def test_check_finite_passes_numbers_and_names_what_is_none():
    numbers = torch.tensor([1.0, -2.0])
    assert guards.finite("score", numbers) is numbers
    for bad in ("nan", "inf", "-inf"):
        with pytest.raises(FloatingPointError, match=f"score is {bad}: training stopped"):
            guards.finite("score", torch.tensor([1.0, float(bad)]))


# ---- one step, derived again ---------------------------------------------------------------------


def paper_loss(policy, rollout, rewards, temperature, config):
    """The loss from the paper and its code, in float64, loops written out, logits from
    transformers' own forward of unpadded rows."""
    rewards, old, old_values = rewards.double(), rollout.logprobs.double(), rollout.values.double()
    rows, count = rewards.shape
    if config.whiten_rewards:
        rewards = (rewards - rewards.mean()) / (
            rewards.var(correction=0) + 1e-8
        ).sqrt() + rewards.mean()
    advantages = torch.zeros_like(rewards)
    for b in range(rows):
        for t in range(count):
            for k in range(t, count):
                after = old_values[b, k + 1] if k + 1 < count else 0.0
                advantages[b, t] += config.lam ** (k - t) * (
                    rewards[b, k] + after - old_values[b, k]
                )
    returns = advantages + old_values
    advantages = (advantages - advantages.mean()) / (advantages.var(correction=0) + 1e-8).sqrt()
    pg, vf = 0.0, 0.0
    for b in range(rows):
        prompt = rollout.queries.tokens[b][rollout.queries.mask[b]]
        out = policy.lm(torch.cat([prompt, rollout.responses[b]])[None], output_hidden_states=True)
        for t in range(count):
            column = len(prompt) + t - 1
            logprob = Categorical(logits=out.logits[0, column].double() / temperature).log_prob(
                rollout.responses[b, t]
            )
            value = policy.value_head(out.hidden_states[-1][0, column]).double()[0]
            ratio, a = (logprob - old[b, t]).exp(), advantages[b, t]
            pg = pg - torch.minimum(
                a * ratio, a * ratio.clamp(1 - config.cliprange, 1 + config.cliprange)
            )
            near = old_values[b, t] + (value - old_values[b, t]).clamp(
                -config.cliprange, config.cliprange
            )
            vf = vf + 0.5 * torch.maximum((value - returns[b, t]) ** 2, (near - returns[b, t]) ** 2)
    return (pg + config.value_coef * vf) / (rows * count)


@pytest.mark.parametrize("whiten", [True, False])
def test_loss_and_gradient_equal_the_papers_formulas(make_policy, policy, task, ragged, whiten):
    config = dataclasses.replace(SMALL, whiten_rewards=whiten, lam=0.8, value_coef=0.3)
    rollout = sampling.sample(policy, ragged.repeat(2), 5, task.temperature, generator())
    rewards = torch.randn(8, 5, generator=generator(1)) + 0.5
    # an update lies between sampling and now, so that some tokens are clipped
    with torch.no_grad():
        for p in policy.parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator(2))
    advantages, returns = ppo.targets(rollout, rewards, config)
    loss, stats = ppo.losses(policy, rollout, advantages, returns, task, config)
    expected = paper_loss(policy, rollout, rewards, task.temperature, config)
    assert 0.1 < stats["clip_fraction"] < 0.9
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    ours, theirs = (torch.autograd.grad(x, list(policy.parameters())) for x in (loss, expected))
    for a, b in zip(ours, theirs):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-3)  # float32 sums in two orders


def test_before_any_update_nothing_is_clipped_and_the_policy_loss_is_zero(policy, task, ragged):
    rollout = sampling.sample(policy, ragged.repeat(2), 5, task.temperature, generator())
    learned = ppo.targets(rollout, torch.randn(8, 5, generator=generator(1)), SMALL)
    _, stats = ppo.losses(policy, rollout, *learned, task, SMALL)
    assert stats["clip_fraction"] == 0 and stats["approx_kl_nats_per_token"] < 1e-10
    assert abs(stats["policy_loss"]) < 1e-5  # minus the mean of advantages that are centred


def test_a_step_moves_the_weights_by_the_papers_gradient_and_by_nothing_else(
    make_policy, task, ragged
):
    """One epoch with plain gradient descent: no bonus, no clipped or leftover gradient, no weight
    decay can hide."""
    policy, before, reference, seen = make_policy(0), make_policy(0), make_policy(5), []
    config, rate = dataclasses.replace(SMALL, epochs=1), 20.0
    for weight in policy.parameters():
        weight.grad = torch.full_like(weight, 7.0)  # left over from somewhere
    ppo.step(
        policy, reference, lambda r: letter_score(r) + 0 * len(seen.append(r) or ""),
        ragged.repeat(2), task, config, torch.optim.SGD(policy.parameters(), lr=rate),
        KLController(0.3, None, 100), generator(),
    )  # fmt: skip
    (rollout,) = seen
    with torch.no_grad():
        log_ratio = (
            rollout.logprobs - sampling.replay(reference, rollout, task.temperature).logprobs
        )
    rewards = -0.3 * log_ratio
    rewards[:, -1] += letter_score(rollout)
    gradient = torch.autograd.grad(
        paper_loss(before, rollout, rewards, task.temperature, config), list(before.parameters())
    )
    norm = sum(g.square().sum() for g in gradient).sqrt()
    assert norm > 0.05
    for new, old, g in zip(policy.parameters(), before.parameters(), gradient):
        assert torch.allclose(new, old - rate * g, atol=1e-3, rtol=1e-3)


def test_gradients_are_shortened_to_a_norm_if_one_is_given_and_only_if_they_are_longer(
    make_policy, task, ragged
):
    def move(longest):
        policy, before, config = (
            make_policy(),
            make_policy(),
            dataclasses.replace(SMALL, epochs=1, max_grad_norm=longest),
        )
        optimizer, controller = (
            torch.optim.SGD(policy.parameters(), lr=1.0),
            KLController(0.3, None, 100),
        )
        ppo.step(
            policy,
            make_policy(5),
            letter_score,
            ragged.repeat(2),
            task,
            config,
            optimizer,
            controller,
            generator(),
        )
        return torch.cat(
            [(new - old).flatten() for new, old in zip(policy.parameters(), before.parameters())]
        )

    free = move(None)
    assert free.norm() > 0.1
    assert torch.allclose(move(0.02), free * 0.02 / free.norm(), atol=1e-6) and torch.equal(
        move(1e6), free
    )


@pytest.mark.parametrize("tensorflow, eps", [(True, 1e-5 / 0.001**0.5), (False, 1e-5)])
def test_the_first_update_has_the_eps_of_the_adam_that_is_asked_for(
    make_policy, task, ragged, tensorflow, eps
):
    policy, before, gradients = make_policy(), make_policy(), []
    weight = policy.value_head.weight
    weight.register_hook(gradients.append)
    # small gradients: eps matters
    config = dataclasses.replace(
        SMALL, episodes=8, epochs=1, value_coef=1e-4, tensorflow_adam=tensorflow
    )
    ppo.tune(policy, letter_score, ragged.repeat(2), task, config, Run(device="cpu", quiet=True))
    (g,) = gradients
    assert torch.allclose(weight - before.value_head.weight, -1e-3 * g / (g.abs() + eps), atol=1e-7)


def test_a_step_samples_and_replays_no_more_rows_at_a_time_than_the_micro_batch(
    policy, make_policy, task, ragged, monkeypatch
):
    rows, real = [], models.Trunk.run_trunk

    def watched(self, inner, tokens, *rest):
        rows.append(len(tokens))
        return real(self, inner, tokens, *rest)

    monkeypatch.setattr(models.Trunk, "run_trunk", watched)
    optimizer, controller = (
        torch.optim.SGD(policy.parameters(), lr=0.1),
        KLController(0.3, None, 100),
    )
    for alone, most in ((ALONE, 8), (Ranks(micro_batch=3), 3)):
        rows.clear()
        ppo.step(
            policy,
            make_policy(5),
            letter_score,
            ragged.repeat(2),
            task,
            SMALL,
            optimizer,
            controller,
            generator(),
            alone,
        )
        assert max(rows) == most


def test_a_loss_that_is_not_a_number_stops_before_it_reaches_a_weight(policy, task, ragged):
    with torch.no_grad():
        policy.value_head.bias.fill_(float("inf"))
    frozen = {k: v.clone() for k, v in policy.state_dict().items()}
    optimizer, controller = (
        torch.optim.Adam(policy.parameters(), lr=1e-3),
        KLController(0.3, 1.0, 100),
    )
    with pytest.raises(FloatingPointError, match="gradients is nan: training stopped"):
        ppo.step(
            policy,
            policy.frozen_copy(),
            letter_score,
            ragged.repeat(2),
            task,
            SMALL,
            optimizer,
            controller,
            generator(),
        )
    assert all(torch.equal(v, frozen[k]) for k, v in policy.state_dict().items())


def test_a_steps_summary_is_what_happened(make_policy, task, ragged):
    policy, reference = make_policy(0), make_policy(5)
    frozen = {k: v.clone() for k, v in reference.state_dict().items()}
    seen, controller = [], KLController(0.3, 1.0, 100)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    summary = ppo.step(
        policy, reference, lambda r: letter_score(r) + 0 * len(seen.append(r) or ""),
        ragged.repeat(2), task, SMALL, optimizer, controller, generator(),
    )  # fmt: skip
    (rollout,) = seen
    logratio = []
    for b in range(8):
        prompt = rollout.queries.tokens[b][rollout.queries.mask[b]]
        logits = (
            reference.lm(torch.cat([prompt, rollout.responses[b]])[None])
            .logits[0, len(prompt) - 1 : -1]
            .double()
        )
        exact = Categorical(logits=logits / task.temperature).log_prob(rollout.responses[b])
        logratio.append((rollout.logprobs[b].double() - exact).sum().item())
    kl, scores = sum(logratio) / 8, letter_score(rollout)
    assert summary["kl_nats_per_response"] == pytest.approx(kl, rel=1e-4)
    assert summary["score"] == pytest.approx(scores.mean().item(), rel=1e-5)
    assert summary["beta"] == 0.3  # that of this batch, not the next
    assert summary["score_minus_kl_penalty"] == pytest.approx(
        scores.mean().item() - 0.3 * kl, rel=1e-4
    )
    assert summary["entropy_nats_per_response"] == pytest.approx(
        -rollout.logprobs.sum(-1).mean().item(), rel=1e-5
    )
    assert controller.beta == pytest.approx(
        0.3 * (1 + max(-0.2, min(0.2, kl - 1)) * 8 / 100), rel=1e-6
    )
    assert all(torch.equal(v, frozen[k]) for k, v in reference.state_dict().items())
    assert all(isinstance(number, float) for number in summary.values())


def paper_step(policy, reference, queries, task, config, beta, seed):
    """A whole step of the released code, in float64, written out: what it logs, and the policy
    afterwards.

    Answers come from `sample`, log-probabilities from transformers' own forward of unpadded rows,
    updates from plain gradient descent.
    """
    random = generator(seed)
    rollout = sampling.sample(policy, queries, task.response_length, task.temperature, random)
    scores, rows = letter_score(rollout).double(), len(rollout)
    policy, reference = policy.double(), reference.double()

    def read(model, b):
        prompt = rollout.queries.tokens[b][rollout.queries.mask[b]]
        out = model.lm(torch.cat([prompt, rollout.responses[b]])[None], output_hidden_states=True)
        logits, hidden = (x[0, len(prompt) - 1 : -1] for x in (out.logits, out.hidden_states[-1]))
        return Categorical(logits=logits / task.temperature).log_prob(
            rollout.responses[b]
        ), model.value_head(hidden)[:, 0]

    with torch.no_grad():
        old, old_values = (torch.stack(x) for x in zip(*(read(policy, b) for b in range(rows))))
        log_ratio = old - torch.stack([read(reference, b)[0] for b in range(rows)])
    rewards = -beta * log_ratio
    rewards[:, -1] += scores
    logged = []
    for _ in range(config.epochs):
        for part in torch.randperm(rows, generator=random).chunk(config.minibatches):
            advantages = torch.zeros_like(rewards[part])
            for t in range(rewards.shape[1]):
                for k in range(t, rewards.shape[1]):
                    after = old_values[part, k + 1] if k + 1 < rewards.shape[1] else 0.0
                    advantages[:, t] += config.lam ** (k - t) * (
                        rewards[part, k] + after - old_values[part, k]
                    )
            returns = advantages + old_values[part]
            advantages = (advantages - advantages.mean()) / (
                advantages.var(correction=0) + 1e-8
            ).sqrt()
            now, values = (torch.stack(x) for x in zip(*(read(policy, b) for b in part.tolist())))
            ratio, c = (now - old[part]).exp(), config.cliprange
            pg = -torch.minimum(advantages * ratio, advantages * ratio.clamp(1 - c, 1 + c)).mean()
            near = old_values[part] + (values - old_values[part]).clamp(-c, c)
            vf = 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean()
            logged.append(
                {
                    "policy_loss": pg,
                    "value_loss": vf,
                    "approx_kl_nats_per_token": 0.5 * ((now - old[part]) ** 2).mean(),
                    "clip_fraction": ((ratio < 1 - c) | (ratio > 1 + c)).double().mean(),
                    "value_explained_variance": 1
                    - (returns - old_values[part]).var(correction=0) / returns.var(correction=0),
                }
            )
            gradients = torch.autograd.grad(pg + config.value_coef * vf, list(policy.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(policy.parameters(), gradients):
                    weight -= config.lr * gradient
    kl = log_ratio.sum(-1).mean().item()
    pairs = {tuple(row[t : t + 2]) for row in rollout.responses.tolist() for t in range(4)}
    return (
        {
            "score": scores.mean().item(),
            "score_std": scores.var(correction=1).sqrt().item(),
            "kl_nats_per_response": kl,
            "beta": beta,
            "score_minus_kl_penalty": scores.mean().item() - beta * kl,
            "entropy_nats_per_response": -old.sum(-1).mean().item(),
            "distinct_bigrams": len(pairs) / (4 * rows),
        }
        | {name: sum(each[name].item() for each in logged) / len(logged) for name in logged[0]},
        policy,
        logged,
    )


def test_every_number_of_a_steps_summary_and_every_weight_after_it_are_the_papers(
    make_policy, task, ragged
):
    """Two epochs of two minibatches, in which tokens become both likelier and rarer by more than
    the clip range."""
    config = dataclasses.replace(SMALL, batch=16, minibatches=2, lr=4.0, lam=0.9, value_coef=0.05)
    policy, controller = make_policy(), KLController(0.3, None, 100)
    optimizer = torch.optim.SGD(policy.parameters(), lr=config.lr)
    summary = ppo.step(
        policy,
        make_policy(5),
        letter_score,
        ragged.repeat(4),
        task,
        config,
        optimizer,
        controller,
        generator(3),
    )
    expected, after, logged = paper_step(
        make_policy(), make_policy(5), ragged.repeat(4), task, config, 0.3, 3
    )
    assert summary == pytest.approx(expected, rel=2e-3, abs=1e-5)
    assert all(
        torch.allclose(ours.double(), theirs, atol=1e-3)
        for ours, theirs in zip(policy.parameters(), after.parameters())
    )
    # the mean over updates is no single one of them
    for name in ("value_loss", "approx_kl_nats_per_token", "clip_fraction"):
        assert all(
            each[name].item() != pytest.approx(expected[name], rel=0.02) for each in logged
        ), name


def test_tokens_grown_rarer_and_tokens_grown_likelier_both_count_as_clipped(
    make_policy, policy, task, ragged
):
    rollout = sampling.sample(policy, ragged.repeat(2), 5, task.temperature, generator())
    # ratios of 1.35, 0.74, 1.209 and 0.811, each of all tokens
    for shift, share in ((0.3, 1), (-0.3, 1), (0.19, 1), (-0.21, 0)):
        old = dataclasses.replace(rollout, logprobs=rollout.logprobs - shift)
        learned = ppo.targets(old, torch.randn(8, 5, generator=generator(1)), SMALL)
        _, stats = ppo.losses(policy, old, *learned, task, SMALL)
        assert stats["clip_fraction"] == share and stats[
            "approx_kl_nats_per_token"
        ].item() == pytest.approx(0.5 * shift**2, rel=1e-3)


def test_rewards_and_advantages_are_numbers_and_let_no_gradient_through(
    make_policy, policy, task, ragged
):
    """Only the replay learns: old log-probabilities, values and rewards are what they were, also if
    the reference could be trained."""
    rollout = sampling.sample(policy, ragged.repeat(2), 5, task.temperature, generator())
    assert not any(x.requires_grad for x in (rollout.logprobs, rollout.values))
    seen, real = [], ppo.losses

    def watched(policy, batch, rewards, *args):
        seen.append(
            (batch.logprobs.requires_grad, batch.values.requires_grad, rewards.requires_grad)
        )
        return real(policy, batch, rewards, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "losses", watched)
        optimizer, controller = (
            torch.optim.SGD(policy.parameters(), lr=0.1),
            KLController(0.3, None, 100),
        )
        ppo.step(
            policy,
            make_policy(5),
            letter_score,
            ragged.repeat(2),
            task,
            SMALL,
            optimizer,
            controller,
            generator(),
        )
    assert seen == [(False, False, False)] * 2


def test_the_step_fits_on_one_screen_and_notebook_05_shows_that_very_source():
    assert len(inspect.getsource(ppo.step).splitlines()) <= 60
    assert len(inspect.getsource(ppo.tune).splitlines()) <= len(
        inspect.getsource(ppo.step).splitlines()
    )
    source = Path(__file__).resolve().parents[1] / "notebooks" / "src" / "05_ppo.py"
    assert "show.source(ppo.step)" in source.read_text(encoding="utf-8")


# ---- the loop ------------------------------------------------------------------------------------


def tune(make_policy, folder, ragged, task, score=letter_score, config=SMALL, **options):
    """Tune a fresh policy in a folder, as a new process would; returns it and the lines."""
    policy = make_policy()
    run = Run(folder, seed=7, device="cpu", checkpoint_every=2, quiet=True)
    return policy, ppo.tune(policy, score, ragged.repeat(3), task, config, run, **options)


def failing(after, error):
    """Score as usual `after` times, then do what `error` says."""
    calls = []

    def score(rollout):
        calls.append(1)
        return letter_score(rollout) if len(calls) <= after else error(rollout)

    return score


def interrupt(rollout):
    raise KeyboardInterrupt


def whole(folder):
    return {
        name: (folder / "checkpoint" / name).read_bytes()
        for name in ("state.json", "state.safetensors")
    }


def test_the_learning_rate_falls_in_a_straight_line_and_metrics_say_so(
    make_policy, tmp_path, ragged, task, monkeypatch
):
    used, real = [], torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *a, **k: used.append(self.param_groups[0]["lr"]) or real(self, *a, **k),
    )
    _, lines = tune(make_policy, tmp_path, ragged, task)
    assert [line["lr"] for line in lines] == pytest.approx([1e-3 * (1 - i / 6) for i in range(6)])
    # the same in both epochs of a step
    assert used == pytest.approx([1e-3 * (1 - i // 2 / 6) for i in range(12)])
    assert [line["episodes"] for line in lines] == [8, 16, 24, 32, 40, 48]
    assert [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == lines


def test_the_first_kl_is_zero_because_the_reference_is_the_policy_as_it_came(
    make_policy, ragged, task
):
    _, lines = tune(make_policy, None, ragged, task)
    assert abs(lines[0]["kl_nats_per_response"]) < 1e-5
    assert any(abs(line["kl_nats_per_response"]) > 1e-4 for line in lines[1:])
    _, other = tune(make_policy, None, ragged, task, reference=make_policy(5))
    assert abs(other[0]["kl_nats_per_response"]) > 0.1


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5])
def test_stopped_and_resumed_equals_straight_through_bit_for_bit(
    make_policy, tmp_path, ragged, task, stop_after
):
    straight, lines = tune(make_policy, tmp_path / "straight", ragged, task)
    with pytest.raises(KeyboardInterrupt):
        tune(make_policy, tmp_path / "stopped", ragged, task, failing(stop_after, interrupt))
    resumed, resumed_lines = tune(make_policy, tmp_path / "stopped", ragged, task)
    assert resumed_lines == lines and len(lines) == 6
    assert all(torch.equal(v, straight.state_dict()[k]) for k, v in resumed.state_dict().items())
    # Policy, optimizer and generator are tensors of the checkpoint; step, controller, learning rate
    # and metrics are in its JSON.
    assert whole(tmp_path / "stopped") == whole(tmp_path / "straight")
    assert (tmp_path / "stopped" / "metrics.jsonl").read_bytes() == (
        tmp_path / "straight" / "metrics.jsonl"
    ).read_bytes()


def test_a_finished_run_does_no_further_step(make_policy, tmp_path, ragged, task):
    first, lines = tune(make_policy, tmp_path, ragged, task)
    again, same = tune(make_policy, tmp_path, ragged, task, failing(0, interrupt))
    assert same == lines and all(
        torch.equal(v, first.state_dict()[k]) for k, v in again.state_dict().items()
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_a_number_stops_the_run_with_the_last_checkpoint_whole(
    make_policy, tmp_path, ragged, task, bad
):
    """The loss before is fine, and so would be every number of the step; the weights would not, and
    a checkpoint comes next."""
    policy, backward = make_policy(), []

    def spoil(gradient):
        backward.append(1)
        # last of two epochs of step 3, where a checkpoint is due
        return gradient * bad if len(backward) == 2 * 4 else gradient

    policy.lm.get_input_embeddings().weight.register_hook(spoil)
    with pytest.raises(FloatingPointError, match="gradients is (nan|inf): training stopped"):
        ppo.tune(
            policy,
            letter_score,
            ragged.repeat(3),
            task,
            SMALL,
            Run(tmp_path, seed=7, device="cpu", checkpoint_every=2, quiet=True),
        )
    saved = load_file(tmp_path / "checkpoint" / "state.safetensors")
    assert json.loads(whole(tmp_path)["state.json"])["steps_done"] == 2
    assert all(w.isfinite().all() for w in [*policy.parameters(), *saved.values()])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_a_number_stops_the_run_with_the_last_checkpoint_whole(
    make_policy, tmp_path, ragged, task, bad
):
    with pytest.raises(KeyboardInterrupt):
        tune(make_policy, tmp_path / "good", ragged, task, failing(3, interrupt))
    spoil = failing(3, lambda rollout: letter_score(rollout).index_fill(0, torch.tensor([2]), bad))
    with pytest.raises(FloatingPointError, match=f"score is {bad}"):
        tune(make_policy, tmp_path / "bad", ragged, task, spoil)
    assert whole(tmp_path / "bad") == whole(tmp_path / "good")
    assert json.loads(whole(tmp_path / "bad")["state.json"])["steps_done"] == 2


def test_a_kl_that_explodes_stops_the_run_and_says_what_to_do(make_policy, tmp_path, ragged, task):
    wild = dataclasses.replace(SMALL, lr=0.3, kl_coef=0.0, epochs=4)
    with pytest.raises(
        guards.Collapsed,
        match="over the limit of 5.*lower the learning rate or raise kl_coef.*checkpoint",
    ):
        tune(make_policy, tmp_path, ragged, task, config=wild, kl_limit=5.0)
    logged = [
        json.loads(line)["kl_nats_per_response"]
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert logged and max(logged) <= 5


def test_a_policy_that_says_one_thing_only_stops_the_run():
    numbers = {"kl_nats_per_response": 1.0, "entropy_nats_per_response": 0.04}
    with pytest.raises(guards.Collapsed, match="step 2: .* one answer to everything.*kl_coef"):
        guards.alive(2, numbers, kl_limit=100.0, min_entropy=0.05)
    guards.alive(2, numbers, kl_limit=100.0, min_entropy=0.03)
    with pytest.raises(guards.Collapsed, match="1 nats, over the limit of 0"):
        guards.alive(2, numbers, kl_limit=0.5, min_entropy=0.03)


def test_the_checkpoint_of_another_model_is_refused(make_policy, tmp_path, ragged, task):
    tune(make_policy, tmp_path, ragged, task)
    wider = make_policy(width=32)
    with pytest.raises(ValueError, match="other settings .model is a model .* there and a model"):
        ppo.tune(
            wider,
            letter_score,
            ragged.repeat(3),
            task,
            SMALL,
            Run(tmp_path, seed=7, device="cpu", quiet=True),
        )


# ---- the exact oracle ----------------------------------------------------------------------------

VOCABULARY, LENGTH, BETA, TEMPERATURE = 5, 2, 0.4, 0.7
ANSWERS = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * LENGTH)  # all 25 of them


def answer_logprobs(policy, queries):
    """Enumerate log p(answer | query) at the temperature, by transformers' own forward of unpadded
    rows: (B, 25) float64."""
    rows = []
    for tokens, keep in zip(queries.tokens, queries.mask):
        prompt = tokens[keep]
        with torch.no_grad():
            logits = (
                policy.lm(torch.cat([prompt.expand(len(ANSWERS), -1), ANSWERS], 1))
                .logits[:, len(prompt) - 1 : -1]
                .double()
            )
        rows.append(
            (logits / TEMPERATURE).log_softmax(-1).gather(-1, ANSWERS.unsqueeze(-1)).sum((-1, -2))
        )
    return torch.stack(rows)


def divergence(p, q):
    return (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("whiten", [False, True])
def test_ppo_reaches_the_optimum_that_enumeration_finds(make_policy, whiten):
    """pi*(y|x) is proportional to pi_ref(y|x) exp(r(x, y) / beta). Whitening rewards moves nothing
    here: rescaling about the mean adds the same to every token of answers of one length, and a
    positive factor moves no optimum."""
    policy = make_policy(vocabulary=VOCABULARY, context=8, stir=0.05)
    queries = Queries(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[False, True], [True, True]]))
    table = torch.rand(2, len(ANSWERS), generator=generator(1))
    place = VOCABULARY ** torch.arange(LENGTH - 1, -1, -1)
    reference = answer_logprobs(policy, queries)
    optimum = (reference + table.double() / BETA).log_softmax(-1)
    assert divergence(reference, optimum).min() > 0.1  # there is something to learn

    def score(rollout):
        return table[rollout.queries.mask[:, 0].long(), (rollout.responses * place).sum(-1)]

    task = Task("toy", "none", 2, LENGTH, ".", 0, temperature=TEMPERATURE)
    config = PPOConfig(
        102_400,
        batch=1024,
        minibatches=2,
        epochs=2,
        lr=1e-2,
        kl_coef=BETA,
        kl_target=None,
        whiten_rewards=whiten,
    )
    ppo.tune(policy, score, queries, task, config, Run(device="cpu", quiet=True))
    assert divergence(answer_logprobs(policy, queries), optimum).max() < 1e-3


# ---- several answers to one prompt ---------------------------------------------------------------


def test_minibatches_keep_the_answers_to_a_prompt_together_and_use_each_row_once():
    config = dataclasses.replace(SMALL, batch=16, answers=4, minibatches=2, epochs=1, episodes=16)
    rows = torch.stack(list(ppo.minibatches(config, generator())))
    assert sorted(rows.flatten().tolist()) == list(range(16))
    for group in rows.view(-1, 4).tolist():
        assert group == list(range(group[0], group[0] + 4)) and group[0] % 4 == 0
    with pytest.raises(ValueError, match="answers is 3: the 8 rows"):
        dataclasses.replace(config, answers=3)


def test_a_step_with_shared_prompts_moves_the_weights_as_rows_apart_would(
    make_policy, task, ragged, monkeypatch
):
    config = dataclasses.replace(SMALL, batch=8, answers=2, minibatches=1, episodes=8)

    def moved():
        policy = make_policy()
        optimizer = torch.optim.SGD(policy.parameters(), lr=1e-2)
        controller = KLController(0.3, None, 100)
        reference = make_policy(5)
        summary = ppo.step(
            policy, reference, letter_score, ragged, task, config, optimizer, controller,
            generator(),
        )  # fmt: skip
        return summary, policy

    summary, policy = moved()
    monkeypatch.setattr(type(policy), "packs", lambda self, width: False)
    expected, apart = moved()
    assert summary == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for a, b in zip(policy.parameters(), apart.parameters()):
        assert torch.allclose(a, b, atol=1e-4)


def test_leave_one_out_is_the_rewards_to_go_minus_the_other_answers_by_hand():
    config = dataclasses.replace(
        SMALL, batch=8, answers=2, minibatches=1, episodes=8, leave_one_out=True
    )
    rewards = torch.zeros(8, 3)
    rewards[0], rewards[1] = torch.tensor([-0.5, -0.25, 2.0]), torch.tensor([-1.0, 0.0, 1.0])
    mask = torch.ones(8, 3, dtype=torch.bool)
    queries = Queries(torch.ones(8, 2, dtype=torch.long), torch.ones(8, 2, dtype=torch.bool))
    values = torch.full((8, 3), 9.0)  # must not matter
    responses = torch.zeros(8, 3, dtype=torch.long)
    rollout = Rollout(queries, responses, mask, torch.zeros(8, 3), values, answers=2)
    advantages, returns = ppo.targets(rollout, rewards, config)
    assert returns[:2].tolist() == [[1.25, 1.75, 2.0], [0.0, 1.0, 1.0]]
    raw = torch.zeros(8, 3)
    raw[0], raw[1] = torch.tensor([1.25, 0.75, 1.0]), torch.tensor([-1.25, -0.75, -1.0])
    assert torch.allclose(advantages, raw / raw.std(correction=0), atol=1e-6)
    assert torch.allclose(advantages[0] + advantages[1], torch.zeros(3))
    with pytest.raises(ValueError, match="needs other answers"):
        dataclasses.replace(SMALL, leave_one_out=True)


@pytest.mark.parametrize(
    "kind", [lambda x: x.tolist(), lambda x: x.double(), lambda x: (10 * x).long(), list]
)
def test_scores_may_be_numbers_of_any_kind(make_policy, task, ragged, kind):
    """A list, integers or float64 failed deep inside the step."""
    policy, config = make_policy(), dataclasses.replace(SMALL, epochs=1)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    summary = ppo.step(
        policy, make_policy(5), lambda r: kind(letter_score(r)), ragged.repeat(2), task, config,
        optimizer, KLController(0.3, None, 100), generator(),
    )  # fmt: skip
    assert math.isfinite(summary["score"])


def test_a_reward_model_with_another_tokenizer_is_not_tuned_on(make_policy, task, ragged):
    """A vocabulary of the same size in another order trained on nonsense, without a word."""
    policy = make_policy()

    def score(rollout):
        return letter_score(rollout)

    score.tokenizer = type("Many", (), {"name_or_path": "many", "__len__": lambda self: 99})()
    with pytest.raises(ValueError, match="has 99 tokens but the model only 16"):
        ppo.tune(policy, score, ragged, task, SMALL, Run(device="cpu", quiet=True))


def test_a_run_does_not_go_on_under_another_function_of_texts(
    make_policy, tmp_path, letters, task, ragged
):
    def tuned(function, episodes):
        config = dataclasses.replace(SMALL, episodes=episodes)
        score = reward.from_texts(function, task, letters)
        run = Run(tmp_path, seed=7, device="cpu", checkpoint_every=1, quiet=True)
        return ppo.tune(make_policy(), score, ragged.repeat(3), task, config, run)

    tuned(lambda prompts, answers: [len(a) for a in answers], SMALL.episodes)
    with pytest.raises(ValueError, match="reward"):
        tuned(lambda prompts, answers: [-len(a) for a in answers], SMALL.episodes)


def test_lambda_above_one_is_refused():
    with pytest.raises(ValueError, match="lam is 2: it must be between 0 and 1"):
        dataclasses.replace(SMALL, lam=2.0)
