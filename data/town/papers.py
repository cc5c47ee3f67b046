"""Posts and newspaper reports: the facts of a happening, told, then summed up in other words."""

from __future__ import annotations

from functools import cache

from .chance import Chance
from .files import listed, load, sections
from .language import read
from .narrator import Tale
from .simulation import happen
from .words import finish

POST_FACTS = ("who", "name", "what", "when", "where", "amount", "want")
REPORT_FACTS = ("person", "name", "event", "day", "site", "count", "cause", "next")
CROWDS = ("people", "onlookers", "visitors", "children", "sailors")
PARTS_OF_DAY = ("morning", "afternoon", "evening", "night")


@cache
def papers() -> dict[str, list[str]]:
    return sections("papers.txt")


class Clerk(Tale):
    """Writes facts and sentences of one happening; a fact keeps its slots in every wording."""

    def __init__(self, seed: str, split: str):
        chance = Chance(seed)
        super().__init__(happen(chance, split), chance, split)
        self.mood = "0"
        self.facts: dict[str, str] = {}
        self.also: dict[str, tuple[str, ...]] = {}  # fact -> its paraphrases, filled in

    def phrase(self, section: str) -> tuple[str, ...]:
        """Choose a line of a section and fill all its paraphrases with the same words."""
        line = self.chance.pick(papers()[section])
        self.bound: dict[str, str] = {}
        self.binding = True
        out = tuple(finish_inside(self.render(read(t))) for t in listed(line, ";"))
        self.binding = False
        return out

    binding = False

    def described(self, p: float) -> bool:
        return False  # facts are told without adjectives

    def again(self, name: str) -> str:
        return self.given[name]

    def slot(self, name: str) -> str:
        if self.binding:
            if name not in self.bound:
                self.bound[name] = self.paper_slot(name)
            return self.bound[name]
        return self.paper_slot(name)

    def paper_slot(self, name: str) -> str:
        if name.lower() in self.facts:
            text = self.facts[name.lower()]
            return text if name.islower() else text[0].upper() + text[1:]
        if name == "np":
            return self.modified(first=True)
        if name == "part_noun":
            return self.broken_part()
        if name == "dish_noun":
            return self.slot_dish("n")
        if name == "animal_noun":
            return self.happening.animal.noun
        if name == "folk.Cap":
            text = self.listed("folk")
            return text[0].upper() + text[1:]
        return super().slot(name)

    def fact(self, name: str, phrases: tuple[str, ...]) -> None:
        """Keep a fact under its first wording, and its other wordings for the reference."""
        self.facts[name], self.also[name] = phrases[0], phrases

    def write(self, template: str, vary: bool = False) -> str:
        """Write one sentence; a reference varies the wording of its facts."""
        keep = dict(self.facts)
        if vary:
            self.facts = {k: self.chance.pick(self.also[k]) for k in self.facts}
        out = self.render(read(template))
        self.facts = keep
        return finish(out[0].upper() + out[1:])

    def sayable(self, section: str, slots: tuple[str, ...]) -> list[str]:
        """Return the sentences of a section whose facts are all among those drawn."""
        return [t for t in papers()[section] if all(s in self.facts for s in mentioned(t, slots))]


def finish_inside(text: str) -> str:
    return finish("x " + text)[2:]


def mentioned(template: str, slots: tuple[str, ...]) -> set[str]:
    return {s for s in slots if f"{{{s}}}" in template or f"{{{s.capitalize()}}}" in template}


def post(seed: str, split: str) -> dict:
    """Write a letter that asks for advice, with its reference and facts."""
    clerk = Clerk(seed, split)
    chance, happening = clerk.chance, clerk.happening
    clerk.fact("who", (chance.pick(listed(papers()["relation"][0])),))
    clerk.fact("what", clerk.phrase(f"deed {happening.goal.name}"))
    part = chance.pick(PARTS_OF_DAY)
    optional = {
        "name": (happening.people["B"].name,),
        "when": (f"on {happening.day} {part}", f"last {happening.day} {part}"),
        "where": (f"{happening.places[0].prep} the {happening.places[0].noun}",),
        "amount": (clerk.listed("price"),),
        "want": clerk.phrase("want"),
    }
    for name in clerk.sample(list(optional), chance.pick((2, 3, 4))):
        clerk.fact(name, optional[name])
    first = chance.pick(clerk.sayable("post first", POST_FACTS))
    return document(clerk, "post", POST_FACTS, first, ["post summary"])


def report(seed: str, split: str) -> dict:
    """Write a newspaper report, with its highlights and facts."""
    clerk = Clerk(seed, split)
    chance, happening = clerk.chance, clerk.happening
    hero = happening.people["A"]
    clerk.fact("person", (f"the {hero.trade}",))
    clerk.fact("event", clerk.phrase(f"event {happening.goal.name}"))
    place, part = happening.places[0], chance.pick(PARTS_OF_DAY)
    optional = {
        "name": (hero.name,),
        "day": (f"on {happening.day} {part}", f"last {happening.day} {part}"),
        "site": (f"{place.prep} the {place.noun}",),
        "count": (f"{clerk.listed('number')} {chance.pick(CROWDS)}",),
        "cause": clerk.phrase("cause"),
        "next": clerk.phrase("next"),
    }
    for name in [
        "day",
        "site",
        *clerk.sample(["name", "count", "cause", "next"], chance.pick((1, 2))),
    ]:
        clerk.fact(name, optional[name])
    lead = chance.pick(clerk.sayable("report lead", REPORT_FACTS))
    return document(clerk, "report", REPORT_FACTS, lead, ["report first", "report second"])


def document(
    clerk: Clerk, kind: str, slots: tuple[str, ...], first: str, summary: list[str]
) -> dict:
    """Put preamble, first sentence, other facts and fillers together; then the reference."""
    chance = clerk.chance
    told = mentioned(first, slots)
    body = [clerk.write(first)]
    for name in clerk.sample(
        [f for f in clerk.facts if f not in told], len(set(clerk.facts) - told)
    ):
        if name in told:
            continue
        line = chance.pick(clerk.sayable(f"{kind} {name}", slots))
        told |= mentioned(line, slots)
        body.append(clerk.write(line))
    for line in clerk.sample(clerk.sayable(f"{kind} filler", slots), chance.pick((0, 1, 1))):
        body.insert(chance.pick(range(1, len(body) + 1)), clerk.write(line))
    preamble = [
        clerk.write(t) for t in clerk.sample(papers()[f"{kind} preamble"], chance.pick((0, 0, 1)))
    ]
    copied = chance.flip(0.25)
    reference, chosen = [], first
    for i, section in enumerate(summary):
        options = clerk.sayable(section, slots)
        if i:  # a second highlight says something new
            said = mentioned(chosen, slots)
            options = [t for t in options if mentioned(t, slots) - said] or options
        chosen = first if copied and i == 0 else chance.pick(options)
        reference.append(body[0] if chosen is first else clerk.write(chosen, vary=True))
    row = {"text": " ".join(preamble + body), "summary": " ".join(reference), "copied": copied}
    row |= {name: clerk.facts.get(name, "") for name in slots}
    return row | {"goal": clerk.happening.goal.name}


__all__ = ["POST_FACTS", "REPORT_FACTS", "load", "post", "report"]
