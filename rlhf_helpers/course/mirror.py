"""A card that answers back: what a model makes of your clicks, while you give them.

    card = cards.label(comparisons, mirror=mirror.Mirror(policy, task, comparisons))

Nothing is read and nothing is shown before the labeler switches it on at the card. Then the base
model reads all comparisons once, on a thread of its own, while labelling goes on; from then on each
click, once it is saved, refits the taste in less than a tenth of a second. All is computed from the
answers that stand in the store, so what was taken back is forgotten, and a new kernel begins with
all that was said. With `choose_next="thompson"` it picks what the card asks, and for that it reads
after the first answer and learns from each, also while it is not to be seen.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from rlhf_helpers import beliefs, clicks, labelers, tasks
from rlhf_helpers.beliefs import Belief, Traits
from rlhf_helpers.clicks import Question, Taste
from rlhf_helpers.evaluation import wilson
from rlhf_helpers.features import Features
from rlhf_helpers.labels.sessions import Given, Session
from rlhf_helpers.models import Policy
from rlhf_helpers.records import Comparison
from rlhf_helpers.tasks import Task

Show = Callable[[Mapping[str, Any]], None]
PROMPTS, SAMPLES = 12, 16  # of what it would write: held-out prompts, answers to each
STAYS = 5  # clicks before two other prompts are shown
MOST = 5  # beliefs of each kind that are shown
POINTS = 80  # of the chart, at most


class Mirror:
    """What a card shows to its labeler after each click; hand it to `cards.label` as `mirror`.

    comparisons: all that is asked, labelled or not. prompts: questions of the same task whose
    options the model may choose its writing from, by default drawn from held-out prompts. A mirror
    belongs to one card. `taste` is the latest fit; None before the first click.
    """

    def __init__(
        self, policy: Policy, task: Task, comparisons: Sequence[Comparison], *,
        prompts: Sequence[Comparison] | None = None, features: Features | None = None,
        wait: bool = False,
    ) -> None:  # fmt: skip
        """features: of these comparisons, if they were read before. wait: prepare at once where it
        is switched on, and not on another thread."""
        self.policy, self.wait = policy, wait
        self.known = {c.id: c for c in comparisons if not c.has_equal_options}
        names = {c.task for c in self.known.values()}
        if len(names) != 1:
            raise ValueError(f"a mirror reads comparisons of one task, not of {sorted(names)}")
        self.task = replace(task, name=names.pop())  # it may be a question of the labeler's own
        self.prompts = None if prompts is None else list(prompts)
        self.taste: Taste | None = None
        self.features = features
        self.traits: Traits | None = None
        self.thread: threading.Thread | None = None
        self.lock = threading.Lock()

    def __call__(self, session: Session, show: Show) -> None:
        """Show what there is to say of the answers of a session; see `labels.card_base.Listener`.

        Until all is read it shows that it is reading, and the rest as soon as it can.
        """
        if self.traits is None and not self.wait:
            show({"state": "preparing", "said": "Reading all the texts once; go on meanwhile."})
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(
                    target=self._prepare_and_show, args=(session, show), daemon=True
                )
                self.thread.start()
            if self.traits is None:  # or it became ready just now, and must not stay unseen
                return
        with self.lock:
            self.prepare()
            self._follow(session, show)

    def _prepare_and_show(self, session: Session, show: Show) -> None:
        try:
            with self.lock:
                self.prepare(last=lambda: self.learn(session))
                self._follow(session, show)
        except Exception as error:
            show({"state": "failed", "said": f"The mirror failed: {type(error).__name__}: {error}"})

    def _follow(self, session: Session, show: Show) -> None:
        """Learn, and show what there is to say, unless it is only to choose what is asked."""
        if session.choose is None or session.mirror:
            show(self.reflect(session))
        else:
            self.learn(session)

    def next(self, pool: Sequence[Comparison], asked: Collection[str]) -> Question | None:
        """Pick what to ask next, as `clicks.next` does, for `labels.asking.Choose`.

        By the latest fit, even if another click is just being learned: nobody waits for a question.
        At random before there is one.
        """
        return clicks.next(self.taste, [c for c in pool if c.id in self.known], asked)

    def prepare(self, last: Callable[[], object] = lambda: None) -> None:
        """Read everything that does not depend on any click; once. `last` is done before clicks
        begin to wait for it: to learn what was answered before takes seconds."""
        if self.traits is not None:
            return
        comparisons = list(self.known.values())
        if self.features is None:
            self.features = Features(self.policy, self.task, comparisons)
        if self.prompts is None:
            queries = tasks.queries(self.task, self.policy.tokenizer, PROMPTS, split="validation")
            self.prompts = labelers.collect(self.policy, self.task, queries, options=SAMPLES)
        self.prompts = [replace(c, task=self.task.name) for c in self.prompts]
        if self.prompts:
            self.features(self.prompts)
        traits = beliefs.traits(self.features, comparisons)
        last()
        self.traits = traits

    def learn(self, session: Session) -> Taste | None:
        """Fit the taste to the answers that stand; in milliseconds after one more click."""
        rows = [row for row in session.answers() if row[0] in self.known]
        if not rows:
            self.taste = None
        elif self.taste is None or rows != self.taste.clicks.rows:
            assert self.features is not None
            self.taste = clicks.learn(self.features, self.known, rows, previous=self.taste)
        return self.taste

    def reflect(self, session: Session) -> dict[str, Any]:
        """Say in plain values what the card shows now (`labels/static/mirror.js` draws it)."""
        before, given = self.taste, session.latest
        taste = self.learn(session)
        if taste is None:
            said = "Nothing to learn from yet: it begins with your first choice."
            return {"state": "ready", "said": said}
        expected = self._expected(given, before, taste)
        guessed = _accuracy(taste, session.picked())
        waiting = {"line": "Choose, and you see what it expected of you.", "options": []}
        parts = {
            "expected": expected or waiting, "accuracy": guessed, "beliefs": self._beliefs(taste),
            "writes": self._writes(taste),
        }  # fmt: skip
        said = (expected or guessed or {"line": "It learned from your answer."})["line"]
        return {"state": "ready", "said": said, "parts": {k: v for k, v in parts.items() if v}}

    def _expected(
        self, given: Given | None, before: Taste | None, taste: Taste
    ) -> dict[str, Any] | None:
        """Say what was expected of the answer just given, with options as they stood."""
        if given is None or given.comparison.id not in self.known:
            return None
        if not given.counts:
            line = "This one asked whether you are steady, or awake; the model learns nothing of it"
            return {"line": f"{line}.", "options": []}
        if given.kind == "skip":
            return {"line": "Skipped: nothing is learned from that.", "options": []}
        item, order = given.comparison, given.order
        guesses = [g for g in taste.guesses if g.comparison_id == item.id]
        if given.kind == "choose" and guesses:
            p = guesses[-1].probabilities
        elif before is not None:
            p = before.probabilities([item])[0]
        else:
            p = torch.full((len(order),), 1 / len(order))
        best, chosen = int(p.argmax()), given.choice
        sees = float(p.max() - p.min()) > 1e-9
        options = [
            {
                "text": item.options[i].strip(), "p": p[i].item(), "chosen": i == chosen,
                "guessed": sees and i == best,
            }
            for i in order
        ]  # fmt: skip
        return {"line": _guess_line(order, p.tolist(), best, chosen, sees), "options": options}

    def _beliefs(self, taste: Taste) -> dict[str, Any]:
        assert self.traits is not None
        said = beliefs.believe(taste, self.traits, MOST)
        more = [_plain(b) for b in said if b.effect > 0][:MOST]
        less = [_plain(b) for b in said if b.effect < 0][:MOST]
        return {"more": more, "less": less, "line": "Nothing yet that is surer than a guess."}

    def _writes(self, taste: Taste) -> dict[str, Any] | None:
        """Choose the best of the answers to two held-out prompts; other prompts after a while."""
        if not self.prompts:
            return None
        assert taste.clicks is not None
        turn = 2 * (len(taste.clicks.rows) // STAYS)
        two = [self.prompts[(turn + i) % len(self.prompts)] for i in range(2)]
        best = taste.rewards(two).argmax(-1).tolist()
        texts = [
            {"prompt": _end(c.query.strip()), "text": c.options[k].strip()}
            for c, k in zip(two, best, strict=True)
        ]
        count = len(two[0].options)
        return {"texts": texts, "line": f"The best of {count} answers to a prompt, as it sees you."}


def _guess_line(
    order: Sequence[int], p: Sequence[float], best: int, chosen: int | None, sees: bool
) -> str:
    slots = {i: slot for slot, i in enumerate(order, 1)}
    if not sees:
        return f"It had nothing to go by: {1 / len(order):.0%} for each option."
    guessed = f"It guessed option {slots[best]} ({p[best]:.0%})"
    if chosen is None:
        return f"{guessed}; you could not tell, which is learned from and not counted."
    if chosen == best:
        return f"{guessed}: right."
    return f"{guessed}; you chose option {slots[chosen]} ({p[chosen]:.0%})."


def _accuracy(taste: Taste, picked: Collection[str]) -> dict[str, Any] | None:
    """Draw the share guessed so far, each click before it was learned from, of those comparisons
    that the taste has not picked itself."""
    guesses = [g for g in taste.guesses if g.comparison_id not in picked]
    if not guesses:
        return None
    hits = list(itertools.accumulate(guess.hit for guess in guesses))
    stride = -(-len(hits) // POINTS)
    counts = range(len(hits), 0, -stride)[::-1]  # the latest is always among them
    running = [wilson(hits[count - 1], count) for count in counts]
    now, chance = running[-1], 1 / len(guesses[0].probabilities)
    which = "" if len(guesses) == len(taste.guesses) else " asked at random"
    line = (
        f"{now.rate:.0%} of {now.total}{which} so far (95 % interval {now.low:.0%} to "
        f"{now.high:.0%}); chance is {chance:.0%}."
    )
    return {
        "line": line, "chance": chance, "count": now.total, "rates": [x.rate for x in running],
        "lows": [x.low for x in running], "highs": [x.high for x in running],
    }  # fmt: skip


def _plain(belief: Belief) -> dict[str, Any]:
    return {"what": belief.what, "effect": belief.effect, "deviation": belief.deviation}


def _end(prompt: str, letters: int = 140) -> str:
    """Return the end of a prompt, from a word on."""
    if len(prompt) <= letters:
        return prompt
    return "… " + prompt[-letters:].partition(" ")[2]
