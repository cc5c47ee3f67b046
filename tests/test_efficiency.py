"""What labels buy: cases by hand, and the chain rule of information by enumerating all answers."""

import itertools
import math

import pytest
import torch

from rlhf_helpers import efficiency

THREE_OF_FOUR = (
    0.8112781244591328  # entropy of a coin that falls right three times in four, in bits
)


def test_bits_in_labels_by_hand():
    """A sure choice of four tells 2 bits; a coin between two of four 1; a coin between all, 0."""
    rows = [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4]
    found = [efficiency.bits_in_labels(torch.tensor([row])) for row in rows]
    assert found == pytest.approx([2, 1, 0])
    assert efficiency.bits_in_labels(torch.tensor(rows)) == pytest.approx(1)
    coin = torch.tensor([[0.75, 0.25]])
    assert efficiency.bits_in_labels(coin) == pytest.approx(1 - THREE_OF_FOUR)


def test_whoever_knows_the_chances_foresees_all_that_is_in_a_label():
    chances = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).double().softmax(-1)
    known = efficiency.bits_foreseen(chances.log(), chances, rescaled=False)
    assert known == pytest.approx(efficiency.bits_in_labels(chances))
    assert efficiency.bits_foreseen(torch.zeros(50, 4), chances) == pytest.approx(0)


def test_bits_foreseen_by_hand():
    """A model gives the chosen of two options 3/4, always: it foresees 1 + log2(3/4) bits."""
    rewards = torch.tensor([[math.log(3), 0.0]] * 4)
    chosen = torch.tensor([[1.0, 0.0]] * 4)
    found = efficiency.bits_foreseen(rewards, chosen, rescaled=False)
    assert found == pytest.approx(1 + math.log2(3 / 4))


def test_a_model_that_is_too_sure_is_brought_to_scale_and_one_that_knows_nothing_to_nothing():
    """On the truth at ten times its scale, and on noise, the loss was worse than a coin's."""
    dice = torch.Generator().manual_seed(1)
    truth = torch.randn(400, 4, generator=dice)
    chances, noise = truth.softmax(-1), 5 * torch.randn(400, 4, generator=dice)
    best = efficiency.bits_in_labels(chances)
    for rewards in (10 * truth, 0.05 * truth):
        assert best - efficiency.bits_foreseen(rewards, chances) < 0.01
        assert efficiency.bits_foreseen(rewards, chances, rescaled=False) < best - 0.1
    assert efficiency.bits_foreseen(noise, chances, rescaled=False) < -1
    assert abs(efficiency.bits_foreseen(noise, chances)) < 0.01


def test_information_of_an_answer_by_hand():
    """Two tastes, equally likely. If they choose opposite options, three times in four, an answer
    tells 1 - H(3/4) bits; if both are sure, one bit; if they choose alike, nothing."""
    half = torch.tensor([0.5, 0.5])
    questions = torch.tensor(
        [[[0.75, 0.25], [0.25, 0.75]], [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]
    )
    found = efficiency.information(half, questions)
    assert found.tolist() == pytest.approx([1 - THREE_OF_FOUR, 1, 0])
    sure = efficiency.information(torch.tensor([1.0, 0.0]), questions)  # nothing left to learn
    assert sure.tolist() == pytest.approx([0, 0, 0])


def test_bits_label_by_label_add_up_to_the_mutual_information_of_labels_and_taste():
    """Three tastes with unequal weights, three questions of three options: all 27 rows of answers
    are listed, and the information is computed from their joint distribution with the taste."""
    dice = torch.Generator().manual_seed(2)
    weights = torch.tensor([0.5, 0.3, 0.2]).double()
    chances = torch.randn(3, 3, 3, generator=dice).double().mul(1.5).softmax(-1)  # question, taste
    joint = {
        answers: weights * torch.stack([chances[q, :, k] for q, k in enumerate(answers)]).prod(0)
        for answers in itertools.product(range(3), repeat=3)
    }
    whole = 0.0
    for both in joint.values():  # (T,): the answers together with each taste
        whole += (both * (both / (weights * both.sum())).log2()).sum().item()
    step_by_step = 0.0
    for asked in range(3):
        for answers in itertools.product(range(3), repeat=asked):
            both = weights.clone()
            for q, k in enumerate(answers):
                both = both * chances[q, :, k]
            told = efficiency.information(both / both.sum(), chances[asked])
            step_by_step += both.sum().item() * told.item()
    assert step_by_step == pytest.approx(whole)


def test_a_bayesians_loss_is_the_noise_and_what_the_label_tells():
    """The sentence on which the unit rests: mean loss of the mixture, less the mean entropy."""
    weights, chances = torch.tensor([0.6, 0.4]), torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    foreseen = weights @ chances
    loss = -(weights.unsqueeze(1) * chances * foreseen.log2()).sum().item()
    noise = (weights @ efficiency.entropy_bits(chances)).item()
    assert loss - noise == pytest.approx(efficiency.information(weights, chances).item(), abs=1e-6)


def test_share_attained_by_hand():
    """The best have 3 and 1 more than the mean of 1; picked are the best one, and a 0."""
    utilities = torch.tensor([[4.0, 0.0, 0.0, 0.0], [2.0, 0.0, 2.0, 0.0]])
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert efficiency.share_attained(rewards, utilities) == pytest.approx((3 - 1) / (3 + 1))
    assert efficiency.share_attained(utilities, utilities) == 1
    assert math.isnan(efficiency.share_attained(rewards, torch.ones(2, 4)))


def test_labels_for_a_goal_by_hand():
    """Half of the way up from 100 to 10,000 is 1,000 on a logarithmic axis."""
    counts, values = [100, 10_000, 40_000], [0.5, 0.7, 0.8]
    assert efficiency.labels_for(counts, values, 0.6) == pytest.approx(1_000)
    assert efficiency.labels_for(counts, values, 0.75) == pytest.approx(20_000)
    assert efficiency.labels_for(counts, values, 0.4) == 100
    assert efficiency.labels_for(counts, values, 0.7) == pytest.approx(10_000)
    assert efficiency.labels_for(counts, values, 0.81) == math.inf


def test_a_curve_that_falls_on_the_way_reaches_its_goal_the_first_time():
    assert efficiency.labels_for([10, 100, 1_000], [0.0, 1.0, 0.0], 0.5) == pytest.approx(10**1.5)


def test_curves_cross_by_hand():
    """Level at 1,000: few rises by .1 in each factor of ten, many by .3 and starts .4 lower."""
    few = [(10, 0.5), (1_000, 0.7), (10_000, 0.8)]
    many = [(10, 0.1), (100, 0.4), (10_000, 1.0)]
    assert efficiency.crossing(few, many) == pytest.approx(1_000)
    assert efficiency.crossing(many, few) is None  # few is not above at the end
    assert efficiency.crossing(few, [(10, 0.6), (10_000, 0.9)]) is None  # above all along
    assert efficiency.crossing(few, [(20_000, 0.9)]) is None  # they share no count
    # only what both cover: few ends at 100, where it still is above
    assert efficiency.crossing([(10, 0.5), (100, 0.6)], many) is None


def test_of_two_crossings_the_last_counts():
    first = [(1, 0.0), (10, 1.0), (100, 0.0), (1_000, 0.0)]
    second = [(1, 0.5), (1_000, 0.5)]
    assert efficiency.crossing(first, second) == pytest.approx(10**1.5)
