"""Checks of notebook 09: what a labeler believes, how much of a summary is copied, and which of two
judges a row of clicks resembles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhf_helpers.course.checks.verdict import Answer, check, compare


@check
def nb09_believed(answer: Answer | None) -> str:
    """Check believed(found_true, trust, error), the belief in a fact after looking it up."""

    def both_ways(found_true: bool, trust: float, error: float) -> tuple[float, float]:
        """How likely the answer is together with a true fact, and with a false one."""
        if found_true:
            return trust * (1 - error), (1 - trust) * error
        return trust * error, (1 - trust) * (1 - error)

    def right(*case) -> float:
        true, false = both_ways(*case)
        return true / (true + false)

    slips = [
        ("trust is missing: how likely was the fact before anybody looked?",
         lambda found, trust, error: 1 - error if found else error),
        ("this is how likely fact AND answer are together: divide by how likely the answer is.",
         lambda *case: both_ways(*case)[0]),
        ("the error is the wrong way round: a true fact is found true at the rate 1 - error.",
         lambda found, trust, error: right(not found, trust, error)),
        ("this takes every answer for \"true\": what if the labeler finds the fact false?",
         lambda found, trust, error: right(True, trust, error)),
        ("where the fact was found false, this is the belief that it IS false.",
         lambda found, *rest: right(found, *rest) if found else 1 - right(found, *rest)),
        ("this is the belief that the fact is false.", lambda *case: 1 - right(*case)),
        ("the answer changes nothing here: this is the trust alone.",
         lambda found, trust, error: trust),
        ("this believes the answer blindly: it is wrong at the rate `error`.",
         lambda found, trust, error: float(found)),
    ]  # fmt: skip
    cases = [(True, 0.85, 0.25), (False, 0.85, 0.25), (True, 0.6, 0.1), (False, 0.6, 0.1),
             (False, 0.3, 0.5)]  # fmt: skip
    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"one answer moves a belief, and an error rate of a half moves nothing ({close})."


def beliefs(answers: Sequence[bool], trust: float, error: float) -> list[float]:
    odds = [trust / (1 - trust) * ((1 - error) / error) ** (1 if a else -1) for a in answers]
    return [x / (1 + x) for x in odds]


@check
def nb09_impression(answer: Answer | None) -> str:
    """Check impression(copied, answers, trust, effort): belief that all facts of a summary are
    true, of which `copied` stand in copied stretches and the others gave these answers."""

    def error(effort: float, facts: int) -> float:
        return 0.5 ** (1 + effort / max(1, facts))

    def right(copied: int, answers: list, trust: float, effort: float) -> float:
        if copied + len(answers) == 0:
            return 0.0
        return math.prod(beliefs(answers, trust, error(effort, len(answers))))

    slips = [
        ("right where something is stated; a summary without any fact is accurate about nothing: "
         "return 0 there.",
         lambda c, a, t, e: math.prod(beliefs(a, t, error(e, len(a))))),
        ("the effort is shared: each fact gets effort / (number of facts to look up).",
         lambda c, a, t, e: right(c, a, t, e * max(1, len(a)))),
        ("copied facts take no effort: it is shared by those that are looked up.",
         lambda c, a, t, e: math.prod(beliefs(a, t, error(e, c + len(a)))) if c or a else 0.0),
        ("copied facts are believed without looking: do not look them up as well.",
         lambda c, a, t, e: right(0, [True] * c + a, t, e)),
        ("copied facts are believed fully, whatever the trust.",
         lambda c, a, t, e: t**c * right(c, a, t, e)),
        ("all facts have to be true: multiply the beliefs, do not average them.",
         lambda c, a, t, e: (c + sum(beliefs(a, t, error(e, len(a))))) / (c + len(a))
         if c or a else 0.0),
        ("without effort an answer is wrong half of the time, not always: 0.5 ** (1 + ...).",
         lambda c, a, t, e: (0.0 if not c + len(a) else math.prod(
             beliefs(a, t, min(1 - 1e-12, 0.5 ** (e / max(1, len(a)))))))),
        ("the answers are missing: this is what a labeler believes who looks nothing up.",
         lambda c, a, t, e: t ** len(a) if c or a else 0.0),
        ("this believes every answer: use `believed`.",
         lambda c, a, t, e: float(all(a)) if c or a else 0.0),
    ]  # fmt: skip
    cases = [
        (3, [], 0.85, 2.0), (0, [True, True], 0.85, 2.0), (1, [True, False, True], 0.85, 3.0),
        (2, [True], 0.7, 1.0), (0, [False], 0.6, 4.0), (0, [], 0.85, 2.0),
    ]  # fmt: skip
    names = [f"{c} copied, answers {a}, trust {t}, effort {e}" for c, a, t, e in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"copies are believed, and everything else as far as the effort goes ({close})."


def words(text: str) -> list[str]:
    return text.split()


@check
def nb09_novel(answer: Answer | None) -> str:
    """Check novel(source, summary, n): the share of n-grams that the source does not have."""

    def grams(text: list[str], n: int) -> list[tuple[str, ...]]:
        return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]

    def right(source: list[str], summary: list[str], n: int) -> float:
        theirs, own = grams(source, n), grams(summary, n)
        return len([gram for gram in own if gram not in theirs]) / len(own)

    def among_different(source: list[str], summary: list[str], n: int) -> float:
        own = set(grams(summary, n))
        return len(own - set(grams(source, n))) / len(own)

    def unordered(source: list[str], summary: list[str], n: int) -> float:
        theirs = [sorted(gram) for gram in grams(source, n)]
        own = [sorted(gram) for gram in grams(summary, n)]
        return sum(gram not in theirs for gram in own) / len(own)

    slips = [
        ("these are the n-grams that the source HAS: novel are the others.",
         lambda s, t, n: 1 - right(s, t, n)),
        ("this counts single words: take n of them in a row.", lambda s, t, n: right(s, t, 1)),
        ("there are len(summary) - n + 1 n-grams in a summary, not len(summary).",
         lambda s, t, n: right(s, t, n) * (len(t) - n + 1) / len(t)),
        ("this is a count: divide by the number of n-grams.",
         lambda s, t, n: right(s, t, n) * (len(t) - n + 1)),
        ("an n-gram that comes twice counts twice: do not make a set of the summary's.",
         among_different),
        ("this is the share of the SOURCE that the summary does not have.",
         lambda s, t, n: right(t, s, n)),
        ("the order of the words counts: \"dog bites man\" is not \"man bites dog\".", unordered),
    ]  # fmt: skip
    source = words("on monday the cook lost a goat near the mill and nobody saw the goat")
    cases = [
        (source, words("the cook lost a goat near the old mill"), 2),
        (source, words("the goat the goat saw nobody and the cook cried"), 2),
        (source, words("nobody saw the goat near the mill on monday"), 3),
        (source, words("a baker found the goat"), 1),
        (source, words("lost cook the a goat and lost a goat"), 2),
    ]
    close = compare(answer, cases, right, slips, tolerance=1e-6)
    return f"0 for a copy, 1 where not even a turn of phrase is taken over ({close})."


@check
def nb09_density(answer: Answer | None) -> str:
    """Check density(lengths, count): mean length of the shared stretch that a word stands in."""

    def right(lengths: list[int], count: int) -> float:
        """Word by word: each finds the length of its own stretch, or 0."""
        per_word = [n for n in lengths for _ in range(n)]
        return sum(per_word + [0] * (count - len(per_word))) / count

    slips = [
        ("this is the coverage: each word counts with the LENGTH of its stretch, not with 1.",
         lambda lengths, count: sum(lengths) / count),
        ("this is the mean length of a STRETCH: of a stretch of n words, n words say n.",
         lambda lengths, count: sum(lengths) / max(1, len(lengths))),
        ("words of its own count too, with 0: divide by all words of the summary.",
         lambda lengths, count: sum(n * n for n in lengths) / max(1, sum(lengths))),
        ("this is the longest stretch.", lambda lengths, count: max(lengths, default=0)),
        ("divide by the number of words once, not twice.",
         lambda lengths, count: sum(n * n for n in lengths) / count**2),
        ("square each length, then add up; not the other way round.",
         lambda lengths, count: sum(lengths) ** 2 / count),
        ("divide by the number of words.", lambda lengths, count: sum(n * n for n in lengths)),
    ]  # fmt: skip
    cases = [([10], 10), ([1] * 8, 10), ([4, 3, 1], 12), ([2, 7], 9), ([], 6)]
    names = [f"stretches {lengths}, {count} words" for lengths, count in cases]
    close = compare(answer, cases, right, slips, names=names, tolerance=1e-6)
    return f"one copied sentence of ten words has 10, eight single words in ten 0.8 ({close})."


@check
def nb09_evidence(answer: Answer | None) -> str:
    """Check evidence(one, other, choices): log-likelihood of clicks under one labeler, minus that
    under another; each is a list of the options' probabilities for each comparison."""

    def likelihood(said: list, choices: list, pick=lambda row, k: row[k]) -> float:
        return math.prod(pick(row, k) for row, k in zip(said, choices, strict=True))

    def right(one: list, other: list, choices: list) -> float:
        return math.log(likelihood(one, choices)) - math.log(likelihood(other, choices))

    def favourites(one: list, other: list, choices: list) -> float:
        a, b = (likelihood(x, choices, lambda row, k: max(row)) for x in (one, other))
        return math.log(a / b)

    def firsts(one: list, other: list, choices: list) -> float:
        a, b = (likelihood(x, choices, lambda row, k: row[0]) for x in (one, other))
        return math.log(a / b)

    def added(one: list, other: list, choices: list) -> float:
        a, b = (sum(row[k] for row, k in zip(x, choices, strict=True)) for x in (one, other))
        return math.log(a) - math.log(b)

    slips = [
        ("the sign is wrong: clicks that `one` expects should give a positive number.",
         lambda one, other, choices: -right(one, other, choices)),
        ("this is the mean: add up over the comparisons.",
         lambda one, other, choices: right(one, other, choices) / len(choices)),
        ("this is the ratio itself: take its logarithm.",
         lambda one, other, choices: likelihood(one, choices) / likelihood(other, choices)),
        ("use the natural logarithm.",
         lambda one, other, choices: right(one, other, choices) / math.log(10)),
        ("use the natural logarithm.",
         lambda one, other, choices: right(one, other, choices) / math.log(2)),
        ("the other labeler is missing: compare the two.",
         lambda one, other, choices: math.log(likelihood(one, choices))),
        ("probabilities of clicks that fall together are multiplied: add up their LOGARITHMS.",
         added),
        ("these are differences of probabilities: take the logarithm of each.",
         lambda one, other, choices: sum(
             a[k] - b[k] for a, b, k in zip(one, other, choices, strict=True))),
        ("this takes each labeler's favourite, not the option that was clicked.", favourites),
        ("this always takes option 0, not the option that was clicked.", firsts),
    ]  # fmt: skip
    one = [[0.7, 0.1, 0.1, 0.1], [0.2, 0.3, 0.4, 0.1], [0.25, 0.25, 0.25, 0.25]]
    other = [[0.1, 0.6, 0.2, 0.1], [0.3, 0.5, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]]
    cases = [(one, other, [0, 2, 1]), (one, other, [1, 1, 3]), (other, one, [2, 0, 3]),
             (one[:2], one[:2], [3, 0])]  # fmt: skip
    close = compare(answer, cases, right, slips, tolerance=1e-5)
    return f"log of how much likelier one labeler makes these clicks than the other ({close})."
