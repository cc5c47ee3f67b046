"""What surrounds an act: tails, ends, bystanders, weather, the hour, and how people speak."""

from __future__ import annotations

from .files import listed
from .language import read
from .props import Props
from .voice import clock
from .words import inflect

# goals whose animal has a part of its own, so that it does not stray into the background
ANIMALS = {
    "rescue",
    "guard",
    "mystery",
    "confess",
    "contest",
    "learn",
    "cook",
    "garden",
}


class Scenery(Props):
    """The voice, with all that may be hung on a sentence."""

    def carry(self, pool: str, kinds: list[str]) -> str:
        lines = [t for kind in kinds for t in self.words.pools[pool].get(f"{kind} {self.mood}", [])]
        return self.render(read(self.fresh(lines, pool)))

    def slot_tail(self, sub: str) -> str:
        if not self.vivid:
            return self.carry("tails", ["short"])
        if self.chance.flip(0.5):
            return self.carry("tails", ["vivid"])
        temper = self.words.tempers[self.person(self.actor).temper]
        if self.chance.flip(0.25):
            return self.render(read(self.fresh(temper["t" + self.mood], "tail")))
        if self.pool_kind != "home" and self.words.pools["tails"].get(
            f"{self.pool_kind} {self.mood}"
        ):
            if self.chance.flip(0.4):
                return self.carry("tails", [self.pool_kind])
        return self.carry("tails", ["any"])

    def slot_end_pool(self, sub: str) -> str:
        if self.turn != "-" and self.chance.flip(0.5):
            return self.carry("ends", [self.turn])
        return self.carry("ends", ["any"])

    def slot_back(self, sub: str) -> str:
        event = self.event
        kinds = {"people": 5.0, "weather": 1.5}
        if self.vivid and self.senses == 0 and self.since_sense >= 2:
            kinds |= {"smell": 2.0, "sound": 1.5}
            if "n" not in self.known or self.happening.goal.name not in ANIMALS:
                kinds["animal"] = 0.0 if self.happening.goal.name in ANIMALS else 1.0
            kinds = {k: w for k, w in kinds.items() if w}
        if event.turns:
            kinds = {"change": 1.0}
        kind = self.chance.draw(kinds)
        if kind == "change":
            event.turns = False
            self.sky = self.chance.pick(self.words.weather[self.sky]["next"])
            return self.render(read(self.chance.pick(self.words.weather[self.sky]["change"])))
        if kind == "weather":
            return self.weather()
        if kind == "animal":
            self.senses += 1
            return self.animal_act()
        if kind == "smell":
            self.senses += 1
            smell = self.chance.pick(event.place.smells[self.mood])
            verb = self.chance.pick(
                ["hung in the air", "filled the air", "drifted about", "came from every corner"]
            )
            return f"{self.chance.pick(['a', 'the'])} smell of {smell} {verb}"
        if kind == "sound":
            self.senses += 1
            return self.render(read(self.chance.pick(event.place.sounds)))
        return self.carry("backs", ["both", "out" if event.place.outdoors else "in"])

    def weather(self) -> str:
        event, fits = self.event, []
        for line in self.words.weather[self.sky][self.mood]:
            tag, text = line.split(" ", 1)
            if "d" in tag and event.hour > 2 or "n" in tag and event.hour < 4:
                continue
            if "o" in tag and not event.place.outdoors or "i" in tag and event.place.outdoors:
                continue
            fits.append(text)
        if not fits:
            return self.carry("backs", ["both"])
        return self.render(read(self.fresh(fits, "weather")))

    def slot_manner(self, sub: str) -> str:
        """Choose an adverb, if possible one that the story has not used."""
        adverbs = self.words.qualities[f"manner {self.pool_kind} {self.mood}"]
        adverb = self.chance.pick([a for a in adverbs if a not in self.used] or adverbs)
        self.used.add(adverb)
        return adverb

    def slot_time(self, sub: str) -> str:
        return self.render(read(self.chance.pick(self.times())))

    def times(self) -> tuple[str, ...]:
        line = clock()[str(self.event.hour)][1].removeprefix("later ")
        return listed(line, ";")

    def slot_sky(self, sub: str) -> str:
        return self.render(
            read(clock()["sky"][list(self.words.weather).index(self.sky)].split(" ", 1)[1])
        )

    def slot_day(self, sub: str) -> str:
        return (
            self.happening.day
            if not self.quoted and not self.known
            else self.chance.pick(self.words.lists["day"])
        )

    def temper(self, key: str) -> list[str]:
        return self.words.tempers[self.person(self.actor).temper][key]

    def slot_said(self, sub: str) -> str:
        verb = inflect(
            self.render(read(self.chance.pick(self.temper("s" + self.mood)).strip("<>"))), "past"
        )
        who = self.name(self.actor, True)
        if who in ("he", "she"):
            return f"{who} {verb}"
        if who.endswith(","):
            return f"{verb} {who}"
        return f"{verb} {who}" if self.chance.flip(0.6) else f"{who} {verb}"

    def slot_asked(self, sub: str) -> str:
        verb = self.chance.pick(
            {
                "+": ["asked", "laughed", "cried"],
                "0": ["asked", "inquired"],
                "-": ["snapped", "wailed", "groaned"],
            }[self.mood]
        )
        who = self.name(self.actor, True)
        return f"{who} {verb}" if who in ("he", "she") else f"{verb} {who}"

    def slot_sv(self, sub: str) -> str:
        verb = self.chance.pick(self.temper("s" + self.mood)).strip("<>")
        return inflect(verb, sub or "past")

    def slot_exclaim(self, sub: str) -> str:
        return self.chance.pick(self.temper("x")) if self.chance.flip(0.4) else self.listed("oath")

    def slot_opening(self, sub: str) -> str:
        return self.chance.pick(self.temper("o"))

    def slot_address(self, sub: str) -> str:
        return (
            self.chance.pick(self.temper("a"))
            if self.chance.flip(0.35)
            else self.listed("call" + self.mood)
        )

    def slot_saying(self, sub: str) -> str:
        return self.render(read(self.fresh(self.temper("say" + self.mood), "say")))
