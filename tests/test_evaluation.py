"""Did it work? Intervals against their definition, sides against bookkeeping by hand, KL against
enumeration."""

import dataclasses
import math
from statistics import NormalDist

import pytest
import torch

from rlhf_helpers import evaluation, sampling
from rlhf_helpers.records import Comparison, Label, Queries


@pytest.mark.parametrize(
    "wins, total, low, high",
    [
        # worked by hand: (0.8 + 0.19207 -+ 1.96 sqrt(0.016 + 0.0096036)) / 1.38415
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),  # z^2 / (n + z^2)
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1.5, 3, 0.1253, 0.8747),  # 1/2 -+ z / (2 sqrt(n + z^2))
    ],
)
def test_wilson_interval_hand_worked(wins, total, low, high):
    result = evaluation.wilson(wins, total)
    assert (result.low, result.high) == (
        pytest.approx(low, abs=6e-5),
        pytest.approx(high, abs=6e-5),
    )
    assert result.rate == wins / total and result.low <= result.rate <= result.high


@pytest.mark.parametrize("wins, total", [(1, 4), (8, 10), (333, 1024), (12.5, 40)])
def test_the_ends_of_the_interval_are_the_rates_that_lie_just_z_deviations_away(wins, total):
    z, result = NormalDist().inv_cdf(0.975), evaluation.wilson(wins, total)
    for end in (result.low, result.high):
        assert abs(result.rate - end) == pytest.approx(
            z * math.sqrt(end * (1 - end) / total), rel=1e-9
        )


def test_a_win_rate_reads_well_and_refuses_nothing_judged():
    assert str(evaluation.wilson(8, 10)) == "80.0% (49.0% to 94.3%, n = 10)"
    for wins, total in ((0, 0), (3, 2), (-1, 4)):
        with pytest.raises(ValueError):
            evaluation.wilson(wins, total)


def test_judging_uncovers_the_sides():
    asked = [Comparison("t", str(i), ("a", "b")) for i in range(4)]
    asked += [Comparison("t", "same", ("a", "a")), Comparison("t", "skipped", ("a", "b"))]
    choices = [0, 1, 0, 1, 1]
    first_is_zero = [True, True, False, False, True, True]
    labels = [Label(c.id, "me", choice) for c, choice in zip(asked, choices)]
    result = evaluation.judge(asked, first_is_zero, labels)
    assert result.successes == 1 + 0 + 0 + 1 + 0.5 and result.total == 5


def test_undecided_pairs_are_half_wins_and_are_told():
    asked = [Comparison("t", str(i), ("a", "b")) for i in range(4)]
    result = evaluation.judge(
        asked,
        [True, False, True, True],
        [Label(c.id, "me", 0) for c in asked[:2]],
        [asked[2].id, "of another list"],
    )
    assert (result.successes, result.total, result.ties) == (1 + 0 + 0.5, 3, 1)
    assert str(result) == f"50.0% ({result.low:.1%} to {result.high:.1%}, n = 3, 1 ties)"


@pytest.mark.parametrize("win, tie", [(0.5, 0.3), (0.6, 0.3), (0.3, 0.6), (0.85, 0.1), (0.05, 0.9)])
def test_the_interval_holds_the_truth_often_enough_with_ties_too(win, tie, n=40):
    """All outcomes of three kinds, weighted: at 95 % Wilson's interval dips a little below for some
    rates even without ties."""
    truth, kept = win + tie / 2, 0.0
    for wins in range(n + 1):
        for ties in range(n + 1 - wins):
            found = evaluation.wilson(wins + ties / 2, n, ties)
            chance = (
                math.comb(n, wins)
                * math.comb(n - wins, ties)
                * win**wins
                * tie**ties
                * (1 - win - tie) ** (n - wins - ties)
            )
            kept += chance * (found.low <= truth <= found.high)
    assert kept > 0.94


def test_judging_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one trial"):
        evaluation.judge([Comparison("t", "q", ("a", "b"))], [True], [])


def test_pairs_hide_who_wrote_what_and_keep_the_books(make_policy, ragged, task, letters):
    first, second, queries = make_policy(0), make_policy(1), ragged.repeat(30)
    # Make the writers recognisable: the first never writes a, the second never b.
    for policy, letter in ((first, 2), (second, 3)):
        policy.logits = lambda hidden, lm=policy.lm, banned=letter: lm.lm_head(hidden).index_fill(
            -1, torch.tensor([banned]), -1e9
        )
    asked, first_is_zero = evaluation.pairs(first, second, queries, task)
    # a fair coin stays within 20 of 60 but once in 4,000
    assert len(asked) == 120 and 40 < sum(first_is_zero) < 80
    seen = 0
    for comparison, is_zero in zip(asked, first_is_zero):
        own, other = comparison.options if is_zero else comparison.options[::-1]
        assert "a" not in own and "b" not in other
        seen += "b" in own or "a" in other
    assert seen > 20  # otherwise the letters prove nothing
    assert [c.query for c in asked[::30]] == letters.batch_decode(
        [t[m].tolist() for t, m in zip(ragged.tokens, ragged.mask)]
    )
    again = evaluation.pairs(first, second, queries, task)
    assert again == (asked, first_is_zero)
    assert evaluation.pairs(first, second, queries, task, seed=1)[1] != first_is_zero


def test_a_labeler_who_always_clicks_left_finds_no_winner(make_policy, ragged, task, letters):
    asked, first_is_zero = evaluation.pairs(make_policy(0), make_policy(1), ragged.repeat(50), task)
    result = evaluation.judge(asked, first_is_zero, [Label(c.id, "left", 0) for c in asked])
    assert result.low < 0.5 < result.high


def test_measured_kl_score_and_entropy_agree_with_enumeration(make_policy, task):
    policy, reference = make_policy(0, vocabulary=5), make_policy(1, vocabulary=5, stir=0.15)
    task = dataclasses.replace(task, response_length=2)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))

    def exact(model):
        with torch.no_grad():
            logits = model.lm(
                torch.cat([torch.tensor([[3, 1]]).expand(25, 2), pairs], 1)
            ).logits.double()
        return (
            (logits[:, 1:3] / task.temperature)
            .log_softmax(-1)
            .gather(-1, pairs.unsqueeze(-1))
            .sum((-1, -2))
        )

    p, q = exact(policy), exact(reference)
    expected = {
        "kl_nats_per_response": (p.exp() * (p - q)).sum().item(),
        "entropy_nats_per_response": -(p.exp() * p).sum().item(),
        "score": (p.exp() * pairs.sum(-1)).sum().item(),
    }
    queries = Queries(torch.tensor([[0, 3, 1]]), torch.tensor([[False, True, True]])).repeat(4000)
    measured = evaluation.measure(
        policy, reference, queries, task, lambda r: r.responses.sum(-1).float()
    )
    deviation = (p.exp() * (p - q - expected["kl_nats_per_response"]) ** 2).sum().sqrt().item()
    assert measured["kl_standard_error"] == pytest.approx(deviation / math.sqrt(4000), rel=0.1)
    assert expected["kl_nats_per_response"] > 10 * measured["kl_standard_error"]
    for name, error in (
        ("kl_nats_per_response", "kl_standard_error"),
        ("score", "score_standard_error"),
    ):
        assert abs(measured[name] - expected[name]) < 4 * measured[error], name
    assert measured["entropy_nats_per_response"] == pytest.approx(
        expected["entropy_nats_per_response"], abs=0.08
    )
    same = evaluation.measure(
        policy, policy.frozen_copy(), queries[:50], task, lambda r: r.responses.sum(-1).float()
    )
    assert abs(same["kl_nats_per_response"]) < 1e-5


def test_frontier_keeps_what_no_other_measurement_beats():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(6, (40,), generator=generator).tolist()
    points = [(i // 4, i // 6 + noise[i]) for i in range(40)]
    points = [points[i] for i in torch.randperm(40, generator=generator)]
    rows = [{"kl_nats_per_response": float(kl), "score": float(score)} for kl, score in points]
    beaten = [
        any(k <= kl and s >= score and (k, s) != (kl, score) for k, s in points)
        for kl, score in points
    ]
    expected = sorted({(kl, score) for (kl, score), b in zip(points, beaten) if not b})
    assert [
        (r["kl_nats_per_response"], r["score"]) for r in evaluation.frontier(rows)
    ] == expected and len(expected) > 2


# ---- the optimum, by reweighting -----------------------------------------------------------------


def test_reweighting_hand_worked():
    # weights 1/4 and 3/4
    found = evaluation.reweighted(torch.tensor([[0.0, math.log(3.0)]]), beta=1.0)
    assert found["score"] == pytest.approx(0.75 * math.log(3))
    assert found["kl_nats_per_response"] == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )
    assert found["effective_samples"] == pytest.approx(1 / (1 / 16 + 9 / 16))
    # all the weight on one of four samples
    greedy = evaluation.reweighted(torch.tensor([[0.0, 1.0, 5.0, 2.0]]), beta=1e-3)
    assert (greedy["score"], greedy["effective_samples"]) == (5, 1) and greedy[
        "kl_nats_per_response"
    ] == pytest.approx(math.log(4))


@pytest.mark.parametrize("beta", [2.0, 0.7, 0.4])
def test_reweighting_samples_finds_the_optimum_that_enumeration_finds(make_policy, beta):
    """pi*(y|x) is proportional to rho(y|x) exp(r(x, y) / beta), over all 25 answers of two
    letters."""
    policy, samples = make_policy(vocabulary=5, context=8, stir=0.1), 40_000
    prompts = Queries(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[False, True], [True, True]]))
    table = torch.rand(2, 25, generator=torch.Generator().manual_seed(1)).double()
    answers = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    exact_score, exact_kl = 0.0, 0.0
    for i in range(2):
        prompt = prompts.tokens[i][prompts.mask[i]]
        with torch.no_grad():
            logits = (
                policy.lm(torch.cat([prompt.expand(25, -1), answers], 1))
                .logits[:, len(prompt) - 1 : -1]
                .double()
            )
        reference = (logits / 0.7).log_softmax(-1).gather(-1, answers.unsqueeze(-1)).sum((-1, -2))
        optimum = (reference + table[i] / beta).log_softmax(-1)
        exact_score += (optimum.exp() * table[i]).sum().item() / 2
        exact_kl += (optimum.exp() * (optimum - reference)).sum().item() / 2
    rollout = sampling.sample(
        policy, prompts.repeat(samples), 2, 0.7, torch.Generator().manual_seed(3), micro_batch=8_000
    )
    place = rollout.responses[:, 0] * 5 + rollout.responses[:, 1]
    scores = table.gather(1, place.view(2, samples))
    found = evaluation.reweighted(scores, beta)
    assert found["score"] == pytest.approx(exact_score, abs=0.01) and found[
        "kl_nats_per_response"
    ] == pytest.approx(exact_kl, abs=0.03)
    assert scores.mean().item() + 0.02 < exact_score  # there was something to find


def test_judged_answers_of_two_models_do_not_share_their_draws(make_policy, ragged, task):
    """Both sides were sampled with one seed: the same model against itself gave equal pairs."""
    policy = make_policy()
    asked, _ = evaluation.pairs(policy, policy, ragged.repeat(25), task)
    equal = sum(pair.options[0] == pair.options[1] for pair in asked)
    assert len(asked) == 100 and equal < 50


def test_verdicts_of_two_people_on_one_pair_are_not_mixed():
    """The last in the list won: 0 % or 100 %, by order."""
    pair = Comparison("t", "q", ("a", "b"))
    both = [Label(pair.id, "ann", 0), Label(pair.id, "ben", 1)]
    for verdicts in (both, [Label(pair.id, "ann", 5)]):
        with pytest.raises(ValueError, match="one verdict for each pair"):
            evaluation.judge([pair], [True], verdicts)
