"""The checks of notebook 01: the right answer passes, each slip is named, nothing raises."""

import math
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch

from rlhf_helpers import tensors
from rlhf_helpers.course import checks


def said(capsys, function, answer):
    verdict = function(answer)
    return verdict, capsys.readouterr().out


ALL = [
    checks.nb01_logprob,
    checks.nb01_entropy,
    checks.nb01_response_logits,
    checks.nb01_ends_at,
    checks.nb01_perplexity,
]


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize("answer", [..., None, lambda *_: None, lambda *_: ...])
def test_unsolved_says_so(check, answer, capsys):
    verdict, text = said(capsys, check, answer)
    assert verdict is False and text.startswith("Not solved yet")


@pytest.mark.parametrize("check", ALL)
def test_a_student_function_that_raises_is_reported(check, capsys):
    verdict, text = said(capsys, check, lambda *_: 1 / 0)
    assert verdict is False and "ZeroDivisionError" in text


@pytest.mark.parametrize("check", ALL)
@pytest.mark.parametrize(
    "answer", [lambda *_: "word", lambda *_: torch.zeros(2, 2), lambda *_: float("nan"), 3]
)
def test_nonsense_is_refused_without_raising(check, answer, capsys):
    verdict, text = said(capsys, check, answer)
    assert verdict is False and text.startswith("Not yet")


def logprob(x, y, t):
    return (x / t).log_softmax(-1)[y]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (logprob, "Right"),
        (
            lambda x, y, t: tensors.token_logprobs(x.view(1, 1, -1), torch.tensor([[y]]), t)[0, 0],
            "Right",
        ),
        (lambda x, y, t: logprob(x, y, t).item(), "Right"),
        (lambda x, y, t: logprob(x, y, 1 / t), "multiplied by the temperature"),
        (lambda x, y, t: logprob(x, y, 1), "forgot the temperature"),
        (lambda x, y, t: logprob(x, y, 1) / t, "after the softmax"),
        (lambda x, y, t: logprob(x, y, t).exp(), "this is the probability"),
        (lambda x, y, t: -logprob(x, y, t), "sign"),
        (lambda x, y, t: x[y] / t, "normaliser"),
        (lambda x, y, t: x[y] / t - x.logsumexp(-1), "normaliser was not divided"),
        (lambda x, y, t: logprob(x, y, t) / math.log(2), "base 2"),
        (lambda x, y, t: logprob(x, y, t) + 1, "expected, yours is"),
    ],
)
def test_logprob(answer, named, capsys):
    verdict, text = said(capsys, checks.nb01_logprob, answer)
    assert verdict is (named == "Right") and named in text


def shifts_in_place(x, y, t):
    x -= x.max()
    return logprob(x, y, t)


def scales_in_place(x, t):
    x /= t
    return surprises(x, 1).sum()


def exponentiates_in_place(x):
    return x.exp_().prod() ** (-1 / len(x))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.nb01_logprob, shifts_in_place),
        (checks.nb01_entropy, scales_in_place),
        (checks.nb01_perplexity, exponentiates_in_place),
        (checks.nb01_response_logits, lambda x, r: x.mul_(1.5)[:, -r - 1 : -1] / 1.5),
    ],
)
def test_an_answer_that_writes_into_what_it_is_given_is_told_so(check, answer, capsys):
    """The next case then met other logits, and the student a number that explained nothing."""
    verdict, text = said(capsys, check, answer)
    assert verdict is False and "changes the tensors it is given" in text


def surprises(x, t):
    logprobs = (x / t).log_softmax(-1)
    return -logprobs.exp() * logprobs


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda x, t: surprises(x, t).sum(), "Right"),
        (tensors.entropy, "Right"),
        (lambda x, t: -surprises(x, t).sum(), "minus sign"),
        (lambda x, t: surprises(x, 1).sum(), "forgot the temperature"),
        (lambda x, t: surprises(x, 1 / t).sum(), "multiplied by the temperature"),
        (lambda x, t: surprises(x, t).mean(), "MEAN"),
        (
            lambda x, t: -(x / t).log_softmax(-1).mean(),
            "weights are missing: this is the plain mean",
        ),
        (lambda x, t: -(x / t).log_softmax(-1).sum(), "weights are missing: this is the plain sum"),
        (lambda x, t: surprises(x, t).sum() / math.log(2), "bits"),
        (lambda x, t: -(x / t).log_softmax(-1).max(), "likeliest token only"),
    ],
)
def test_entropy(answer, named, capsys):
    verdict, text = said(capsys, checks.nb01_entropy, answer)
    assert verdict is (named == "Right") and named in text


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda x, r: x[:, -r - 1 : -1], "Right"),
        (lambda x, r: x[:, x.shape[1] - r - 1 : x.shape[1] - 1], "Right"),
        (lambda x, r: x[:, -r:], "one column late"),
        (lambda x, r: x[:, -r - 2 : -2], "too early"),
        (lambda x, r: x[:, :r], "FIRST columns"),
        (lambda x, r: x[:, -r - 1 :], "one column too many"),
        (lambda x, r: x[:, -r:-1], "first prediction is missing"),
        (lambda x, r: x[:, :-1], "query's own predictions"),
        (lambda x, r: x[0], "return a tensor (B, R, V)"),
        (lambda x, r: 2 * x[:, -r - 1 : -1], "other columns"),
    ],
)
def test_response_logits(answer, named, capsys):
    verdict, text = said(capsys, checks.nb01_response_logits, answer)
    assert verdict is (named == "Right") and named in text


def found(ids, period, start):
    return [i for i, x in enumerate(ids) if x == period and i >= start]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda ids, p, a: next(iter(found(ids, p, a)), None), "Right"),
        (lambda ids, p, a: ids.index(p, a) if p in ids[a:] else None, "Right"),
        (lambda ids, p, a: next(iter(found(ids, p, 0)), None), "first period anywhere"),
        (lambda ids, p, a: next(iter(found(ids, p, a + 1)), None), ">="),
        (lambda ids, p, a: max(found(ids, p, a), default=None), "LAST period"),
        (lambda ids, p, a: found(ids, p, a)[0] + 1 if found(ids, p, a) else None, "one too high"),
        (lambda ids, p, a: ids[a:].index(p) if p in ids[a:] else None, "start of the response"),
        (
            lambda ids, p, a: found(ids, p, a)[0] if found(ids, p, a) else len(ids) - 1,
            "return None",
        ),
        (lambda ids, p, a: found(ids, p, a)[0] if found(ids, p, a) else -1, "return None"),
        (lambda ids, p, a: bool(found(ids, p, a)), "WHETHER"),
        (lambda ids, p, a: 2, "expected 5"),
    ],
)
def test_ends_at(answer, named, capsys):
    verdict, text = said(capsys, checks.nb01_ends_at, answer)
    assert verdict is (named == "Right") and named in text


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda x: (-x.mean()).exp(), "Right"),
        (lambda x: x.mean().exp(), "minus sign"),
        (lambda x: (-x.sum()).exp(), "SUM"),
        (lambda x: (-x).exp().mean(), "averaged 1 / p"),
        (lambda x: -x.mean(), "its exponential"),
        (lambda x: 2 ** -x.mean(), "power of 2"),
        (lambda x: 1 / x.exp().mean(), "average the logarithms"),
        (lambda x: (-x.mean()).exp() + 1, "expected, yours is"),
    ],
)
def test_perplexity(answer, named, capsys):
    verdict, text = said(capsys, checks.nb01_perplexity, answer)
    assert verdict is (named == "Right") and named in text


def naive_logprob(x, y, t):
    weights = (x / t).exp()
    return (weights[y] / weights.sum()).log()


def naive_entropy(x, t):
    p = (x / t).exp() / (x / t).exp().sum()
    return -(p * p.log()).sum()


def softmax_entropy(x, t):
    p = (x / t).softmax(-1)
    return -(p * p.log()).sum()


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.nb01_logprob, naive_logprob),
        (checks.nb01_logprob, lambda x, y, t: (x / t).softmax(-1)[y].log()),
        (checks.nb01_entropy, naive_entropy),
        (checks.nb01_entropy, softmax_entropy),
    ],
)
def test_an_exponential_that_overflows_is_not_right(check, answer, capsys):
    """exp and then log passed, and gave NaN or infinity at large logits."""
    verdict, text = said(capsys, check, answer)
    assert verdict is False and "logits of 1,000 overflow" in text


def test_the_cell_after_logprob_takes_plain_numbers():
    """The check accepts a float, and the next cell then stopped in `torch.stack`."""
    source = Path(__file__).parents[1] / "notebooks/src/01_sampling.py"
    (cell,) = [c for c in source.read_text().split("\n# %%") if "by_hand = torch.tensor(" in c]
    drawn = torch.tensor([[1], [4]])
    logits = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.5])
    world = {
        "torch": torch,
        "pd": pandas,
        "logits": logits,
        "task": SimpleNamespace(temperature=0.7),
        "tokenizer": SimpleNamespace(decode=str),
        "logprob": lambda *given: float(logprob(*given)),
        "rollout": SimpleNamespace(
            responses=drawn, logprobs=(logits / 0.7).log_softmax(-1)[drawn[:, 0]].unsqueeze(1)
        ),
    }
    exec(cell, world)
    assert world["largest"] < 1e-6
