"""Read the facts of any summary, paraphrases included, and compare them with the columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .files import Words, listed
from .language import read
from .papers import PARTS_OF_DAY, POST_FACTS, REPORT_FACTS, papers
from .recogniser import Feature, Recogniser
from .rules import either
from .words import TOKEN, tokens

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


class Mention(NamedTuple):
    """A fact that a text states: its slot, where its words stand (in characters), what they say."""

    slot: str
    start: int
    end: int
    features: frozenset[Feature]


class Stated(NamedTuple):
    """A fact that a summary states, held against the columns of its source."""

    name: str
    start: int
    end: int
    true: bool


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

    def mentions(self, text: str, kind: str) -> list[Mention]:
        """Find every fact that a text states, slot by slot."""
        self.words_here, self.memo = tokens(text), {}
        places = [match.span() for match in TOKEN.finditer(text)]
        found: list[Mention] = []
        covered: set[int] = set()
        for slot in sorted(
            SLOTS[kind], key=lambda s: 0 if s in LARGE else 2 if s == "person" else 1
        ):
            at = 0
            while at < len(self.words_here):
                ends = {} if at in covered else self.match(self.rules["fact " + slot], at, "past")
                if not ends:
                    at += 1
                    continue
                end = max(ends)
                start, stop = places[at][0], places[end - 1][1]
                found.append(Mention(slot, start, stop, frozenset(ends[end][0])))
                covered |= set(range(at, end))
                at = end
        return found

    def facts(self, text: str, kind: str) -> dict[str, list[frozenset[Feature]]]:
        """Return what a text states: slot -> one set of features for each mention."""
        stated: dict[str, list[frozenset[Feature]]] = {}
        for mention in self.mentions(text, kind):
            stated.setdefault(mention.slot, []).append(mention.features)
        return stated

    def stated(self, summary: str, row: dict[str, str], kind: str) -> list[Stated]:
        """Return every fact that a summary states, where it stands and whether it is true."""
        mentions, told = self.mentions(summary, kind), {}
        for slot in {mention.slot for mention in mentions}:
            told[slot] = self.told(slot, row[slot], kind)
        return [
            Stated(m.slot, m.start, m.end, bool(told[m.slot]) and m.features <= told[m.slot][0])
            for m in mentions
        ]

    def judge(self, summary: str, row: dict[str, str], kind: str) -> tuple[list[str], list[str]]:
        """Return the slots that a summary states truly and those that it states falsely."""
        verdict: dict[str, bool] = {}
        for fact in self.stated(summary, row, kind):
            verdict[fact.name] = verdict.get(fact.name, True) and fact.true
        return [s for s, good in verdict.items() if good], [
            s for s, good in verdict.items() if not good
        ]

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


def stated_in(
    reader: FactReader, rows: Iterable[dict[str, str]], kind: str
) -> Callable[[str, str], list[Stated]]:
    """Make the function (source, summary) -> facts stated, for the sources among `rows`.

    It raises ValueError for another source: its facts are not known.
    """
    known = {row["text"]: row for row in rows}
    read: dict[tuple[str, str], list[Stated]] = {}

    def stated(source: str, summary: str) -> list[Stated]:
        if source not in known:
            raise ValueError(f"the facts of this source are not among the rows: {source[:60]!r}")
        if (source, summary) not in read:
            read[source, summary] = reader.stated(summary, known[source], kind)
        return read[source, summary]

    return stated


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
