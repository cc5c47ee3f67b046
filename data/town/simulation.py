"""What happens: a goal, two people, a thing, two places, and steps whose needs hold."""

from __future__ import annotations

import math
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
    before: tuple = ()  # stage, facts, place, hour, weather: from here it can happen again


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
    unpaid: dict[str, float] = field(default_factory=dict)  # nats that count once it is mentioned


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
    unpaid: dict[str, float] = {}

    def cast(name: str, entries: list):
        unpaid[name] = math.log(len(entries))
        return chance.pick(entries, counted=False)

    hero = chance.pick(women + men)
    rest = men if hero in women else women
    helper = cast("B", [p for p in rest if p.temper != hero.temper])
    things, places = fitting(goal, words)
    start = cast("start", allowed(places))
    target = cast("target", [p for p in allowed(words.places) if p.noun != start.noun])
    happening = Happening(
        goal,
        {"A": hero, "B": helper},
        cast("thing", allowed(things)),
        cast("animal", allowed(words.animals)),
        (start, target),
        cast("day", words.lists["day"]),
        unpaid=unpaid,
    )
    facts = frozenset({"apart"} if goal.apart else {"together"})
    hour, weather = chance.pick((0, 0, 1, 2)), cast("sky", list(WEATHERS))
    _run(happening, chance, (0, facts, start, hour, weather))
    return happening


def again(happening: Happening, number: int, chance: Chance) -> None:
    """Let the story happen anew from its event `number` on."""
    before = happening.events[number].before
    del happening.events[number:]
    _run(happening, chance, before)


def _run(happening: Happening, chance: Chance, before: tuple) -> None:
    first, facts, place, hour, weather = before
    state, words = set(facts), load()
    for stage, (optional, names) in enumerate(happening.goal.stages[first:], first):
        before = (stage, frozenset(state), place, hour, weather)
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
            Event(
                step, step.actor, place, hour, weather, new_hour, "together" in state, turns, before
            )
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
