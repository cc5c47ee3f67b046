"""The checks of notebook 11 pass the right answer in several forms, name each slip, and never
raise."""

import math

import pytest
import torch

from rlhf_helpers import alternatives, dpo, tensors
from rlhf_helpers.course import checks


def dpo_loss(now, before, choices, beta):
    gains = beta * (now - before)
    return -gains.log_softmax(-1)[torch.arange(len(choices)), choices].mean()


def rloo(scores, now, before, beta, k=tensors.kl_k1):
    earned = scores - beta * k(now, before).sum(-1)
    return earned - (earned.sum(-1, keepdim=True) - earned) / (earned.shape[-1] - 1)


def packaged_rloo(scores, now, before, beta):
    earned = scores - beta * (now - before).sum(-1)
    return alternatives.leave_one_out(earned.flatten(), earned.shape[-1]).view_as(earned)


def centred(x):
    return x - x.mean(-1, keepdim=True)


def grpo(scores):
    return torch.nan_to_num(centred(scores) / scores.std(-1, keepdim=True))


def safe_grpo(scores):
    deviation = scores.std(-1, keepdim=True)
    return torch.where(deviation > 1e-6, centred(scores) / deviation.clamp(min=1e-6), 0)


def grpo_loss(now, before, advantages, beta, k=tensors.kl_k3):
    return -(advantages[:, None] * now).mean() + beta * k(now, before).mean()


def with_ratio(now, before, advantages, beta):
    ratio = (now - now.detach()).exp()
    return (-advantages[:, None] * ratio + beta * tensors.kl_k3(now, before)).mean()


def verdict(low, high, margin):
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no difference seen" if max(-low, high) < margin else "inconclusive"


RIGHT = [
    (checks.nb11_dpo_loss, dpo_loss),
    (checks.nb11_dpo_loss, dpo.dpo_loss),
    (
        checks.nb11_dpo_loss,
        lambda p, q, b, beta: torch.nn.functional.cross_entropy(beta * (p - q), b),
    ),
    (checks.nb11_rloo_advantages, rloo),
    (checks.nb11_rloo_advantages, packaged_rloo),
    (checks.nb11_grpo_advantages, grpo),
    (checks.nb11_grpo_advantages, safe_grpo),
    (
        checks.nb11_grpo_advantages,
        lambda x: alternatives.group_relative(x.flatten(), x.shape[-1]).view_as(x),
    ),
    (checks.nb11_grpo_loss, grpo_loss),
    (checks.nb11_grpo_loss, with_ratio),
    (checks.nb11_grpo_loss, lambda *given: grpo_loss(*given).reshape(1)),
    (checks.nb11_verdict, verdict),
]

D, R, A, L, V = (
    checks.nb11_dpo_loss, checks.nb11_rloo_advantages, checks.nb11_grpo_advantages,
    checks.nb11_grpo_loss, checks.nb11_verdict,
)  # fmt: skip
SLIPS = [
    (D, lambda p, q, b, beta: dpo_loss(p, q, b, 1.0), "beta is missing"),
    (D, lambda p, q, b, beta: dpo_loss(p, 0 * q, b, beta), "likely anyway"),
    (D, lambda p, q, b, beta: dpo_loss(p, 0 * q, b, 1.0), "and so is beta"),
    (D, lambda p, q, b, beta: dpo_loss(q, p, b, beta), "upside down"),
    (D, lambda p, q, b, beta: dpo_loss(p, q, b, 1 / beta), "divided by beta"),
    (D, lambda *given: -dpo_loss(*given), "downhill"),
    (D, lambda p, q, b, beta: 4 * dpo_loss(p, q, b, beta), "you summed"),
    (
        D,
        lambda p, q, b, beta: -(beta * (p - q)).gather(1, b[:, None]).mean(),
        "without its rivals",
    ),
    (
        D,
        lambda p, q, b, beta: -(beta * (p - q)).log_softmax(0).gather(1, b[:, None]).mean(),
        "over the comparisons",
    ),
    (
        D,
        lambda p, q, b, beta: -(beta * (p - q)).log_softmax(1).gather(1, b[:, None])[:, 0],
        "one number",
    ),
    (D, lambda p, q, b, beta: dpo_loss(p.exp(), q.exp(), b, beta), "not their logarithms"),
    (D, lambda *given: dpo_loss(*given).item(), "nothing can be trained"),
    (D, lambda p, q, b, beta: dpo_loss(p.detach(), q, b, beta), "nothing can be trained"),
    (R, lambda s, p, q, beta: rloo(s, p, q, 0.0), "price is missing"),
    (R, lambda s, p, q, beta: rloo(s, p, q, -beta), "PAYS"),
    (R, lambda s, p, q, beta: rloo(s, p, q, 1.0), "beta is missing"),
    (R, lambda s, p, q, beta: rloo(s, p, q, beta / p.shape[-1]), "SUM over its tokens"),
    (R, lambda s, p, q, beta: centred(s - beta * (p - q).sum(-1)), "contains the answer itself"),
    (R, lambda s, p, q, beta: grpo(s - beta * (p - q).sum(-1)), "that is GRPO"),
    (
        R,
        lambda s, p, q, beta: (e := s - beta * (p - q).sum(-1)) - (e.sum(-1)[:, None] - e) / 3,
        "G - 1",
    ),
    (
        R,
        lambda s, p, q, beta: (e := s - beta * (p - q).sum(-1)) - (e.sum(-1)[:, None] - e),
        "SUM of the others",
    ),
    (
        R,
        lambda s, p, q, beta: s - beta * (p - q).sum(-1) - (s.sum(-1)[:, None] - s) / 2,
        "what they EARNED",
    ),
    (R, lambda s, p, q, beta: s - beta * (p - q).sum(-1), "take off the mean"),
    (R, lambda s, p, q, beta: rloo(s, p, q, beta, tensors.kl_k3), "k3"),
    (
        R,
        lambda s, p, q, beta: rloo(s.view(1, 6), p.view(1, 6, 4), q.view(1, 6, 4), beta).view(2, 3),
        "SAME prompt",
    ),
    (A, centred, "deviation is missing"),
    (A, lambda x: rloo(x, torch.zeros(*x.shape, 1), torch.zeros(*x.shape, 1), 0), "RLOO"),
    (A, lambda x: centred(x) / x.var(-1, keepdim=True), "variance"),
    (A, lambda x: centred(x) / x.std(-1, correction=0, keepdim=True), "G - 1"),
    (A, lambda x: x / x.std(-1, keepdim=True), "mean is missing"),
    (A, lambda x: (x - x.mean()) / x.std(), "run over the whole batch"),
    (A, lambda x: (x - x.mean(0)) / x.std(0), "of each row"),
    (A, lambda x: centred(x) / x.std(), "deviation is that of the whole batch"),
    (A, lambda x: -grpo(x), "good answers"),
    (A, lambda x: centred(x) / x.std(-1, keepdim=True), "NaN"),
    (A, lambda x: torch.where(x.std(-1, keepdim=True) > 1e-6, grpo(x), 1.0), "return zeros"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a, 0.0), "penalty is missing"),
    (
        L,
        lambda p, q, a, beta: grpo_loss(p, q, a, 0) + beta * tensors.kl_k3(p.detach(), q).mean(),
        "or detached",
    ),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a, beta, tensors.kl_k1), "on average nothing"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a, beta, tensors.kl_k2), "is k2"),
    (
        L,
        lambda p, q, a, beta: grpo_loss(p, q, a, beta, lambda x, y: tensors.kl_k3(y, x)),
        "other way round",
    ),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a, -beta), "sign of the penalty"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a, 1.0), "beta is missing"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, -a, beta), "sign of the advantages"),
    (L, lambda *given: -grpo_loss(*given), "both signs"),
    (
        L,
        lambda p, q, a, beta: grpo_loss(p, q, a, 3 * beta),
        "summed the tokens of the penalty",
    ),
    (L, lambda *given: 3 * grpo_loss(*given), "tokens of an answer"),
    (L, lambda *given: 12 * grpo_loss(*given), "summed over everything"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, torch.ones_like(a), beta), "advantages are missing"),
    (
        L,
        lambda p, q, a, beta: (
            -(a[:, None] * p.exp()).mean() + beta * tensors.kl_k3(p, q).mean()
        ),
        "multiplied with probabilities",
    ),
    (L, lambda *given: grpo_loss(*given).item(), "scalar tensor"),
    (L, lambda p, *given: grpo_loss(p.detach(), *given), "nothing can be trained"),
    (L, lambda p, q, a, beta: grpo_loss(p, q, a**2, beta), "should be"),
    (V, lambda low, high, m: verdict(low, high, math.inf), "reaches far"),
    (V, lambda low, high, m: verdict(low, high, 0.0), "lies within the margin"),
    (V, lambda low, high, m: verdict(-high, -low, m), "swapped"),
    (
        V,
        lambda low, high, m: (
            "no difference seen" if max(-low, high) < m else verdict(low, high, m)
        ),
        "look at the margin last",
    ),
    (
        V,
        lambda low, high, m: (
            "better" if low > m else "worse" if high < -m
            else "no difference seen" if max(-low, high) < m else "inconclusive"
        ),
        "begins within the margin",
    ),
    (V, lambda low, high, m: verdict((low + high) / 2, (low + high) / 2, m), "the middle alone"),
    (V, lambda low, high, m: "equal", "one of the four"),
    (V, lambda low, high, m: "inconclusive", "yours is 'inconclusive'"),
]  # fmt: skip

ALL = list(dict.fromkeys(check for check, _ in RIGHT))


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_in_any_form(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(("check", "wrong", "word"), SLIPS)
def test_every_slip_is_named(check, wrong, word, capsys):
    assert check(wrong) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and word in said, said


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
        lambda *_: torch.zeros(2, 7),
        lambda: 0,
        lambda *_: object(),
        lambda x, *_: x * math.nan,
        lambda x, *_: x.sum(),
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")
