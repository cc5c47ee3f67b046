"""The hand-written world: frames with slots, filled with words, and parsed back.

A *frame* is one sentence with slots (`data/world/scenes/*.txt`, `interludes.txt`, `posts.txt`,
`reports.txt`); a *lexicon* is the list of words for one slot (`lexicon.txt`, `facts.txt`). `fill`
turns a frame into a sentence, `parse` finds the frame and the words of a sentence again. The corpus
is made with the first (`make_corpus.py`), samples of a model are measured with the second
(`measure_base.py`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

WORLD = Path(__file__).resolve().parent / "world"
SLOT = re.compile(r"\{([A-Za-z_:+ ]+)\}")
PRONOUNS = {
    "f": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "m": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
}
SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=["A-Z])|(?<=[.!?]")\s+(?=["A-Z])')


@dataclass(frozen=True)
class Frame:
    """One hand-written sentence with slots, and the tags of the cell that holds it."""

    text: str
    tags: tuple[str, ...]
    source: str

    @cached_property
    def slots(self) -> tuple[str, ...]:
        return tuple(SLOT.findall(self.text))

    @cached_property
    def longest_literal(self) -> str:
        """The longest run of plain text: a sentence without it cannot come from this frame."""
        pieces = re.split(r"\{[^}]*\}|\ban?\b", self.text)
        return max((p[1:] if i == 0 else p for i, p in enumerate(pieces)), key=len)


def read_cells(path: Path) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """Yield (header words, line, "file:line") for every entry of a `[header]` file; raise
    ValueError outside a cell."""
    tags: tuple[str, ...] | None = None
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            tags = tuple(line[1:-1].split())
        elif tags is None:
            raise ValueError(f"{path.name}:{number}: text before the first [header]")
        else:
            yield tags, line, f"{path.stem}:{number}"


def read_frames(path: Path) -> list[Frame]:
    return [Frame(text, tags, source) for tags, text, source in read_cells(path)]


class World:
    """All frames and lexicons, read once; the same files make the corpus and judge the samples."""

    def __init__(self, folder: Path = WORLD):
        self.lexicon: dict[str, list[str]] = {}
        for tags, line, _ in read_cells(folder / "lexicon.txt"):
            self.lexicon.setdefault(tags[0], []).extend(
                w.strip() for w in line.split(",") if w.strip()
            )
        for tags, line, _ in read_cells(folder / "facts.txt"):
            self.lexicon.setdefault(" ".join(tags), []).append(line)
        self.roles: dict[str, str] = {}  # of everyone in town: name to trade
        for gender in "fm":
            people = dict(entry.split(" the ") for entry in self.lexicon.pop(f"cast_{gender}"))
            self.lexicon[f"name_{gender}"] = list(people)
            self.roles |= people
        self.lexicon["name"], self.lexicon["role"] = list(self.roles), list(self.roles.values())
        self.lexicon["obj+"] = [""]  # drawn from three lists; see words()
        self.scenes = {p.stem: read_frames(p) for p in sorted((folder / "scenes").glob("*.txt"))}
        self.interludes = read_frames(folder / "interludes.txt")
        self.posts = read_frames(folder / "posts.txt")
        self.reports = read_frames(folder / "reports.txt")

    def frames(self) -> list[Frame]:
        stories = [f for frames in self.scenes.values() for f in frames]
        return stories + self.interludes + self.posts + self.reports

    def slot_list(self, slot: str, kind: str = "") -> list[str]:
        """Return the lexicon behind a slot; `kind` is "post" or "report" for their own fact
        lists."""
        for name in (f"{kind} {slot}", slot, f"{kind} {slot.lower()}", slot.lower()):
            if name in self.lexicon:
                return self.lexicon[name]
        raise KeyError(f"no lexicon for the slot {{{slot}}}")

    # ---- filling ---------------------------------------------------------------------------------

    def cast(self, rng: random.Random) -> dict[str, str]:
        """Draw what stays the same through one story: two people (one woman, one man), object,
        place, animal, food, boat."""
        genders = rng.sample(["f", "m"], 2)
        bound = {}
        for person, gender in zip("AB", genders, strict=True):
            bound[person] = rng.choice(self.lexicon[f"name_{gender}"])
            bound[f"{person}:role"] = self.roles[bound[person]]
            for word, form in PRONOUNS[gender].items():
                bound[f"{person}:{word}"] = form
        for slot in ("obj", "place", "animal", "food", "boat"):
            bound[slot] = rng.choice(self.lexicon[slot])
        bound["obj+"] = (
            f"{rng.choice(self.lexicon['obj_texture'])} {rng.choice(self.lexicon['obj_look'])} "
            f"{bound['obj']}"
        )
        return bound

    def fill(
        self, frame: Frame, bound: Mapping[str, str], rng: random.Random, kind: str = ""
    ) -> str:
        """Write a frame out: bound slots from `bound`, the others drawn anew; "a" becomes "an"
        where the word asks for it."""
        text = frame.text
        for match in reversed(list(SLOT.finditer(text))):
            slot = match.group(1)
            capital = slot.split(":")[-1][0].isupper() and slot not in bound
            key = (
                slot
                if not capital
                else ":".join([*slot.split(":")[:-1], slot.split(":")[-1].lower()])
            )
            word = bound[key] if key in bound else rng.choice(self.slot_list(key, kind))
            head, tail = text[: match.start()], text[match.end() :]
            if article := re.search(r"\b([Aa])n? $", head):
                head = (
                    head[: article.start()]
                    + article.group(1)
                    + ("n " if starts_with_vowel_sound(word) else " ")
                )
            text = head + (upper_first(word) if capital else word) + tail
        return upper_first(text)

    # ---- parsing ---------------------------------------------------------------------------------

    def pattern(self, frame: Frame, kind: str = "") -> re.Pattern[str]:
        """Compile the regular expression that matches every filling of `frame`."""
        out, last = [], 0
        for i, match in enumerate(SLOT.finditer(frame.text)):
            literal = re.escape(frame.text[last : match.start()])
            out.append(re.sub(r"(\b[Aa])n?(\\ )$", r"\1n?\2", literal))
            out.append(f"(?P<s{i}>{self._alternatives(match.group(1), kind)})")
            last = match.end()
        out.append(re.escape(frame.text[last:]))
        return re.compile("".join(out))

    def _alternatives(self, slot: str, kind: str) -> str:
        if slot in ("A", "B"):
            words = self.lexicon["name"]
        elif slot.endswith(":role"):
            words = self.lexicon["role"]
        elif ":" in slot:
            form = slot.split(":")[1]
            words = [PRONOUNS[g][form.lower()] for g in "fm"]
            words = [upper_first(w) for w in words] if form[0].isupper() else words
        elif slot == "obj+":
            lists = [
                self._either(self.lexicon[name]) for name in ("obj_texture", "obj_look", "obj")
            ]
            return "(?:" + ") (?:".join(lists) + ")"
        else:
            words = self.slot_list(slot, kind)
        return self._either([*words, *map(upper_first, words)])

    @staticmethod
    def _either(words: Iterable[str]) -> str:
        return "|".join(re.escape(w) for w in sorted(set(words), key=lambda w: (-len(w), w)))

    @cached_property
    def _patterns(self) -> list[tuple[Frame, str, re.Pattern[str]]]:
        kinds = [(f, "") for frames in self.scenes.values() for f in frames] + [
            (f, "") for f in self.interludes
        ]
        kinds += [(f, "post") for f in self.posts] + [(f, "report") for f in self.reports]
        return [(f, f.longest_literal, self.pattern(f, kind)) for f, kind in kinds]

    def parse(self, sentence: str) -> list[tuple[Frame, dict[str, set[str]]]]:
        """Return every frame that can have made `sentence`, with the words in its slots; an empty
        list: not well-formed."""
        found = []
        for frame, literal, pattern in self._patterns:
            if literal in sentence and (match := pattern.fullmatch(sentence)):
                words: dict[str, set[str]] = {}
                for slot, word in zip(frame.slots, match.groups(), strict=True):
                    words.setdefault(slot, set()).add(word)
                found.append((frame, words))
        return found


def sentences(text: str) -> list[str]:
    """Split text into sentences; the last one may be unfinished."""
    return [s for s in SENTENCE_END.split(text.strip()) if s]


def upper_first(text: str) -> str:
    return text[:2].upper() + text[2:] if text.startswith('"') else text[:1].upper() + text[1:]


def starts_with_vowel_sound(word: str) -> bool:
    word = word.lower()
    if word.startswith(("hour", "honest", "heir", "honour")):
        return True
    return word[0] in "aeiou" and not word.startswith(
        ("uni", "use", "usu", "eu", "one", "once", "ukulele")
    )
