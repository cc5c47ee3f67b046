"""The checks of notebook 04 pass the right answer in several forms, name each slip, and never
raise."""

import math

import pytest
import torch

from rlhf_helpers import alternatives, ppo, tensors
from rlhf_helpers.course import checks


def powers(p, r, n):
    at_most = (r[None, :] <= r[:, None]).to(p) @ p
    below = (r[None, :] < r[:, None]).to(p) @ p
    return at_most, below, (at_most**n - below**n) * p / (at_most - below)


def best_of_n(p, r, n):
    return powers(p, r, n)[2]


def in_order(p, r, n):
    order, total, out = r.argsort(stable=True), 0.0, torch.zeros_like(p)
    for y in order:
        out[y] = (total + p[y]) ** n - total**n
        total = total + p[y]
    return out


def of_n_draws(p, r, n):
    """An answer by simulation: close, and not exact."""
    drawn = torch.multinomial(p, 200 * n, replacement=True).view(200, n)
    kept = drawn.gather(1, r[drawn].argmax(-1, keepdim=True))
    return kept.flatten().bincount(minlength=len(p)).double() / 200


def evenly(p, r, n):
    at_most, below, _ = powers(p, r, n)
    return (at_most**n - below**n) / (r[None, :] == r[:, None]).sum(-1)


def gradient_loss(logprobs, rewards):
    return -(rewards * logprobs.sum(-1)).mean()


def leave_one_out(rewards):
    return rewards - (rewards.sum(-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)


def reweighted_mean(new, old, rewards):
    return ((new - old).sum(-1).exp() * rewards).mean()


RIGHT = [
    (checks.nb04_best_of_n, best_of_n),
    (checks.nb04_best_of_n, lambda p, r, n: alternatives.best_of_logprobs(p.log(), r, n).exp()),
    (checks.nb04_policy_gradient_loss, gradient_loss),
    (checks.nb04_policy_gradient_loss, alternatives.reinforce_loss),
    (checks.nb04_policy_gradient_loss, lambda p, r: (-r[:, None] * p).sum() / len(r)),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p, r) + 7),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p, r).reshape(1)),
    (
        checks.nb04_policy_gradient_loss,
        lambda p, r: -((p - p.detach()).sum(-1).exp() * r).mean(),  # the ratio's first step
    ),
    (checks.nb04_leave_one_out, leave_one_out),
    (
        checks.nb04_leave_one_out,
        lambda x: (x - x.mean(-1, keepdim=True)) * x.shape[-1] / (x.shape[-1] - 1),
    ),
    (
        checks.nb04_leave_one_out,
        lambda x: x - ppo.others_mean(x.reshape(-1, 1), x.shape[1]).view_as(x),
    ),
    (checks.nb04_reweighted_mean, reweighted_mean),
    (checks.nb04_reweighted_mean, lambda p, q, r: ((p - q).exp().prod(-1) * r).mean()),
    (checks.nb04_reweighted_mean, lambda p, q, r: reweighted_mean(p, q, r).item()),
    (checks.nb04_optimum, alternatives.optimal_logprobs),
    (
        checks.nb04_optimum,
        lambda q, r, beta: q + r / beta - torch.logsumexp(q + r / beta, -1),
    ),
    (checks.nb04_k3, tensors.kl_k3),
    (checks.nb04_k3, lambda p, q: q.exp() / p.exp() - 1 + p - q),
]

SLIPS = [
    (checks.nb04_best_of_n, lambda p, r, n: best_of_n(p, -r, n), "WORST"),
    (checks.nb04_best_of_n, lambda p, r, n: powers(p, r, n)[0] ** n, "AT MOST"),
    (checks.nb04_best_of_n, lambda p, r, n: p * n * powers(p, r, n)[0] ** (n - 1), "many rare"),
    (
        checks.nb04_best_of_n,
        lambda p, r, n: (w := p * powers(p, r, n)[0] ** (n - 1)) / w.sum(),
        "comes near",
    ),
    (checks.nb04_best_of_n, lambda p, r, n: p**n, "SAME answer"),
    (checks.nb04_best_of_n, in_order, "where they stand"),
    (
        checks.nb04_best_of_n,
        lambda p, r, n: powers(p, r, n)[0] ** n - powers(p, r, n)[1] ** n,
        "gets all of it",
    ),
    (checks.nb04_best_of_n, evenly, "not evenly"),
    (checks.nb04_best_of_n, lambda p, r, n: best_of_n(p, r, n).log(), "logarithms"),
    (checks.nb04_best_of_n, lambda p, r, n: p, "expected"),
    (checks.nb04_best_of_n, of_n_draws, "expected"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -gradient_loss(p, r), "downhill"),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p, r) * len(r), "you summed"),
    (checks.nb04_policy_gradient_loss, lambda p, r: (r * p.sum(-1)).sum(), "and the sign"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -(r * p.mean(-1)).mean(), "SUM over"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -(r * p.sum(-1).exp()).mean(), "PROBABILITY"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -(r * p.exp().sum(-1)).mean(), "of tokens"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -(r * p[:, -1]).mean(), "last token"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -p.sum(-1).mean(), "rewards are missing"),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p, r).item(), "scalar tensor"),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p.detach(), r), "attached"),
    (checks.nb04_policy_gradient_loss, lambda p, r: -(r * p.sum(-1)), "scalar tensor"),
    (checks.nb04_policy_gradient_loss, lambda p, r: gradient_loss(p, r - 1), "should be minus"),
    (checks.nb04_leave_one_out, lambda x: x - x.mean(-1, keepdim=True), "contains the answer"),
    (
        checks.nb04_leave_one_out,
        lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
        "GRPO",
    ),
    (
        checks.nb04_leave_one_out,
        lambda x: x - (x.sum(-1, keepdim=True) - x) / x.shape[-1],
        "divided by G",
    ),
    (checks.nb04_leave_one_out, lambda x: x - (x.sum(-1, keepdim=True) - x), "SUM"),
    (checks.nb04_leave_one_out, lambda x: x - leave_one_out(x), "baseline"),
    (checks.nb04_leave_one_out, lambda x: -leave_one_out(x), "sign"),
    (checks.nb04_leave_one_out, lambda x: leave_one_out(x.T).T, "column"),
    (
        checks.nb04_leave_one_out,
        lambda x: leave_one_out(x.reshape(1, -1)).view_as(x),
        "all other answers",
    ),
    (checks.nb04_leave_one_out, lambda x: x - x.mean(), "whole batch"),
    (checks.nb04_reweighted_mean, lambda p, q, r: ((p - q).sum(-1) * r).mean(), "forgot `exp`"),
    (checks.nb04_reweighted_mean, lambda p, q, r: reweighted_mean(q, p, r), "upside down"),
    (checks.nb04_reweighted_mean, lambda p, q, r: 5 * reweighted_mean(p, q, r), "you summed"),
    (
        checks.nb04_reweighted_mean,
        lambda p, q, r: ((p - q).mean(-1).exp() * r).mean(),
        "do not average",
    ),
    (
        checks.nb04_reweighted_mean,
        lambda p, q, r: ((p - q).exp().mean(-1) * r).mean(),
        "averages the ratios",
    ),
    (
        checks.nb04_reweighted_mean,
        lambda p, q, r: ((p - q).exp().sum(-1) * r).mean(),
        "sums the ratios",
    ),
    (
        checks.nb04_reweighted_mean,
        lambda p, q, r: (w := (p - q).sum(-1).exp()) @ r / w.sum(),
        "sum of the ratios",
    ),
    (checks.nb04_reweighted_mean, lambda p, q, r: r.mean(), "OLD policy"),
    (checks.nb04_reweighted_mean, lambda p, q, r: (p - q).sum(-1).exp().mean(), "mean ratio"),
    (checks.nb04_reweighted_mean, lambda p, q, r: (p.sum(-1).exp() * r).mean(), "new prob"),
    (checks.nb04_reweighted_mean, lambda p, q, r: (p - q).sum(-1).exp() * r, "one number"),
    (checks.nb04_optimum, lambda q, r, beta: (r / beta).log_softmax(-1), "reference is missing"),
    (checks.nb04_optimum, lambda q, r, beta: (q + r * beta).log_softmax(-1), "HIGH price"),
    (checks.nb04_optimum, lambda q, r, beta: (q + r).log_softmax(-1), "beta is missing"),
    (checks.nb04_optimum, lambda q, r, beta: (q - r / beta).log_softmax(-1), "worst"),
    (checks.nb04_optimum, lambda q, r, beta: q + r / beta, "log Z"),
    (checks.nb04_optimum, lambda q, r, beta: (q + r / beta).softmax(-1), "their logarithms"),
    (checks.nb04_optimum, lambda q, r, beta: q.exp() * (r / beta).exp(), "without Z"),
    (checks.nb04_optimum, lambda q, r, beta: ((q + r) / beta).log_softmax(-1), "divided by beta"),
    (
        checks.nb04_optimum,
        lambda q, r, beta: ((w := q.exp() * (r / beta).exp()) / w.sum()).log(),
        "0.001 overflows",
    ),
    (checks.nb04_k3, tensors.kl_k1, "k1"),
    (checks.nb04_k3, tensors.kl_k2, "k2"),
    (checks.nb04_k3, lambda p, q: (p - q).exp() - 1 + p - q, "exponent"),
    (checks.nb04_k3, lambda p, q: tensors.kl_k3(q, p), "other way round"),
    (checks.nb04_k3, lambda p, q: tensors.kl_k3(p, q) + 1, "not taken off"),
    (checks.nb04_k3, lambda p, q: (q - p).exp() - 1 - p + q, "last term"),
    (checks.nb04_k3, lambda p, q: (q - p).exp() - 1, "add k1"),
    (checks.nb04_k3, lambda p, q: (p - q) - ((q - p).exp() - 1), "doubles its swings"),
    (checks.nb04_k3, lambda p, q: 1 - (q - p).exp(), "k1 itself is missing"),
    (checks.nb04_k3, lambda p, q: (p - q) + (q - p).exp(), "not taken off"),
    (checks.nb04_k3, lambda p, q: tensors.kl_k3(p, q).sum(-1), "you summed"),
    (checks.nb04_k3, lambda p, q: tensors.kl_k3(p, q).mean(), "you averaged"),
]

ALL = list(dict.fromkeys(check for check, _ in RIGHT))


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_in_any_form(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(("check", "wrong", "word"), SLIPS)
def test_every_slip_is_named(check, wrong, word, capsys):
    assert check(wrong) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and word in said


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize("stub", [None, ..., lambda *_: None, lambda *_: ...])
def test_unsolved_is_said_without_raising(check, stub, capsys):
    assert check(stub) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda *_: 1 / 0,
        lambda *_: "text",
        lambda *_: torch.zeros(2, 3),
        lambda: 0,
        lambda *_: object(),
        lambda x, *_: x * math.nan,
        lambda x, *_: x.add_(1),
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_lists_of_the_right_numbers_are_no_tensor(capsys):
    assert checks.nb04_k3(lambda p, q: tensors.kl_k3(p, q).tolist()) is False
    assert "as a tensor, not as a list" in capsys.readouterr().out


def test_equal_reports_and_raises(capsys):
    checks.nb04_equal("a piece", torch.ones(2), torch.ones(2))
    assert capsys.readouterr().out == "a piece: equal, to within 1e-09\n"
    with pytest.raises(AssertionError, match="a piece: the largest difference is 1"):
        checks.nb04_equal("a piece", 1.0, 2.0)
    with pytest.raises(AssertionError, match="shapes"):
        checks.nb04_equal("a piece", torch.ones(2), torch.ones(3))
