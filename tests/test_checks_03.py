"""Notebook 03's checks: the right answer passes, every named slip is named, an unsolved exercise is
no error."""

import math
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch
from torch.nn.functional import logsigmoid

from rlhf_helpers import reward
from rlhf_helpers.course.checks import nb03 as checks

ALL = [
    checks.nb03_choice_loss,
    checks.nb03_pairwise,
    checks.nb03_uphill,
    checks.nb03_last_real_token,
    checks.nb03_ceiling,
    checks.nb03_normalise,
]


def log_p(r, c):
    return r.log_softmax(-1).gather(-1, c[:, None]).squeeze(-1)


def pick(r, c):
    return r[torch.arange(len(c)), c]


def best(utility, c):
    return max(range(len(c.options)), key=lambda k: utility(c.options[k]))


def ceiling(comparisons, labels, utility):
    return sum(best(utility, c) == x.choice for c, x in zip(comparisons, labels)) / len(labels)


def tied(utility, c):
    values = [utility(o) for o in c.options]
    return [k for k, v in enumerate(values) if v == max(values)]


def gain_bias(raw):
    gain = 1 / raw.std(correction=0)
    return gain, -raw.mean() * gain


def climb(x, t, w, s):
    """By autograd, with nothing derived by hand."""
    w = w.clone().requires_grad_()
    hill = (t * (x @ w).log_softmax(-1)).sum() - (w.square() / (2 * s)).sum()
    return torch.autograd.grad(hill, w)[0]


def pull(x, t, w, dim=-1):
    return torch.einsum("nk,nkd->d", t - (x @ w).softmax(dim), x)


def last(mask):
    return mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize("stub", [None, ..., lambda *_: None, lambda *_: ...])
def test_unsolved_is_said_without_raising(check, stub, capsys):
    assert check(stub) is False
    assert "not solved yet" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda *_: 1 / 0,
        lambda *_: "text",
        lambda *_: torch.zeros(2, 3),
        lambda: 0,
        lambda *_: object(),
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")


@pytest.mark.parametrize(
    "check, answer",
    [
        (checks.nb03_choice_loss, reward.choice_loss),
        (checks.nb03_choice_loss, lambda r, c: -log_p(r, c).mean()),
        (
            checks.nb03_choice_loss,
            lambda r, c: (r.logsumexp(-1) - (r * torch.eye(4)[c]).sum(-1)).mean(),
        ),
        (checks.nb03_pairwise, lambda a, b: -logsigmoid(a - b).mean()),
        (
            checks.nb03_pairwise,
            lambda a, b: reward.choice_loss(
                torch.stack([a, b], -1), torch.zeros(len(a), dtype=torch.long)
            ),
        ),
        (checks.nb03_uphill, climb),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) - w / s),
        (checks.nb03_last_real_token, last),
        (checks.nb03_last_real_token, lambda m: (m * torch.arange(m.shape[1])).argmax(-1)),
        (checks.nb03_last_real_token, lambda m: m.cumsum(-1).argmax(-1)),
        (checks.nb03_ceiling, ceiling),
        (checks.nb03_normalise, gain_bias),
        (checks.nb03_normalise, lambda raw: tuple(x.item() for x in gain_bias(raw))),
    ],
)
def test_right_answers_pass(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "check, answer, named",
    [
        (checks.nb03_choice_loss, lambda r, c: log_p(r, c).mean(), "minus sign"),
        (checks.nb03_choice_loss, lambda r, c: -log_p(r, c).sum(), "sum over the batch"),
        (checks.nb03_choice_loss, lambda r, c: -log_p(r, c), "forget the mean"),
        (checks.nb03_choice_loss, lambda r, c: -log_p(r, c).exp().mean(), "logarithm is missing"),
        (checks.nb03_choice_loss, lambda r, c: -pick(r, c).mean(), "no softmax"),
        (
            checks.nb03_choice_loss,
            lambda r, c: -pick(r.log_softmax(0), c).mean(),
            "over the batch; it must run over the options",
        ),
        (
            checks.nb03_choice_loss,
            lambda r, c: -r.log_softmax(-1).max(-1).values.mean(),
            "highest reward",
        ),
        (
            checks.nb03_choice_loss,
            lambda r, c: -r.log_softmax(-1).mean(),
            "averaged over all options",
        ),
        (checks.nb03_choice_loss, lambda r, c: -log_p(r, c).mean() / math.log(2), "base 2"),
        (
            checks.nb03_choice_loss,
            lambda r, c: -(pick(r.exp(), c) / r.exp().sum(-1)).log().mean(),
            "overflow",
        ),
        (checks.nb03_choice_loss, lambda r, c: torch.tensor(17.0), "yours is 17"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w), "prior is missing"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) + w / s, "prior pushes the wrong"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) - w * s, "multiply by the variance"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) - w / s / 2, "not half of it"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) - 2 * w / s, "or twice"),
        (checks.nb03_uphill, lambda *a: -climb(*a), "goes downhill"),
        (checks.nb03_uphill, lambda x, t, w, s: -pull(x, t, w) - w / s, "targets minus prob"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w) / 4 - w / s, "averaged over the"),
        (checks.nb03_uphill, lambda x, t, w, s: pull(x, t, w, 0) - w / s, "over the comparisons"),
        (checks.nb03_pairwise, lambda a, b: -logsigmoid(b - a).mean(), "wrong way round"),
        (checks.nb03_pairwise, lambda a, b: logsigmoid(a - b).mean(), "minus sign"),
        (checks.nb03_pairwise, lambda a, b: -logsigmoid(a - b).sum(), "sum over the batch"),
        (checks.nb03_pairwise, lambda a, b: -logsigmoid(a - b), "forget the mean"),
        (
            checks.nb03_pairwise,
            lambda a, b: -(a - b).sigmoid().mean(),
            "minus the mean probability",
        ),
        (
            checks.nb03_pairwise,
            lambda a, b: (a - b).sigmoid().mean(),
            "this is the mean probability",
        ),
        (checks.nb03_pairwise, lambda a, b: -(a - b).mean(), "no sigmoid"),
        (checks.nb03_pairwise, lambda a, b: -logsigmoid(a).mean(), "needs the difference"),
        (checks.nb03_pairwise, lambda a, b: -(a - b).sigmoid().log().mean(), "Use logsigmoid"),
        (checks.nb03_last_real_token, lambda m: m.sum(-1) - 1, "on the LEFT"),
        (checks.nb03_last_real_token, lambda m: m.sum(-1), "counted the real tokens"),
        (
            checks.nb03_last_real_token,
            lambda m: torch.full((len(m),), m.shape[1] - 1),
            "always took the last column",
        ),
        (checks.nb03_last_real_token, lambda m: m.long().argmax(-1), "FIRST"),
        (
            checks.nb03_last_real_token,
            lambda m: m.flip(-1).long().argmax(-1),
            "did not turn the answer back",
        ),
        (checks.nb03_last_real_token, lambda m: last(m) + 1, "one too far"),
        (checks.nb03_last_real_token, lambda m: last(m) - 1, "one short"),
        (checks.nb03_last_real_token, lambda m: -1, "one column for each"),
        (checks.nb03_last_real_token, lambda m: last(m) * 0 + 2, "expected, yours is 2"),
        (checks.nb03_ceiling, lambda c, x, u: ceiling(c, x, u) * len(x), "number of hits"),
        (checks.nb03_ceiling, lambda c, x, u: 1 - ceiling(c, x, u), "misses"),
        (checks.nb03_ceiling, lambda c, x, u: ceiling(c, x, lambda t: -u(t)), "LOWEST"),
        (
            checks.nb03_ceiling,
            lambda c, x, u: sum(y.choice in tied(u, d) for d, y in zip(c, x)) / len(x),
            "coin flip",
        ),
        (
            checks.nb03_ceiling,
            lambda c, x, u: (
                sum((y.choice in tied(u, d)) / len(tied(u, d)) for d, y in zip(c, x)) / len(x)
            ),
            "shared ties out",
        ),
        (
            checks.nb03_ceiling,
            lambda c, x, u: sum(y.choice == tied(u, d)[-1] for d, y in zip(c, x)) / len(x),
            "took the last",
        ),
        (
            checks.nb03_ceiling,
            lambda c, x, u: sum(u(d.options[y.choice]) for d, y in zip(c, x)) / len(x),
            "averaged the utility",
        ),
        (
            checks.nb03_normalise,
            lambda raw: (gain_bias(raw)[0], -raw.mean()),
            "the gain multiplies first",
        ),
        (checks.nb03_normalise, lambda raw: (gain_bias(raw)[0], -gain_bias(raw)[1]), "wrong sign"),
        (checks.nb03_normalise, lambda raw: gain_bias(raw)[::-1], "wrong way round"),
        (checks.nb03_normalise, lambda raw: (gain_bias(raw)[0], 0.0), "forgets the mean"),
        (
            checks.nb03_normalise,
            lambda raw: (raw.std(correction=0), -raw.mean() * raw.std(correction=0)),
            "divide by it",
        ),
        (
            checks.nb03_normalise,
            lambda raw: (1 / raw.var(correction=0), -raw.mean() / raw.var(correction=0)),
            "variance",
        ),
        (checks.nb03_normalise, lambda raw: (1 / raw.std(), -raw.mean() / raw.std()), "n - 1"),
        (checks.nb03_normalise, lambda raw: (raw.mean(), raw.std(correction=0)), "themselves"),
        (checks.nb03_normalise, lambda raw: (raw.std(correction=0), raw.mean()), "themselves"),
        (checks.nb03_normalise, lambda raw: (1.0, 1.0), "your numbers give mean"),
        (checks.nb03_normalise, lambda raw: (raw - raw.mean()) / raw.std(), "two numbers"),
    ],
)
def test_slips_are_named(check, answer, named, capsys):
    assert check(answer) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and named in said
    assert said.count("\n") == 1  # one line


@pytest.mark.parametrize(
    "check, answer, named",
    [
        (
            checks.nb03_choice_loss,
            lambda r, c: -log_p(r, c).mean().item(),
            "nothing can be trained",
        ),
        (
            checks.nb03_choice_loss,
            lambda r, c: -log_p(r, c).mean().detach(),
            "nothing can be trained",
        ),
        (
            checks.nb03_choice_loss,
            lambda r, c: torch.tensor(-log_p(r, c).mean().item(), requires_grad=True),
            "gradient is not",
        ),
        (
            checks.nb03_choice_loss,
            lambda r, c: (r.logsumexp(-1).detach() - pick(r, c)).mean(),
            "gradient is not",
        ),
        (
            checks.nb03_pairwise,
            lambda a, b: -logsigmoid(a - b).mean().item(),
            "nothing can be trained",
        ),
        (
            checks.nb03_pairwise,
            lambda a, b: -logsigmoid(a.detach() - b).mean() + 0 * a.sum(),
            "gradient is not",
        ),
    ],
)
def test_a_loss_with_the_right_number_must_train(check, answer, named, capsys):
    """A number without a gradient earned "Right", and the next cell stopped, or trained on
    nothing."""
    assert check(answer) is False
    assert named in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, named",
    [
        (lambda m: last(m).float(), "not as torch.float32"),
        (lambda m: last(m).tolist(), "not as a list"),
        (lambda m: last(m)[:, None], "shape is (6, 1); expected (6,)"),
        (lambda m: 5 - m.flip(-1).long().argmax(-1), "take the width from the mask"),
    ],
)
def test_columns_must_be_an_index_in_masks_of_any_width(answer, named, capsys):
    """`hidden[torch.arange(B), columns]` of the next cell refuses floats, and makes (B, B) of a
    column of shape (B, 1)."""
    assert checks.nb03_last_real_token(answer) is False
    assert named in capsys.readouterr().out


def test_the_cell_after_gain_and_bias_takes_plain_numbers():
    """The check accepts floats, and the next cell then stopped in `torch.stack`."""
    source = Path(__file__).parents[1] / "notebooks/src/03_reward_model.py"
    (cell,) = [c for c in source.read_text().split("\n# %%") if c.startswith("\nreward.normalize(")]
    raw = torch.tensor([3.0, 5.0, 4.0, 8.0, 10.0])
    gain, bias = gain_bias(raw)
    world = dict.fromkeys(["policy", "prompts", "task"])
    world["math"] = math
    world |= {"torch": torch, "pd": pandas, "raw": raw}
    world |= {"gain": gain.item(), "bias": bias.item()}
    world["reward"] = SimpleNamespace(normalize=lambda *_, **__: None)
    world["reward_model"] = SimpleNamespace(gain=gain, bias=bias)
    exec(cell, world)
    assert world["normal"].mean().abs() < 1e-6
