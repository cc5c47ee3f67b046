"""Read a story and say where it contradicts itself; known is only what its sentences say.

Kinds of violation: "people" (a third main person, a wrong trade), "pronoun" (nobody it could stand
for), "thing" (another thing), "property" (another colour, size ...), "place", "hour", "weather",
"dish" and the like (another than before), "order" (a step before what it needs), "bystander" (deaf
here and tall there), "clothes" (another coat), "unreadable".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from .files import Words, load
from .recogniser import Feature, Recogniser
from .words import sentences, tokens

PROPERTIES = ("size", "quality", "colour", "material")
FIXED = (
    "dish_noun",
    "contest_full",
    "prize",
    "craft_full",
    "occasion",
    "quarrel_full",
    "trap",
    "mendtool",
    "animal_noun",
    "fault",
)
BEAM = 8


@dataclass(frozen=True)
class State:
    """What a reader knows so far."""

    people: frozenset[str] = frozenset()
    facts: frozenset[str] = frozenset()
    known: dict[str, str] = field(
        default_factory=dict
    )  # thing, its properties, place, target, hour, sky, dish ...
    wrong: tuple[tuple[int, str], ...] = ()


class Tracker:
    """Follows a text sentence by sentence and keeps the readings that contradict least."""

    def __init__(self, recogniser: Recogniser | None = None):
        self.recogniser = recogniser or Recogniser()
        self.words: Words = load()
        self.person = {p.name.lower(): p for p in self.words.people}
        self.trades = {p.trade: p.name.lower() for p in self.words.people}
        self.rooms: dict[str, set[str]] = {}
        for place in self.words.places:
            for noun, _, _ in place.features:
                self.rooms.setdefault(" ".join(tokens(noun)), set()).add(place.noun)

    def violations(self, text: str) -> list[tuple[int, str]]:
        """Return (number of the sentence, kind) for every contradiction."""
        states = [State()]
        for number, sentence in enumerate(sentences(text)):
            states = self.follow(states, sentence, number)
        return list(states[0].wrong)

    def consistent(self, text: str) -> bool:
        return not self.violations(text)

    def continues(self, prompt: str, continuation: str) -> list[tuple[int, str]]:
        """Return the contradictions that a continuation adds to its prompt."""
        count = len(sentences(prompt))
        return [
            (n - count, kind)
            for n, kind in self.violations(f"{prompt} {continuation}")
            if n >= count
        ]

    def follow(self, states: list[State], sentence: str, number: int) -> list[State]:
        """Advance every state by every reading; keep the best."""
        readings = self.recogniser.parse(sentence)
        if not readings:
            return [replace(s, wrong=(*s.wrong, (number, "unreadable"))) for s in states]
        after = [self.advance(state, reading, number) for state in states for reading in readings]
        return sorted(after, key=lambda s: len(s.wrong))[:BEAM]

    def advance(self, state: State, reading: tuple[Feature, ...], number: int) -> State:
        """Apply one reading of one sentence."""
        known, wrong = dict(state.known), []
        people = state.people | {value for kind, value in reading if kind == "nm"}
        named = [self.person[name] for name in people]
        genders = Counter(p.gender for p in named)
        if len(people) > 2 or max(genders.values(), default=0) > 1:
            wrong.append("people")
        if any(kind == "tr" and self.trades[value] not in people for kind, value in reading):
            wrong.append("people")
        for kind, value in reading:
            if kind == "pronoun" and not genders["m" if value == "he" else "f"]:
                wrong.append("pronoun")
            if kind == "thing" and known.setdefault("thing", value) != value:
                wrong.append("thing")
            if kind in PROPERTIES and known.setdefault(kind, value) != value:
                wrong.append("property")
            if kind in FIXED and known.setdefault(kind, value) != value:
                wrong.append(kind)
        self.surroundings(known, wrong, reading)
        self.bystanders(known, wrong, reading)
        steps = [self.words.steps[v] for k, v in reading if k == "step" and v in self.words.steps]
        facts = set(state.facts)
        for step in steps:
            if step.need - {"apart", "together", "moved"} - facts:
                wrong.append("order")
            for fact in step.make:
                facts.discard(fact[1:]) if fact.startswith("-") else facts.add(fact)
            if "Q" in step.make and "target" in known:
                known["here"] = known["target"]
        return State(
            people,
            frozenset(facts),
            known,
            (*state.wrong, *((number, kind) for kind in dict.fromkeys(wrong))),
        )

    def bystanders(
        self, known: dict[str, str], wrong: list[str], reading: tuple[Feature, ...]
    ) -> None:
        """Check what is said of people who pass by, and what the two of the story wear."""
        sort = colour = folk = owner = ""
        for kind, value in reading:
            if kind == "pronoun":
                owner = value
            if kind == "p_sort":
                sort = value
            if kind == "c_colour":
                colour = value
            if kind == "p_folk":
                folk = value
                if sort and known.setdefault(f"sort of {folk}", sort) != sort:
                    wrong.append("bystander")
                sort = ""
            if kind == "p_home" and known.setdefault(f"home of {folk}", value) != value:
                wrong.append("bystander")
            if kind == "c_worn":
                worn = value
            if kind == "zone":
                if known.setdefault(f"{owner} {value}", worn) != worn:
                    wrong.append("clothes")
                if colour and known.setdefault(f"{owner} {value} colour", colour) != colour:
                    wrong.append("clothes")
                colour = ""

    def surroundings(
        self, known: dict[str, str], wrong: list[str], reading: tuple[Feature, ...]
    ) -> None:
        """Check place, furniture, hour and weather."""
        qualities: dict[str, str] = {}
        last = ""
        if any(
            kind == "step" and "storm" in self.words.steps[value].make
            for kind, value in reading
            if value in self.words.steps
        ):
            known["sky"] = "gale"
        for kind, value in reading:
            if kind in ("here", "target") and known.setdefault(kind, value) != value:
                wrong.append("place")
            if kind == "feature":
                last = value
                if "here" in known and known["here"] not in self.rooms[value]:
                    wrong.append("place")
            if kind == "of":
                qualities[last] = value
                if known.setdefault("of " + last, value) != value:
                    wrong.append("property")
            if kind == "hour":
                if int(value) < int(known.get("hour", value)):
                    wrong.append("hour")
                known["hour"] = value
            if kind == "sky" and known.setdefault("sky", value) != value:
                wrong.append("weather")
            if kind == "change":
                known["sky"] = value
