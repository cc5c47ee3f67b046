"""The checks of notebook 10 pass the right answer in several forms, name each slip, and never
raise."""

import math

import pytest
import torch

from rlhf_helpers import efficiency
from rlhf_helpers.course import checks


def entropy(p):
    return -sum(x * math.log2(x) for x in p if x > 0)


def bits_in_label(chances):
    return math.log2(len(chances)) - entropy(chances)


def labels_to_see(difference, coin):
    return 1 / ((1 - coin) * difference) ** 2


def labels_at(goal, few, low, many, high):
    return few * (many / few) ** ((goal - low) / (high - low))


def bits_paid(chosen, noise):
    return sum(-math.log2(p) - noise for p in chosen)


def told(weights, chances):
    mixed = [sum(w * c[k] for w, c in zip(weights, chances)) for k in range(len(chances[0]))]
    return entropy(mixed) - sum(w * entropy(c) for w, c in zip(weights, chances))


B, S, A, P, T = (
    checks.nb10_bits_in_label, checks.nb10_labels_to_see, checks.nb10_labels_at,
    checks.nb10_bits_paid, checks.nb10_told,
)  # fmt: skip
RIGHT = [
    (B, bits_in_label),
    (B, lambda chances: efficiency.bits_in_labels(torch.tensor([chances]))),
    (B, lambda chances: sum(p * math.log2(len(chances) * p) for p in chances if p > 0)),
    (S, labels_to_see),
    (S, lambda d, c: 4 * 0.25 / (d - c * d) ** 2),
    (A, labels_at),
    (A, lambda g, *ends: efficiency.labels_for(ends[::2], ends[1::2], g)),
    (P, bits_paid),
    (P, lambda chosen, noise: -math.log2(math.prod(chosen)) - noise * len(chosen)),
    (T, told),
    (T, lambda w, c: efficiency.information(torch.tensor(w), torch.tensor(c))),
]

SLIPS = [
    (B, entropy, "NOISE"),
    (B, lambda c: -bits_in_label(c), "sign"),
    (B, lambda c: bits_in_label(c) * math.log(2), "nats"),
    (B, lambda c: math.log2(len(c)) - math.log(2) * entropy(c), "different units"),
    (B, lambda c: math.log(len(c)) - entropy(c), "different units"),
    (B, lambda c: math.log2(len(c)) + entropy(c), "ADDED"),
    (B, lambda c: 2 - entropy(c), "four options"),
    (B, lambda c: math.log2(len(c)) + sum(math.log2(p) for p in c if p), "weigh each"),
    (B, lambda c: math.log2(len(c) * max(c)), "FAVOURITE"),
    (B, lambda c: 1.0, "chances [0.7"),
    (S, lambda d, c: 1 / d**2, "coin is missing"),
    (S, lambda d, c: 1 / ((1 - c) * d**2), "DIFFERENCE smaller"),
    (S, lambda d, c: 1 / ((1 - c) * d), "squared as a whole"),
    (S, lambda d, c: 1 / (c * d) ** 2 if c else 1 / d**2, "LEFT"),
    (S, lambda d, c: labels_to_see(d, c) / 4, "ONE standard error"),
    (S, lambda d, c: 2 * 0.25 / ((1 - c) * d) ** 2, "squared, too"),
    (S, lambda d, c: (2 / ((1 - c) * d)) ** 2, "0.5 / sqrt(n)"),
    (S, lambda d, c: ((1 - c) * d) ** 2, "Turn the fraction"),
    (S, lambda d, c: (1 + c) / d**2, "take labels away"),
    (S, lambda d, c: 100.0, "difference 0.1, coin 0.5"),
    (A, lambda g, a, low, b, high: a + (g - low) / (high - low) * (b - a), "ORDINARY"),
    (A, lambda *case: math.log(labels_at(*case)), "turn it back"),
    (A, lambda *case: math.log10(labels_at(*case)), "turn it back"),
    (A, lambda g, a, low, b, high: labels_at(high - (g - low), a, low, b, high), "RIGHT end"),
    (A, lambda g, a, low, b, high: (b / a) ** ((g - low) / (high - low)), "MULTIPLIED"),
    (A, lambda g, a, low, b, high: math.sqrt(a * b), "the middle"),
    (A, lambda g, a, low, b, high: (g - low) / (high - low), "share of the way"),
    (A, lambda g, a, low, b, high: float(b), "from 0.5 at 100"),
    (P, lambda chosen, noise: bits_paid(chosen, 0), "whole surprise"),
    (P, lambda chosen, noise: bits_paid(chosen, 0) - noise, "once for each"),
    (P, lambda chosen, noise: bits_paid(chosen, noise) / len(chosen), "the mean"),
    (P, lambda chosen, noise: -bits_paid(chosen, noise), "the sign"),
    (P, lambda chosen, noise: sum(math.log2(p) - noise for p in chosen), "positive"),
    (P, lambda chosen, noise: sum(-math.log(p) - noise for p in chosen), "nats"),
    (P, lambda chosen, noise: bits_paid(chosen, -noise), "added"),
    (P, lambda chosen, noise: -math.log2(sum(chosen)) - noise * len(chosen), "LOGARITHMS"),
    (P, lambda chosen, noise: sum(1 - p - noise for p in chosen), "not 1 - p"),
    (P, lambda chosen, noise: 5.0, "expected, yours is"),
    (T, lambda w, c: told(w, c) + sum(a * entropy(b) for a, b in zip(w, c)), "whole surprise"),
    (T, lambda w, c: -told(w, c), "sign"),
    (T, lambda w, c: sum(a * entropy(b) for a, b in zip(w, c)), "the noise"),
    (T, lambda w, c: told([1 / len(w)] * len(w), c), "weights are missing"),
    (T, lambda w, c: mixed_entropy(w, c) - sum(map(entropy, c)) / len(c), "with its weight, too"),
    (T, lambda w, c: mixed_entropy(w, c) - sum(map(entropy, c)), "more than an average"),
    (T, lambda w, c: told(w, c) * math.log(2), "nats"),
    (T, lambda w, c: math.log2(len(c[0])) - mixed_entropy(w, c), "with a coin"),
    (T, lambda w, c: entropy(w), "of the taste now"),
    (T, lambda w, c: 0.5, "weights [0.5, 0.5]"),
]  # fmt: skip


def mixed_entropy(weights, chances):
    return told(weights, chances) + sum(a * entropy(b) for a, b in zip(weights, chances))


ALL = list(dict.fromkeys(check for check, _ in RIGHT))


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_in_any_form(check, answer, capsys):
    assert check(answer) is True, capsys.readouterr().out
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
