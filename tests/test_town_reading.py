"""The town read back: spoilt sentences and planted contradictions are found, and nothing else."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import corpus  # noqa: E402
from town.recogniser import Recogniser  # noqa: E402
from town.tracker import Tracker  # noqa: E402
from town.words import sentences  # noqa: E402


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser()


@pytest.fixture(scope="module")
def tracker(recogniser):
    return Tracker(recogniser)


@pytest.fixture(scope="module")
def texts():
    return [
        corpus.make("stories", split, n)["text"] for split in ("train", "test") for n in range(80)
    ]


RIGHT = [
    "Nora found the lantern under the counter.",
    "She found it under the polished counter, humming a waltz.",
    'Nora said, "Here is my small tin lantern, under the counter."',
    "Merrily, he hurried to the boatyard by way of Tar Street and Duck Lane.",
    "After supper, Abel the cobbler gave the lantern up for lost and went home.",
]
WRONG = [
    "Nora found the woollen lantern under the counter.",  # no wool in lanterns
    "Nora found the tin small lantern under the counter.",  # order of modifiers
    "Nora find the lantern under the counter.",
    "nora found the lantern under the counter.",
    "Nora found the lantern under the.",
    "Nora found an lantern under the counter.",
    "Her found the lantern under the counter.",
    "Nora found the lantern the lantern under the counter.",
    "Nora found the lantern under the leafy counter.",  # a counter is no tree
    '"Here is my lantern, under the counter, said Nora.',
]


@pytest.mark.parametrize("sentence", RIGHT)
def test_right_sentences_by_hand(recogniser, sentence):
    assert recogniser.well_formed(sentence)


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_sentences_by_hand(recogniser, sentence):
    assert not recogniser.well_formed(sentence)


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("Nora found the lantern under the counter.", ""),
        ("Nora found the lantern under the", "cut off"),
        ("Nora found an lantern under the counter.", "article"),
        ("nora found the lantern under the counter.", "capital"),
        ('Nora said, "Here is the lantern.', "quotes"),
        ("Nora found the spaceship under the counter.", "word: spaceship"),
        ("Nora the lantern under the counter found.", "grammar"),
    ],
)
def test_what_cannot_be_read_is_told_by_kind(recogniser, sentence, why):
    assert recogniser.diagnose(sentence) == why


def test_every_sentence_of_the_corpus_is_read(recogniser, texts):
    unread = [s for text in texts for s in sentences(text) if not recogniser.well_formed(s)]
    assert unread == []


def test_spoilt_sentences_are_not(recogniser, texts):
    rng = random.Random(3)
    spoilt = 0
    for text in texts[:100]:
        words = rng.choice(sentences(text)).split()
        at = rng.randrange(1, len(words) - 1)
        how = rng.choice(["swap", "drop", "double", "strange"])
        if how == "swap":
            words[at - 1], words[at] = words[at], words[at - 1]
        elif how == "drop":
            del words[at]
        else:
            words.insert(at, words[at] if how == "double" else "umph")
        spoilt += not recogniser.well_formed(" ".join(words))
    assert spoilt >= 85  # dropping an adjective, say, leaves a good sentence


def test_no_contradiction_in_the_corpus(tracker, texts):
    assert [(text, found) for text in texts if (found := tracker.violations(text))] == []


STORY = (
    "One rainy morning in the bakery, Nora the puppeteer looked everywhere for her small tin "
    "lantern. "
    "Nora searched the bakery for the lantern and found an old cork, half a comb and a sack of "
    "peas."
)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("Nora found the lantern under the counter.", None),
        ("She found the small tin lantern behind the oven.", None),
        ("Nora found the big tin lantern under the counter.", "unreadable"),
        ("Nora found the tall tin lantern under the counter.", "property"),
        ("Nora found the copper lantern under the counter.", "property"),
        ("Nora found the kettle under the counter.", "thing"),
        ("Nora found the lantern under the tar barrel.", "place"),
        ("In the forge, Nora found the lantern.", "unreadable"),
        ("He found the lantern under the counter.", "pronoun"),
        ("Ada found the lantern under the counter.", "people"),
        ("The cobbler found the lantern under the counter.", "people"),
        (
            "While the sunshine lay like butter on the roofs, Nora found it under the counter.",
            "weather",
        ),
        ("While the last clouds melted away, Nora found the lantern under the counter.", None),
        ("Nora fixed the handle of the lantern with a screw.", "order"),
        ("At noon, Nora found the lantern under the counter.", None),
        ("Nora is a cabbage of.", "unreadable"),
    ],
)
def test_contradictions_by_hand(tracker, more, kind):
    found = tracker.continues(STORY, more)
    assert [k for _, k in found] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("first", "then", "kind"),
    [
        ("the deaf hatter", "the hatter", None),
        ("the deaf hatter", "the tall hatter", "bystander"),
        ("the deaf hatter", "the tall printer", None),
        ("the hatter from Tar Street", "the hatter from Oxley", "bystander"),
    ],
)
def test_bystanders_stay_who_they_are(tracker, first, then, kind):
    story = f"{STORY} Under the eyes of {first}, Nora found the lantern under the counter."
    found = tracker.continues(story, f"Even {then} clapped.")
    assert [k for _, k in found] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("then", "kind"),
    [
        ("her red coat", None),
        ("her coat", None),
        ("her blue coat", "clothes"),
        ("her red cloak", "clothes"),
        ("her blue hat", None),
    ],
)
def test_clothes_stay_on(tracker, then, kind):
    story = f"{STORY} In her red coat, Nora found the lantern under the counter."
    found = tracker.continues(story, f"In {then}, Nora looked everywhere for her lantern.")
    assert [k for _, k in found if k != "order"] == ([kind] if kind else [])


def test_hours_run_forward(tracker):
    story = "At noon, Nora the puppeteer missed her lantern on the way to the bakery."
    assert tracker.consistent(f"{story} Late at night, Nora found the lantern under the counter.")
    late = (
        f"{story} Late at night, Nora crawled about beside the oven among peas and figs, but "
        "it was not there either."
    )
    assert [
        k
        for _, k in tracker.violations(f"{late} At noon, Nora found the lantern under the counter.")
    ] == ["hour"]


def test_contradictions_planted_in_stories_are_found(tracker, texts):
    """Another name in the last sentence that has one, and a page of another story at the end."""
    names = [p.name for p in tracker.words.people]
    found = tried = 0
    for text, other in zip(texts[:60], texts[1:61], strict=True):
        parts = sentences(text)
        here = {n for n in names if any(n in s for s in parts[:-1])}
        last = next((n for n in here if n in parts[-1]), None)
        if last:
            gender = tracker.person[last.lower()].gender
            stranger = next(
                p.name for p in tracker.words.people if p.gender == gender and p.name not in here
            )
            spoilt = [*parts[:-1], parts[-1].replace(last, stranger)]
            found += not tracker.consistent(" ".join(spoilt))
            tried += 1
        found += not tracker.consistent(" ".join([*parts[:-1], sentences(other)[0]]))
        tried += 1
    assert found >= 0.97 * tried > 60
