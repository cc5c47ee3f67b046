"""What is bundled: the corpus is what the generator writes, splits share nothing, the base model
has its card, and all of it stays small."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
sys.path.insert(0, str(DATA))

from town import corpus as generator  # noqa: E402
from town import publish  # noqa: E402
from town.files import load  # noqa: E402
from town.words import sentences  # noqa: E402


@pytest.fixture(scope="module")
def corpus() -> dict[str, pd.DataFrame]:
    return {
        f"{kind}-{split}": pd.read_parquet(DATA / "corpus" / f"{kind}-{split}.parquet")
        for kind, splits in generator.SIZES.items()
        for split in splits
    }


def test_the_corpus_has_its_fingerprints_and_is_what_the_generator_writes(corpus):
    hashes = json.loads((DATA / "corpus" / "hashes.json").read_text())
    assert set(hashes) == set(corpus)
    for name, frame in corpus.items():
        rows = frame.to_dict("records")
        kind, split = name.split("-")
        assert len(rows) == generator.SIZES[kind][split]
        assert generator.digest(rows) == hashes[name], name
        assert generator.make_split(kind, split, 40, set()) == rows[:40], name


def test_no_document_is_repeated_or_shared_between_splits(corpus):
    for kind, splits in generator.SIZES.items():
        texts = [text for split in splits for text in corpus[f"{kind}-{split}"]["text"]]
        assert len(texts) == len(set(texts))


def test_no_sentence_dominates_the_stories(corpus):
    """Half of the sentences of an older corpus were repeated once names were masked, and a tuned
    model lived on one of them."""
    name = re.compile(r"\b(" + "|".join(p.name for p in load().people) + r")\b")
    counts = Counter(
        name.sub("NAME", s)
        for text in corpus["stories-train"]["text"][:10_000]
        for s in sentences(text)
    )
    once = sum(n for n in counts.values() if n == 1)
    assert once >= 0.95 * counts.total()
    long = {s: n for s, n in counts.items() if len(s.split()) >= 5}
    assert max(long.values()) <= 0.0003 * counts.total()


def test_every_sentence_of_a_story_has_its_mood_and_description(corpus):
    stories = corpus["stories-train"].head(2_000)
    lengths = stories["text"].map(lambda t: len(sentences(t)))
    for dial in ("moods", "descriptions", "steps"):
        assert (lengths == stories[dial].str.split().map(len)).all()
    assert set(" ".join(stories["moods"]).split()) == {"bright", "plain", "dark"}
    assert set(" ".join(stories["descriptions"]).split()) == {"spare", "vivid"}


@pytest.mark.parametrize(("kind", "least", "most"), [("posts", 4, 6), ("reports", 5, 6)])
def test_posts_and_reports_tell_enough_facts_and_some_references_copy(corpus, kind, least, most):
    frame = corpus[f"{kind}-test"]
    told = (frame[list(generator.FACTS[kind])] != "").sum(axis=1)
    assert (told.min(), told.max()) == (least, most)
    copied = [
        sentences(summary)[0] in text
        for text, summary in zip(frame["text"], frame["summary"], strict=True)
    ]
    assert (pd.Series(copied) >= frame["copied"]).all()  # every copy is one
    assert 0.15 < frame["copied"].mean() < 0.35


def test_the_card_of_the_base_model_says_what_was_measured():
    measured = json.loads((DATA / "base" / "measured.json").read_text())
    training = json.loads((DATA / "base" / "training.json").read_text())
    assert (DATA / "base" / "README.md").read_text() == publish.card(measured, training)


def test_bars_by_hand():
    measured = {name.format(s): 0.5 for *_, name in publish.BARS for s in publish.SPLITS}
    measured |= {"kept_validation": 0.9123, "kept_validation_interval": 0.021}
    table = publish.bars(measured)
    assert "place of the beginning are kept | at least 90 % | 91.2% ± 2.1 | 50.0% |" in table
    assert "| loss, nats a token of stories | 1.2 to 1.8 | 0.50 | 0.50 |" in table


def test_publishing_needs_measurements_and_leaves_what_transformers_opens(
    tmp_path, monkeypatch, capsys
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setattr(sys, "argv", ["publish.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        publish.main()
    assert "nothing was measured" in capsys.readouterr().err
    model = AutoModelForCausalLM.from_pretrained(DATA / "base")
    trained = tmp_path / "trained"
    model.float().save_pretrained(trained)
    AutoTokenizer.from_pretrained(DATA / "base").save_pretrained(trained)
    (trained / "optimizers.safetensors").write_bytes(b"only for going on")
    for name in ("measured.json", "training.json"):
        (trained / name).write_text((DATA / "base" / name).read_text())
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["publish.py", str(trained), "--out", str(out)])
    publish.main()
    again = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert again.dtype.itemsize == 2 and not (out / "optimizers.safetensors").exists()
    assert (out / "README.md").read_text() == (DATA / "base" / "README.md").read_text()


def test_a_prompt_needs_no_end_token_before_it(corpus):
    """Trained on whole documents alone, a base model babbled after prompts, which begin in the
    middle of a story: several times its usual loss."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(DATA / "base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(DATA / "base")

    def loss(texts: list[str], start: list[int]) -> float:
        found = []
        for text in texts:
            ids = torch.tensor([start + tokenizer(text)["input_ids"]])[:, :256]  # the context
            with torch.no_grad():
                found.append(model(ids, labels=ids).loss.item())
        return sum(found) / len(found)

    rests = [t.split(". ", 1)[1] for t in corpus["stories-validation"]["text"][:20] if ". " in t]
    whole = list(corpus["stories-validation"]["text"][:20])
    assert loss(rests, []) < loss(whole, [tokenizer.eos_token_id]) + 0.3


def test_data_stays_small():
    assert (
        sum(
            p.stat().st_size
            for p in DATA.rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        )
        < 25e6
    )
