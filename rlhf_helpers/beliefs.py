"""What a taste is, in words: which words and manners it rewards, and how sure that is.

traits       what answers hold or are like, read off texts once
believe      the traits that a taste rewards or punishes, as far as it is sure of them
of           all that can be said of a taste after a click

A belief about a word is the mean reward of the answers that hold it, less that of the others: a
difference of rewards, so it has a posterior deviation. Nothing is said of a trait while that
deviation is larger than the effect.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_helpers.clicks import Taste, accuracy
from rlhf_helpers.evaluation import Proportion
from rlhf_helpers.features import Features
from rlhf_helpers.posterior import Guess
from rlhf_helpers.records import Comparison

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|[^\w\s]")  # a word of any language, or a mark
PART = 64  # traits whose deviations are computed together
FEWEST = 5  # answers that must hold a word, and that must not, before anything is said of it
COMMON = 0.5  # share of answers above which nothing is said of a word: "the" is liked for others
MARKS = {
    '"': "quotation marks", "\u201c": "quotation marks", "\u201d": "quotation marks",
    "!": "exclamation marks", "?": "question marks", ",": "commas", ";": "semicolons",
    ":": "colons", "-": "dashes", "\u2014": "dashes", "'": "apostrophes", "\u2019": "apostrophes",
    ".": "more than one sentence",
}  # fmt: skip
ENDS = re.compile(r"[.!?\u2026]+")


class Traits(NamedTuple):
    """What answers hold or are like: for T traits, the difference that each makes to features.

    more, less: what is liked if the trait is rewarded, and if it is punished; less is "" for a
    word. between (T, D): mean features of the answers with the trait, less those of the others.
    answers: how many have it.
    """

    more: list[str]
    less: list[str]
    between: Tensor
    answers: list[int]
    total: int  # answers read

    def spread(self) -> Tensor:
        """Return the deviation over answers of having each trait or not: (T,)."""
        share = torch.tensor(self.answers) / self.total
        return (share * (1 - share)).sqrt()


class Belief(NamedTuple):
    """How much better answers with this word or manner are thought to be than the others.

    effect and deviation in units of the reward; `answers` have it.
    """

    what: str
    effect: float
    deviation: float
    answers: int

    def __str__(self) -> str:
        return f"{self.what} {self.effect:+.1f} ± {self.deviation:.1f}"


class Beliefs(NamedTuple):
    """What can be said after a click.

    expected: the prediction of the latest click, None before the second; accuracy: of all
    predictions. beliefs: those that weigh most first. best, worst: answers that were not asked
    about, as the taste ranks them.
    """

    expected: Guess | None
    accuracy: Proportion | None
    beliefs: list[Belief]
    best: str
    worst: str

    def __str__(self) -> str:
        likes = [str(b) for b in self.beliefs if b.effect > 0][:5]
        lines = [f"Liked, it seems: {', '.join(likes) or 'nothing that is sure yet'}."]
        if dislikes := [str(b) for b in self.beliefs if b.effect < 0][:5]:
            lines.append(f"Less liked: {', '.join(dislikes)}.")
        if self.expected is not None and self.accuracy is not None:
            p = self.expected.probabilities[self.expected.choice].item()
            said = f"The latest choice was given {p:.0%}; "
            lines.append(f"{said}guessed before the click: {self.accuracy}.")
        return "\n".join(lines)


def traits(features: Features, comparisons: Sequence[Comparison]) -> Traits:
    """Read the words and manners of all options, labelled or not.

    Manners are the longer half of the answers, that with longer words and that with longer
    sentences. Words in fewer than five answers are left out, and so are those in more than half.
    """
    x = features(comparisons).flatten(0, 1)  # (M, D)
    texts = [option for c in comparisons for option in c.options]
    found: dict[str, set[int]] = {}
    for i, text in enumerate(texts):
        for n, word in enumerate(words := WORD.findall(text.lower())):
            if word != "." or n < len(words) - 1:  # the end of an answer is none of its words
                found.setdefault(MARKS.get(word, word), set()).add(i)
    most = {w: len(texts) - FEWEST for w in MARKS.values()}
    held = [
        (w, "", f) for w, f in found.items() if FEWEST <= len(f) <= most.get(w, COMMON * len(texts))
    ]
    for name, measure in (("answers", len), ("words", _word), ("sentences", _sentence)):
        order = sorted(range(len(texts)), key=lambda i: measure(texts[i]))
        held.append((f"longer {name}", f"shorter {name}", set(order[len(order) // 2 :])))
    rows = torch.zeros(len(held), len(texts))
    for row, (_, _, holders) in zip(rows, held, strict=True):
        row[list(holders)] = 1
    counts = rows.sum(1, keepdim=True)
    inside = rows @ x
    between = inside / counts - (x.sum(0) - inside) / (len(texts) - counts)
    more, less, holders = zip(*held, strict=True)
    return Traits(list(more), list(less), between, [len(f) for f in holders], len(texts))


def believe(taste: Taste, known: Traits, most: int | None = None) -> list[Belief]:
    """Say which traits a taste rewards or punishes: those that weigh most, for sure, come first.

    What is less than its deviation is not said. The rest is ordered by effect less deviation, times
    the deviation over answers of having the trait: by how much of all rewards goes with it. A word
    in few answers would else come before the manner that those few have in common. `most`: so many
    of what is rewarded and of what is punished will do, which is found sooner; others may lack.
    """
    effects = known.between @ taste.tensors["weights"] * taste.tensors["gain"]
    spread = known.spread()
    bound = effects.abs() * spread  # nothing weighs more than if it were sure
    found: list[tuple[float, Belief]] = []
    for part in bound.argsort(descending=True).split(PART):
        if most is not None and _enough(found, most, bound[part[0]].item()):
            break
        deviations = taste.deviation(known.between[part])
        for i, deviation in zip(part.tolist(), deviations.tolist(), strict=True):
            effect, opposite = effects[i].item(), known.less[i]
            if (sure := abs(effect) - deviation) <= 0:
                continue
            turned = effect < 0 and opposite
            what, effect = (opposite, -effect) if turned else (known.more[i], effect)
            belief = Belief(what, effect, deviation, known.answers[i])
            found.append((sure * spread[i].item(), belief))
        found.sort(key=lambda x: -x[0])
    return [belief for _, belief in found]


def _enough(found: Sequence[tuple[float, Belief]], most: int, bound: float) -> bool:
    """Tell whether `most` beliefs of each sign weigh at least `bound`."""
    signs = [b.effect > 0 for weight, b in found if weight >= bound]
    return min(sum(signs), len(signs) - sum(signs)) >= most


def of(
    taste: Taste, comparisons: Sequence[Comparison], *, count: int = 12,
    known: Traits | None = None, among: Collection[str] | None = None,
) -> Beliefs:  # fmt: skip
    """Say what a taste believes, measured on the options of all `comparisons`.

    `known` are their traits, if they were read before. Predictions are counted `among` these ids,
    as in `clicks.accuracy`.
    """
    asked: Collection[str] = {i for i, _ in taste.clicks.rows} if taste.clicks else set()
    new = [c for c in comparisons if c.id not in asked] or list(comparisons)
    unseen, rewards = [o for c in new for o in c.options], taste.rewards(new).flatten()
    counted = [g for g in taste.guesses if among is None or g.comparison_id in among]
    return Beliefs(
        taste.guesses[-1] if taste.guesses else None,
        accuracy(counted) if counted else None,
        believe(taste, known or traits(taste.features, comparisons))[:count],
        unseen[int(rewards.argmax())], unseen[int(rewards.argmin())],
    )  # fmt: skip


def _word(text: str) -> float:
    """Return the mean length of a word."""
    words = [w for w in WORD.findall(text) if w[0].isalnum()]
    return sum(map(len, words)) / max(1, len(words))


def _sentence(text: str) -> float:
    """Return the mean number of words in a sentence."""
    sentences = [s for s in ENDS.split(text) if s.strip()]
    return len(text.split()) / max(1, len(sentences))
