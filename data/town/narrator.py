"""Tell a happening, sentence by sentence, each in its own mood (bright, plain, dark) and description (spare, vivid)."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from .chance import Chance
from .files import MOODS, Person, Words, listed, load, sections
from .language import Node, read
from .simulation import Event, Happening
from .words import finish, inflect

PRONOUN = {"f": {"he": "she", "him": "her", "his": "her", "self": "herself"},
           "m": {"he": "he", "him": "him", "his": "his", "self": "himself"}}  # fmt: skip
BOUND = ("contest", "prize", "craft", "occasion", "quarrel", "secret", "trap", "mendtool", "dish", "pet", "crop",
         "suspect", "disease", "event", "home")  # said once, the same to the end  # fmt: skip
CARRIERS = {"manner", "tail", "end", "back", "saying", "as", "semicolon"}
QUESTION = re.compile(
    r"^(who|whose|where|what is|what are|why|when did|how hard|can|does|is|are|has|did|will|was|could|have you|shall)\b"
)
LONG = re.compile(
    r", (and|but|who|which|for|so|though|with|in which|as)\b|\b(because|until|when|while|whether|as|since|if|before)\b|\bthat \{|[)}] that "
)
SENSES = re.compile(r"\bsmell\b")
AIMLESS = re.compile(  # acts that nobody does in a manner
    r"<(hear|see|watch|catch sight|wake|learn|spit|get over|rise|hang|find|meet|come across|think|lose|miss|forget|be|have|want|notice|slip|fall|discover|remember|know|get|"
    r"win|arrive at|manage|mislay|come in for|sneeze|trip|mix|turn round)\b|<(sit|agree|enter)\b|that \{"
)
QUOTED = {"after": 2.0, "before": 1.5, "addr": 2.5, "exclaim": 2.0, "saying": 0.5, "saying2": 0.4}
PLANS = {  # (front, end) by mood and description; each carries the mood where there is one
    ("0", False): ["- -", "time -", "link -", "- tail", "- tail", "manner -", "tail -", "time tail", "link tail"],
    ("0", True): ["tail -", "back -", "- back", "- as", "time tail", "link end", "and -", "time back", "manner as",
                  "tail end", "back tail", "time+tail -", "link+tail -", "- semicolon", "after -", "- end", "- tail"],
    ("m", False): ["- tail", "- tail", "manner -", "tail -", "time tail", "link tail"],
    ("m", True): ["tail -", "back -", "- back", "time tail", "link end", "and -", "- end", "manner as", "tail end",
                  "back tail", "time+back -", "link+tail -", "time+tail -", "- semicolon", "after end", "- tail"],
}  # fmt: skip


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


class Tale:
    """The telling of one happening: what has been mentioned, which property was given, what was chosen."""

    def __init__(self, happening: Happening, chance: Chance, split: str):
        self.words: Words = load()
        self.happening, self.chance, self.test = happening, chance, split == "test"
        self.shapes = shapes(self.test)
        self.known: set[str] = set()
        self.last: set[str] = set()
        self.now: list[str] = []
        self.given: dict[str, str] = {}
        self.used: set[str] = set()
        self.since_sense, self.mood, self.vivid = 3, "0", False
        self.form, self.quoted, self.quirk = "past", False, False
        self.event: Event = happening.events[0]
        self.sky = happening.events[0].weather
        self.senses = 0
        self.step: dict[str, Node] = {}

    # ---- the whole ----

    def tell(self) -> list[dict[str, str]]:
        """Return the sentences with their moods, descriptions and steps."""
        rows = []
        for i, event in enumerate(self.happening.events):
            rows.append(self.sentence(event, opening=i == 0))
            replies = 0 < i < len(self.happening.events) - 1 and self.together()
            if replies and len(rows) < 8 and self.chance.flip(0.18):
                rows.append(
                    self.sentence(event, reply=True, following=self.happening.events[i + 1])
                )
        if len(rows) < 9 and self.chance.flip(0.8 if self.quirk else 0.45):
            rows.append(self.sentence(self.happening.events[-1], coda=True))
        return rows

    def together(self) -> bool:
        return "B" in self.known

    def sentence(
        self, event: Event, opening=False, reply=False, coda=False, following=None
    ) -> dict[str, str]:
        """Tell one event in one sentence; a reply is heard where the following event begins."""
        self.mood = self.chance.pick("+0-")
        self.vivid = self.chance.flip(0.5)
        self.event, self.now = event, []
        self.answered = event.step
        if "storm" in event.step.make:
            self.sky = "gale"
        if following:
            self.event = replace(following, hour=event.hour, new_hour=False, turns=False)
        self.senses = 0
        self.actor = "A" if coda else event.actor
        if reply:
            self.actor = "AB"[event.actor == "A"]
        kind = "home" if coda else event.step.kind
        self.pool_kind = "talk" if reply else kind
        self.turn = "-" if coda or reply or opening else event.step.turn
        how, text = self.matter(opening, reply, coda)
        plan = self.plan(how, text, opening, event, coda)
        line = self.compose(how, text, plan, opening)
        self.since_sense = 0 if self.senses else self.since_sense + 1
        self.last = set(self.now)
        name = {v: k for k, v in MOODS.items()}[self.mood]
        return {
            "text": finish(line) + ("" if line.endswith((".", '."', '?"')) else "."),
            "mood": name,
            "description": "vivid" if self.vivid else "spare",
            "step": "reply" if reply else "coda" if coda else event.step.name,
        }

    def matter(self, opening: bool, reply: bool, coda: bool) -> tuple[str, str]:
        """Choose what of the event is told: a verb phrase (v), a clause (c) or words said (q)."""
        if coda:
            if self.quirk:
                return "v", self.happening.people["A"].coda
            return "v", self.fresh(list(self.words.steps["rest"].said["v"]), "step")
        if reply:
            kind = self.answered.turn if self.answered.turn != "-" else self.answered.kind
            pool = self.words.pools["speech"].get(f"{kind} {self.mood}", [])
            return "q", self.fresh(pool, "speech")
        said = self.event.step.said
        weights = {"v": 0.6, "c": 0.12, "q": 0.28}
        has = {key[0] for key in said}
        if self.opening_only_with_subject(opening):
            has.discard("c") if self.chance.flip(0.5) else None
        how = self.chance.draw({k: w for k, w in weights.items() if k in has})
        if how != "q":
            return how, self.fresh(list(said[how]), "step")
        lines = [*said.get("q", ()), *said.get("q" + self.mood, ())]
        return "q", self.fresh(lines, "step")

    def opening_only_with_subject(self, opening: bool) -> bool:
        return opening

    def fresh(self, pool: list[str], tag: str) -> str:
        """Choose a template that was not used in this story, if there is one, and that the moment allows."""
        can = [t for t in pool if self.allows(t)]
        new = [t for t in can if tag + t not in self.used] or can or pool
        text = self.chance.pick(new)
        self.used.add(tag + text)
        self.senses += bool(SENSES.search(text))
        return text

    def allows(self, text: str) -> bool:
        """Refuse what needs the other person before they came, or one sense too many."""
        if ("{X" in text or "{other" in text) and not (
            self.together() or self.event.step.name in BRINGS_B
        ):
            return False
        return not (SENSES.search(text) and (self.senses or self.since_sense < 2))

    def plan(self, how: str, text: str, opening: bool, event: Event, coda: bool) -> tuple[str, str]:
        """Choose front and end."""
        if opening:
            ends = (
                ["-", "tail", "end", "back"]
                if self.vivid or self.mood != "0"
                else ["-", "-", "tail"]
            )
            if self.mood != "0":
                ends = ["tail", "end", "back"] if self.vivid else ["tail"]
            return "open", self.chance.pick(ends)
        plans = PLANS[("0" if self.mood == "0" else "m", self.vivid)]
        fits = []
        for plan in plans:
            front, end = plan.split()
            parts = front.split("+") + [end]
            if front not in ("-", *self.shapes["front"]) or end not in ("-", *self.shapes["end"]):
                continue
            if ("time" in parts) and not event.new_hour:
                continue
            if how == "q" and front not in ("-", "back", "and", "after", "tail"):
                continue
            if (
                "manner" in parts
                and f"manner {self.pool_kind} {self.mood}" not in self.words.qualities
            ):
                continue
            if "manner" in parts and how == "v" and AIMLESS.search(text):
                continue
            if coda and "back" in parts:
                continue
            fits.append((front, end))
        return self.chance.pick(fits)

    def compose(self, how: str, text: str, plan: tuple[str, str], opening: bool) -> str:
        """Put front, core and end together."""
        front, end = plan
        question = how == "q" and bool(QUESTION.match(text))
        cores = dict(self.shapes["ask" if question else how])
        if not self.together() and self.event.step.name not in BRINGS_B:
            cores = {k: t for k, t in cores.items() if "{X" not in t}
        if how == "v":
            weights = {"S": 5.0, "manner": 1.0, "was": 0.3, "saw": 0.7, "nobody": 0.7}
            if (
                "manner" in (front, end)
                or f"manner {self.pool_kind} {self.mood}" not in self.words.qualities
            ):
                cores.pop("manner", None)
            if opening or "{X" in text or self.pool_kind not in ("look", "go", "work", "give"):
                cores.pop("saw", None)
            if opening or "tail" in front or front == "manner":
                cores.pop("was", None)
                cores.pop("nobody", None)
            if AIMLESS.search(text):
                cores.pop("manner", None)
                cores.pop("saw", None)
            core = self.chance.draw({k: weights[k] for k in cores})
        else:
            if how == "c" and (opening or "tail" in front or front == "manner"):
                cores = {"saw": cores["saw"]}
            if how == "q" and (front in ("back", "and", "after", "tail")):
                cores = {
                    k: t for k, t in cores.items() if k in ("before", "turned", "heard")
                } or cores
            if how == "q" and "{address}" in text:
                cores = {k: t for k, t in cores.items() if k != "addr"}
            core = self.chance.draw({k: QUOTED.get(k, 1.0) for k in sorted(cores)})
        template = cores[core]
        if how == "c" and core == "C" and end in ("tail", "manner", "end"):
            end = "back"
        if (
            how != "q" and LONG.search(text) and end in ("tail", "end", "manner", "semicolon")
        ):  # it would hang on somebody else
            front, end = ("tail" if front == "-" else front), "-"
        if question and front in ("back", "and", "after", "tail"):
            front = "-"
        if how == "q" and core in ("before", "turned", "heard"):
            end, front = "-", front if front != "-" else self.chance.pick(["back", "tail"])
        self.step = {"V": read(text), "C": read(text), "Q": read(text)}
        out = ""
        if front == "open":
            out = self.opening(how)
        elif front != "-":
            out = self.render(read(self.shapes["front"][front])) + " "
        out += self.render(read(template))
        if end != "-":
            tail = self.render(read(self.shapes["end"][end].lstrip()))
            out += tail if tail.startswith((",", ";")) else " " + tail
        return re.sub(r",(?=[,;])", "", out).rstrip(",")

    def opening(self, how: str) -> str:
        """Open the story: when and where; quotations open with what is said."""
        if how == "q":
            return ""
        when = self.opening_time()
        event = self.event
        shape = self.chance.pick(["when", "where", "both"])
        where = f"{event.place.prep} the {event.place.noun}"
        if shape == "when":
            return f"{when}, "
        if shape == "where":
            return f"{where}, {when}, "
        return f"{when} {where}, " if "," not in when else f"{when}, "

    def opening_time(self) -> str:
        line = sections_cached("time.txt")[str(self.event.hour)][0].removeprefix("open ")
        return self.render(read(self.chance.pick(listed(line, ";"))))

    # ---- templates ----

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
            return self.chance.pick(self.words.qualities[f"manner feel {name[4:]}"])
        raise KeyError(f"no slot {{{name}}}")

    def listed(self, name: str) -> str:
        """Choose from a word list; some are chosen once for the whole story."""
        if name in BOUND and name in self.given:
            return self.given[name]
        entries = self.words.lists[name] + (
            self.words.test_lists.get(name, []) if self.test else []
        )
        new = [e for e in entries if f"{name} {e}" not in self.used] or entries
        entry = self.chance.pick(new)
        self.used.add(f"{name} {entry}")
        text = self.render(read(entry))
        if name in BOUND:
            self.given[name] = text
        return text

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
        if key not in self.known:
            self.known.add(key)
            forms = [f"{person.name} the {person.trade}"]
            if subject and not self.quoted:
                forms += [f"{person.name}, the {person.trade},"]
                quirk = self.render_for(key, person.quirk)
                if key == "A" and self.chance.flip(0.35):
                    forms = [f"{person.name}, a {person.trade} who {quirk},"]
            form = self.chance.pick(forms)
            self.quirk |= key == "A" and " who " in form
            return form
        if key in self.last and self.chance.flip(0.55):
            return self.pronoun(key, "he" if subject else "him")
        return person.name if self.chance.flip(0.8) else f"the {person.trade}"

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
            return f"to the {target.noun}" if sub == "to" else f"the {target.noun}"
        self.quoted = True
        out = self.render(self.step["Q"])
        self.quoted = False
        return out

    # ---- how, when, where ----

    def carry(self, pool: str, kinds: list[str]) -> str:
        lines = [t for kind in kinds for t in self.words.pools[pool].get(f"{kind} {self.mood}", [])]
        return self.render(read(self.fresh(lines, pool)))

    def slot_tail(self, sub: str) -> str:
        if not self.vivid:
            return self.carry("tails", ["short"])
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
            kinds |= {"smell": 1.0, "sound": 1.0}
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
        if sub == "n":
            return animal.noun
        if "n" in self.known:
            return f"the {animal.noun}"
        self.known.add("n")
        look = self.chance.pick(animal.looks[self.mood]) + " " if self.chance.flip(0.6) else ""
        return f"a {look}{animal.noun}"

    def slot_manner(self, sub: str) -> str:
        return self.chance.pick(self.words.qualities[f"manner {self.pool_kind} {self.mood}"])

    def slot_time(self, sub: str) -> str:
        return self.render(read(self.chance.pick(self.times())))

    def times(self) -> tuple[str, ...]:
        line = sections_cached("time.txt")[str(self.event.hour)][1].removeprefix("later ")
        return listed(line, ";")

    def slot_sky(self, sub: str) -> str:
        return self.render(read(sections_cached("time.txt")["sky"][list(self.words.weather).index(self.sky)]
                                .split(" ", 1)[1]))  # fmt: skip

    def slot_day(self, sub: str) -> str:
        return (
            self.happening.day
            if not self.quoted and not self.known
            else self.chance.pick(self.words.lists["day"])
        )

    def slot_P(self, sub: str) -> str:
        return f"the {self.happening.places[0].noun}"

    def slot_at(self, sub: str) -> str:
        return f"{self.event.place.prep} the {self.event.place.noun}"

    def slot_to(self, sub: str) -> str:
        return f"to the {self.event.place.noun}"

    def slot_feat(self, sub: str) -> str:
        return self.furniture(self.chance.pick(self.event.place.features))

    def slot_spot(self, sub: str) -> str:
        feature = self.chance.pick(self.event.place.features)
        return f"{self.chance.pick(feature[2])} {self.furniture(feature)}"

    def furniture(self, feature: tuple[str, str, tuple[str, ...]]) -> str:
        noun, stuff, _ = feature
        if not self.vivid or self.quoted or not self.chance.flip(0.7):
            return f"the {noun}"
        if "of " + noun not in self.given:
            quality = self.chance.pick(self.words.qualities[f"{stuff} {self.mood}"])
            self.given["of " + noun] = "" if quality in noun else quality + " "
        elif not self.chance.flip(0.3):
            return f"the {noun}"
        return f"the {self.given['of ' + noun]}{noun}"

    # ---- the thing ----

    def slot_o(self, sub: str) -> str:
        thing = self.happening.thing
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
            and self.chance.flip(0.3)
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
            chance.pick((2, 3))
            if first and self.vivid
            else 1
            if first
            else int(self.vivid and chance.flip(0.15))
        )
        if least and not count:
            count = 1
        chosen = (
            kinds if count >= len(kinds) else sorted(self.sample(kinds, count), key=kinds.index)
        )
        adjectives = [self.property(kind) for kind in chosen]
        if self.mood != "0" and (fond or not first) and chance.flip(0.4):
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
            if kind == "quality":
                stuff = self.words.stuffs[self.property("material")]
                self.given[kind] = self.chance.pick(self.words.qualities[f"{stuff} {self.mood}"])
            else:
                options = {
                    "size": thing.sizes,
                    "material": thing.materials,
                    "colour": self.words.colours,
                }[kind]
                self.given[kind] = self.chance.pick(options)
        return self.given[kind]

    def broken_part(self) -> str:
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
        return self.given["dish"] if sub == "n" else f"the {self.given['dish']}"

    # ---- speech ----

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
        verb = self.chance.pick({"+": ["asked", "laughed", "cried"], "0": ["asked", "inquired"],
                                 "-": ["snapped", "wailed", "groaned"]}[self.mood])  # fmt: skip
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


ANIMALS = {
    "rescue",
    "guard",
    "mystery",
    "confess",
    "contest",
    "learn",
    "cook",
    "garden",
}  # their animal has a part of its own
BRINGS_B = {"meet", "join", "customer", "almost_seen", "quarrel"}


@cache
def sections_cached(name: str) -> dict[str, list[str]]:
    return sections(name)
