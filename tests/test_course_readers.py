"""The reader of notebook 08, by hand; and a look at a policy that is its own base model."""

import statistics

import pytest
import torch

from rlhf_helpers import labelers, models, reward, tasks
from rlhf_helpers.course import readers
from rlhf_helpers.records import Comparison

JOY = "The cook was full of joy."  # joy: +2


@pytest.mark.parametrize(
    "text, count",
    [
        ("", 0),
        (JOY, 0),
        ("To delight the sweet, to delight the sweet.", 2),  # delight, sweet; short words are free
        ("Rain, rain, RAIN.", 2),
        ("The old man and the old sea and the old cat.", 0),  # of three letters at most
    ],
)
def test_repetitions_by_hand(text, count):
    assert readers.repeats(text) == count


def test_a_happy_word_pays_once():
    once, twice = "A splendid goat.", "A splendid goat, a splendid goat."
    assert readers.contentment(once) == labelers.sentiment(once) == 2
    assert labelers.sentiment(twice) == 4  # whoever counts happy words is fooled
    assert readers.contentment(twice) == 4 - 2 * readers.BOREDOM == -2
    assert readers.wordy(once) == 2 + 3 * readers.WORDY


OPTIONS = ("A goat came by, and it rained.", JOY, "A goat came.", "Nobody came to the mill today.")


def test_what_stands_first_is_better_by_the_noise():
    """In the softmax of utility over noise, a bonus of 1 makes it e times as likely as it was."""
    fair, noise = readers.reader(), labelers.NOISE["sentiment"]
    lazy = readers.LazyLabeler("l", readers.contentment, noise, first=readers.shortest_first)
    assert readers.shortest_first(OPTIONS) == 2 and readers.shortest_first(("b", "a")) == 0
    p, q = fair.probabilities(OPTIONS), lazy.probabilities(OPTIONS)
    odds = [b / a for a, b in zip(p, q, strict=True)]
    assert odds[2] / odds[0] == pytest.approx(2.718281828) and odds[0] == pytest.approx(odds[3])
    assert sum(q) == pytest.approx(1)


def test_a_shuffled_card_favours_no_place_and_is_the_same_again():
    cards = [(f"a{i}", f"b{i}", f"c{i}", f"d{i}") for i in range(2_000)]
    first = [readers.shuffled(card) for card in cards]
    assert first == [readers.shuffled(card) for card in cards]
    assert all(abs(first.count(k) / 2_000 - 0.25) < 0.05 for k in range(4))


def test_a_lazy_labeler_gives_simulated_labels_like_any_other():
    asked = [Comparison("sentiment", f"{i}.", OPTIONS) for i in range(400)]
    lazy = readers.LazyLabeler("lazy", lambda text: 0.0, 1.0, first=readers.shortest_first)
    chosen = lazy.label(asked)
    assert all(x.simulated for x in chosen)
    share = statistics.mean(x.choice == 2 for x in chosen)
    assert share == pytest.approx(2.7183 / 5.7183, abs=0.08)  # e of e + 1 + 1 + 1


def test_gold_has_mean_0_and_deviation_1_where_it_was_taken():
    texts = [JOY, "It rained.", "A sad, sad day.", "A splendid goat."]
    gold = readers.Gold.of(texts)
    found = gold(texts)
    assert found.mean().item() == pytest.approx(0, abs=1e-6)
    assert found.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert found.argmax() in (0, 3) and found.shape == (4,)


def test_a_look_at_the_base_model_itself():
    """No KL, and against its own answers it wins one half; the judged prompts count for wins
    alone."""
    tokenizer = models.load_tokenizer()
    policy = models.tiny_policy(vocabulary=len(tokenizer), context=256)
    policy.tokenizer = tokenizer
    task, base = tasks.SENTIMENT, policy.frozen_copy()
    queries = tasks.queries(task, tokenizer, 12, split="test", seed=0)
    gold, judge = readers.Gold(0.0, 1.0), readers.reader("judge")

    def looked(judged, proxy, rivals=None):
        rivals = rivals or ["x"] * judged
        return readers.look(policy, base, queries, task, proxy, gold, rivals, judge=judge, shown=12)

    rows = iter([100.0] * 4 + [1.0] * 8)
    each = [next(rows) for _ in range(12)]
    found = looked(4, lambda rollout: torch.tensor(each))
    assert found["proxy"] == 1.0 and abs(found["kl_nats"]) < 1e-4
    assert found["surprise_nats"] == pytest.approx(found["entropy_nats"], abs=1e-3)
    texts = found["texts"]
    assert found["gold"] == pytest.approx(
        statistics.mean(map(readers.contentment, texts[4:])), abs=1e-5
    )
    assert found["words"] == statistics.mean(len(labelers.words(t)) for t in texts)
    by_text = reward.from_texts(lambda prompts, answers: [1.0] * len(answers), task, tokenizer)
    again = looked(4, by_text, texts[:4])
    assert again["wins"] == 0.5 and again["texts"] == texts  # equal answers are ties
