"""Notebook 05's checks: the right answer passes, every named slip is named, an unsolved exercise is
no error."""

import math

import pytest
import torch

from rlhf_helpers import ppo, tensors
from rlhf_helpers.course import checks
from rlhf_helpers.course.checks import clinic

ALL = [
    checks.nb05_kl_penalty, checks.nb05_place_score, checks.nb05_rescale, checks.nb05_gae,
    checks.nb05_policy_loss, checks.nb05_next_beta,
]  # fmt: skip
SUSPECTS = dict.fromkeys(
    (
        "flipped KL sign",
        "score on the first token",
        "returns after whitening",
        "forgotten temperature",
    ),
    0,
)


def masked(mask, x):
    return torch.where(mask, x, 0)


def kl_penalty(p, q, m, beta):
    return ppo.shape_rewards(torch.zeros(len(p)), p, q, m, beta)


def last(mask):
    return mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)


def put(columns, penalties, scores):
    return penalties.scatter_add(1, columns.unsqueeze(1), scores.unsqueeze(1))


def place_score(penalties, scores, mask):
    return put(last(mask), penalties, scores)


def gae(rewards, values, lam):
    return tensors.gae(rewards, values, torch.ones_like(rewards, dtype=torch.bool), lam=lam)


def backwards(rewards, values, lam, bootstrap=0.0, next_value=True, use_values=True):
    out, carry = torch.zeros_like(rewards), 0.0
    following = values[:, -1] * bootstrap
    for t in reversed(range(rewards.shape[1])):
        delta = (
            rewards[:, t]
            + (following if next_value and use_values else 0)
            - (values[:, t] if use_values else 0)
        )
        out[:, t] = carry = delta + lam * carry
        following = values[:, t]
    return out


def forwards(rewards, values, lam):
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], 1)
    out, carry = torch.zeros_like(rewards), 0.0
    for t in range(rewards.shape[1]):
        out[:, t] = carry = rewards[:, t] + following[:, t] - values[:, t] + lam * carry
    return out


def surrogate(pick=torch.maximum, sign=-1.0, ratio=torch.exp, low=None, mean=tensors.masked_mean):
    def loss(p, old, a, m, clip):
        r = ratio(p - old)
        clipped = r.clamp(1 - clip if low is None else low, 1 + clip)
        return mean(pick(sign * a * r, sign * a * clipped), m)

    return loss


def around_zero(p, old, a, m, clip):
    ratio = (p - old).exp()
    return tensors.masked_mean(torch.maximum(-a * ratio, -a * ratio.clamp(-clip, clip)), m)


def next_beta(beta, kl, target, episodes, horizon):
    controller = ppo.KLController(beta, target, horizon)
    controller.update(kl, episodes)
    return controller.beta


def e(kl, target):
    return max(-0.2, min(0.2, kl / target - 1))


RIGHT = [kl_penalty, place_score, tensors.rescale, gae, ppo.policy_loss, next_beta]

SLIPS = [
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, b * (p - q)), "sign"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, -(p - q)), "forgot beta"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, p - q), "forgot beta"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: -b * (p - q), "forgot the mask"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: b * (p - q), "forgot the mask, and the sign"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: q - p, "forgot the mask and beta"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, -b * (p - q).abs()), "absolute"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, -b * tensors.kl_k2(p, q)), "k2"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, -b * tensors.kl_k3(p, q)), "k3"),
    (checks.nb05_kl_penalty, lambda p, q, m, b: masked(m, -b * (p.exp() - q.exp())), "logarithms"),
    (
        checks.nb05_kl_penalty,
        lambda p, q, m, b: masked(m, -b * (p - q)).sum(-1),
        "summed over the tokens",
    ),
    (
        checks.nb05_kl_penalty,
        lambda p, q, m, b: masked(m, -b * (p - q)).sum(),
        "summed over everything",
    ),
    (checks.nb05_kl_penalty, lambda p, q, m, b: -b * tensors.masked_mean(p - q, m), "averaged"),
    (
        checks.nb05_place_score,
        lambda p, s, m: put(torch.full_like(last(m), 5), p, s),
        "last COLUMN",
    ),
    (checks.nb05_place_score, lambda p, s, m: put(torch.zeros_like(last(m)), p, s), "FIRST"),
    (checks.nb05_place_score, lambda p, s, m: put(m.sum(-1).clamp(max=5), p, s), "one too far"),
    (checks.nb05_place_score, lambda p, s, m: put((m.sum(-1) - 2).clamp(min=0), p, s), "one short"),
    (checks.nb05_place_score, lambda p, s, m: put((m.sum(-1) - 2) % 6, p, s), "one short"),
    (
        checks.nb05_place_score,
        lambda p, s, m: p.scatter(1, last(m)[:, None], s[:, None]),
        "REPLACED",
    ),
    (checks.nb05_place_score, lambda p, s, m: p + s[:, None] * m, "whole score: a response"),
    (checks.nb05_place_score, lambda p, s, m: p + s[:, None], "padding too"),
    (
        checks.nb05_place_score,
        lambda p, s, m: p + s[:, None] * m / m.sum(-1, keepdim=True),
        "evenly",
    ),
    (
        checks.nb05_place_score,
        lambda p, s, m: put(last(m), torch.zeros_like(p), s),
        "penalties are lost",
    ),
    (checks.nb05_place_score, lambda p, s, m: p.clone(), "did not arrive"),
    (checks.nb05_place_score, lambda p, s, m: put(last(m), p, -s), "subtracted"),
    (checks.nb05_place_score, lambda p, s, m: place_score(p, s, m).sum(-1), "summed"),
    (
        checks.nb05_place_score,
        lambda p, s, m: p.scatter_add_(1, last(m)[:, None], s[:, None]),
        "changes the tensors",
    ),
    (checks.nb05_rescale, tensors.standardize, "STANDARDIZE"),
    (checks.nb05_rescale, lambda x, m: x / x[m].std(correction=0), "moves the mean"),
    (
        checks.nb05_rescale,
        lambda x, m: (x - x[m].mean()) / x[m].var(correction=0) + x[m].mean(),
        "variance",
    ),
    (
        checks.nb05_rescale,
        lambda x, m: (x - x[m].mean()) * x[m].std(correction=0) + x[m].mean(),
        "multiplied",
    ),
    (checks.nb05_rescale, lambda x, m: (x - x[m].mean()) / x[m].std() + x[m].mean(), "n - 1"),
    (
        checks.nb05_rescale,
        lambda x, m: (x - x.mean()) / x.std(correction=0) + x.mean(),
        "forgot the mask",
    ),
    (
        checks.nb05_rescale,
        lambda x, m: (x - x.mean()) / x.std() + x.mean(),
        "forgot the mask, and the deviation",
    ),
    (checks.nb05_rescale, lambda x, m: (x - x.mean()) / x.std(), "forgot the mask, and the mean"),
    (checks.nb05_rescale, lambda x, m: x - x[m].mean(), "only took the mean off"),
    (
        checks.nb05_rescale,
        lambda x, m: (x - x[m].mean()) / x[m].std(correction=0) - x[m].mean(),
        "second time",
    ),
    (checks.nb05_gae, lambda r, v, lam: gae(r, v, 0.0), "deltas alone"),
    (checks.nb05_gae, lambda r, v, lam: gae(r, v, 1.0), "lambda is missing"),
    (
        checks.nb05_gae,
        lambda r, v, lam: backwards(r, v, lam, next_value=False),
        "value of the next token: ",
    ),
    (
        checks.nb05_gae,
        lambda r, v, lam: backwards(r, v, 1.0, next_value=False),
        "next token and lambda",
    ),
    (checks.nb05_gae, lambda r, v, lam: backwards(r, v, lam, use_values=False), "discounted sums"),
    (checks.nb05_gae, lambda r, v, lam: backwards(r, v, 1.0, use_values=False), "sums of rewards"),
    (checks.nb05_gae, lambda r, v, lam: backwards(r, v, lam, bootstrap=1.0), "last value again"),
    (
        checks.nb05_gae,
        lambda r, v, lam: backwards(r + 0 * v, torch.cat([v], 1), lam) + _rolled(r, v, lam),
        "roll",
    ),
    (checks.nb05_gae, forwards, "forwards"),
    (checks.nb05_gae, lambda r, v, lam: gae(r, v, lam) + v, "returns"),
    (checks.nb05_gae, lambda r, v, lam: -gae(r, v, lam), "sign"),
    (checks.nb05_gae, lambda r, v, lam: gae(r, v, lam).sum(-1), "summed"),
    (checks.nb05_policy_loss, surrogate(pick=torch.minimum), "swapped"),
    (checks.nb05_policy_loss, surrogate(sign=1.0, pick=torch.minimum), "minus sign"),
    (checks.nb05_policy_loss, surrogate(pick=lambda plain, clipped: plain), "nothing is clipped"),
    (checks.nb05_policy_loss, surrogate(pick=lambda plain, clipped: clipped), "only the clipped"),
    (checks.nb05_policy_loss, surrogate(ratio=lambda x: x), "forgot `exp`"),
    (checks.nb05_policy_loss, surrogate(ratio=lambda x: (-x).exp()), "upside down"),
    (checks.nb05_policy_loss, surrogate(low=0.0), "only from above"),
    (checks.nb05_policy_loss, around_zero, "around 0"),
    (checks.nb05_policy_loss, surrogate(mean=lambda x, m: x.mean()), "forgot the mask"),
    (checks.nb05_policy_loss, surrogate(mean=lambda x, m: (x * m).mean()), "padding counts"),
    (checks.nb05_policy_loss, surrogate(mean=lambda x, m: (x * m).sum()), "you summed"),
    (checks.nb05_policy_loss, surrogate(mean=lambda x, m: x.sum()), "you summed, padding"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 + (k / t - 1) * n / h), "not clipped"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 - e(k, t) * n / h), "sign"),
    (
        checks.nb05_next_beta,
        lambda b, k, t, n, h: b * (1 + max(-0.2, min(0.2, k / t)) * n / h),
        "- 1 is missing",
    ),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 + e(k, t)), "forgot episodes / horizon"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 + e(k, t) * h / n), "upside down"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 + e(k, t) / h), "number of episodes"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b + e(k, t) * n / h, "MULTIPLIED"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: 1 + e(k, t) * n / h, "returned the factor"),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * e(k, t) * n / h, "returned the change"),
    (
        checks.nb05_next_beta,
        lambda b, k, t, n, h: b * (1 + max(-0.2, min(0.2, (k / t - 1) * n / h))),
        "too late",
    ),
    (checks.nb05_next_beta, lambda b, k, t, n, h: b * (1 + e(t, k) * n / h), "swapped"),
    (
        checks.nb05_next_beta,
        lambda b, k, t, n, h: b * (1 + max(-0.2, min(0.2, k - t)) * n / h),
        "relative",
    ),
]


def _rolled(rewards, values, lam):
    """What `values.roll(-1)` adds: the first value comes round as the next value of the last
    token."""
    steps = torch.arange(rewards.shape[1] - 1, -1, -1)
    return values[:, :1] * lam**steps


def per_row(x, m):
    rows = [
        (r - r[k].mean()) / r[k].std(correction=0).clamp(min=1e-4) + r[k].mean()
        for r, k in zip(x, m)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(("check", "answer"), list(zip(ALL, RIGHT)))
def test_the_package_is_right(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(("check", "wrong", "word"), SLIPS)
def test_every_slip_is_named(check, wrong, word, capsys):
    assert check(wrong) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and word in said


def test_a_mean_for_every_row_is_named(capsys):
    assert checks.nb05_rescale(per_row) is False
    assert "every row for itself" in capsys.readouterr().out


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
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_what_is_written_on_padding_does_not_matter_for_rescale():
    assert checks.nb05_rescale(lambda x, m: torch.where(m, tensors.rescale(x, m), 99.0))


def test_same_reports_and_raises(capsys):
    checks.nb05_same("piece", torch.ones(2), torch.ones(2))
    checks.nb05_same("piece", torch.ones(2), torch.ones(2) + 1e-6)
    assert capsys.readouterr().out.splitlines() == [
        "piece: equal to the package's, bit for bit",
        "piece: equal to the package's, to within 0.0001",
    ]
    with pytest.raises(AssertionError, match="piece: the largest difference is 1"):
        checks.nb05_same("piece", 1.0, 2.0)
    with pytest.raises(AssertionError, match="shapes"):
        checks.nb05_same("piece", torch.ones(2), torch.ones(3))


def patients():
    suspects = {name: name for name in SUSPECTS}
    return suspects, checks.nb05_shuffle(suspects)


def test_the_clinic_has_three_patients_and_knows_them(capsys):
    suspects, truth = patients()
    assert sorted(truth) == ["A", "B", "C"] and len(set(truth.values())) == 3
    assert list(truth.values()) != list(suspects)[:3]
    assert checks.nb05_clinic(truth, suspects) is True
    assert "all three" in capsys.readouterr().out


@pytest.mark.parametrize("unsolved", [None, ..., {}, {"A": ..., "B": ..., "C": ...}, {"A": None}])
def test_an_unsolved_diagnosis_is_no_error(unsolved, capsys):
    assert checks.nb05_clinic(unsolved, SUSPECTS) is False
    assert "Not solved yet" in capsys.readouterr().out


def test_a_wrong_diagnosis_is_answered_with_what_to_look_at(capsys):
    suspects, truth = patients()
    for name in SUSPECTS:
        for patient in truth:
            if truth[patient] != name:
                assert checks.nb05_clinic(truth | {patient: name}, suspects) is False
                said = capsys.readouterr().out
                assert "2 of 3 right" in said and clinic.LOOK_AGAIN[name] in said
                assert truth[patient] not in said, "the truth is not given away"


def test_an_unknown_name_is_refused(capsys):
    assert checks.nb05_clinic({"A": "tiredness"}, SUSPECTS) is False
    assert "not among the suspects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda *given: ppo.policy_loss(*given).item(), "nothing can be trained"),
        (lambda *given: ppo.policy_loss(*given).detach(), "nothing can be trained"),
        (lambda p, *rest: ppo.policy_loss(p.detach(), *rest) + 0 * p.sum(), "gradient is not"),
    ],
)
def test_a_policy_loss_with_the_right_number_must_train(answer, named, capsys):
    """A number without a gradient earned "Right", and the next cell, which asks for the slope,
    stopped."""
    assert checks.nb05_policy_loss(answer) is False
    assert named in capsys.readouterr().out


@pytest.mark.parametrize(
    "check, answer", [(checks.nb05_kl_penalty, kl_penalty), (checks.nb05_gae, gae)]
)
def test_lists_of_the_right_numbers_are_no_tensor(check, answer, capsys):
    assert check(lambda *given: answer(*given).tolist()) is False
    assert "as a tensor, not as a list" in capsys.readouterr().out


@pytest.mark.parametrize("diagnosis", [list(SUSPECTS)[:3], "flipped KL sign", 3])
def test_a_diagnosis_that_is_no_dictionary_is_told_the_form(diagnosis, capsys):
    """A list or a word stopped the notebook with AttributeError."""
    assert checks.nb05_clinic(diagnosis, SUSPECTS) is False
    assert '{"A": ..., "B": ..., "C": ...}' in capsys.readouterr().out


def test_the_hint_for_patient_c_is_its_value_loss(capsys):
    """The hint said that the score would lag, and patient C scores above the healthy run: what
    gives it away is a value loss of .03."""
    suspects, truth = patients()
    wrong = next(name for name in SUSPECTS if name not in truth.values())
    assert truth["C"] == "score on the first token"
    assert checks.nb05_clinic(truth | {"A": truth["C"], "C": wrong}, suspects) is False
    hint = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  A:"))
    assert "value loss would be close to 0" in hint and "lag" not in hint
