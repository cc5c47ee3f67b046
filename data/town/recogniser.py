"""Say whether a sentence is well-formed, and read what it says: the narrator's own grammar, run backwards over tokens.

Every slot of the word files is a rule (`rules`); matching is top-down with memory, so a sentence takes milliseconds. The features that
a parse yields (who, which thing with which properties, where, when, which step) are all that `tracker` knows of a text.
"""

from __future__ import annotations

from functools import cache, cached_property

from .files import MOODS, Words, listed, load, sections
from .language import Node, read
from .narrator import shapes
from .simulation import WEATHERS
from .words import articles, inflect, tokens

Feature = tuple[str, str]
Found = dict[int, list[tuple[Feature, ...]]]
KEPT = 4  # readings kept of one stretch of words


class Recogniser:
    """The grammar of the town, ready to read sentences."""

    def __init__(self, test: bool = True):
        self.words: Words = load()
        self.rules = rules(self.words, test)
        self.things = {}
        for thing in self.words.things:
            self.things.setdefault(tuple(tokens(thing.noun)), []).append(thing)
        self.features = {}
        for place in self.words.places:
            for noun, stuff, _ in place.features:
                self.features.setdefault(tuple(tokens(noun)), set()).add(stuff)
        self.qualities: dict[str, set[tuple[str, ...]]] = {}
        for head, entries in self.words.qualities.items():
            stuff = head.split()[0]
            if stuff != "manner":
                self.qualities.setdefault(stuff, set()).update(tuple(tokens(e)) for e in entries)
        self.first_memo: dict[tuple[int, str], frozenset[str] | None] = {}
        self.index: dict[tuple[int, str], tuple[dict[str, list[Node]], list[Node]]] = {}

    def parse(self, sentence: str) -> list[tuple[Feature, ...]]:
        """Return the readings of a sentence; none: it is not well-formed."""
        if not sentence or articles(sentence) != sentence or sentence[0].islower():
            return []
        self.words_here, self.memo = tokens(sentence), {}
        return self.match(self.start, 0, "past").get(len(self.words_here), [])

    def well_formed(self, sentence: str) -> bool:
        return bool(self.parse(sentence))

    def diagnose(self, sentence: str) -> str:
        """Say why a sentence cannot be read: "cut off", "article", "capital", "quotes", "word: ..." or "grammar"."""
        if self.well_formed(sentence):
            return ""
        if not sentence.endswith((".", '."', "?", '?"')):
            return "cut off"
        if articles(sentence) != sentence:
            return "article"
        if sentence[0].islower():
            return "capital"
        if sentence.count('"') % 2:
            return "quotes"
        strange = [t for t in tokens(sentence) if t not in self.vocabulary]
        return f"word: {strange[0]}" if strange else "grammar"

    @cached_property
    def vocabulary(self) -> set[str]:
        """Return every word that the grammar can write."""
        found: set[str] = set()
        for group in (self.things, self.features):
            found |= {word for noun in group for word in noun}
        for entries in self.qualities.values():
            found |= {word for entry in entries for word in entry}
        for thing in self.words.things:
            found |= set(tokens(" ".join([*thing.sizes, *thing.materials])))
        found |= set(tokens(" ".join(self.words.colours)))

        def walk(node: Node) -> None:
            if node.kind == "text":
                found.update(text_tokens(node.value))
            for part in node.parts:
                walk(part)
                if node.kind == "verb":
                    for form in ("past", "ing", "bare"):
                        walk(conjugated(part, form))

        for rule in self.rules.values():
            walk(rule)
        return found

    @cached_property
    def start(self) -> Node:
        return Node("slot", "sentence")

    # ---- matching ----

    def match(self, node: Node, at: int, form: str) -> Found:
        """Return the positions where `node` may end when it starts at `at`, with the features read on the way."""
        key = (id(node), at, form)
        if key in self.memo:
            return self.memo[key]
        self.memo[key] = {}  # a rule that starts with itself finds nothing
        found = getattr(self, f"match_{node.kind}")(node, at, form)
        self.memo[key] = found
        return found

    def match_text(self, node: Node, at: int, form: str) -> Found:
        wanted = text_tokens(node.value)
        end = at + len(wanted)
        return {end: [()]} if self.words_here[at:end] == wanted else {}

    def match_all(self, node: Node, at: int, form: str) -> Found:
        ends: Found = {at: [()]}
        for part in node.parts:
            following: Found = {}
            for middle, readings in ends.items():
                for end, more in self.match(part, middle, form).items():
                    join(following, end, [a + b for a in readings for b in more])
            ends = following
            if not ends:
                break
        return ends

    def match_any(self, node: Node, at: int, form: str) -> Found:
        found: Found = {}
        for part in self.likely(node, at, form):
            for end, readings in self.match(part, at, form).items():
                join(found, end, readings)
        return found

    def match_verb(self, node: Node, at: int, form: str) -> Found:
        found: Found = {}
        for part in node.parts:
            for end, readings in self.match(conjugated(part, form), at, form).items():
                join(found, end, readings)
        return found

    def match_slot(self, node: Node, at: int, form: str) -> Found:
        name = node.value
        if name in ("np", "furniture"):
            return self.noun_phrase(at, name)
        label, _, rest = name.partition("=")
        if "=" in name:  # {label=value}: remember a value and match nothing
            return {at: [((label, rest),)]}
        if name in FORMS:
            form, name = FORMS[name]
        rule = self.rules.get(name)
        if rule is None:
            raise KeyError(f"no rule for {{{name}}}")
        found = self.match(rule, at, form)
        if name in RECORDED:
            return {
                end: [((name, " ".join(self.words_here[at:end])), *r) for r in readings]
                for end, readings in found.items()
            }
        return found

    def noun_phrase(self, at: int, kind: str) -> Found:
        """Match modifiers and a noun; a modifier must be of a kind that the noun can have, in the usual order."""
        nouns = self.things if kind == "np" else self.features
        found: Found = {}
        for start in range(at, min(at + 9, len(self.words_here))):
            for length in (1, 2, 3, 4):
                noun = tuple(self.words_here[start : start + length])
                if noun not in nouns:
                    continue
                before = tuple(self.words_here[at:start])
                if kind == "furniture":
                    fits = not before or any(before in self.qualities[s] for s in nouns[noun])
                    if fits:
                        marks = (
                            ("feature", " ".join(noun)),
                            *([("of", " ".join(before))] if before else []),
                        )
                        join(found, start + length, [marks])
                    continue
                for thing in nouns[noun]:
                    marks = self.modifiers(before, thing)
                    if marks is not None:
                        join(found, start + length, [(("thing", " ".join(noun)), *marks)])
        return found

    def modifiers(self, before: tuple[str, ...], thing) -> tuple[Feature, ...] | None:
        """Read modifiers as fond word, size, quality, colour, material, each at most once; None if one does not fit."""
        kinds = [
            ("fond", self.qualities["fond"]),
            ("size", {tuple(tokens(s)) for s in thing.sizes}),
        ]
        stuffs = {self.words.stuffs[m] for m in thing.materials}
        kinds.append(("quality", set().union(*(self.qualities[s] for s in stuffs))))
        if thing.coloured:
            kinds.append(("colour", {tuple(tokens(c)) for c in self.words.colours}))
        kinds.append(("material", {(m,) for m in thing.materials}))
        marks: list[Feature] = []
        at = 0
        for kind, allowed in kinds:
            for length in (2, 1):
                if length <= len(before) - at and before[at : at + length] in allowed:
                    marks.append((kind, " ".join(before[at : at + length])))
                    at += length
                    break
        return tuple(marks) if at == len(before) else None

    # ---- which alternatives can begin here ----

    def likely(self, node: Node, at: int, form: str) -> list[Node]:
        if len(node.parts) < 6:
            return list(node.parts)
        key = (id(node), form)
        if key not in self.index:
            by_word: dict[str, list[Node]] = {}
            others = []
            for part in node.parts:
                words = self.firsts(part, form)
                if words is None:
                    others.append(part)
                else:
                    for word in words:
                        by_word.setdefault(word, []).append(part)
            self.index[key] = by_word, others
        by_word, others = self.index[key]
        word = self.words_here[at] if at < len(self.words_here) else ""
        return by_word.get(word, []) + others

    def firsts(self, node: Node, form: str) -> frozenset[str] | None:
        """Return the words that can begin a node; None: any, or it may be empty."""
        key = (id(node), form)
        if key in self.first_memo:
            return self.first_memo[key]
        self.first_memo[key] = None
        self.first_memo[key] = found = self._firsts(node, form)
        return found

    def _firsts(self, node: Node, form: str) -> frozenset[str] | None:
        if node.kind == "text":
            words = text_tokens(node.value)
            return frozenset(words[:1]) or None
        if node.kind == "all":
            for part in node.parts:
                if part.kind == "text" and not text_tokens(part.value):
                    continue
                if part.kind == "slot" and "=" in part.value:
                    continue
                return self.firsts(part, form)
            return None
        if node.kind == "slot":
            name = node.value
            if name in FORMS:
                form, name = FORMS[name]
            return self.firsts(self.rules[name], form) if name in self.rules else None
        parts = [conjugated(p, form) for p in node.parts] if node.kind == "verb" else node.parts
        sets = [self.firsts(part, form) for part in parts]
        return None if None in sets else frozenset().union(*sets)


@cache
def text_tokens(text: str) -> list[str]:
    return tokens(text)


@cache
def conjugated(part: Node, form: str) -> Node:
    """Return a verb phrase with its first word inflected."""
    if part.kind == "text":
        return Node("text", inflect(part.value, form))
    head, *rest = part.parts
    return Node("all", "", (Node("text", inflect(head.value.strip(), form) + " "), *rest))


def join(found: Found, end: int, readings: list[tuple[Feature, ...]]) -> None:
    kept = found.setdefault(end, [])
    for reading in readings:
        if len(kept) < KEPT and reading not in kept:
            kept.append(reading)


FORMS = {"V.bare": ("bare", "V"), "V.ing": ("ing", "V"), "sv.bare": ("bare", "sv")}
RECORDED = {
    "nm", "tr", "pronoun", "at_now", "walk_to", "opening_time", "hour0", "hour1", "hour2", "hour3", "hour4", "dish",
    "contest", "prize", "craft", "occasion", "quarrel", "trap", "mendtool", "crop", "disease", "animal_noun", "part_noun", "fault",
}  # fmt: skip


def either(texts) -> str:
    return "(" + "|".join(dict.fromkeys(texts)) + ")"


def rules(words: Words, test: bool) -> dict[str, Node]:
    """Write the grammar down: slot -> what it may be."""
    text: dict[str, str] = {}
    for name, entries in words.lists.items():
        text[name] = either([*entries, *(words.test_lists.get(name, []) if test else [])])
    text |= people_rules(words) | thing_rules(words) | place_rules(words) | time_rules(words)
    text |= speech_rules(words) | carrying_rules(words)
    steps = [(s, t) for s in words.steps.values() for t in s.said.get("v", ())]
    text["V"] = either(f"{{step={s.name}}}{t}" for s, t in steps)
    text["V"] = (
        text["V"][:-1] + "|" + "|".join(f"{{step=coda}}{p.coda}" for p in words.people) + ")"
    )
    text["C"] = either(
        f"{{step={s.name}}}{t}" for s in words.steps.values() for t in s.said.get("c", ())
    )
    quotes = [
        (s.name, t)
        for s in words.steps.values()
        for k, ts in s.said.items()
        if k[0] == "q"
        for t in ts
    ]
    quotes += [("reply", t) for pool in words.pools["speech"].values() for t in pool]
    text["Q"] = either(f"{{step={name}}}{t}" for name, t in quotes)
    parts = shapes(test)
    for part in ("v", "c", "q", "ask"):
        text["core_" + part] = either(parts[part].values())
    text["front"] = either(
        [*parts["front"].values(), "{open}, ", "{at_any}, {open}, ", "{open} {at_any}, "]
    )
    text["end"] = either(t.strip() for t in parts["end"].values())
    text["sentence"] = (
        "([{front} ]({core_v}|{core_c})[ {end}].|[{front} ](({core_q}|{core_ask})[[,] {end}].|"
        "({core_q}|{core_ask})))"
    )
    return {name: read(value) for name, value in text.items()}


def people_rules(words: Words) -> dict[str, str]:
    pairs = [
        f"{{nm}} the {{tr}}",
        "{nm}, the {tr}[,]",
        "{nm}, a {tr} who {quirk}[,]",
        "{nm}",
        "the {tr}",
    ]
    subject = either([*pairs, "{pronoun=he}he", "{pronoun=she}she"])
    other = either([*pairs, "{pronoun=he}him", "{pronoun=she}her"])
    his = "({pronoun=he}his|{pronoun=she}her)"
    return {
        "nm": either(p.name.lower() for p in words.people), "tr": either(p.trade for p in words.people),
        "trade": "{tr}", "trade.x": "{tr}", "quirk": either(p.quirk for p in words.people),
        "S": subject, "X": subject, "X.he": subject, "S.him": other, "X.him": other,
        "X.his": f"({{nm}}'s|{his})", "other.his": f"({{nm}}'s|{his})", "S.his": his,
        "he": "({pronoun=he}he|{pronoun=she}she)", "him": "({pronoun=he}him|{pronoun=she}her)", "his": his,
        "self": "({pronoun=he}himself|{pronoun=she}herself)",
    }  # fmt: skip


def thing_rules(words: Words) -> dict[str, str]:
    parts = list(dict.fromkeys(part for t in words.things for part in t.parts))
    faults = list(dict.fromkeys(f for t in words.things for fs in t.parts.values() for f in fs))
    tools = [
        tool for name, entries in words.lists.items() if name.endswith(" tools") for tool in entries
    ]
    dishes = [d for d in words.lists["cake"] + words.lists["soup"] if not d.endswith("buns")]
    looks = [look for a in words.animals for ls in a.looks.values() for look in ls]
    acts = [act for a in words.animals for act in (a.cry, *a.acts, *a.outdoor_acts)]
    full = "({determiner} {np}|it)"
    return {
        "determiner": "({first=}a|the|{pronoun=he}his|{pronoun=she}her|{nm}'s)",
        "o": full, "o.my": full, "o.a": full, "o.q": "{np}", "o.full": "{np}", "o.n": "{np}",
        "part_noun": either(parts), "part": "(the|its) {part_noun}", "part.n": "{part_noun}",
        "opart": f"(its {{part_noun}}|the {{part_noun}} of {full})",
        "opart.my": f"(its {{part_noun}}|the {{part_noun}} of {full})", "fault": either(faults),
        "works": either(dict.fromkeys(t.works for t in words.things)), "mendtool": either(tools),
        "dish": "the {dish_noun}", "dish_noun": either(dishes), "dish.n": "{dish_noun}",
        "animal_noun": either(a.noun for a in words.animals),
        "animal": f"(a|the) [{either(looks)} ]{{animal_noun}}", "animal.n": "{animal_noun}",
        "animal_act": f"{{animal}} {either(acts)}",
    }  # fmt: skip


def place_rules(words: Words) -> dict[str, str]:
    nouns = either(p.noun for p in words.places)
    at = either(f"{{here={p.noun}}}{p.prep} the {p.noun}" for p in words.places)
    preps = either(dict.fromkeys(prep for p in words.places for f in p.features for prep in f[2]))
    smells = either(dict.fromkeys(s for p in words.places for ss in p.smells.values() for s in ss))
    verbs = "(hung in the air|filled the air|drifted about|came from every corner)"
    target = either(f"{{target={p.noun}}}the {p.noun}" for p in words.places)
    return {
        "at": at, "at_any": at, "P": f"the {nouns}", "to": f"to the {nouns}", "Q.to": f"to {target}", "Q.the": target,
        "feat": "the {furniture}", "spot": f"{preps} the {{furniture}}", "spot.from": f"{preps} the {{furniture}}",
        "smell_back": f"(a|the) smell of {smells} {verbs}",
        "sound_back": either(dict.fromkeys(s for p in words.places for s in p.sounds)),
    }  # fmt: skip


def time_rules(words: Words) -> dict[str, str]:
    found = sections("time.txt")
    rule = {
        "sky": either(
            f"{{sky={w}}}{line.split(' ', 1)[1]}"
            for w, line in zip(WEATHERS, found["sky"], strict=True)
        )
    }
    opens, times = [], []
    for hour in "01234":
        opens += [f"{{hour={hour}}}{t}" for t in listed(found[hour][0].removeprefix("open"), ";")]
        times += [f"{{hour={hour}}}{t}" for t in listed(found[hour][1].removeprefix("later "), ";")]
    return rule | {"open": either(opens), "time": either(times), "time.later": either(times)}


def speech_rules(words: Words) -> dict[str, str]:
    def of(*keys: str) -> str:
        return either(e for temper in words.tempers.values() for key in keys for e in temper[key])

    verbs = dict.fromkeys(
        v.strip("<>") for t in words.tempers.values() for k in ("s+", "s0", "s-") for v in t[k]
    )
    asked = "(asked|laughed|cried|inquired|snapped|wailed|groaned)"
    said = either(inflect(v, "past") for v in verbs)
    return {
        "sv": either(f"<{v}>" for v in verbs), "said": f"({said} {{S}}|{{S}} {said})",
        "asked": f"({asked} {{S}}|{{S}} {asked})", "exclaim": f"({of('x')}|{{oath}})", "opening": of("o"), "address": f"({of('a')}|{{call+}}|{{call0}}|{{call-}})",
        "saying": of("say+", "say0", "say-"),
    }  # fmt: skip


def carrying_rules(words: Words) -> dict[str, str]:
    def pool(name: str) -> list[str]:
        return [t for body in words.pools[name].values() for t in body]

    temper = [
        t for entry in words.tempers.values() for key in ("t+", "t0", "t-") for t in entry[key]
    ]
    skies = []
    for state, entry in words.weather.items():
        skies += [
            f"{{sky={state}}}{t.split(' ', 1)[1]}" for mood in MOODS.values() for t in entry[mood]
        ]
        skies += [f"{{change={state}}}{t}" for t in entry["change"]]
    manners = {
        m
        for head, ms in words.qualities.items()
        if head.startswith("manner ") and "feel" not in head
        for m in ms
    }
    manner = either(sorted(manners))
    feels = {
        f"feel{mood}": either(words.qualities[f"manner feel {mood}"]) for mood in MOODS.values()
    }
    back = [*pool("backs"), "{smell_back}", "{sound_back}", "{animal_act}", *skies]
    return feels | {
        "tail": either([*pool("tails"), *temper]), "end": "", "back": either(back), "manner": manner,
        "manner.ly": manner, "end_pool": either(pool("ends")),
    }  # fmt: skip
