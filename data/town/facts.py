"""Read the facts of any summary, paraphrases included, and compare them with the columns."""

from __future__ import annotations

from .files import Words, listed
from .language import read
from .papers import PARTS_OF_DAY, POST_FACTS, REPORT_FACTS, papers
from .recogniser import Feature, Recogniser
from .rules import either
from .words import tokens

SLOTS = {"posts": POST_FACTS, "reports": REPORT_FACTS}
LARGE = (
    "what",
    "event",
    "want",
    "cause",
    "next",
)  # read before the small ones, which may stand inside them
FREE = {
    "np",
    "price",
    "goods",
    "load",
    "number",
    "village",
    "street",
    "soup",
    "occasion",
    "colour",
    "garment",
}


class FactReader(Recogniser):
    """Finds facts anywhere in a text; a fact is a set of features, whatever its wording."""

    def __init__(self) -> None:
        super().__init__(test=True)
        for name, text in fact_rules(self.words).items():
            self.rules[name] = read(text)

    def match_slot(self, node, at, form):
        found = super().match_slot(node, at, form)
        if node.value in FREE - {"np"}:
            said = {end: " ".join(self.words_here[at:end]) for end in found}
            return {
                end: [((node.value, said[end]), *r) for r in readings]
                for end, readings in found.items()
            }
        return found

    def facts(self, text: str, kind: str) -> dict[str, list[frozenset[Feature]]]:
        """Return what a text states: slot -> one set of features for each mention."""
        self.words_here, self.memo = tokens(text), {}
        stated: dict[str, list[frozenset[Feature]]] = {}
        covered: set[int] = set()
        for slot in sorted(
            SLOTS[kind], key=lambda s: 0 if s in LARGE else 2 if s == "person" else 1
        ):
            at = 0
            while at < len(self.words_here):
                found = {} if at in covered else self.match(self.rules["fact " + slot], at, "past")
                if not found:
                    at += 1
                    continue
                end = max(found)
                stated.setdefault(slot, []).append(frozenset(found[end][0]))
                covered |= set(range(at, end))
                at = end
        return stated

    def judge(self, summary: str, row: dict[str, str], kind: str) -> tuple[list[str], list[str]]:
        """Return the slots that a summary states truly and those that it states falsely."""
        true, false = [], []
        for slot, mentions in self.facts(summary, kind).items():
            value = row[slot]
            told = self.told(slot, value, kind)
            good = bool(told) and all(mention <= told[0] for mention in mentions)
            (true if good else false).append(slot)
        return true, false

    def told(self, slot: str, value: str, kind: str) -> list[frozenset[Feature]]:
        """Read the value of a column."""
        return (
            self.facts(f"my {value}" if slot == "who" else value, kind).get(slot, [])
            if value
            else []
        )

    def accurate(self, summary: str, row: dict[str, str], kind: str) -> bool:
        """Say whether a summary states at least one fact and only true ones."""
        true, false = self.judge(summary, row, kind)
        return bool(true) and not false


def paraphrased(section: str, label: str) -> list[str]:
    """Return every wording of a section's lines, each marked with the line that it belongs to."""
    return [
        f"{{{label}={number}}}{wording}"
        for number, line in enumerate(papers()[section])
        for wording in listed(line, ";")
    ]


def fact_rules(words: Words) -> dict[str, str]:
    days = [
        f"{{day={day} {part}}}(on|last) {day} {part}"
        for day in words.lists["day"]
        for part in PARTS_OF_DAY
    ]
    places = [f"{{place={p.noun}}}{p.prep} the {p.noun}" for p in words.places]
    deeds = [w for s in papers() if s.startswith("deed ") for w in paraphrased(s, s)]
    events = [w for s in papers() if s.startswith("event ") for w in paraphrased(s, s)]
    relations = [f"{{who={r}}}{r}" for r in listed(papers()["relation"][0])]
    counts = "{number} (people|onlookers|visitors|children|sailors)"
    trades = [f"{{trade={p.trade}}}the {p.trade}" for p in words.people]
    return {
        "fact who": f"(my|a) {either(relations)}",
        "fact name": either(f"{{name={p.name}}}{p.name}" for p in words.people),
        "fact what": either(deeds),
        "fact when": either(days),
        "fact where": either(places),
        "fact amount": "{price}",
        "fact want": either(paraphrased("want", "want")),
        "fact person": either(trades),
        "fact event": either(events),
        "fact day": either(days),
        "fact site": either(places),
        "fact count": counts,
        "fact cause": either(paraphrased("cause", "cause")),
        "fact next": either(paraphrased("next", "next")),
    }
