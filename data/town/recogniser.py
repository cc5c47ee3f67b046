"""Say whether a sentence is well-formed, and read what it says: the narrator's grammar backwards.

Every slot of the word files is a rule (`rules`); matching is top-down with memory, so a sentence
takes milliseconds. The features that a parse yields (who, which thing with which properties, where,
when, which step) are all that `tracker` knows of a text.
"""

from __future__ import annotations

from functools import cache, cached_property

from .files import Thing, Words, load
from .language import Node
from .rules import rules
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
        """Say why it cannot be read: cut off, article, capital, quotes, "word: ..." or grammar."""
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
        """Return where `node` may end when it starts at `at`, with the features read on the way."""
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
        """Match a noun with modifiers of kinds that it can have, in the usual order."""
        nouns = self.things if kind == "np" else self.features
        found: Found = {}
        for start in range(at, min(at + 9, len(self.words_here))):
            for length in (1, 2, 3, 4):
                noun = tuple(self.words_here[start : start + length])
                if noun not in nouns or len(noun) < length:  # the text ends before
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

    def modifiers(self, before: tuple[str, ...], thing: Thing) -> tuple[Feature, ...] | None:
        """Read fond word, size, quality, colour, material, once each; None if one does not fit."""
        kinds = [
            ("fond", self.qualities["fond"]),
            ("size", {tuple(tokens(s)) for s in thing.sizes}),
        ]
        stuffs = {self.words.stuffs[m] for m in thing.materials}
        qualities = set().union(*(self.qualities[s] for s in stuffs))
        kinds.append(("quality", {q for q in qualities if " ".join(q) not in self.words.sizes}))
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
    "nm",
    "tr",
    "contest_full",
    "prize",
    "craft_full",
    "occasion",
    "quarrel_full",
    "trap",
    "mendtool",
    "crop",
    "disease_full",
    "animal_noun",
    "part_noun",
    "fault",
    "p_folk",
    "p_sort",
    "p_home",
    "c_colour",
    "c_worn",
}
