"""Checks of notebook 11: the loss of DPO, the advantages of RLOO and of GRPO, GRPO's loss with its
penalty, and a verdict whose words were fixed beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_helpers.course.checks.nb04 import doubles, example
from rlhf_helpers.course.checks.verdict import (
    TOLERANCE,
    Answer,
    NotYet,
    ask,
    check,
    how_close,
    judge,
    shape,
)

VERDICTS = ("better", "worse", "no difference seen", "inconclusive")


def mean_choice(rows: Tensor, choices: Tensor) -> Tensor:
    """Average -log of the share that softmax gives to the chosen option, in plain numbers."""
    lines = zip(rows.tolist(), choices.tolist(), strict=True)
    found = [math.log(math.fsum(map(math.exp, row))) - row[b] for row, b in lines]
    return torch.tensor(math.fsum(found) / len(found))


@check
def nb11_dpo_loss(answer: Answer | None) -> str:
    """Check dpo_loss(logprobs, reference_logprobs, choices, beta) and its gradient, K = 3."""
    logprobs = (-5 * example(4, 3, 1).abs()).requires_grad_()
    reference, choices, beta = -5 * example(4, 3, 2).abs(), torch.tensor([2, 0, 1, 1]), 0.3
    now = logprobs.detach()
    gains = beta * (now - reference)
    right = mean_choice(gains, choices)
    chosen = torch.nn.functional.one_hot(choices, 3).to(gains)
    gradient = beta * (gains.softmax(-1) - chosen) / 4
    sums = mean_choice(gains, choices) * 4
    slips = [
        ("beta is missing.", mean_choice(gains / beta, choices)),
        ("the reference is missing: this rewards what was likely anyway.",
         mean_choice(beta * now, choices)),
        ("the reference is missing, and so is beta.", mean_choice(now, choices)),
        ("the ratio is upside down: log pi MINUS log rho.", mean_choice(-gains, choices)),
        ("you divided by beta: the reward is beta TIMES log(pi / rho).",
         mean_choice(gains / beta**2, choices)),
        ("the sign is wrong: optimizers go downhill.", -right),
        ("you summed over the comparisons: take the mean.", sums),
        ("this is what the chosen option earns, without its rivals: softmax over the K options.",
         -(gains * chosen).sum(-1).mean()),
        ("the softmax runs over the comparisons: it belongs over the K options of each.",
         -(gains.log_softmax(0) * chosen).sum(-1).mean()),
        ("take the mean over the comparisons: return one number.",
         -(gains.log_softmax(-1) * chosen).sum(-1)),
        ("you used the probabilities, not their logarithms.",
         mean_choice(beta * (now.exp() - reference.exp()), choices)),
    ]  # fmt: skip
    arguments = (logprobs, reference, choices, beta)
    close = judge(answer, arguments, right, slips, gradient)
    still = ask(answer, reference.clone().requires_grad_(), reference, choices, beta)
    at_start = torch.as_tensor(still).detach().item()
    return f"a policy that has not moved scores {at_start:.3f}, which is log 3 ({close})."


@check
def nb11_rloo_advantages(answer: Answer | None) -> str:
    """Check rloo_advantages(scores, logprobs, reference_logprobs, beta) -> (P, G)."""
    scores, beta = example(2, 3, 3), 0.4
    logprobs, reference = (-example(6, 4, seed).abs().view(2, 3, 4) for seed in (4, 5))
    k1 = logprobs - reference

    def others(earned: Tensor) -> Tensor:
        rows = [[x - (math.fsum(row) - x) / (len(row) - 1) for x in row] for row in earned.tolist()]
        return doubles(rows)

    earned = scores - beta * k1.sum(-1)
    right = others(earned)
    centred = earned - earned.mean(-1, keepdim=True)
    slips = [
        ("the price is missing: the KL is part of what an answer earned.", others(scores)),
        ("the sign of the price is wrong: this PAYS for leaving the reference.",
         others(scores + beta * k1.sum(-1))),
        ("beta is missing.", others(scores - k1.sum(-1))),
        ("the log ratio of an answer is the SUM over its tokens, not the mean.",
         others(scores - beta * k1.mean(-1))),
        ("this mean contains the answer itself: leave it out.", centred),
        ("that is GRPO: nothing is divided by the deviation here.",
         centred / earned.std(-1, keepdim=True)),
        ("the others were divided by G: there are G - 1 of them.",
         earned - (earned.sum(-1, keepdim=True) - earned) / 3),
        ("this subtracts the SUM of the others: take their mean.",
         earned - (earned.sum(-1, keepdim=True) - earned)),
        ("the rivals' price is missing: the baseline is the mean of what they EARNED.",
         earned - (scores - others(scores))),
        ("these are the rewards with the price in them: take off the mean of the others.", earned),
        ("this is k3, whose place is not in the reward: the price is beta times k1.",
         others(scores - beta * ((-k1).exp() - 1 + k1).sum(-1))),
        ("the baseline runs over the whole batch: only answers to the SAME prompt count.",
         others(earned.reshape(1, 6)).view(2, 3)),
    ]  # fmt: skip
    close = judge(answer, (scores, logprobs, reference, beta), right.float(), slips)
    return f"each answer against its rivals, the price paid by all ({close})."


@check
def nb11_grpo_advantages(answer: Answer | None) -> str:
    """Check grpo_advantages(scores) -> (P, G), with a prompt whose answers all score the same."""
    scores = example(3, 4, 6)
    groups = [row for row in scores.tolist()]

    def relative(less: int) -> Tensor:
        rows = []
        for row in groups:
            mean = math.fsum(row) / 4
            deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in row) / (4 - less))
            rows.append([(x - mean) / deviation for x in row])
        return doubles(rows)

    right, centred = relative(1), scores - scores.mean(-1, keepdim=True)
    variance = scores.var(-1, keepdim=True)
    slips = [
        ("the deviation is missing: this is the comparison alone.", centred),
        ("that is RLOO: here the mean of ALL answers is taken off, then divided.",
         centred * 4 / 3),
        ("you divided by the variance: take its square root.", centred / variance),
        ("divide by G - 1 in the deviation, as `std` does by itself.", relative(0)),
        ("the mean is missing.", scores / variance.sqrt()),
        ("mean and deviation run over the whole batch: take those of each prompt.",
         (scores - scores.mean()) / scores.std()),
        ("mean and deviation run over the prompts: take those of each row.",
         (scores - scores.mean(0)) / scores.std(0)),
        ("the deviation is that of the whole batch: take that of each prompt.",
         centred / scores.std()),
        ("the sign is wrong: good answers have positive advantages.", -right),
    ]  # fmt: skip
    close = judge(answer, (scores,), right.float(), slips)
    equal = torch.cat([scores[:1], torch.full((1, 4), 0.7, dtype=scores.dtype)])
    got = torch.as_tensor(ask(answer, equal)).detach().float()
    if got.shape != equal.shape or not torch.isfinite(got).all():
        raise NotYet(
            "right where answers differ; where all score the same the deviation is 0, and you get "
            "NaN: return zeros there."
        )
    if got[1].abs().max() > TOLERANCE:
        raise NotYet("right where answers differ; where all score the same, return zeros.")
    return f"mean 0 and deviation 1 for each prompt, zeros where nothing differs ({close})."


@check
def nb11_grpo_loss(answer: Answer | None) -> str:
    """Check the GRADIENT of grpo_loss(logprobs, reference_logprobs, advantages, beta)."""
    logprobs = (-example(4, 3, 7).abs()).requires_grad_()
    reference, beta = -example(4, 3, 8).abs(), 0.3
    advantages = doubles([1.2, -0.4, 0.3, -1.1])
    value = ask(answer, logprobs, reference, advantages, beta)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise NotYet(f"return one number, a scalar tensor with a gradient, not {shape(value)}.")
    if not value.requires_grad:
        raise NotYet("nothing can be trained on it: use the log-probabilities without `detach`.")
    (got,) = torch.autograd.grad(value.sum(), logprobs, allow_unused=True)
    if got is None:
        raise NotYet("the log-probabilities of the policy do not occur in your loss.")
    push = -advantages.unsqueeze(1).expand(4, 3) / 12
    k1 = logprobs.detach() - reference
    k3, k2 = beta * (1 - (-k1).exp()) / 12, beta * k1 / 12
    other_way = beta * (k1.exp() - 1) / 12
    right = push + k3
    slips = [
        ("the penalty is missing, or detached: here it is differentiated itself.", push),
        ("the penalty is k1: its gradient is the same at every token, and on average nothing. "
         "Use k3.", push + beta / 12),
        ("the penalty is k2: use k3.", push + k2),
        ("this is k3 the other way round: k1 is log pi minus log rho.", push + other_way),
        ("the sign of the penalty is wrong: this pays for leaving the reference.", push - k3),
        ("beta is missing.", push + k3 / beta),
        ("the sign of the advantages is wrong: optimizers go downhill.", -push + k3),
        ("both signs are wrong.", -right),
        ("you summed the tokens of the penalty: take the mean, as for the advantages.",
         push + 3 * k3),
        ("you summed over the tokens of an answer: take the mean over all B R tokens.", 3 * right),
        ("you summed over everything: take the mean over all B R tokens.", 12 * right),
        ("the advantages are missing.", -torch.ones_like(push) / 12 + k3),
        ("the advantages are multiplied with probabilities: take the logarithms (or the ratio to "
         "the detached policy).", push * logprobs.detach().exp() + k3),
    ]  # fmt: skip
    if torch.allclose(got, right, atol=TOLERANCE):
        return f"on average GRPO's gradient ({how_close((got - right).abs().max().item())})."
    for text, slip in slips:
        if torch.allclose(got, slip, atol=TOLERANCE):
            raise NotYet(text)
    row, token = divmod(int((got - right).abs().argmax()), 3)
    wanted, yours = right[row, token].item(), got[row, token].item()
    raise NotYet(
        f"the gradient at answer {row}, token {token} should be {wanted:.4f}, yours is {yours:.4f}."
    )


def words_of(low: float, high: float, margin: float) -> str:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "no difference seen" if -margin < low and high < margin else "inconclusive"


@check
def nb11_verdict(answer: Answer | None) -> str:
    """Check verdict(low, high, margin) -> one of the four words."""
    cases = [
        (0.01, 0.20, 0.05), (-0.2, -0.01, 0.05), (-0.02, 0.03, 0.05), (-0.02, 0.2, 0.05),
        (-0.2, 0.03, 0.05), (-0.3, 0.3, 0.05), (0.01, 0.03, 0.05), (-0.03, -0.01, 0.05),
    ]  # fmt: skip

    def without_margin(low: float, high: float, margin: float) -> str:
        return words_of(low, high, math.inf)

    def never_nothing(low: float, high: float, margin: float) -> str:
        return words_of(low, high, 0.0)

    def turned(low: float, high: float, margin: float) -> str:
        swap = {"better": "worse", "worse": "better"}
        return swap.get(word := words_of(low, high, margin), word)

    def beyond_margin(low: float, high: float, margin: float) -> str:
        if low > margin or high < -margin:
            return words_of(low, high, margin)
        return "no difference seen" if -margin < low and high < margin else "inconclusive"

    def middle(low: float, high: float, margin: float) -> str:
        return words_of((low + high) / 2, (low + high) / 2, margin)

    def margin_first(low: float, high: float, margin: float) -> str:
        inside = -margin < low and high < margin
        return "no difference seen" if inside else words_of(low, high, margin)

    slips: list[tuple[str, Callable[[float, float, float], str]]] = [
        ("an interval that reaches far beyond the margin says nothing: that is inconclusive, not "
         "\"no difference seen\".", without_margin),
        ("an interval around 0 that lies within the margin is \"no difference seen\".",
         never_nothing),
        ("better and worse are swapped: the difference is the road's minus PPO's.", turned),
        ("an interval that lies above 0 is better, however small the difference: look at the "
         "margin last.", margin_first),
        ("an interval that lies above 0 is better, even if it begins within the margin.",
         beyond_margin),
        ("the middle alone decides nothing: the whole interval must lie on one side.", middle),
    ]  # fmt: skip
    said = [ask(answer, *case) for case in cases]
    if any(not isinstance(word, str) or word not in VERDICTS for word in said):
        raise NotYet("return one of the four: " + ", ".join(map(repr, VERDICTS)) + ".")
    right = [words_of(*case) for case in cases]
    if said == right:
        return "the words are fixed before the numbers are known."
    for text, slip in slips:
        if said == [slip(*case) for case in cases]:
            raise NotYet(text)
    i = next(i for i, pair in enumerate(zip(said, right, strict=True)) if pair[0] != pair[1])
    low, high, margin = cases[i]
    raise NotYet(
        f"from {low} to {high} with a margin of {margin} is {right[i]!r}, yours is {said[i]!r}."
    )
