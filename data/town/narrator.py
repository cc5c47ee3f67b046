"""Tell a happening, sentence by sentence, each in its own mood and description.

A sentence is a front, a core and an end (`words/shapes.txt`). The core tells the step: a verb
phrase (v), a clause (c) or words said (q). Mood: bright, plain or dark; description: spare, vivid.
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

QUESTION = re.compile(
    r"^(who|whose|where|what is|what are|what does|why|when did|how hard|can|does|is|are|has|did|"
    r"will|was|could|have you|shall)\b"
)
LONG = re.compile(
    r", (and|but|who|which|for|so|though|with|in which|as)\b|"
    r"\b(because|until|when|while|whether|as|since|if|before)\b|\bthat \{|[)}] that "
)
AIMLESS = re.compile(  # acts that nobody does in a manner
    r"<(hear|see|watch|catch sight|wake|learn|spit|get over|rise|hang|find|meet|come across|think|"
    r"lose|let|arrive|appear|stumble|miss|forget|be|have|want|notice|slip|fall|discover|remember|know|get|win|"
    r"arrive at|manage|mislay|come in for|sneeze|trip|mix|turn round)\b|"
    r"<(sit|agree|enter)\b|that \{"
)
TOLD = {"S": 5.0, "manner": 1.0, "was": 0.15, "saw": 0.7, "nobody": 0.7}
SPEAKER_FIRST = {"before", "turned", "heard"}
BEFORE_SPEECH = ("back", "and", "after", "tail")
QUOTED = {"after": 2.0, "before": 1.5, "addr": 2.5, "exclaim": 2.0, "saying": 0.5, "saying2": 0.4}
PLANS = {  # (front, end) by mood and description; each carries the mood where there is one
    ("0", False): [
        "- -",
        "time -",
        "link -",
        "- tail",
        "- tail",
        "manner -",
        "tail -",
        "time tail",
        "link tail",
    ],
    ("0", True): [
        "tail -",
        "back -",
        "- back",
        "- as",
        "time tail",
        "link end",
        "and -",
        "time back",
        "manner as",
        "tail end",
        "back tail",
        "time+tail -",
        "link+tail -",
        "- semicolon",
        "after -",
        "- end",
        "- tail",
    ],
    ("m", False): ["- tail", "- tail", "manner -", "tail -", "time tail", "link tail"],
    ("m", True): [
        "tail -",
        "back -",
        "- back",
        "time tail",
        "link end",
        "and -",
        "- end",
        "manner as",
        "tail end",
        "back tail",
        "time+back -",
        "link+tail -",
        "time+tail -",
        "- semicolon",
        "after end",
        "- tail",
    ],
}


class Tale(Scenery):
    """The telling of one happening."""

    def tell(self) -> list[dict[str, str]]:
        """Return the sentences with their moods, descriptions and steps."""
        rows = []
        for i, event in enumerate(self.happening.events):
            rows.append(self.sentence(event, opening=i == 0))
            replies = 0 < i < len(self.happening.events) - 1 and self.together()
            room = len(rows) + len(self.happening.events) - i < 9
            if replies and room and self.chance.flip(0.18):
                rows.append(
                    self.sentence(event, reply=True, following=self.happening.events[i + 1])
                )
        if len(rows) < 9 and self.chance.flip(0.8 if self.quirk else 0.45):
            rows.append(self.sentence(self.happening.events[-1], coda=True))
        return rows

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
            if self.chance.flip(0.5):
                return "q", self.fresh(self.temper("r" + self.mood), "speech")
            kind = self.answered.turn if self.answered.turn != "-" else self.answered.kind
            pool = self.words.pools["speech"].get(f"{kind} {self.mood}", [])
            return "q", self.fresh(pool, "speech")
        said = self.event.step.said
        weights = {"v": 0.6, "c": 0.12, "q": 0.28}
        has = {key[0] for key in said}
        how = self.chance.draw({k: w for k, w in weights.items() if k in has})
        if how != "q":
            return how, self.fresh(list(said[how]), "step")
        lines = [*said.get("q", ()), *said.get("q" + self.mood, ())]
        return "q", self.fresh(lines, "step")

    def plan(self, how: str, text: str, opening: bool, event: Event, coda: bool) -> tuple[str, str]:
        """Choose front and end."""
        if opening:
            ends = ["tail", "end", "back"] if self.vivid else ["tail"]
            return "open", self.chance.pick(ends if self.mood != "0" else ["-", *ends])
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
            aimless = how == "v" and self.aimless(text)
            if "manner" in parts and (aimless or not self.has_manner()):
                continue
            if coda and "back" in parts:
                continue
            fits.append((front, end))
        return self.chance.pick(fits)

    def compose(self, how: str, text: str, plan: tuple[str, str], opening: bool) -> str:
        """Put front, core and end together."""
        front, end = plan
        question = how == "q" and bool(QUESTION.match(text))
        core = self.core(how, text, front, end, opening, question)
        if how == "c" and core == "C" and end in ("tail", "end"):
            end = "back"
        ends = ("tail", "end", "semicolon", *(["back", "as"] if "while" in text else []))
        if how != "q" and LONG.search(text) and end in ends:
            front, end = ("tail" if front == "-" else front), "-"  # it would hang on somebody else
        if question and front in BEFORE_SPEECH:
            front = "-"
        if how == "q" and core in SPEAKER_FIRST:
            end, front = "-", front if front != "-" else self.chance.pick(["back", "tail"])
        self.step = {"V": read(text), "C": read(text), "Q": read(text)}
        self.crowded = front in ("back", "and", "after", "time+back")
        out = ""
        if front == "open":
            out = self.opening(how)
        elif front != "-":
            out = self.render(read(self.shapes["front"][front])) + " "
        out += self.render(read(self.shapes["ask" if question else how][core]))
        if end != "-":
            tail = self.render(read(self.shapes["end"][end].lstrip()))
            out += tail if tail.startswith((",", ";")) else " " + tail
        return re.sub(r",(?=[,;])", "", out).rstrip(",")

    def core(self, how: str, text: str, front: str, end: str, opening: bool, question: bool) -> str:
        """Choose the construction of the core among those that fit what stands around it."""
        cores = set(self.shapes["ask" if question else how])
        if not self.together() and self.event.step.name not in BRINGS_B:
            cores = {k for k in cores if "{X" not in self.shapes["ask" if question else how][k]}
        if how == "v":
            cores -= self.unfit(text, front, end, opening)
            return self.chance.draw({k: TOLD[k] for k in sorted(cores)})
        if how == "c" and (opening or "tail" in front or front == "manner"):
            return "saw"
        if how == "q" and front in BEFORE_SPEECH:
            cores = cores & SPEAKER_FIRST or cores
        if how == "q" and ("{address}" in text or not self.together()):
            cores -= {"addr"}
        return self.chance.draw({k: QUOTED.get(k, 1.0) for k in sorted(cores)})

    def unfit(self, text: str, front: str, end: str, opening: bool) -> set[str]:
        """Return the constructions that a verb phrase cannot have here."""
        out: set[str] = set()
        if "manner" in (front, end) or not self.has_manner():
            out |= {"manner"}
        if opening or "{X" in text or self.pool_kind not in ("look", "go", "work", "give"):
            out |= {"saw"}
        if opening or "tail" in front or front == "manner":
            out |= {"was", "nobody"}
        if front == "manner":
            out |= {"saw"}
        if self.actor in self.last:  # it would be "nobody but she"
            out |= {"nobody"}
        if self.aimless(text):
            out |= {"manner", "saw", "nobody"}
        return out

    def aimless(self, text: str) -> bool:
        """Say whether nobody does this on purpose, so that it has no manner."""
        mishap = self.event.step.turn == "lose" and self.pool_kind == self.event.step.kind
        return mishap or bool(AIMLESS.search(text))

    def has_manner(self) -> bool:
        return f"manner {self.pool_kind} {self.mood}" in self.words.qualities

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
        line = clock()[str(self.event.hour)][0].removeprefix("open ")
        return self.render(read(self.chance.pick(listed(line, ";"))))
