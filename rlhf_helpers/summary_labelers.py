"""Simulated labelers of summaries: they check facts as far as their effort goes.

The paper's labelers were asked for accuracy, and its summarizers learned to copy. No labeler here
has a taste for copies. A labeler believes or doubts each fact that a summary states: words copied
in one stretch are known again at sight; what is said in other words has to be looked up, and with
little effort the answer is often wrong. So an accurate summary in its own words is trusted less
than a copy, and a false one is doubted less than it should be.

ACCURACY       asked for accuracy only, in a hurry: the labelers of the paper
OURSELVES      the authors: accurate, in other words, brief; they look everything up
OWN_WORDS      labelers of the first kind who are also asked for the summary's own words
HIGHLIGHTED    the same with a card that shows where each fact stands in the source: looking up is
               cheap

Facts come from whoever can read them (`Facts`): the bundled town has an exact reader in
`data/town/facts.py`. The source is the comparison's query. Every label says `simulated`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from rlhf_helpers.copying import WORD, fragments
from rlhf_helpers.labelers import softmax
from rlhf_helpers.records import Comparison, Label

# Words in a row that also stand in the source: from so many on they are a copied stretch; fewer
# are a name, a place or a turn of phrase that any summary shares with its source.
STRETCH = 7


class Fact(Protocol):
    """A fact that a summary states: which one, where its words stand (in characters), is it so?"""

    name: str
    start: int
    end: int
    true: bool


# (source, summary) -> the facts that the summary states
Facts = Callable[[str, str], Sequence[Fact]]


@dataclass(frozen=True)
class Instructions:
    """What labelers are asked for and how hard they look. One unit of utility lies between a
    summary that is surely wrong and one that is surely right; in brackets: the finding of the paper
    that the number answers to.
    """

    effort: float = 2.0  # shared by all facts to look up; a unit on one halves the rate of wrong
    # answers, which is 1/2 without any [checking is hard work, and copies are easy to check]
    at_sight: bool = True  # a fact in a copied stretch is believed unseen [the same]
    trust: float = 0.85  # belief in a fact before looking it up; as many are true, of those that
    # the bundled model does not copy [labelers know what zero-shot summaries are like]
    coverage: float = 0.05  # a fact told [counts little: they were asked for accuracy]
    brevity: float = 0.005  # a word saved [counts little]
    own_words: float = 0.0  # none of it copied [nobody asked for it; the authors wanted it]
    temperature: float = 0.1  # noise of the choice: two labelers choose the same of four in about
    # two of five, two authors in three of five [38 %; about 60 %]

    def __post_init__(self) -> None:
        if not self.effort >= 0 or not 0 < self.trust < 1 or not self.temperature >= 0:
            raise ValueError(
                f"effort is {self.effort:g}, trust {self.trust:g}, temperature "
                f"{self.temperature:g}: give an effort and a temperature of 0 or more, and a trust "
                "between 0 and 1"
            )


ACCURACY = Instructions()
OURSELVES = Instructions(effort=math.inf, at_sight=False, brevity=0.02, own_words=0.5)
OWN_WORDS = replace(ACCURACY, own_words=0.5)
HIGHLIGHTED = replace(ACCURACY, effort=16.0)
INSTRUCTIONS = {
    "accuracy": ACCURACY,
    "ourselves": OURSELVES,
    "own-words": OWN_WORDS,
    "highlighted": HIGHLIGHTED,
    "own-words-highlighted": replace(HIGHLIGHTED, own_words=0.5),
}


class Impression(NamedTuple):
    """What a labeler makes of a summary: belief that all its facts are true (0 without any fact),
    facts told, share of words that are its own, and words."""

    accuracy: float
    facts: int
    own_words: float
    words: int


@dataclass(frozen=True)
class SummaryLabeler:
    """A labeler that follows instructions and chooses by softmax(utility / temperature).

    The same labeler always gives the same answer to the same comparison, and always thinks the
    same of the same summary.
    """

    name: str
    facts: Facts
    instructions: Instructions = ACCURACY
    seed: int = 0

    def impression(self, source: str, summary: str) -> Impression:
        """Read a summary beside its source, and look up what the effort is enough for."""
        seen, look_up, error = self._at_first(source, summary)
        draw, belief = self._random(source, summary), seen.accuracy
        for fact in look_up:
            found = fact.true if draw.random() >= error else not fact.true
            belief *= believed(found, self.instructions.trust, error)
        return seen._replace(accuracy=belief)

    def utility(self, source: str, summary: str) -> float:
        """Weigh the impression as the instructions ask."""
        seen, asked = self.impression(source, summary), self.instructions
        return (
            seen.accuracy
            + asked.coverage * seen.facts
            + asked.own_words * seen.own_words
            - asked.brevity * seen.words
        )

    def outcomes(self, source: str, summary: str) -> list[tuple[float, float]]:
        """List what labelers of this kind make of a summary, whatever they find when they look its
        facts up: pairs of a utility and how likely it is. They add up to 1."""
        at_first, look_up, error = self._at_first(source, summary)
        # what a utility holds besides the belief that all is true
        rest = self.utility(source, summary) - self.impression(source, summary).accuracy
        beliefs = [(at_first.accuracy, 1.0)]
        for fact in look_up:
            answers = ((fact.true, 1 - error), (not fact.true, error))
            beliefs = [
                (belief * believed(found, self.instructions.trust, error), p * likely)
                for belief, p in beliefs
                for found, likely in answers
                if likely > 0
            ]
        return [(rest + belief, p) for belief, p in beliefs]

    def mean_utility(self, source: str, summary: str) -> float:
        """Average over what labelers of this kind may find: what they want, without their slips."""
        return sum(utility * p for utility, p in self.outcomes(source, summary))

    def chances(self, comparison: Comparison, draws: int = 256) -> list[float]:
        """Say how often labelers of this kind choose each option, from so many of them; the same
        for every seed. `probabilities` are those of this labeler, once it has looked facts up."""
        found = [self.outcomes(comparison.query, option) for option in comparison.options]
        dice = random.Random(f"chances {comparison.id}")
        total = [0.0] * len(found)
        for _ in range(draws):
            utilities = [dice.choices(*zip(*option, strict=True))[0] for option in found]
            for k, p in enumerate(softmax(utilities, self.instructions.temperature)):
                total[k] += p / draws
        return total

    def _at_first(self, source: str, summary: str) -> tuple[Impression, list[Fact], float]:
        """Read a summary without looking anything up: the impression if all else is true, what is
        to be looked up, and how often an answer will be wrong."""
        stretches, words = copied_stretches(source, summary), len(WORD.findall(summary))
        stated, asked = self.facts(source, summary), self.instructions

        def seen(fact: Fact) -> bool:
            within = any(start <= fact.start and fact.end <= end for start, end, _ in stretches)
            return asked.at_sight and within

        look_up = [fact for fact in stated if not seen(fact)]
        error = 0.5 ** (1 + asked.effort / max(1, len(look_up)))
        told = len({fact.name for fact in stated})
        own = 1 - sum(s.words for s in stretches) / words if words else 0.0
        return Impression(float(bool(stated)), told, own, words), look_up, error

    def probabilities(self, comparison: Comparison) -> list[float]:
        """Say how likely each option is to be chosen, as this labeler sees them."""
        utilities = [self.utility(comparison.query, option) for option in comparison.options]
        return softmax(utilities, self.instructions.temperature)

    def choose(self, comparison: Comparison) -> int:
        """Choose an option; the draw depends on the labeler and the comparison alone."""
        draw = self._random(comparison.id)
        return draw.choices(range(len(comparison.options)), self.probabilities(comparison))[0]

    def label(self, comparisons: Iterable[Comparison]) -> list[Label]:
        """Label every comparison; the labels are marked as simulated."""
        return [Label(c.id, self.name, self.choose(c), simulated=True) for c in comparisons]

    def _random(self, *about: str) -> random.Random:
        digest = hashlib.sha256("\n".join([self.name, str(self.seed), *about]).encode())
        return random.Random(digest.hexdigest())


class Stretch(NamedTuple):
    """Words copied in a row: where they stand in the summary, in characters, and how many."""

    start: int
    end: int
    words: int


def copied_stretches(source: str, summary: str, least: int = STRETCH) -> list[Stretch]:
    """Find what a summary copies, in stretches of `least` words or more, or as a whole."""
    theirs = [word.casefold() for word in WORD.findall(source)]
    own = list(WORD.finditer(summary))
    return [
        Stretch(own[f.summary_at].start(), own[f.summary_at + f.length - 1].end(), f.length)
        for f in fragments(theirs, [word[0].casefold() for word in own])
        if f.length >= min(least, len(own))
    ]


def believed(found_true: bool, trust: float, error: float) -> float:
    """Return the belief in a fact after an answer that is wrong at rate `error` (Bayes' rule)."""
    true, false = (1 - error, error) if found_true else (error, 1 - error)
    return trust * true / (trust * true + (1 - trust) * false)
