"""Tell a happening, sentence by sentence, each in its own mood and description.

A sentence is a front, a core and an end (`words/shapes.txt`), or a scene, a detail, a reaction.
The core tells the step: a verb phrase (v), a clause (c) or words said (q). Mood: bright, plain or
dark; description: spare, vivid.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .files import MOODS, listed
from .language import read
from .scenery import Scenery
from .simulation import Event
from .voice import BRINGS_B, clock
from .words import finish
from .worth import length

QUESTION = re.compile(
    r"^(who|whose|which|where|why|when (did|will|was)|"
    r"what (is|are|has|does|did|do|will|was|would|could|about|else|time) |"
    r"how (hard|many|much|long|does|did|could|far|is|was|else)|"
    r"can|does|do you|did you|was|is|are|am I|has|did|will|"
    r"would|could|may I|must I|must you|have you|shall)\b"
)
LONG = re.compile(
    r", (and|but|who|which|for|so|though|with|in which|as)\b|"
    r"\b(because|until|when|while|whether|as|since|if|before)\b|\bthat \{|[)}] that "
)
AIMLESS = re.compile(  # acts that nobody does in a manner
    r"<(hear|see|watch|catch sight|wake|learn|spit|get over|rise|hang|find|meet|come across|think|"
    r"lose|let|arrive|appear|stumble|miss|forget|be|have|want|notice|slip|fall|discover|remember|"
    r"know|get|win|arrive at|manage|mislay|come in for|sneeze|trip|mix|turn round|feel|dream|"
    r"overhear|lie)\b|"
    r"<(sit|agree|enter)\b|that \{"
)
TOLD = {"S": 4.0, "manner": 3.0, "was": 0.1, "saw": 0.6, "nobody": 0.9, "what": 0.9}
SPEAKER_FIRST = {"before", "turned", "heard", "words", "wanted"}
LONG_LINE, SHORT_LINE = 11.0, 9.0  # words
BEFORE_SPEECH = ("back", "and", "after")
QUOTED = {
    "after": 0.5,
    "before": 0.8,
    "turned": 0.6,
    "addr": 2.2,
    "exclaim": 2.0,
    "saying": 0.5,
    "ly": 2.2,
}
PLANS = {  # (front, end) by mood and description; each carries the mood if any; ly: an adverb
    ("0", False): "- -|- -|- -|- -|ly -|ly -|time -|link -|link -|- tail|manner+manner -",
    ("0", True): "ly -|- -|link -|tail -|- tail|- tail|- tail|back -|- as|- end|- end"
    "|time+tail -|link+manner -|- semicolon|- thus|after -|now -|manner+manner -",
    ("m", False): "ly -|ly -|link ly|- tail|- tail|- tail|link tail|tail -|time tail|- end"
    "|manner+manner -",
    ("m", True): "ly -|link ly|tail -|tail -|- tail|- tail|- tail|link+tail -|back -|- as|and -"
    "|- end|- end|link end|- semicolon|- thus|after end|now tail|manner+manner -",
}


class Tale(Scenery):
    """The telling of one happening."""

    def tell(self, start: int = 0) -> list[dict[str, str]]:
        """Return the sentences with their moods, descriptions and steps, from event `start` on."""
        rows: list[dict[str, str]] = []
        for number, _ in enumerate(self.happening.events[start:], start):
            rows += self.chapter(number, len(rows))
        return rows

    def chapter(self, number: int, told: int) -> list[dict[str, str]]:
        """Tell one event and what is seen, said or felt around it, within ten sentences."""
        events, chance = self.happening.events, self.chance
        self.index = number
        event, last = events[number], number == len(events) - 1
        room = 9 - told - (len(events) - number)
        rows = []
        if not number and room > 0 and chance.flip(0.3):
            rows.append(self.sentence(event, "scene"))
        rows.append(self.sentence(event))
        self.begun = True
        room -= len(rows) - 1
        if number and not last and room > 0 and self.together() and chance.flip(0.2):
            rows.append(self.sentence(event, "reply", events[number + 1]))
        elif number and event.step.turn != "-" and room > 0 and chance.flip(0.25):
            rows.append(self.sentence(event, "react"))
        elif not last and room > 0 and chance.flip(0.35):
            inside = self.hopes() and not event.turns and chance.flip(0.6)
            rows.append(self.sentence(event, "moment" if inside else "detail"))
        if last and told + len(rows) < 10 and chance.flip(0.75 if self.quirk else 0.4):
            rows.append(self.sentence(event, "coda"))
        return rows

    def sentence(self, event: Event, role: str = "", following=None) -> dict[str, str]:
        """Tell one event in one sentence; a reply is heard where the following event begins."""
        self.mood = self.next_mood(event, role)
        self.vivid = self.chance.flip(0.5)
        self.event, self.now, self.role, self.seen = event, [], role, set()
        self.answered = event.step
        if "storm" in event.step.make:
            self.sky = "gale"
        if following:
            self.event = replace(following, hour=event.hour, new_hour=False, turns=False)
        self.senses = 0
        self.actor = "A" if role in ("coda", "moment") else event.actor
        if role == "reply":
            self.actor = "AB"[event.actor == "A"]
        self.pool_kind = {"reply": "talk", "coda": "home", "moment": "react"}.get(
            role, event.step.kind
        )
        self.turn = "-" if role in ("coda", "reply") or not self.begun else event.step.turn
        if role in ("scene", "detail", "react", "moment"):
            line = self.aside(role)
        else:
            how, text = self.matter(role)
            line = self.compose(how, text, self.plan(how, text, event))
        self.since_sense = 0 if self.senses else self.since_sense + 1
        for kind in self.since:
            self.since[kind] = 0 if kind in self.seen else self.since[kind] + 1
        self.last = set(self.now)
        name = {v: k for k, v in MOODS.items()}[self.mood]
        return {
            "text": finish(line) + ("" if line.endswith((".", '."', '?"')) else "."),
            "mood": name,
            "description": "vivid" if self.vivid else "spare",
            "step": role or event.step.name,
        }

    def aside(self, role: str) -> str:
        """Write a sentence in which nobody acts: the scene, what goes on around, what was felt."""
        self.crowded = False
        if role in ("react", "moment"):
            keep, self.pool_kind = self.now, "react"
            line = self.carry("reacts", [self.turn] if role == "react" else self.hopes())
            self.now = [*keep, self.actor]
            self.thought, shapes = line, dict(self.shapes["thought"])
            if not self.vivid or not self.subject:  # a tail needs somebody to hang on
                shapes.pop("tail")
            return self.render(read(shapes[self.chance.pick(list(shapes))]))
        shapes = self.shapes[role]
        if role == "scene":
            self.scened = True
            names = [n for n in shapes if self.vivid or "back" not in n]
        else:
            names = ["both"] if self.event.turns else list(shapes)
        return self.render(read(shapes[self.chance.pick(names)]))

    def matter(self, role: str) -> tuple[str, str]:
        """Choose what of the event is told: a verb phrase (v), a clause (c) or words said (q)."""
        if role == "coda":
            if self.quirk and self.chance.flip(0.6):
                return "v", self.happening.people["A"].coda
            turns = [e.step.turn for e in self.happening.events if e.step.turn != "-"]
            pool = self.words.pools["endings"].get(f"{self.happening.goal.name} {turns[-1]}", [])
            rest = list(self.words.steps["rest"].said["v"])
            return "v", self.fresh(pool if pool and self.chance.flip(0.8) else rest, "step")
        if role == "reply":
            if self.chance.flip(0.2):
                return "q", self.fresh(self.temper("r" + self.mood), "speech")
            kind = self.answered.turn if self.answered.turn != "-" else self.answered.kind
            pool = self.words.pools["speech"].get(f"{kind} {self.mood}", [])
            return "q", self.fresh(pool, "speech")
        said = self.event.step.said
        weights = {"v": 0.66, "c": 0.07, "q": 0.27}
        has = {key[0] for key in said}
        how = self.chance.draw({k: w for k, w in weights.items() if k in has})
        if how != "q":
            return how, self.fresh(list(said[how]), "step")
        lines = [*said.get("q", ()), *said.get("q" + self.mood, ())]
        return "q", self.fresh(lines, "step")

    def plan(self, how: str, text: str, event: Event) -> tuple[str, str]:
        """Choose front and end."""
        if not self.begun:
            willing = how == "v" and self.mood != "0" and self.has_manner()
            ends = ["tail", "-", "-"] if self.vivid and length(text) < SHORT_LINE else ["-"]
            ends += ["ly"] if willing and not self.aimless(text) else []
            return ("-" if self.scened else "open"), self.chance.pick(ends)
        fits = []
        aimless = how == "v" and self.aimless(text)
        for plan in PLANS[("0" if self.mood == "0" else "m", self.vivid)].split("|"):
            front, end = plan.split()
            if front not in ("-", "ly", *self.shapes["front"]):
                continue
            if how == "q" and "ly" in plan and end == "tail":
                continue
            if end not in ("-", "ly", *self.shapes["end"]):
                continue
            if "time" in front and not event.new_hour:
                continue
            if how == "q" and front not in ("-", "ly", "back", "and", "after"):
                continue
            if ("manner" in front or "ly" in plan) and how != "q":
                if how == "c" or aimless or not self.has_manner():
                    continue
            if self.role == "coda" and "end" in plan:
                continue
            fits.append((front, end))
        if length(text) > LONG_LINE:  # nothing much is hung on a long line
            fits = [p for p in fits if "ly" in p or p == ("-", "-")] or fits
        return self.chance.pick(fits)

    def compose(self, how: str, text: str, plan: tuple[str, str]) -> str:
        """Put front, core and end together."""
        front, end = plan
        question = how == "q" and bool(QUESTION.match(text))
        core = self.core(how, text, front, end, question)
        self.brief = core == "ly" or end != "-" or length(text) > SHORT_LINE
        if how == "q":
            self.pool_kind = "talk"
        front, end = front.replace("ly", "-"), end.replace("ly", "-")
        if how == "c" and core == "C" and end in ("tail", "end"):
            end = "back" if self.vivid else "-"
        ends = ("tail", "end", "semicolon", "thus", *(["back", "as"] if "while" in text else []))
        if how != "q" and LONG.search(text) and end in ends:
            front, end = ("tail" if front == "-" else front), "-"  # it would hang on somebody else
        if question and front in BEFORE_SPEECH:
            front = "-"
        if how == "q" and core in SPEAKER_FIRST:
            end = "-"
        self.step = {"V": read(text), "C": read(text), "Q": read(text)}
        self.crowded = front in ("back", "and", "after")
        self.fronted = True
        out = ""
        if front == "open":
            out = self.opening(how)
        elif front != "-":
            out = self.render(read(self.shapes["front"][front])) + " "
        self.fronted = False
        out += self.render(read(self.shapes["ask" if question else how][core]))
        if end != "-":
            tail = self.render(read(self.shapes["end"][end].lstrip()))
            out += tail if tail.startswith((",", ";")) else " " + tail
        return re.sub(r",(?=[,;])", "", out).rstrip(",")

    def core(self, how: str, text: str, front: str, end: str, question: bool) -> str:
        """Choose the construction of the core among those that fit what stands around it."""
        shapes = self.shapes["ask" if question else how]
        cores = set(shapes)
        if "ly" in (front, end):
            return {"v": "manner", "q": "ly"}[how]
        if not self.together() and self.event.step.name not in BRINGS_B:
            cores = {k for k in cores if "{X" not in shapes[k]}
        if self.actor not in self.known:
            cores -= {"words"}
        if how == "v":
            cores -= self.unfit(text, front, end)
            return self.chance.draw({k: TOLD[k] for k in sorted(cores)})
        if how == "c":
            if not self.begun or "tail" in front or "manner" in front:
                return "saw"
            return self.chance.draw({k: 3.0 if k == "C" else 1.0 for k in sorted(cores)})
        if front in BEFORE_SPEECH:
            cores = cores & SPEAKER_FIRST or cores
        if "{address}" in text or not self.together():
            cores -= {"addr", "split"}
        return self.chance.draw({k: QUOTED.get(k, 1.0) for k in sorted(cores)})

    def unfit(self, text: str, front: str, end: str) -> set[str]:
        """Return the constructions that a verb phrase cannot have here."""
        out: set[str] = set()
        opening = not self.begun
        if "manner" in front or not self.has_manner():
            out |= {"manner"}
        if opening or "{X" in text or self.pool_kind not in ("look", "go", "work", "give"):
            out |= {"saw"}
        if opening or "tail" in front or "manner" in front or front == "now":
            out |= {"was", "nobody", "what"}
        if "manner" in front:
            out |= {"saw"}
        if self.actor in self.last:  # it would be "nobody but she"
            out |= {"nobody"}
        if self.aimless(text):
            out |= {"manner", "saw", "nobody", "what"}
        return out

    def aimless(self, text: str) -> bool:
        """Say whether nobody does this on purpose, so that it has no manner."""
        mishap = self.event.step.turn == "lose" and self.pool_kind == self.event.step.kind
        return mishap or bool(AIMLESS.search(text))

    def has_manner(self) -> bool:
        return f"manner {self.pool_kind} {self.mood}" in self.words.qualities

    def opening(self, how: str) -> str:
        """Open the story with the hour or the place, seldom with both; quotations with neither."""
        if how == "q":
            return ""
        line = clock()[str(self.event.hour)][0].removeprefix("open ")
        shape = self.chance.draw({"when": 0.2, "where": 0.6, "both": 0.2})
        where = self.slot_at("") if shape != "when" else ""
        if shape == "where":
            return f"{where}, "
        when = self.render(read(self.chance.pick(listed(line, ";"))))
        return f"{when} {where}, " if where and "," not in when else f"{when}, "
