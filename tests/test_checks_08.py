"""The checks of notebook 08 pass the right answer in several forms, name each slip, and never
raise."""

import itertools
import math
import statistics

import pytest
import torch

from rlhf_helpers import alternatives, evaluation
from rlhf_helpers.course import checks


def subsets(proxy, gold, n):
    best = [max(s)[1] for s in itertools.combinations(list(zip(proxy, gold, strict=True)), n)]
    return statistics.mean(best)


def pooled(proxy, gold, n):
    return alternatives.expected_best(torch.tensor(proxy), n, torch.tensor(gold))


def by_rank(proxy, gold, n, shift=1, whole=True, golds=None):
    ranked = [g for _, g in sorted(zip(proxy, golds or gold, strict=True))]
    shares = [math.comb(i - shift, n - 1) for i in range(1, len(gold) + 1)]
    total = math.comb(len(gold), n) if whole else 1
    return sum(w * g for w, g in zip(shares, ranked, strict=True)) / total


def turning(rise, bend, form):
    return rise / 2 / bend if form == "best of n" else math.exp(rise / bend - 1)


def package(rise, bend, form):
    return evaluation.GoldCurve(form, rise, bend).turning_point()


def stop(judged, patience):
    best, bad = 0, 0
    for i in range(1, len(judged)):
        bad = 0 if judged[i] > judged[best] else bad + 1
        best = i if judged[i] > judged[best] else best
        if bad == patience:
            break
    return best


def stopped_at(judged, patience):
    best = stop(judged, patience)
    return min(best + patience, len(judged) - 1)


def late(judged, patience):
    """Take the later of equals."""
    best, bad = 0, 0
    for i in range(1, len(judged)):
        bad = 0 if judged[i] >= judged[best] else bad + 1
        best = i if judged[i] >= judged[best] else best
        if bad == patience:
            break
    return best


def ends(log_rho, r, beta, reward, kl):
    if kl < 0:
        return (log_rho + reward * r / beta).softmax(-1)
    policy = torch.zeros_like(r)
    policy[(reward * r - beta * log_rho).argmax()] = 1
    return policy


def cornered(log_rho, r, beta, reward, kl):
    """The package's optimum, or the best of all corners, one after the other."""
    if kl < 0:
        return alternatives.optimal_logprobs(log_rho, reward * r, beta).exp()
    gains = [reward * x - beta * q for x, q in zip(r.tolist(), log_rho.tolist(), strict=True)]
    return torch.eye(len(r))[gains.index(max(gains))]


def residual(rewards, lengths):
    apart = lengths - lengths.mean()
    return rewards - (apart * rewards).sum() / (apart * apart).sum() * apart


def by_polyfit(rewards, lengths):
    import numpy as np

    slope, _ = np.polyfit(lengths.numpy(), rewards.numpy(), 1)
    return rewards - float(slope) * (lengths - lengths.mean())


def slope_of(rewards, lengths):
    apart = lengths - lengths.mean()
    return (apart * rewards).sum() / (apart * apart).sum()


G, T, S, W, R = (
    checks.nb08_gold_of_best, checks.nb08_turning_point, checks.nb08_stop_at,
    checks.nb08_where_it_ends, checks.nb08_residual,
)  # fmt: skip
RIGHT = [
    (G, subsets),
    (G, pooled),
    (G, by_rank),
    (T, turning),
    (T, lambda *case: package(*case)[0] ** 0.5),
    (T, lambda *case: torch.tensor(turning(*case))),
    (S, stop),
    (S, evaluation.stop_at),
    (W, ends),
    (W, cornered),
    (R, residual),
    (R, by_polyfit),
]
SLIPS = [
    (G, lambda proxy, gold, n: subsets(proxy, proxy, n), "mean PROXY"),
    (G, lambda proxy, gold, n: subsets(gold, gold, n), "nobody can see"),
    (G, lambda proxy, gold, n: gold[proxy.index(max(proxy))], "one best sample of all"),
    (G, lambda proxy, gold, n: statistics.mean(gold), "n makes no difference"),
    (
        G,
        lambda proxy, gold, n: statistics.mean(
            g for _, g in sorted(zip(proxy, gold, strict=True))[-n:]
        ),
        "only one of n",
    ),
    (G, lambda proxy, gold, n: subsets([-p for p in proxy], gold, n), "WORST"),
    (G, lambda *case: by_rank(*case, shift=0), "off by one"),
    (G, lambda *case: by_rank(*case, whole=False), "divide by C(N, n)"),
    (
        G,
        lambda proxy, gold, n: statistics.mean(
            max(s)[1] for s in itertools.product(list(zip(proxy, gold, strict=True)), repeat=n)
        ),
        "with replacement",
    ),
    (G, lambda *case: 0.123, "expected, yours is"),
    (T, lambda a, b, f: a / b if f == "best of n" else math.exp(a / b), "back at 0"),
    (T, lambda *case: turning(*case) ** 2, "d squared"),
    (
        T,
        lambda *case: evaluation.GoldCurve(case[2], *case[:2]).turning_point()[1],
        "the gold there",
    ),
    (T, lambda a, b, f: a / 2 / b if f == "best of n" else math.exp(a / b), "product rule"),
    (T, lambda a, b, f: a / b if f == "best of n" else math.exp(a / b - 1), "a 2 is missing"),
    (T, lambda a, b, f: a / 2 / b if f == "best of n" else math.exp(a / b + 1), "sign of the 1"),
    (T, lambda a, b, f: a / 2 / b if f == "best of n" else a / b - 1, "take the exponential"),
    (T, lambda a, b, f: turning(b, a, f), "changed places"),
    (T, lambda a, b, f: a / 2 / b, "for the best of n"),
    (T, lambda a, b, f: math.exp(a / b - 1), "for RL"),
    (T, lambda *case: 3.0, "rise 1.2, bend 0.3, best of n"),
    (S, lambda judged, patience: judged.index(max(judged)), "into the future"),
    (S, stopped_at, "BEFORE that"),
    (S, lambda *case: case[0][stop(*case)], "the win rate"),
    (S, late, "keep the earlier"),
    (S, lambda judged, patience: stop(judged, patience + 1), "too long"),
    (S, lambda judged, patience: stop(judged, patience - 1), "too early"),
    (S, lambda judged, patience: stop(judged, 1), "in a row"),
    (S, lambda *case: stop(*case) + 1, "count from 0"),
    (S, lambda *case: 4, "judged [0.5, 0.6"),
    (W, lambda *c: ends(*c[:3], -c[3], c[4]), "sign of the reward"),
    (W, lambda *c: ends(*c[:3], 1, c[4]), "sign of the reward"),
    (W, lambda *c: ends(*c).log(), "log-probabilities"),
    (W, lambda q, r, b, *signs: ends(q, r, 1 / b, *signs), "divide the reward by beta"),
    (W, lambda q, r, *rest: ends(torch.zeros_like(q), r, *rest), "softmax of the reward alone"),
    (W, lambda *c: ends(*c[:4], 1), "mix, as in notebook 04"),
    (W, lambda q, r, b, reward, kl: ends(q, r, -b * kl, reward, -1), "WORST policy"),
    (W, lambda *c: ends(*c[:4], -1), "sign of the KL is not used"),
    (
        W,
        lambda q, r, b, *s: ends(q, r, b, *s) if s[1] < 0 else ends(0 * q, r, b, *s),
        "rare answers are paid for",
    ),
    (
        W,
        lambda q, r, b, *s: ends(q, r if s[1] < 0 else 0 * r, b, *s),
        "the reward counts as well",
    ),
    (
        W,
        lambda q, r, b, *s: ends(q, r, b, *s) if s[1] < 0 else ends(-q, r, b, *s),
        "LIKELY",
    ),
    (
        W,
        lambda q, r, b, reward, kl: ends(q, r, b, reward if kl < 0 else -reward, kl),
        "sign of the reward",
    ),
    (
        W,
        lambda q, r, b, reward, kl: (
            q.exp() * (reward * r / b).exp() if kl < 0 else ends(q, r, b, reward, kl)
        ),
        "divide by Z",
    ),
    (W, lambda q, *_: q.exp(), "expected, yours is"),
    (R, lambda r, n: r - slope_of(r, n) * n, "the mean has moved"),
    (R, lambda r, n: residual(r, n) - r.mean(), "has gone as well"),
    (R, lambda r, n: 2 * r - residual(r, n), "taken AWAY"),
    (R, lambda r, n: r - (n - n.mean()) * slope_of(n, r), "variance of the LENGTHS"),
    (
        R,
        lambda r, n: r - torch.corrcoef(torch.stack([n, r]))[0, 1] * (n - n.mean()),
        "the correlation",
    ),
    (R, lambda r, n: r - residual(r, n), "return the rest"),
    (R, lambda r, n: r / n, "rewards brevity"),
    (R, lambda r, n: r - (r * n).sum() / (n * n).sum() * n, "has an intercept"),
    (
        R,
        lambda r, n: r - ((n - n.mean()) * r).mean() * (n - n.mean()),
        "divide by the variance of the lengths",
    ),
    (R, lambda r, n: r, "expected, yours is"),
    (R, lambda r, n: residual(r, n).tolist(), "as a tensor"),
    (R, lambda r, n: residual(r, n)[:3], "shape (3,)"),
]
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
