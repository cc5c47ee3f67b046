"""DPO against its formula, transformers' own log-probabilities, and labels with a rule."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from rlhf_helpers import dpo, ppo, tasks
from rlhf_helpers.dpo import DPOConfig
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.runtime.runs import Run


def labelled(count, options=2, seed=0, name="toy"):
    """Labels with a rule: the option with the most letters a wins."""
    generator = torch.Generator().manual_seed(seed)

    def text(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        drawn = torch.randint(0, 6, (length,), generator=generator).tolist()
        return "".join("abcdef"[i] for i in drawn)

    asked, labels = [], []
    while len(asked) < count:
        c = Comparison(name, text(2, 6), tuple(text(3, 6) for _ in range(options)))
        counts = [option.count("a") for option in c.options]
        if counts.count(max(counts)) == 1 and c.id not in {x.id for x in asked}:
            asked.append(c)
            labels.append(Label(c.id, "me", counts.index(max(counts))))
    return asked, labels


def run(folder=None):
    return Run(folder, device="cpu", checkpoint_every=2, quiet=True)


def test_the_loss_of_two_options_is_the_published_one_and_begins_at_log_two():
    """-log sigmoid(beta (log pi_w / rho_w - log pi_l / rho_l))"""
    torch.manual_seed(0)
    now, before = torch.randn(7, 2, dtype=torch.double), torch.randn(7, 2, dtype=torch.double)
    choices = torch.tensor([0, 1, 1, 0, 0, 1, 0])
    gain = 0.3 * (now - before)
    won, lost = (gain.gather(1, k.unsqueeze(1)) for k in (choices, 1 - choices))
    found = dpo.dpo_loss(now, before, choices, 0.3)
    torch.testing.assert_close(found, -logsigmoid(won - lost).mean())
    assert dpo.dpo_loss(now, now, choices, 0.3).item() == pytest.approx(math.log(2))


def test_the_gradient_at_the_start_is_half_of_beta_on_either_side():
    now = torch.zeros(1, 2, dtype=torch.double, requires_grad=True)
    dpo.dpo_loss(now, torch.zeros(1, 2).double(), torch.tensor([1]), 0.3).backward()
    torch.testing.assert_close(now.grad, torch.tensor([[0.15, -0.15]]).double())


def test_log_probabilities_are_those_of_transformers_for_each_option_alone(policy, task):
    asked, labels = labelled(5, options=3)
    found = dpo.option_logprobs(policy, dpo.encode(task, asked, labels, policy), task)
    letters = policy.tokenizer
    for i, c in enumerate(asked):
        for k, option in enumerate(c.options):
            prompt, answer = letters(c.query)["input_ids"], letters(option)["input_ids"]
            logits = policy.lm(torch.tensor([prompt + answer])).logits[0] / task.temperature
            each = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            alone = each.gather(1, torch.tensor(answer).unsqueeze(1)).sum()
            torch.testing.assert_close(found[i, k], alone, rtol=1e-4, atol=1e-4)


def test_prompts_get_the_prefix_and_suffix_of_their_task(policy):
    task = tasks.Task("toy", "none", 6, 5, ".", 2, prefix="ab", suffix="mn")
    asked, labels = labelled(1)
    data = dpo.encode(task, asked, labels, policy)
    row, mask = data.rollout.queries.tokens[0], data.rollout.queries.mask[0]
    assert policy.tokenizer.batch_decode([row[mask].tolist()]) == [f"ab{asked[0].query}mn"]


@pytest.mark.parametrize("options", [2, 4])
def test_it_begins_at_log_k_and_learns_a_rule(make_policy, task, options):
    asked, labels = labelled(160, options)
    policy = make_policy()
    held, held_labels = labelled(60, options, seed=1)
    start = policy.frozen_copy()
    data = dpo.encode(task, asked, labels, policy)
    config = DPOConfig(batch=16, epochs=4, lr=1e-2, beta=0.3)
    lines = dpo.fit(policy, data, task, config, run())
    assert lines[0]["loss"] == pytest.approx(math.log(options), abs=1e-5) and len(lines) == 40
    test = dpo.encode(task, held, held_labels, policy)
    with torch.no_grad():
        gain = dpo.option_logprobs(policy, test, task) - dpo.option_logprobs(start, test, task)
    assert (gain.argmax(-1) == test.choices).float().mean() > 0.8


def test_stopped_and_resumed_equals_straight_through(make_policy, task, tmp_path, monkeypatch):
    asked, labels = labelled(48)
    config = DPOConfig(batch=8, lr=1e-2)

    def fit(folder):
        policy = make_policy()
        data = dpo.encode(task, asked, labels, policy)
        return policy, dpo.fit(policy, data, task, config, run(tmp_path / folder))

    straight, lines = fit("straight")
    real, calls = dpo.dpo_loss, iter(range(10))

    def three_times(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dpo, "dpo_loss", three_times)
        fit("stopped")
    resumed, resumed_lines = fit("stopped")
    assert resumed_lines == lines and len(lines) == 6
    assert all(torch.equal(v, straight.state_dict()[k]) for k, v in resumed.state_dict().items())


def test_bad_settings_and_bad_numbers_are_refused(make_policy, task):
    with pytest.raises(ValueError, match="beta must be positive, got 0"):
        DPOConfig(beta=0)
    asked, labels = labelled(8)
    policy = make_policy()
    data = dpo.encode(task, asked, labels, policy)
    with torch.no_grad():
        policy.lm.lm_head.weight[3] = math.nan
    with pytest.raises(FloatingPointError, match="the loss of DPO at step 0"):
        dpo.fit(policy, data, task, DPOConfig(), run())
    with pytest.raises(ValueError, match="there are no labels yet"):
        dpo.encode(task, asked, [], policy)


def test_the_tuned_policy_is_what_ppo_would_take_as_its_start(make_policy, task, ragged):
    """The same object goes into `ppo.tune`: nothing of it was changed but its weights."""
    policy = make_policy()
    asked, labels = labelled(16)
    dpo.fit(policy, dpo.encode(task, asked, labels, policy), task, DPOConfig(lr=1e-3), run())
    config = ppo.PPOConfig(episodes=16, batch=8, minibatches=1, epochs=1)
    lines = ppo.tune(policy, lambda r: r.responses.sum(-1).float(), ragged, task, config, run())
    assert len(lines) == 2 and abs(lines[0]["kl_nats_per_response"]) < 1e-5
