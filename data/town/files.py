"""Read the word files once into plain records; every other module asks here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .language import split_top

WORDS = Path(__file__).resolve().parent / "words"
MOODS = {"bright": "+", "plain": "0", "dark": "-"}


@dataclass(frozen=True)
class Person:
    name: str
    gender: str
    trade: str
    temper: str
    quirk: str
    coda: str
    test: bool


@dataclass(frozen=True)
class Thing:
    noun: str
    kind: str
    materials: tuple[str, ...]
    sizes: tuple[str, ...]
    coloured: bool
    repair: str
    works: str
    parts: dict[str, tuple[str, ...]]
    test: bool


@dataclass(frozen=True)
class Place:
    noun: str
    prep: str
    outdoors: bool
    features: tuple[tuple[str, str, tuple[str, ...]], ...]
    smells: dict[str, tuple[str, ...]]
    sounds: tuple[str, ...]
    test: bool


@dataclass(frozen=True)
class Animal:
    noun: str
    looks: dict[str, tuple[str, ...]]
    cry: str
    acts: tuple[str, ...]
    outdoor_acts: tuple[str, ...]
    test: bool


@dataclass(frozen=True)
class Step:
    name: str
    kind: str
    turn: str
    actor: str
    need: frozenset[str]
    make: tuple[str, ...]
    said: dict[str, tuple[str, ...]]  # "v", "c", "q", "q+", "q0", "q-"


@dataclass(frozen=True)
class Goal:
    name: str
    apart: bool
    stages: tuple[tuple[bool, tuple[str, ...]], ...]
    test: bool


@dataclass
class Words:
    """All word files."""

    people: list[Person] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    animals: list[Animal] = field(default_factory=list)
    steps: dict[str, Step] = field(default_factory=dict)
    goals: dict[str, Goal] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    test_lists: dict[str, list[str]] = field(default_factory=dict)
    pools: dict[str, dict[str, list[str]]] = field(
        default_factory=dict
    )  # file -> "class mood" -> templates
    tempers: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    weather: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    stuffs: dict[str, str] = field(default_factory=dict)  # material -> stuff
    qualities: dict[str, tuple[str, ...]] = field(default_factory=dict)
    colours: list[str] = field(default_factory=list)
    sizes: frozenset[str] = frozenset()


def lines(name: str) -> list[str]:
    """Return the lines of a word file without comments."""
    raw = (WORDS / name).read_text(encoding="ascii").splitlines()
    return [line.strip() for line in raw if line.strip() and not line.startswith("#")]


def sections(name: str) -> dict[str, list[str]]:
    """Return the lines below each [header]; what follows the bracket counts as the first."""
    found: dict[str, list[str]] = {}
    for line in lines(name):
        if match := re.match(r"\[([^|\]]+)\]\s*(.*)", line):
            found[match[1]] = [match[2]] if match[2] else []
            current = found[match[1]]
        else:
            current.append(line)
    return found


def held_out(line: str) -> tuple[bool, str]:
    return (True, line[5:]) if line.startswith("test ") else (False, line)


def listed(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(part.strip() for part in split_top(text, separator) if part.strip())


def by_mood(text: str) -> dict[str, tuple[str, ...]]:
    return dict(zip("+0-", map(listed, text.split(";")), strict=True))


def _thing(header: list[str], kind: str, line: str) -> Thing:
    sizes, repair, coloured, works = header
    test, line = held_out(line)
    noun, _, rest = line.partition(":")
    materials, _, parts = rest.partition(";")
    faults = {}
    for part in listed(parts):
        name, _, wrong = part.rpartition(" ")
        faults[name] = tuple(wrong.split("/"))
    return Thing(
        noun,
        kind,
        listed(materials),
        listed(sizes),
        coloured == "colour",
        repair,
        works,
        faults,
        test,
    )


def _place(line: str) -> Place:
    test, line = held_out(line)
    noun, prep, side, features, smells, sounds = listed(line, "|")
    found = []
    for feature in listed(features):
        name, stuff, preps = feature.split(":")
        found.append((name, stuff, tuple(preps.split())))
    return Place(
        noun, prep, side == "out", tuple(found), by_mood(smells), listed(sounds, ";"), test
    )


def _animal(line: str) -> Animal:
    test, line = held_out(line)
    noun, looks, cry, acts = listed(line, "|")
    anywhere, outdoors = acts.split(";")
    return Animal(noun, by_mood(looks), cry, listed(anywhere), listed(outdoors), test)


def _step(name: str, body: list[str]) -> Step:
    head, need, make = (part.strip() for part in body[0].split(";"))
    kind, turn, actor = head.split()
    said: dict[str, list[str]] = {}
    for line in body[1:]:
        key, text = line.split(" ", 1)
        said.setdefault(key, []).append(text)
    return Step(
        name,
        kind,
        turn,
        actor,
        frozenset(need.split()[1:]),
        tuple(make.removeprefix("make").split()),
        {key: tuple(texts) for key, texts in said.items()},
    )


def _goal(line: str) -> Goal:
    test, line = held_out(line)
    head, _, stages = line.partition(":")
    found = []
    for stage in listed(stages, ";"):
        found.append((stage.startswith("?"), tuple(stage.removeprefix("?").split("/"))))
    return Goal(head.split()[0], "[apart]" in head, tuple(found), test)


@cache
def load() -> Words:
    """Read everything."""
    words = Words()
    for line in lines("people.txt"):
        test, line = held_out(line)
        words.people.append(Person(*listed(line, "|"), test))
    for kind, body in sections("things.txt").items():
        words.things += [
            _thing([p.strip() for p in body[0].split(";")], kind, line) for line in body[1:]
        ]
    words.places = [_place(line) for line in lines("places.txt")]
    words.animals = [_animal(line) for line in lines("animals.txt")]
    words.steps = {name: _step(name, body) for name, body in sections("steps.txt").items()}
    words.goals = {(goal := _goal(line)).name: goal for line in lines("goals.txt")}
    for line in lines("lists.txt"):
        test, line = held_out(line)
        name, _, entries = line.partition(":")
        (words.test_lists if test else words.lists)[name] = list(listed(entries))
    for name in ("tails", "ends", "backs", "reacts", "endings", "speech"):
        words.pools[name] = sections(f"{name}.txt")
    for temper, body in sections("tempers.txt").items():
        words.tempers[temper] = {}
        for line in body:
            key, text = line.split(" ", 1)
            separator = ";" if key.startswith(("t", "say", "r")) else ","
            words.tempers[temper][key] = list(listed(text, separator))
    for state, body in sections("weather.txt").items():
        words.weather[state] = entry = {"next": [], "change": [], "+": [], "0": [], "-": []}
        for line in body:
            key, text = line.split(" ", 1)
            if key == "next":
                entry[key] = text.split()
            else:
                entry[key] += listed(text, ";") if key == "change" else [text]
    _modifiers(words)
    words.sizes = frozenset(size for thing in words.things for size in thing.sizes)
    return words


def _modifiers(words: Words) -> None:
    for head, body in sections("modifiers.txt").items():
        entries = listed(body[0])
        if head.startswith("stuff "):
            words.stuffs |= dict.fromkeys(entries, head.split()[1])
        elif head == "colours":
            words.colours = list(entries)
        else:
            words.qualities[head] = entries
    for mood, entries in sections("manner.txt").items():
        words.qualities[f"manner {mood}"] = listed(entries[0])
