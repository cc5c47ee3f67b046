"""How things, animals and furniture are named: once a property is given, it stays."""

from __future__ import annotations

from .cast import Cast
from .language import read


class Props(Cast):
    """The voice, with what stands about."""

    def animal_act(self) -> str:
        animal, subject = self.happening.animal, self.slot_animal("")
        acts = [
            animal.cry,
            *animal.acts,
            *(animal.outdoor_acts if self.event.place.outdoors else ()),
        ]
        return f"{subject} {self.render(read(self.chance.pick(acts)))}"

    def slot_animal(self, sub: str) -> str:
        animal = self.happening.animal
        self.pay("animal")
        if sub == "n":
            return animal.noun
        if "n" in self.known:
            return f"the {animal.noun}"
        self.known.add("n")
        look = self.chance.pick(animal.looks[self.mood]) + " " if self.chance.flip(0.6) else ""
        return f"a {look}{animal.noun}"

    def slot_P(self, sub: str) -> str:
        self.pay("start")
        return f"the {self.happening.places[0].noun}"

    def slot_at(self, sub: str) -> str:
        self.pay("target" if self.event.place is self.happening.places[1] else "start")
        return f"{self.event.place.prep} the {self.event.place.noun}"

    def slot_to(self, sub: str) -> str:
        return f"to the {self.event.place.noun}"

    def slot_feat(self, sub: str) -> str:
        return self.furniture(self.feature())

    def feature(self) -> tuple[str, str, tuple[str, ...]]:
        """Choose a piece of furniture, in one sentence never the same twice."""
        self.slot_at("")
        left = [f for f in self.event.place.features if f[0] not in self.now]
        feature = self.chance.pick(left or self.event.place.features)
        self.now.append(feature[0])
        return feature

    def slot_spot(self, sub: str) -> str:
        feature = self.feature()
        return f"{self.chance.pick(feature[2])} {self.furniture(feature)}"

    def furniture(self, feature: tuple[str, str, tuple[str, ...]]) -> str:
        noun, stuff, _ = feature
        if self.quoted or not self.chance.flip(0.97 if self.vivid else 0.8):
            return f"the {noun}"
        if "of " + noun not in self.given:
            quality = self.chance.pick(self.words.qualities[f"{stuff} {self.mood}"])
            self.given["of " + noun] = "" if quality in noun else quality + " "
        elif not self.chance.flip(0.5):
            return f"the {noun}"
        return f"the {self.given['of ' + noun]}{noun}"

    def slot_o(self, sub: str) -> str:
        thing = self.happening.thing
        self.pay("thing")
        if sub == "n":
            return thing.noun
        if sub in ("q", "full"):
            self.known.add("o")
            self.now.append("o")
            return self.modified(fond=sub == "q", least=sub == "full")
        first = "o" not in self.known
        if "o" in self.now or (
            not first
            and "o" in self.last
            and sub == ""
            and not self.quoted
            and not self.crowded
            and self.chance.flip(0.6)
        ):
            self.now.append("o")
            return "it"
        self.known.add("o")
        self.now.append("o")
        if first and sub == "my":
            owner = self.pronoun(self.actor, "his") if self.actor in self.now else self.owner()
            return f"{owner} {self.modified(first=True)}"
        return f"{'a' if first and not self.quoted else 'the'} {self.modified(first=first)}"

    def owner(self) -> str:
        self.now.append(self.actor)
        self.known.add(self.actor)
        return f"{self.person(self.actor).name}'s"

    def modified(self, first=False, fond=False, least=False) -> str:
        """Put modifiers before the thing: what was given once stays so to the end."""
        thing, chance = self.happening.thing, self.chance
        kinds = (
            ["size", "quality", "colour", "material"]
            if thing.coloured
            else ["size", "quality", "material"]
        )
        count = (
            chance.pick((2, 2, 3))
            if first and self.vivid
            else chance.pick((1, 2, 2))
            if first
            else int(chance.flip(0.95 if self.vivid else 0.6))
        )
        if least and not count:
            count = 1
        chosen = (
            kinds if count >= len(kinds) else sorted(self.sample(kinds, count), key=kinds.index)
        )
        adjectives = [self.property(kind) for kind in chosen]
        if self.mood != "0" and (fond or not first) and chance.flip(0.2):
            adjectives.insert(0, chance.pick(self.words.qualities[f"fond {self.mood}"]))
        kept = [a for a in adjectives if not set(a.split()) & set(thing.noun.split())]
        return " ".join([*dict.fromkeys(kept), thing.noun])

    def sample(self, options: list[str], count: int) -> list[str]:
        left, out = list(options), []
        for _ in range(count):
            out.append(left.pop(left.index(self.chance.pick(left))))
        return out

    def property(self, kind: str) -> str:
        thing = self.happening.thing
        if kind not in self.given:
            if kind == "quality":  # never a word of size: a thing is not thick here and thin there
                stuff = self.words.stuffs[self.property("material")]
                fits = self.words.qualities[f"{stuff} {self.mood}"]
                self.given[kind] = self.chance.pick([q for q in fits if q not in self.words.sizes])
            else:
                options = {
                    "size": thing.sizes,
                    "material": thing.materials,
                    "colour": self.words.colours,
                }[kind]
                self.given[kind] = self.chance.pick(options)
        return self.given[kind]

    def broken_part(self) -> str:
        self.pay("thing")
        if "part" not in self.given:
            self.given["part"] = self.chance.pick(list(self.happening.thing.parts))
            self.given["fault"] = self.chance.pick(self.happening.thing.parts[self.given["part"]])
        return self.given["part"]

    def slot_part(self, sub: str) -> str:
        part = self.broken_part()
        if sub == "n":
            return part
        if "o" in self.now:
            return f"its {part}" if not self.quoted else f"the {part}"
        return f"the {part}"

    def slot_opart(self, sub: str) -> str:
        part = self.broken_part()
        if "o" in self.now or ("o" in self.last and self.chance.flip(0.4)):
            self.now.append("o")
            return f"its {part}"
        return f"the {part} of {self.slot_o(sub or 'd')}"

    def slot_fault(self, sub: str) -> str:
        self.broken_part()
        return self.given["fault"]

    def slot_works(self, sub: str) -> str:
        return self.happening.thing.works

    def slot_mendtool(self, sub: str) -> str:
        if "mendtool" not in self.given:
            self.given["mendtool"] = self.chance.pick(
                self.words.lists[f"{self.happening.thing.repair} tools"]
            )
        return self.given["mendtool"]

    def slot_dish(self, sub: str) -> str:
        if "dish" not in self.given:
            dishes = [
                d
                for d in self.words.lists["cake"] + self.words.lists["soup"]
                if not d.endswith("buns")
            ]
            self.given["dish"] = self.chance.pick(dishes)
        near, self.when["dish"] = self.index - self.when.get("dish", -9) <= 1, self.index
        if sub != "n" and near and not self.quoted and self.chance.flip(0.6):
            return "it"
        return self.given["dish"] if sub == "n" else f"the {self.given['dish']}"
