"""What happens: a goal, two people, a thing, two places, and steps whose needs hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from .chance import Chance
from .files import Animal, Goal, Person, Place, Step, Thing, Words, load

HOURS, WEATHERS = range(5), ("clear", "breeze", "cloud", "rain", "fog", "gale", "heat")


@dataclass
class Event:
    """One step that happened: who did it, where, when, in which weather, and what was true then."""

    step: Step
    actor: str
    place: Place
    hour: int
    weather: str
    new_hour: bool
    together: bool
    turns: bool = False  # the weather changes here, if the telling has room to say so


@dataclass
class Happening:
    """A whole story before it is told."""

    goal: Goal
    people: dict[str, Person]
    thing: Thing
    animal: Animal
    places: tuple[Place, Place]
    day: str
    events: list[Event] = field(default_factory=list)

    @property
    def facts(self) -> set[str]:
        return set().union(*(event.step.make for event in self.events))


def fitting(goal: Goal, words: Words) -> tuple[list[Thing], list[Place]]:
    """Return things and places that the goal can happen to."""
    things, places = words.things, words.places
    if goal.name in (
        "find",
        "deliver",
        "peace",
        "hide",
        "storm",
        "trade",
        "return",
        "gift",
        "mystery",
    ):
        things = [t for t in things if t.kind not in ("furniture",) and t.noun not in HEAVY]
    if goal.name in ("storm", "rescue", "guard", "garden"):
        places = [p for p in places if p.outdoors]
    return things, places


HEAVY = {
    "harp",
    "cello",
    "double bass",
    "anchor",
    "garden roller",
    "wheelbarrow",
    "hand cart",
    "ladder",
    "tent",
    "carpet",
    "chandelier",
    "spinning wheel",
    "butter churn",
    "sea chest",
    "lute case",
    "swing",
    "sail",
    "sledge",
    "rocking horse",
    "cauldron",
    "tuba",
    "wicker trunk",
    "mantel clock",
    "cuckoo clock",
    "oar",
    "paddle",
    "fishing net",
    "hammock",
}


def happen(chance: Chance, split: str, goal_name: str = "") -> Happening:
    """Let a story happen; the test split has goals of its own and may use the words held out."""
    words, test = load(), split == "test"

    def allowed(entries: list) -> list:
        return entries if test else [e for e in entries if not e.test]

    goals = [g for g in words.goals.values() if g.test == test]
    goal = words.goals[goal_name] if goal_name else chance.pick(goals)
    people = allowed(words.people)
    women, men = ([p for p in people if p.gender == g] for g in "fm")
    pair = [chance.pick(women), chance.pick(men)]
    if chance.flip(0.5):
        pair.reverse()
    things, places = fitting(goal, words)
    start = chance.pick(allowed(places))
    target = chance.pick([p for p in allowed(words.places) if p.noun != start.noun])
    happening = Happening(
        goal,
        dict(zip("AB", pair, strict=True)),
        chance.pick(allowed(things)),
        chance.pick(allowed(words.animals)),
        (start, target),
        chance.pick(words.lists["day"]),
    )
    _run(happening, chance, words)
    return happening


def _run(happening: Happening, chance: Chance, words: Words) -> None:
    state = {"apart"} if happening.goal.apart else {"together"}
    place, hour, weather = happening.places[0], chance.pick((0, 0, 1, 2)), chance.pick(WEATHERS)
    for optional, names in happening.goal.stages:
        steps = [words.steps[name] for name in names]
        can = [s for s in steps if s.need <= state and not ("Q" in s.make and "moved" in state)]
        if not can or (optional and len(happening.events) > 1 and not chance.flip(0.6)):
            continue
        step = chance.pick(can)
        new_hour = not happening.events
        if "storm" in step.make:
            weather = "gale"
        turns = bool(happening.events) and "exposed" not in state and chance.flip(0.2)
        if "later" in step.make and happening.events and hour < 4:
            hour, new_hour = hour + 1, True
        happening.events.append(
            Event(step, step.actor, place, hour, weather, new_hour, "together" in state, turns)
        )
        for fact in step.make:
            if fact == "Q":
                place = happening.places[1]
                state.add("moved")
            elif fact.startswith("-"):
                state.discard(fact[1:])
            elif fact != "at":
                state.add(fact)
        if "together" in state:
            state.discard("apart")
