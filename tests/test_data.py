"""The bundled world: frames are sound, the corpus is what the generator writes, nothing dominates,
splits share nothing."""

import json
import random
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
sys.path.insert(0, str(DATA))

import grammar  # noqa: E402
import make_corpus  # noqa: E402

KINDS = ("stories", "posts", "reports")


@pytest.fixture(scope="module")
def world() -> grammar.World:
    return grammar.World()


@pytest.fixture(scope="module")
def corpus() -> dict[str, pd.DataFrame]:
    names = [f"{kind}-{split}" for kind in KINDS for split in make_corpus.SIZES[kind]]
    return {name: pd.read_parquet(DATA / "corpus" / f"{name}.parquet") for name in names}


def kind_of(world: grammar.World, frame: grammar.Frame) -> str:
    return "post" if frame in world.posts else "report" if frame in world.reports else ""


def test_every_frame_fills_to_one_sentence_and_is_parsed_back(world):
    for frame in world.frames():
        kind = kind_of(world, frame)
        for seed in range(3):
            rng = random.Random(f"{frame.source} {seed}")
            text = world.fill(frame, {} if kind else world.cast(rng), rng, kind)
            assert grammar.sentences(text) == [text], frame.source
            assert any(found is frame for found, _ in world.parse(text)), f"{frame.source}: {text}"


def test_a_spoilt_sentence_is_not_well_formed(world):
    rng = random.Random(0)
    for frame in rng.sample(world.frames(), 200):
        kind = kind_of(world, frame)
        text = world.fill(frame, {} if kind else world.cast(rng), rng, kind)
        spoilt = text.split()
        spoilt[len(spoilt) // 2] = "umph"
        assert not world.parse(" ".join(spoilt)), text


def test_a_becomes_an_where_the_word_asks_for_it(world):
    frame = grammar.Frame("{A} took a {obj} and an {animal} home.", (), "here")
    bound = {"A": "Nora", "obj": "umbrella", "animal": "goat"}
    assert world.fill(frame, bound, random.Random(0)) == "Nora took an umbrella and a goat home."
    assert [
        grammar.starts_with_vowel_sound(w)
        for w in ("hour", "useful", "one-eyed", "eel", "unicorn", "ugly")
    ] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_everyone_keeps_one_trade_and_the_two_of_a_story_are_a_woman_and_a_man(world):
    assert len(set(world.roles.values())) == len(world.roles) == 40
    for seed in range(50):
        cast = world.cast(random.Random(seed))
        assert {cast["A"] in world.lexicon["name_f"], cast["B"] in world.lexicon["name_f"]} == {
            True,
            False,
        }
        assert [cast["A:role"], cast["B:role"]] == [world.roles[cast["A"]], world.roles[cast["B"]]]


def test_scale_of_the_writing(world):
    assert len(world.frames()) >= 1_000 and len(world.scenes) >= 12
    words = {
        w
        for entries in world.lexicon.values()
        for entry in entries
        for w in re.findall(r"[a-z'-]+", entry.lower())
    }
    assert len(words) >= 1_500
    for scene, frames in world.scenes.items():
        cells = Counter(f.tags for f in frames)
        assert len(cells) == 24 and min(cells.values()) >= 3, scene


def test_no_frame_is_a_trivial_variant_of_another(world):
    bags = [
        (f.source, frozenset(re.findall(r"[a-z']+", grammar.SLOT.sub(" ", f.text).lower())))
        for f in world.frames()
    ]
    close = [(a, b) for (a, x), (b, y) in combinations(bags, 2) if len(x & y) > 0.75 * len(x | y)]
    assert close == []


def test_corpus_matches_its_fingerprints_and_the_generator(world, corpus):
    hashes = json.loads((DATA / "corpus" / "hashes.json").read_text())
    for name, frame in corpus.items():
        rows = frame.to_dict("records")
        assert make_corpus.digest(rows) == hashes[name], name
        kind, split = name.split("-")
        assert make_corpus.make_split(world, kind, split, 60, set()) == rows[:60], name


def test_no_document_is_repeated_or_shared_between_splits(corpus):
    for kind in KINDS:
        texts = [
            text for split in make_corpus.SIZES[kind] for text in corpus[f"{kind}-{split}"]["text"]
        ]
        assert len(texts) == len(set(texts))


def test_no_sentence_dominates_ten_thousand_stories(world, corpus):
    name = re.compile(r"\b(" + "|".join(world.lexicon["name"]) + r")\b")
    counts = Counter(
        name.sub("NAME", s)
        for text in corpus["stories-train"]["text"][:10_000]
        for s in grammar.sentences(text)
    )
    assert counts.most_common(1)[0][1] < 0.003 * counts.total()


def test_stories_have_four_to_nine_sentences_and_moods_that_do_not_depend_on_each_other(corpus):
    stories = corpus["stories-train"]
    lengths = stories["text"].map(lambda t: len(grammar.sentences(t)))
    assert lengths.between(4, 9).all() and (lengths == stories["moods"].str.split().map(len)).all()
    pairs = Counter(
        pair
        for moods in stories["moods"]
        for pair in zip(moods.split(), moods.split()[1:], strict=False)
    )
    total, first, second = pairs.total(), Counter(), Counter()
    for (a, b), n in pairs.items():
        first[a] += n
        second[b] += n
    for (a, b), n in pairs.items():
        assert abs(n / total - first[a] * second[b] / total**2) < 0.005, (a, b)


@pytest.mark.parametrize(
    ("kind", "facts", "least"),
    [("posts", make_corpus.POST_FACTS, 4), ("reports", make_corpus.REPORT_FACTS, 5)],
)
def test_facts_of_posts_and_reports_stand_in_the_text_and_summaries_tell_no_others(
    world, corpus, kind, facts, least
):
    frame = corpus[f"{kind}-test"]
    told = (frame[list(facts)] != "").sum(axis=1)
    assert told.between(least, 6).all()
    values = {fact: world.slot_list(fact, kind[:-1]) for fact in facts}
    for row in frame.head(200).to_dict("records"):
        for fact in facts:
            assert row[fact].lower() in row["text"].lower()
            stated = {
                v
                for v in values[fact]
                if re.search(rf"\b{re.escape(v)}\b", row["summary"], re.IGNORECASE)
            }
            assert stated <= {row[fact]}, row["summary"]
    assert 0.2 < frame["copied"].mean() < 0.3


def test_a_reference_places_the_news_only_where_the_post_does(world, corpus):
    """544 references said that the news was learned at the place of a last conversation, or the
    like."""
    joins = [f for f in world.posts if {"what", "where"} <= set(f.slots)]
    first = [f.text for f in joins if f.tags == ("fact", "first")]
    said = [f.text for f in joins if f.tags == ("summary",)]
    assert len(first) >= 3 and len(said) >= 6
    placed = 0
    for row in corpus["posts-train"].to_dict("records"):
        facts = {fact: row[fact] for fact in make_corpus.POST_FACTS}
        if row["summary"] in [grammar.upper_first(f.format(**facts)) for f in said]:
            placed += 1
            assert any(f.format(**facts) in row["text"] for f in first), row
    assert placed > 50


def test_no_one_asks_about_the_readers_own_belongings(world):
    """ "What would you do if your cousin sold my bicycle, as mine did" stood in one post of 26:
    facts speak of what is mine."""
    assert not [f.source for f in world.posts if re.search(r"\byour \{who\}", f.text)]


def test_things_make_the_sounds_of_things(corpus):
    """Gates split with a purr, and shutters swung open with a chirp: one list of sounds served
    things, animals and the weather."""
    odd = corpus["stories-train"]["text"].str.contains(
        r"\bwith an? (?:\w+ )?(?:purr|jingle|chirp|honk|twang|bleat|hoot|croak|trill)\b"
    )
    assert not odd.any()


def test_the_base_model_reaches_its_bars():
    """Its card is written by `measure_base.py`; a base model that misses a bar must not be
    shipped."""
    measured = json.loads((DATA / "base" / "measured.json").read_text())
    assert (
        measured["well_formed"] >= 0.95
        and measured["consistent"] >= 0.85
        and 0.30 <= measured["truthful_summaries"] <= 0.80
    )
    card = (DATA / "base" / "README.md").read_text()
    assert all(
        f"{measured[bar]:.1%}" in card
        for bar in ("well_formed", "consistent", "truthful_summaries")
    )
    # what else is to know of this training
    assert json.loads((DATA / "base" / "training.json").read_text())["note"] in card


def test_a_prompt_needs_no_end_token_before_it(corpus):
    """Trained on whole documents alone, the model babbled after prompts, which begin in the middle
    of a story: 4.8 nats a token, not 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(DATA / "base"),
        AutoTokenizer.from_pretrained(DATA / "base"),
    )
    losses = []
    for story in corpus["stories-test"]["text"][:20]:
        ids = torch.tensor([tokenizer(story.split(". ", 1)[1])["input_ids"]])
        with torch.no_grad():
            losses.append(model(ids, labels=ids).loss.item())
    assert sum(losses) / len(losses) < 1.5


def test_data_stays_small():
    assert (
        sum(
            p.stat().st_size
            for p in DATA.rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        )
        < 25e6
    )
