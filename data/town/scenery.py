"""What surrounds an act: tails, ends, bystanders, weather, the hour, and how people speak."""

from __future__ import annotations

import re

from .files import listed
from .language import read
from .props import Props
from .simulation import Event
from .voice import DEAR, clock
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

KIND = frozenset(
    "join rival warn proverb snack thank fetch_tool show_mend mend_B reward ingredients "
    "rescue_dish serve share_prize console regret token accept supper_two teacher proud_teacher "
    "lend_hand dry_out blanket adopt "
    "give_back lend_again give_gift make_gift remedy thanks_nurse read_aloud garden_help eat_crop "
    "suggest_gift find_B advise_owe".split()
)
CRUEL = frozenset("quarrel sulk refuse part_cold refuse_cure".split())
END_ONLY = re.compile(r"like |as (usual|\{)|at the \{nth|for the \{nth|without|before \{")


class Scenery(Props):
    """The voice, with all that may be hung on a sentence."""

    role, thought, subject, fronted, scened, begun = "", "", False, False, False, False

    def next_mood(self, event: Event, role: str) -> str:
        """Draw a mood: rather that of the sentence before, and that of how the act came out."""
        weights = dict.fromkeys("+0-", 1.0)
        if self.mood:
            weights = {m: 0.7 if {m, self.mood} == {"+", "-"} else 1.0 for m in weights}
            weights[self.mood] = 1.7
        turn = {"win": "+", "lose": "-"}.get(event.step.turn)
        if turn and role in ("", "react", "moment") and self.begun:
            weights[turn] *= 1.7
        return self.chance.draw(weights)

    def hopes(self) -> list[str]:
        """Return the pools of what the hero thinks before it is decided; none afterwards."""
        decided = max(i for i, e in enumerate(self.happening.events) if e.step.turn != "-")
        return [f"hope {self.happening.goal.name}", "hope"] if self.index < decided else []

    def carry(self, pool: str, kinds: list[str]) -> str:
        lines = [t for kind in kinds for t in self.words.pools[pool].get(f"{kind} {self.mood}", [])]
        line = self.fresh(lines, pool)
        self.subject = line.startswith("{S} ")
        return self.render(read(line))

    def slot_tail(self, sub: str) -> str:
        """Choose what hangs on the act; a spare sentence takes a short one."""
        kinds = {kind: w for kind, w in self.tail_kinds().items() if self.tails(kind)}
        return self.render(read(self.fresh(self.tails(self.chance.draw(kinds)), "tail")))

    def tail_kinds(self) -> dict[str, float]:
        """Weigh what a tail can be about: the outcome, the hope, the act, the weather, the look."""
        weights = {self.pool_kind: 2.0, "any": 0.6, "temper": 1.0, "vivid": 2.5 * self.vivid}
        if self.role in ("react", "moment"):
            return {"temper": 1.0, "vivid": 3.0}
        if self.turn != "-":
            weights |= {self.turn: 6.0, "temper": 0.0, "any": 0.0, self.pool_kind: 0.0}
        elif self.role != "coda" and self.tone() in ("sad", "brave"):
            weights = {self.tone(): 3.0}
        elif not self.begun and self.event.step.turn == "lose":
            weights |= {"any": 0.0, "temper": 0.0}
        if self.turn == "-" and self.hoping():
            weights[f"hope {self.happening.goal.name}"] = 2.0
        if self.event.place.outdoors and self.pool_kind != "home" and "sky" in self.known:
            weights[f"sky {self.sky}"] = 1.0
        return {kind: w for kind, w in weights.items() if w}

    def hoping(self) -> bool:
        """Say whether the one who acts still hopes: it is the hero, and nothing is decided."""
        turns = [i for i, e in enumerate(self.happening.events) if e.step.turn != "-"]
        return self.actor == "A" and self.role != "coda" and self.index < turns[-1]

    def tails(self, kind: str) -> list[str]:
        if kind == "temper":
            lines = self.words.tempers[self.person(self.actor).temper]["t" + self.mood]
        else:
            lines = self.words.pools["tails"].get(f"{kind} {self.mood}", [])
        fits = [t for t in lines if self.allows(t)]
        if self.crowded or self.fronted:
            fits = [t for t in fits if not END_ONLY.match(t)]
        short = [t for t in fits if (len(t.split()) <= 5) or self.vivid]
        return short

    def slot_thought(self, sub: str) -> str:
        return self.thought

    def slot_end_pool(self, sub: str) -> str:
        kinds = [self.turn] if self.turn != "-" else ["any"]
        if self.turn == "-" and self.begun and self.hoping():
            kinds += ["hope"]
        return self.carry("ends", kinds)

    def slot_back(self, sub: str) -> str:
        event = self.event
        kinds = {"people": 3.0 * DEAR[min(self.since["crowd"], 3)], "weather": 1.0}
        if sub == "view" or self.role == "coda":
            del kinds["people"]
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
            self.pay("sky")
            self.known.add("sky")
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
        return self.slot_people("")

    def slot_people(self, sub: str) -> str:
        return self.carry("backs", ["both", "out" if self.event.place.outdoors else "in"])

    def weather(self) -> str:
        event, fits = self.event, []
        self.pay("sky")
        self.known.add("sky")
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

    def tone(self) -> str:
        """Return the class of manners: kind acts are never done harshly, losses never gladly."""
        name, turn = self.event.step.name, self.event.step.turn
        if self.mood == "-" and (self.role == "reply" or turn != "-" or name in KIND):
            return "sad"
        if self.role in ("coda", "reply"):
            return self.pool_kind
        return "brave" if self.mood == "+" and (turn == "lose" or name in CRUEL) else self.pool_kind

    def slot_manner(self, sub: str) -> str:
        """Choose an adverb, if possible one that the story has not used."""
        adverbs = self.words.qualities[f"manner {self.tone()} {self.mood}"]
        adverb = self.chance.pick([a for a in adverbs if a not in self.used] or adverbs)
        self.used.add(adverb)
        return adverb

    def slot_time(self, sub: str) -> str:
        return self.render(read(self.chance.pick(self.times())))

    def times(self) -> tuple[str, ...]:
        line = clock()[str(self.event.hour)][1].removeprefix("later ")
        return listed(line, ";")

    def slot_sky(self, sub: str) -> str:
        self.pay("sky")
        self.known.add("sky")
        return self.render(
            read(clock()["sky"][list(self.words.weather).index(self.sky)].split(" ", 1)[1])
        )

    def slot_scene(self, sub: str) -> str:
        line = clock()[str(self.event.hour)][2].removeprefix("scene ")
        return self.render(read(self.chance.pick(listed(line, ";"))))

    def slot_day(self, sub: str) -> str:
        if self.quoted or self.begun:
            return self.chance.pick(self.words.lists["day"])
        self.pay("day")
        return self.happening.day

    def temper(self, key: str) -> list[str]:
        return self.words.tempers[self.person(self.actor).temper][key]

    def slot_said(self, sub: str) -> str:
        verb = self.slot_sv("")
        who = self.name(self.actor, True)
        if who in ("he", "she"):
            return f"{who} {verb}"
        if who.endswith(","):
            return f"{verb} {who}"
        return f"{verb} {who}" if self.chance.flip(0.6) else f"{who} {verb}"

    def slot_asked(self, sub: str) -> str:
        verb = self.chance.pick(self.words.lists[f"asked {self.mood}"])
        who = self.name(self.actor, True)
        return f"{who} {verb}" if who in ("he", "she") else f"{verb} {who}"

    def slot_sv(self, sub: str) -> str:
        own, common = self.temper("s" + self.mood), self.words.lists["verbs " + self.mood]
        if self.tone() in ("sad", "brave"):
            own = common = self.words.lists[f"verbs {self.tone()}"]
        verb = self.chance.pick(own if self.chance.flip(0.6) else common).strip("<>")
        return inflect(verb, sub or "past")

    def slot_exclaim(self, sub: str) -> str:
        return self.chance.pick(self.temper("x")) if self.chance.flip(0.55) else self.listed("oath")

    def slot_opening(self, sub: str) -> str:
        return self.chance.pick(self.temper("o"))

    def slot_address(self, sub: str) -> str:
        return (
            self.chance.pick(self.temper("a"))
            if self.event.step.name in KIND or self.tone() == "brave" or self.chance.flip(0.4)
            else self.listed("call" + self.mood)
        )

    def slot_saying(self, sub: str) -> str:
        return self.render(read(self.fresh(self.temper("say" + self.mood), "say")))
