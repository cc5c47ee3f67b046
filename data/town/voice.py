"""The telling voice: fills templates and slots, refers to people by name, trade or pronoun."""

from __future__ import annotations

import re
from functools import cache

from .chance import Chance
from .files import Person, Words, load, sections
from .language import Node, read
from .simulation import Event, Happening
from .words import inflect
from .worth import level, worth

PRONOUN = {
    "f": {"he": "she", "him": "her", "his": "her", "self": "herself"},
    "m": {"he": "he", "him": "him", "his": "his", "self": "himself"},
}
BOUND = frozenset(  # chosen once in a story, the same to the end
    "contest prize craft occasion quarrel secret trap mendtool dish pet crop suspect disease event "
    "loot home".split()
)
BRINGS_B = {
    "meet",
    "join",
    "customer",
    "almost_seen",
    "quarrel",
}  # steps that name the other person first
SENSES = re.compile(r"\bsmell\b")
CLUTTER = {  # what is dear: bystanders, and goods, numbers and prices
    "crowd": re.compile(r"\{(person|folk|suspect)"),
    "goods": re.compile(
        r"\{(load|loadfood|goods|heap|count|number|food|bite|veg|price|trifle|matter|suspect)\}"
    ),
}
GOODS = frozenset("goods count number food bite veg price trifle".split())
DEAR = (0.06, 1.0, 1.5, 1.5)  # weight of such a line so many sentences after the last
SHORT = {"contest": "it", "craft": "do it", "disease": "it", "quarrel": "it"}
CONTESTS = ("race", "match", "contest", "show")


@cache
def shapes(test: bool) -> dict[str, dict[str, str]]:
    """Return the constructions: part of the sentence -> name -> template."""
    found: dict[str, dict[str, str]] = {}
    for part, body in sections("shapes.txt").items():
        found[part] = {}
        for line in body:
            name, text = line.removeprefix("test ").split(" ", 1)
            if test or not line.startswith("test "):
                found[part][name] = text
    return found


@cache
def clock() -> dict[str, list[str]]:
    """Return the lines of the hours and skies."""
    return sections("time.txt")


class Voice:
    """What every kind of telling knows: what was mentioned, given and used."""

    def __init__(self, happening: Happening, chance: Chance, split: str):
        self.words: Words = load()
        self.happening, self.chance, self.test = happening, chance, split == "test"
        self.shapes = shapes(self.test)
        self.known: set[str] = set()
        self.last: set[str] = set()
        self.now: list[str] = []
        self.given: dict[str, str] = {}
        self.used: set[str] = set()
        self.bystanders: list[str] = []
        self.untraded = ""  # whose trade was never told
        self.when: dict[str, int] = {}  # the event that named something last
        self.index = 0
        self.since_sense, self.mood, self.vivid = 3, "", False
        self.since, self.seen = dict.fromkeys(CLUTTER, 2), set()
        self.form, self.quoted, self.quirk = "past", False, False
        self.event: Event = happening.events[0]
        self.sky = happening.events[0].weather
        self.senses = 0
        self.brief = False  # too much follows for "Nora, the puppeteer,"
        self.crowded = False  # somebody else was named first, so that "it" would mislead
        self.step: dict[str, Node] = {}

    def together(self) -> bool:
        return "B" in self.known

    def pay(self, name: str) -> None:
        """Count the choice of somebody or something when the text first shows it."""
        self.chance.nats += self.happening.unpaid.pop(name, 0.0)

    def fresh(self, pool: list[str], tag: str) -> str:
        """Choose a template that the moment allows, if possible one not yet used in this story."""
        can = [t for t in pool if self.allows(t)]
        new = [t for t in can if tag + t not in self.used] or can or pool
        weights = level({t: worth(t) for t in new})
        text = self.chance.draw({t: w * self.dear(t) for t, w in weights.items()})
        self.used.add(tag + text)
        self.senses += bool(SENSES.search(text))
        return text

    def dear(self, text: str) -> float:
        """Return how welcome a line is: less, the nearer the last bystander or number is."""
        weight = 1.0
        for kind, found in CLUTTER.items():
            if found.search(text):
                weight *= DEAR[0] if kind in self.seen else DEAR[min(self.since[kind], 3)]
        return weight

    def allows(self, text: str) -> bool:
        """Refuse what needs the other person before they came, or one sense too many."""
        if ("{X" in text or "{other" in text) and not (
            self.together() or self.event.step.name in BRINGS_B
        ):
            return False
        return not (SENSES.search(text) and (self.senses or self.since_sense < 2))

    def render(self, node: Node) -> str:
        """Write a template out."""
        if node.kind == "text":
            return node.value
        if node.kind == "slot":
            return self.slot(node.value)
        if node.kind == "all":
            return "".join(self.render(part) for part in node.parts)
        part = self.chance.pick(node.parts)
        if node.kind == "any":
            return self.render(part)
        return self.verb(part)

    def verb(self, part: Node) -> str:
        text = self.render(part)
        return inflect(text, self.form)

    def slot(self, name: str) -> str:
        """Write one slot out."""
        head, _, sub = name.partition(".")
        method = getattr(self, f"slot_{head}", None)
        if method:
            return method(sub)
        if name in PRONOUN["f"]:
            return self.pronoun(self.actor, name)
        if name in self.words.lists:
            return self.listed(name)
        if name.startswith("feel"):
            feelings = self.words.qualities[f"manner feel {name[4:]}"]
            feeling = self.chance.pick([f for f in feelings if f not in self.used])
            self.used.add(feeling)
            return feeling
        raise KeyError(f"no slot {{{name}}}")

    def listed(self, name: str) -> str:
        """Choose from a word list; some are chosen once for the whole story."""
        if name in GOODS:
            self.seen.add("goods")
        if name in BOUND and name in self.given:
            return self.again(name)
        entries = self.words.lists[name] + (
            self.words.test_lists.get(name, []) if self.test else []
        )
        new = [e for e in entries if f"{name} {e}" not in self.used] or entries
        entry = self.chance.pick(new)
        self.used.add(f"{name} {entry}")
        text = self.render(read(entry))
        if name in BOUND:
            self.given[name], self.when[name] = text, self.index
        return text

    def again(self, name: str) -> str:
        """Name once more what stays the same: in short, if the sentence before named it too."""
        full = self.given[name]
        near, self.when[name] = self.index - self.when.get(name, -9) <= 1, self.index
        if not near or self.quoted or name not in SHORT or not self.chance.flip(0.7):
            return full
        noun = full.split()[-1]
        return f"the {noun}" if name == "contest" and noun in CONTESTS else SHORT[name]

    def person(self, key: str) -> Person:
        return self.happening.people[key]

    def other(self) -> str:
        return "AB"[self.actor == "A"]

    def pronoun(self, key: str, form: str) -> str:
        return PRONOUN[self.person(key).gender][form]

    def name(self, key: str, subject: bool) -> str:
        """Refer to a person: with trade at first; then by name, trade or pronoun."""
        person = self.person(key)
        if key in self.now:
            return self.pronoun(key, "he" if subject else "him")
        self.now.append(key)
        self.pay(key)
        if key not in self.known:
            self.known.add(key)
            forms = [f"{person.name} the {person.trade}"]
            if key == "B" and self.chance.flip(0.6):
                self.untraded = key
                return person.name
            if subject and not self.quoted and not self.brief:
                forms += [f"{person.name}, the {person.trade},"]
                quirk = self.render_for(key, person.quirk)
                if key == "A" and self.chance.flip(0.2):
                    forms = [f"{person.name}, a {person.trade} who {quirk},"]
            form = self.chance.pick(forms)
            self.quirk |= key == "A" and " who " in form
            return form
        if key in self.last and self.chance.flip(0.65):
            return self.pronoun(key, "he" if subject else "him")
        if key == self.untraded or self.chance.flip(0.92):
            return person.name
        return f"the {person.trade}"

    def render_for(self, key: str, text: str) -> str:
        keep, self.actor = self.actor, key
        out = self.render(read(text))
        self.actor = keep
        return out

    def slot_S(self, sub: str) -> str:
        if not sub:
            return self.name(self.actor, True)
        if sub == "him" and self.actor not in self.now:
            return self.name(self.actor, False)
        return self.pronoun(self.actor, sub)

    def slot_X(self, sub: str) -> str:
        other = self.other()
        if sub == "his":
            if other in self.now or other in self.last:
                self.now.append(other)
                return self.pronoun(other, "his")
            self.now.append(other)
            return f"{self.person(other).name}'s"
        if sub == "he" and other in self.now:
            return self.pronoun(other, "he")
        return self.name(other, sub != "him")

    def slot_other(self, sub: str) -> str:
        return self.slot_X(sub)

    def slot_trade(self, sub: str) -> str:
        return self.person(self.other() if sub else self.actor).trade

    def slot_V(self, sub: str) -> str:
        keep, self.form = self.form, sub or "past"
        out = self.render(self.step["V"])
        self.form = keep
        return out

    def slot_C(self, sub: str) -> str:
        return self.render(self.step["C"])

    def slot_Q(self, sub: str) -> str:
        if sub:
            target = self.happening.places[1]
            self.pay("target")
            return f"to the {target.noun}" if sub == "to" else f"the {target.noun}"
        self.quoted = True
        out = self.render(self.step["Q"])
        self.quoted = False
        return out
