"""What is said of a base model is read off its text: made-up continuations with known faults."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data"))

from town import corpus, examine, stream  # noqa: E402
from town.facts import FactReader  # noqa: E402
from town.tracker import Tracker  # noqa: E402
from town.words import sentences  # noqa: E402

ENOUGH = 12


@pytest.fixture(scope="module")
def tracker():
    return Tracker()


@pytest.fixture(scope="module")
def told():
    """Beginnings of stories, and how they really go on, with a sentence that is cut off."""
    prompts, rests = [], []
    for number in range(ENOUGH):
        said = sentences(corpus.make("stories", "test", number)["text"])
        prompts.append(" ".join(said[:2]))
        rests.append(" ".join(said[2:]) + " And then")
    return prompts, rests


def test_the_towns_own_stories_have_no_fault(tracker, told):
    found = examine.read(tracker, *told)
    assert (found["well_formed"], found["kept"], found["consistent"]) == (1, 1, 1)
    assert found["sentences"] == sum(len(sentences(r)) - 1 for r in told[1])


def test_faults_are_counted_where_they_are(tracker, told):
    prompts, rests = (list(x) for x in told)
    rests[0] = "The of and walked. " + rests[0]  # no sentence, but nothing is lost by it
    rests[1] = rests[3]  # another story's people
    found = examine.read(tracker, prompts, rests)
    whole = found["sentences"]
    assert found["well_formed"] == pytest.approx((whole - 1) / whole)
    assert found["kept"] == found["consistent"] == pytest.approx(1 - 1 / ENOUGH)


def test_beginnings_are_whole_sentences_that_fit(tmp_path):
    stream.make_tokenizer(tmp_path, size=150)
    tokenizer = examine.train.AutoTokenizer.from_pretrained(tmp_path)
    found = examine.beginnings(tokenizer, "test", 0)
    stories = [corpus.make("stories", "test", n)["text"] for n in range(3 * examine.SAMPLES)]
    assert len(found) == examine.SAMPLES
    for text in found[:20]:
        assert len(tokenizer(text)["input_ids"]) <= examine.LONGEST
        assert any(story.startswith(text) and story != text for story in stories)


def test_references_are_truthful_and_strangers_are_not(monkeypatch):
    """The share of the posts' own summaries is 1, that of the summaries of other posts is small."""
    rows = [corpus.make("posts", "test", n)["summary"] for n in range(examine.SAMPLES)]
    monkeypatch.setattr(examine, "continued", lambda *_: rows)
    assert examine.truthful(None, FactReader(), "test", 0) == 1
    monkeypatch.setattr(examine, "continued", lambda *_: rows[1:] + rows[:1])
    assert examine.truthful(None, FactReader(), "test", 0) < 0.2


def test_continuations_come_from_the_model_and_stop_at_its_end_token():
    """`sampling.sample` was called with an argument that it no longer has, which only a whole
    examination showed."""
    policy = examine.models.Policy.load()
    prompts = ["Nora found the lantern under the counter.", "It rained."]
    texts = examine.continued(policy, prompts, 8, seed=0)
    assert len(texts) == 2 and texts == examine.continued(policy, prompts, 8, seed=0)
    assert not any(policy.tokenizer.eos_token in text for text in texts)
    assert examine.answer_nats(policy, prompts, 0) > 0
