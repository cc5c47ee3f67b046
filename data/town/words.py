"""English spelling: verb forms, articles, capitals, tokens and sentences."""

from __future__ import annotations

import re
from pathlib import Path

IRREGULAR = (Path(__file__).resolve().parent / "words" / "irregular.txt").read_text(
    encoding="ascii"
)
FORMS = {
    w[0]: (w[1], w[2])
    for entry in " ".join(IRREGULAR.splitlines()[1:]).split(";")
    if (w := entry.split())
}
DOUBLED = re.compile(
    r"^(?:[^aeiou]*(?:qu)?[aeiou][bdgklmnprt]|admit|begin|unwrap|regret|forget|refer)$"
)
SENTENCE_END = re.compile(r'(?<=[.!?])\s+(?=["A-Z])|(?<=[.!?]")\s+(?=["A-Z])')
TOKEN = re.compile(r"'s\b|[A-Za-z0-9-]+(?:'(?!s\b)[a-z]+)*|[.,;:!?\"]|'")
FORM_NAMES = ("past", "ing", "bare", "done")


def inflect(verb: str, form: str) -> str:
    """Return the past, -ing, bare or participle ("done") form of the verb phrase's first word."""
    lemma, _, rest = verb.partition(" ")
    return f"{_form(lemma, form)} {rest}".strip()


def _form(lemma: str, form: str) -> str:
    if form == "bare":
        return lemma
    stem = lemma + lemma[-1] if DOUBLED.match(lemma) else lemma
    if form == "ing":
        if lemma in ("be", "see", "flee", "dye"):
            return lemma + "ing"
        if lemma.endswith("ie"):
            return lemma[:-2] + "ying"
        return (lemma[:-1] if lemma.endswith("e") else stem) + "ing"
    if lemma in FORMS:
        return FORMS[lemma][form == "done"]
    if lemma.endswith("e"):
        return lemma + "d"
    if re.search("[^aeiou]y$", lemma):
        return lemma[:-1] + "ied"
    return stem + "ed"


def vowel_sound(word: str) -> bool:
    """Say whether a word asks for "an"."""
    word = word.lower()
    if word.startswith(("hour", "honest", "heir", "honour")):
        return True
    return word[0] in "aeiou" and not word.startswith(("uni", "use", "usu", "eu", "one", "once"))


def tokens(text: str) -> list[str]:
    """Split into lower-case words, possessives and punctuation; "an" counts as "a"."""
    found = [t.lower() for t in TOKEN.findall(text)]
    return ["a" if t == "an" else t for t in found]


def sentences(text: str) -> list[str]:
    """Split text into sentences; the last one may be unfinished."""
    return [s for s in SENTENCE_END.split(text.strip()) if s]


def articles(text: str) -> str:
    """Turn "a" into "an" where the next word asks for it, and back."""

    def mend(match: re.Match[str]) -> str:
        return match[1] + ("n " if vowel_sound(match[2]) else " ") + match[2]

    return re.sub(r"\b([Aa])n? ([A-Za-z0-9][\w'-]*)", mend, text)


def finish(text: str) -> str:
    """Capitalise the start of the sentence and of what is quoted."""
    text = articles(re.sub(r"\s+", " ", text).strip())
    text = re.sub(r'(^"?|[,:] ")([a-z])', lambda m: m[1] + m[2].upper(), text)
    return re.sub(r"\bi\b", "I", text)
