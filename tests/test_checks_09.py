"""The checks of notebook 09 pass the right answer in several forms, name each slip, and never
raise."""

import math

import pytest
import torch

from rlhf_helpers import copying, summary_labelers
from rlhf_helpers.course import checks


def believed(found, trust, error):
    if not found:
        error = 1 - error
    return trust * (1 - error) / (trust * (1 - error) + (1 - trust) * error)


def impression(copied, answers, trust, effort, share=True, error=None):
    if copied == 0 and not answers:
        return 0.0
    facts = len(answers) if share else 1
    error = 0.5 ** (1 + effort / max(1, facts)) if error is None else error
    total = 1.0
    for found in answers:
        total *= summary_labelers.believed(found, trust, error)
    return total


def novel(source, summary, n):
    theirs = list(zip(*(source[i:] for i in range(n)), strict=False))
    own = list(zip(*(summary[i:] for i in range(n)), strict=False))
    return sum(gram not in theirs for gram in own) / len(own)


def density(lengths, count):
    return sum(n**2 for n in lengths) / count


def evidence(one, other, choices):
    rows = zip(one, other, choices, strict=True)
    return sum(math.log(a[k]) - math.log(b[k]) for a, b, k in rows)


def tensor_evidence(one, other, choices):
    a, b = torch.tensor(one), torch.tensor(other)
    at = torch.arange(len(choices)), torch.tensor(choices)
    return (a[at].log() - b[at].log()).sum()


B, S, N, D, E = (
    checks.nb09_believed, checks.nb09_impression, checks.nb09_novel, checks.nb09_density,
    checks.nb09_evidence,
)  # fmt: skip
RIGHT = [
    (B, believed),
    (B, summary_labelers.believed),
    (B, lambda *case: torch.tensor(believed(*case))),
    (S, impression),
    (N, novel),
    (N, copying.novelty),
    (D, density),
    (D, lambda lengths, count: sum(n * (n / count) for n in lengths)),
    (E, evidence),
    (E, tensor_evidence),
]

SLIPS = [
    (B, lambda found, trust, error: believed(found, 0.5, error), "trust is missing"),
    (B, lambda found, trust, error: trust * ((1 - error) if found else error), "divide by"),
    (B, lambda found, trust, error: believed(found, trust, 1 - error), "wrong way round"),
    (B, lambda found, trust, error: believed(True, trust, error), "takes every answer"),
    (
        B,
        lambda found, *rest: believed(found, *rest) if found else 1 - believed(found, *rest),
        "IS false",
    ),
    (B, lambda *case: 1 - believed(*case), "the fact is false"),
    (B, lambda found, trust, error: trust, "trust alone"),
    (B, lambda found, trust, error: 1.0 if found else 0.0, "blindly"),
    (B, lambda found, trust, error: 0.9, "expected, yours is"),
    (S, lambda c, a, t, e: impression(c or 1, a, t, e), "accurate about nothing"),
    (S, lambda *case: impression(*case, share=False), "effort is shared"),
    (
        S,
        lambda c, a, t, e: impression(c, a, t, e, error=0.5 ** (1 + e / max(1, c + len(a)))),
        "copied facts take no effort",
    ),
    (S, lambda c, a, t, e: impression(0, [True] * c + a, t, e), "without looking"),
    (S, lambda c, a, t, e: t**c * impression(c, a, t, e), "whatever the trust"),
    (
        S,
        lambda c, a, t, e: (
            (c + sum(believed(x, t, 0.5 ** (1 + e / max(1, len(a)))) for x in a)) / (c + len(a))
            if c + len(a) else 0
        ),
        "multiply",
    ),
    (
        S,
        lambda c, a, t, e: impression(c, a, t, e, error=0.5 ** (e / max(1, len(a)))),
        "0.5 ** (1 +",
    ),
    (S, lambda c, a, t, e: t ** len(a) if c or a else 0.0, "answers are missing"),
    (S, lambda c, a, t, e: float(all(a)) if c or a else 0.0, "believes every answer"),
    (S, lambda c, a, t, e: 0.5, "3 copied, answers []"),
    (N, lambda *case: 1 - novel(*case), "HAS"),
    (N, lambda s, t, n: novel(s, t, 1), "single words"),
    (N, lambda s, t, n: novel(s, t, n) * (len(t) - n + 1) / len(t), "not len(summary)"),
    (N, lambda s, t, n: novel(s, t, n) * (len(t) - n + 1), "a count"),
    (N, lambda *given: different(*given), "counts twice"),
    (N, lambda s, t, n: novel(t, s, n), "SOURCE"),
    (N, lambda *given: unordered(*given), "order of the words"),
    (N, lambda s, t, n: 0.25, "yours is"),
    (D, lambda lengths, count: sum(lengths) / count, "coverage"),
    (D, lambda lengths, count: sum(lengths) / max(1, len(lengths)), "of a STRETCH"),
    (
        D,
        lambda lengths, count: sum(n * n for n in lengths) / max(1, sum(lengths)),
        "words of its own",
    ),
    (D, lambda lengths, count: max(lengths, default=0), "longest"),
    (D, lambda lengths, count: density(lengths, count) / count, "not twice"),
    (D, lambda lengths, count: sum(lengths) ** 2 / count, "square each"),
    (D, lambda lengths, count: sum(n * n for n in lengths), "divide by the number"),
    (D, lambda lengths, count: 3.0, "stretches [10], 10 words"),
    (E, lambda one, other, choices: evidence(other, one, choices), "sign"),
    (E, lambda *given: evidence(*given) / len(given[2]), "the mean"),
    (E, lambda *given: math.exp(evidence(*given)), "take its logarithm"),
    (E, lambda *given: evidence(*given) / math.log(10), "natural"),
    (E, lambda *given: evidence(*given) / math.log(2), "natural"),
    (
        E,
        lambda one, other, choices: evidence(one, [[1.0] * 4] * len(one), choices),
        "other labeler is missing",
    ),
    (
        E,
        lambda one, other, choices: math.log(
            sum(a[k] for a, k in zip(one, choices, strict=True))
            / sum(b[k] for b, k in zip(other, choices, strict=True))
        ),
        "LOGARITHMS",
    ),
    (
        E,
        lambda one, other, choices: sum(
            a[k] - b[k] for a, b, k in zip(one, other, choices, strict=True)
        ),
        "differences",
    ),
    (
        E,
        lambda one, other, choices: sum(
            math.log(max(a) / max(b)) for a, b in zip(one, other, strict=True)
        ),
        "favourite",
    ),
    (
        E,
        lambda one, other, choices: sum(
            math.log(a[0] / b[0]) for a, b in zip(one, other, strict=True)
        ),
        "option 0",
    ),
    (E, lambda one, other, choices: 7.0, "expected, yours is"),
]  # fmt: skip


def different(source, summary, n):
    own = set(zip(*(summary[i:] for i in range(n)), strict=False))
    return len(own - set(zip(*(source[i:] for i in range(n)), strict=False))) / len(own)


def unordered(source, summary, n):
    theirs, own = (
        [sorted(gram) for gram in zip(*(text[i:] for i in range(n)), strict=False)]
        for text in (source, summary)
    )
    return sum(gram not in theirs for gram in own) / len(own)


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
        lambda *_: math.nan,
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")
