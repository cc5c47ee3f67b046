"""The town: sound word files, a reproducible corpus, splits that share nothing, the bars."""

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import cards, corpus, facts, measure, narrator, variety, worth  # noqa: E402
from town.chance import Chance  # noqa: E402
from town.files import load  # noqa: E402
from town.language import read  # noqa: E402
from town.recogniser import Recogniser  # noqa: E402
from town.words import finish, inflect, sentences, tokens  # noqa: E402

STORIES = 400


@pytest.fixture(scope="module")
def stories():
    return [corpus.make("stories", "train", n) for n in range(STORIES)]


@pytest.fixture(scope="module")
def test_stories():
    return [corpus.make("stories", "test", n) for n in range(100)]


@pytest.fixture(scope="module")
def reader():
    return facts.FactReader()


def test_verbs_and_articles_by_hand():
    past = {
        "carry": "carried",
        "hop": "hopped",
        "go": "went",
        "admit": "admitted",
        "offer": "offered",
        "hide": "hid",
    }
    assert {verb: inflect(verb, "past") for verb in past} == past
    assert (
        inflect("hide behind", "done") == "hidden behind"
        and inflect("lie down", "ing") == "lying down"
    )
    assert inflect("stop", "ing") == "stopping" and inflect("be", "past") == "was"
    assert finish('a old man said, "a honest hour in an useful uniform"') == (
        'An old man said, "An honest hour in a useful uniform"'
    )
    assert tokens("An eel's egg.") == ["a", "eel", "'s", "egg", "."]


def test_template_language_by_hand():
    node = read("a (b|c) [d ]{e} <go/run home>")
    assert [p.kind for p in node.parts] == ["text", "any", "text", "any", "slot", "text", "verb"]
    with pytest.raises(ValueError, match="closing"):
        read("a (b")


def test_choice_is_counted_in_nats():
    chance = Chance("x")
    chance.pick("abcd")
    chance.flip(0.5)
    chance.draw({"a": 3, "b": 3})
    assert chance.nats == pytest.approx(4 * 0.693147, abs=1e-4)
    picks = [Chance(str(i)).pick("ab") for i in range(200)]
    assert 70 < picks.count("a") < 130


def test_no_line_of_a_pool_is_much_more_frequent_than_the_middle_one():
    """ "What is all this about" began 0.6 % of all sentences, and 39 % of a tuned model's answers:
    it had nearly the whole weight of its pool."""
    assert worth.TOP == 3
    assert worth.level({"long": 0.1, "middle": 6.0, "short": 900.0}) == {
        "long": 2.0,
        "middle": 6.0,
        "short": 18.0,
    }


def test_no_opening_is_frequent(stories):
    """Dialogue of all kinds counts; what opens by the hour or with "Meanwhile" is harmless."""
    openings = Counter(
        " ".join(variety.masked(s).split()[:4]) for row in stories for s in sentences(row["text"])
    )
    total = openings.total()
    spoken = {o: n for o, n in openings.items() if o.startswith('"')}
    assert max(spoken.values()) < 0.003 * total
    assert max(openings.values()) < 0.005 * total


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ("may I try", True),  # these three ended with a comma: "May I try," said Nora
        ("must I guess", True),
        ("what has happened here", True),
        ("what a lovely day", False),
        ("how we shall laugh", False),
    ],
)
def test_questions_are_known_by_how_they_begin(said, question):
    assert bool(narrator.QUESTION.match(said)) == question


def test_the_word_files_are_large_enough():
    counts = measure.inventory()
    least = {
        "goals": 20,
        "steps": 60,
        "verbs": 250,
        "things": 290,
        "places": 40,
        "modifiers": 400,
        "lines of speech": 150,
    }
    assert {name: counts[name] for name in least if counts[name] < least[name]} == {}


def test_every_goal_can_happen_and_names_only_steps_that_exist():
    words = load()
    used = {name for goal in words.goals.values() for _, names in goal.stages for name in names}
    assert used | {"rest"} == set(words.steps)
    assert sum(goal.test for goal in words.goals.values()) >= 3


def test_the_same_seed_makes_the_same_text_and_another_seed_another():
    rows = [corpus.make(kind, "train", 7) for kind in corpus.MAKERS]
    again = [corpus.make(kind, "train", 7) for kind in corpus.MAKERS]
    assert corpus.digest(rows) == corpus.digest(again)
    assert corpus.digest([corpus.make("stories", "train", 8)]) != corpus.digest(rows[:1])
    frozen = json.loads((Path(corpus.__file__).parent / "fingerprints.json").read_text())
    for kind in corpus.MAKERS:
        found = corpus.digest([corpus.make(kind, "test", n) for n in range(20)])
        assert found == frozen[kind], (
            f"if the words changed on purpose, write {kind}: {found} to fingerprints.json"
        )


def test_stories_have_four_to_ten_sentences_each_with_its_dials(stories):
    for row in stories:
        count = len(sentences(row["text"]))
        assert 4 <= count <= 10
        assert (
            count
            == len(row["moods"].split())
            == len(row["descriptions"].split())
            == len(row["steps"].split())
        )
        assert set(row["moods"].split()) <= {"bright", "plain", "dark"}


def test_mood_and_description_are_free_of_each_other_and_of_the_step(stories):
    pairs = [
        p
        for r in stories
        for p in zip(r["moods"].split(), r["descriptions"].split(), r["steps"].split(), strict=True)
    ]
    for mood in ("bright", "plain", "dark"):
        share = [d for m, d, _ in pairs if m == mood].count("vivid") / sum(
            m == mood for m, _, _ in pairs
        )
        assert 0.44 < share < 0.56
    for step in ("join", "meet", "regret"):
        moods = [m for m, _, s in pairs if s == step]
        assert len(moods) > 20 and max(moods.count(m) for m in set(moods)) < 0.6 * len(moods)


def test_at_most_one_smell_in_three_sentences(stories):
    found = 0
    for row in stories:
        smells = ["smell of" in s for s in sentences(row["text"])]
        assert all(sum(smells[i : i + 3]) <= 1 for i in range(len(smells))), row["text"]
        found += sum(smells)
    assert found > 50


def test_hardly_a_sentence_is_repeated(stories):
    found = measure.repetition([r["text"] for r in stories])
    assert found["once"] > 0.97
    assert found["top"] < 0.002


def test_how_much_is_chosen(stories):
    tokenizer = measure.bpe([r["text"] for r in stories])
    assert (
        measure.choice(stories, tokenizer) > 0.8
    )  # a tokenizer trained on so few stories needs more tokens


def test_the_test_split_has_goals_words_and_sentences_of_its_own(stories, test_stories):
    assert not {r["goal"] for r in stories} & {r["goal"] for r in test_stories}
    held = [p.name for p in load().people if p.test] + [p.noun for p in load().places if p.test]
    text = " ".join(r["text"] for r in stories)
    assert not [w for w in held if re.search(rf"\b{w}\b", text)]
    assert [w for w in held if any(w in r["text"] for r in test_stories)]
    seen = {s for r in stories for s in sentences(r["text"])}
    late = [s for r in test_stories for s in sentences(r["text"])]
    assert sum(s in seen for s in late) < 0.05 * len(late)


def test_the_test_split_has_constructions_that_train_cannot_write(stories, test_stories):
    train = Recogniser(test=False)
    assert all(train.well_formed(s) for r in stories[:60] for s in sentences(r["text"]))
    late = [s for r in test_stories for s in sentences(r["text"])]
    own = [s for s in late if not train.well_formed(s)]
    assert 0.1 < len(own) / len(late) < 0.7


def test_what_is_asked_ends_in_a_question_mark(stories):
    asked = re.compile(r'"(?:[A-Z][^".]*, )?(?:Who|Which|Where|Why|Does|Is|Was it|Has) [^"]*[.,]"')
    assert [s for r in stories for s in sentences(r["text"]) if asked.search(s)] == []


def test_two_people_of_a_story_never_share_a_temper(stories):
    temper = {p.name: p.temper for p in load().people}
    for row in stories:
        cast = json.loads(row["cast"])
        assert temper[cast["A"]] != temper[cast["B"]]


def test_what_follows_the_same_beginning_differs():
    for number in range(20):
        card = cards.card(number, alternatives=4)
        assert len(card.alternatives) == 4 and len(set(card.alternatives)) >= 3
        assert corpus.make("stories", "train", number)["text"].startswith(card.prompt)


def test_no_slot_or_bracket_is_left_in_any_text(stories, test_stories):
    papers = [corpus.make(kind, "train", n) for kind in ("posts", "reports") for n in range(100)]
    for row in [*stories, *test_stories, *papers]:
        assert not re.search(
            r"[{}<>\[\]|]|  | [,.;]|,,|\ba [aeio]\w*[^n]e? ?\b(?<!one)\Z", row["text"]
        ), row["text"]


@pytest.mark.parametrize("kind", ["posts", "reports"])
def test_facts_stand_in_the_text_and_references_state_only_true_ones(reader, kind):
    copied = 0
    for number in range(40):
        row = corpus.make(kind, "train", number)
        stated = reader.facts(row["text"], kind)
        for slot in corpus.FACTS[kind]:
            if row[slot]:
                assert any(
                    reader.told(slot, row[slot], kind)[0] <= said for said in stated[slot]
                ), (slot, row)
        assert reader.accurate(row["summary"], row, kind), row
        copied += row["copied"]
        if row["copied"]:
            assert sentences(row["summary"])[0] in row["text"]
    assert 3 < copied < 20


POST = {
    "who": "cousin",
    "name": "Nora",
    "what": "broke the lid of my small tin teapot",
    "when": "on Monday morning",
    "where": "in the bakery",
    "amount": "sixpence",
    "want": "stay friends",
}


@pytest.mark.parametrize(
    ("summary", "true", "false"),
    [
        (
            "My cousin snapped the lid of my teapot in two last Monday morning.",
            {"who", "what", "when"},
            set(),
        ),
        ("My cousin broke the lid of my silver teapot.", {"who"}, {"what"}),
        ("My cousin broke the spout of my teapot.", {"who"}, {"what"}),
        ("My landlord broke the lid of my teapot in the bakery.", {"what", "where"}, {"who"}),
        (
            "How can I keep the friendship of Nora, who cost me sixpence?",
            {"want", "name", "amount"},
            set(),
        ),
        ("Boris lost my teapot on Tuesday night.", set(), {"name", "what", "when"}),
        ("What a pity.", set(), set()),
    ],
)
def test_facts_by_hand(reader, summary, true, false):
    found_true, found_false = reader.judge(summary, POST, "posts")
    assert (set(found_true), set(found_false)) == (true, false)


def test_a_fact_says_where_its_words_stand(reader):
    """With no full stop after it, a noun seemed to end behind the text."""
    summary = "On Monday morning, my cousin broke the spout of my teapot"
    found = {
        f.name: (summary[f.start : f.end], f.true) for f in reader.stated(summary, POST, "posts")
    }
    assert found == {
        "when": ("On Monday morning", True),
        "who": ("my cousin", True),
        "what": ("broke the spout of my teapot", False),
    }


def test_facts_are_known_of_the_rows_sources_only(reader):
    rows = [corpus.make("posts", "train", n) for n in range(3)]
    stated = facts.stated_in(reader, rows, "posts")
    assert all(f.true for row in rows for f in stated(row["text"], row["summary"]))
    with pytest.raises(ValueError, match="not among the rows: 'A letter"):
        stated("A letter.", "A letter.")


def test_documents_come_out_whatever_the_seed():
    rng = random.Random(5)
    for _ in range(60):
        corpus.make(
            rng.choice(["stories", "posts", "reports"]),
            rng.choice(["validation", "test"]),
            rng.randrange(10**9),
        )
