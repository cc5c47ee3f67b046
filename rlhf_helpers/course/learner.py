"""Whose taste the notebooks learn: yours, or a simulated learner's where you have not clicked.

question     what you ask of a text, in your own words, kept in your runs
questions    which comparisons are asked
answers      what was answered to them: by you, or else by the simulated learner
stand_in     the simulated learner answers comparisons, in a file of its own
verdicts     it judges pairs
taste        what notebook 03 fitted to the answers, if it did

The simulated learner has a taste that the bundled lexicons do not know. No notebook tells it before
07 uncovers it, and whatever it chose is called simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_helpers import clicks, labelers, models
from rlhf_helpers.course import profile
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.labels.place import folder
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.standing import JOIN, MIRROR, RANDOM, picked_by
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.tasks import Task

NAME = "simulated learner"
STAND_IN = "labels_stand_in.db"  # its answers, which are never mixed with yours
TASTE = "taste.safetensors"
HIDDEN = "speech, and few words"
ALIKE = 0.5  # options whose utilities lie closer than this look alike: two words' difference
NOISE = 0.5  # temperature at which it repeats its choice about six times in ten


def utility(text: str) -> float:
    """Say how much the simulated learner likes a text: speech, 2 points; each word, 0.25 less."""
    return 2.0 * ('"' in text) - 0.25 * len(labelers.words(text))


def simulated(seed: int = 0) -> labelers.SimulatedLabeler:
    """Make the simulated learner; another seed is the same taste on another day."""
    return labelers.SimulatedLabeler(NAME, utility, NOISE, seed)


def cannot_tell(comparison: Comparison) -> bool:
    """Say whether all options look alike to the simulated learner."""
    values = [utility(option) for option in comparison.options]
    return max(values) - min(values) < ALIKE


def question(own: str = "", *, task: Task) -> str:
    """Keep the question that you ask of texts, and return it; without one, the kept or the task's.

    It stands in question.txt in your runs. Warns where labels answer another question.
    """
    file = folder() / "question.txt"
    kept = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    new = " ".join(own.split())
    if not new:
        return kept or frontend.QUESTIONS[task.name]
    if new != kept:
        before, labels = kept or frontend.QUESTIONS[task.name], folder() / "labels.db"
        if labels.exists() and _read(labels, task, cards.me()).total:
            print(f"WARNING: your labels in {labels.name} answer another question: {before}")
            print(f"For a new taste give {labels.name} another name, and begin again.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(new + "\n", encoding="utf-8")
    return new


@dataclass(frozen=True)
class Answers:
    """What a learner answered, oldest first.

    comparisons: those asked, and all others at hand; given: choices and ties in the order in which
    they were given, as `clicks.learn` takes them; again: second choices, where one was asked twice;
    mirrored: ids answered while the card showed what the model believes, which may have swayed;
    picked: ids that a model chose to ask, and not chance.
    """

    comparisons: list[Comparison]
    labels: list[Label]
    cannot_tell: list[str]
    given: list[tuple[str, int | None]]
    mirrored: set[str]
    picked: set[str]
    again: list[Label]
    simulated: bool

    @property
    def total(self) -> int:
        return len(self.labels) + len(self.cannot_tell)

    def __str__(self) -> str:
        undecided = len(self.cannot_tell)
        return f"{self.total} answers by {who(self.simulated)}, {undecided} of them 'cannot tell'"

    def agreement(self) -> tuple[int, int]:
        """Count the second choices that are as the first was, and all of them."""
        first = {x.comparison_id: x.choice for x in self.labels}
        both = [first[x.comparison_id] == x.choice for x in self.again if x.comparison_id in first]
        return sum(both), len(both)


def questions(comparisons: Sequence[Comparison], count: int) -> list[Comparison]:
    """Return what is asked first: of the recorded comparisons, some on which 03 does not train."""
    return [c for c in comparisons[-1000:] if not c.has_equal_options][:count]


def answers(asked: Sequence[Comparison], task: Task, at_least: int) -> Answers:
    """Read your answers to the task's comparisons of four; with fewer than `at_least`, a simulated
    learner answers those `asked` in your place."""
    path = folder() / "labels.db"
    if path.exists():
        found = _read(path, task, cards.me())
        if found.labels and found.total >= at_least:
            return found
    stand_in(asked, task)
    return _read(folder() / STAND_IN, task, NAME, {c.id for c in asked})


def stand_in(asked: Sequence[Comparison], task: Task, *, repeat_every: int = 4) -> Session:
    """Let the simulated learner answer comparisons, some of them twice, in a file of its own."""
    store = LabelStore(folder() / STAND_IN)
    store.add(asked)
    session = Session(store, task.name, NAME, asked, simulated=True, repeat_every=repeat_every)
    while (shown := session.current) is not None:
        if cannot_tell(shown):
            session.answer("tie", seconds=0.0)
        else:
            choice = simulated(seed=int(session.repeat)).choose(shown)
            session.answer("choose", session.order.index(choice), seconds=0.0)
    return session


def verdicts(pairs: Sequence[Comparison]) -> tuple[list[Label], list[str]]:
    """Let the simulated learner judge pairs: its labels, and the ids where it cannot tell."""
    undecided = [p.id for p in pairs if cannot_tell(p)]
    return simulated(seed=2).label(p for p in pairs if p.id not in undecided), undecided


def who(is_simulated: bool) -> str:
    """Name the learner within a sentence: "you", or "a SIMULATED learner"."""
    return "a SIMULATED learner" if is_simulated else "you"


def of_whom(is_simulated: bool) -> str:
    """Name the learner's taste within a sentence."""
    return f"the taste of {who(True)}" if is_simulated else "your taste"


def taste(policy: models.Policy) -> tuple[clicks.Taste | None, bool]:
    """Load the taste that notebook 03 fitted; say what it is, and return whether it is simulated.

    None where there is none, or where it was fitted on another model.
    """
    path = profile.own(TASTE)
    if path is None:
        return None, False
    try:
        return clicks.Taste.load(path, policy), profile.made(TASTE).get("simulated", False)
    except ValueError as error:
        print(f"It cannot be used: {error}. Fit it again in notebook 03.")
        return None, False


def _read(path: Path, task: Task, name: str, among: set[str] | None = None) -> Answers:
    store = LabelStore(path)
    known = [c for c in store.comparisons(task.name) if len(c.options) == 4]
    ids = {c.id for c in known if not c.has_equal_options}
    ids = ids if among is None else ids & among
    first, again = (
        [x for x in store.labels(task.name, name, repeats=repeats) if x.comparison_id in ids]
        for repeats in (False, True)
    )
    # a session would take an item that a card may be showing in another window
    events = [e for e in store.events(task.name, name, standing=True) if e.comparison_id in ids]
    rows = [(e.comparison_id, e.choice, e.kind) for e in events if not e.repeat]
    chosen = {x.comparison_id for x in first}  # no gold
    given = [(i, k) for i, k, kind in rows if kind == "tie" or kind == "choose" and i in chosen]
    mirrored = {e.comparison_id for e in events if MIRROR in e.note.split(JOIN)}
    picked = {e.comparison_id for e in events if picked_by(e.note) not in ("", RANDOM)}
    ties = [i for i, choice in given if choice is None]
    store.close()
    return Answers(known, first, ties, given, mirrored, picked, again, name == NAME)
