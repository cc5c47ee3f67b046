"""Whose taste the notebooks learn: the learner's own answers, or a simulated learner's, said so."""

import pytest
import torch
from safetensors.torch import save_file

from rlhf_helpers import labelers, models, tasks
from rlhf_helpers.course import learner, profile
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison

TASK = tasks.SENTIMENT
TALK, SHORT, LONG = ' "Come in!" said Ada.', " It rained.", " It rained all day, and nobody came."


def asked(count=8):
    """Comparisons in which one option talks, and one in which all options look alike."""
    clear = [
        Comparison(TASK.name, f"q{i}", (LONG, SHORT, TALK, f" The tide came in {i} times again."))
        for i in range(count - 1)
    ]
    return [*clear, Comparison(TASK.name, "dull", (" Rain.", " Fog.", " Wind.", " The sea."))]


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path))
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    return tmp_path


def answer_all(comparisons, name="me"):
    """Somebody answers on the card: the first option, and "cannot tell" to the dull one."""
    store = LabelStore(profile.folder() / "labels.db")
    store.add(comparisons)
    session = Session(store, TASK.name, name, comparisons, repeat_every=4)
    while session.current is not None:
        dull = session.current.query == "dull"
        slot = None if dull else session.order.index(0)
        session.answer("tie" if dull else "choose", slot, seconds=1.0)


def test_the_hidden_taste_is_speech_and_few_words_and_not_the_lexicons():
    assert learner.utility(TALK) > learner.utility(SHORT) > learner.utility(LONG)
    assert learner.utility(SHORT) == -0.5  # two words
    happy, sad = " She laughed for joy and was glad.", " She wept for grief and was sore."
    assert labelers.sentiment(happy) > labelers.sentiment(sad)
    assert learner.utility(happy) == learner.utility(sad)


def test_without_clicks_a_simulated_learner_answers_in_a_file_of_its_own(runs):
    given = learner.answers(asked(), TASK, at_least=4)
    assert given.simulated and given.total == 8 and len(given.labels) == 7
    dull = [c.id for c in given.comparisons if c.query == "dull"]
    assert given.cannot_tell == dull and "SIMULATED" in str(given)
    assert all(x.simulated and x.labeler == learner.NAME for x in given.labels)
    assert (runs / learner.STAND_IN).exists() and not (runs / "labels.db").exists()
    assert learner.answers(asked(), TASK, at_least=4) == given  # it is asked once, and kept


def test_your_own_answers_are_read_as_soon_as_there_are_enough(runs):
    answer_all(asked(4))
    few = learner.answers(asked(), TASK, at_least=5)
    mine = learner.answers(asked(), TASK, at_least=4)
    assert few.simulated and not mine.simulated
    assert [x.choice for x in mine.labels] == [0, 0, 0] and len(mine.cannot_tell) == 1
    assert learner.of_whom(True) == "the taste of a SIMULATED learner"
    assert learner.of_whom(False) == "your taste"  # notebook 07 said "the taste of you"
    assert "by you" in str(mine) and not any(x.simulated for x in mine.labels)


def test_answers_keep_their_order_and_say_what_was_given_with_the_mirror_on(runs):
    """Ties came after all choices, so that predictions were made without them."""
    store = LabelStore(runs / "labels.db")
    store.add(asked(6))
    session = Session(store, TASK.name, "me", asked(6))
    kinds = []
    while session.current is not None:
        kind = "tie" if len(kinds) == 1 else "choose"
        session.mirror = len(kinds) == 2
        kinds.append((session.current.id, kind))
        session.answer(kind, 0 if kind == "choose" else None, seconds=1.0)
    store.close()
    mine = learner.answers(asked(6), TASK, at_least=2)
    assert [(i, "tie" if k is None else "choose") for i, k in mine.given] == kinds
    assert mine.mirrored == {kinds[2][0]} and mine.picked == set()


def test_what_a_model_picked_is_told_from_what_chance_did(runs):
    store = LabelStore(runs / "labels.db")
    store.add(asked(6))
    how = {asked(6)[0].id: "random", asked(6)[2].id: "thompson", asked(6)[3].id: "thompson"}
    session = Session(store, TASK.name, "me", asked(6), how=how, repeat_every=0)
    session.mirror = True
    for _ in range(4):
        session.answer("choose", 0, seconds=1.0)
    store.close()
    mine = learner.answers(asked(6), TASK, at_least=2)
    answered = {i for i, _ in mine.given}
    assert mine.picked == {i for i in answered if how.get(i) == "thompson"} != set()


def test_reading_answers_takes_no_item_from_a_card_in_another_window(runs):
    store = LabelStore(runs / "labels.db")
    store.add(asked(6))
    session = Session(store, TASK.name, "me", asked(6), repeat_every=0)
    for _ in range(4):
        session.answer("choose", 0, seconds=1.0)
    learner.answers(asked(6), TASK, at_least=2)
    other = Session(store, TASK.name, "me", asked(6), cell="other", repeat_every=0)
    assert other.current is not None  # one is open beside the one shown in the first window


def test_second_answers_measure_agreement_and_are_no_labels(runs):
    answer_all(asked(12))
    mine = learner.answers(asked(12), TASK, at_least=4)
    same, twice = mine.agreement()
    assert same == twice == len(mine.again) > 0  # always option 0
    assert len({x.comparison_id for x in mine.labels}) == len(mine.labels) == 11


def test_answers_by_somebody_else_are_not_taken_for_yours(runs):
    answer_all(asked(), name="ann")
    assert learner.answers(asked(), TASK, at_least=1).simulated


def test_pairs_are_judged_by_the_same_taste_with_other_noise():
    pairs = [Comparison(TASK.name, f"q{i}", (LONG, TALK)) for i in range(200)]
    pairs.append(Comparison(TASK.name, "q", (SHORT, " It poured.")))
    labels, undecided = learner.verdicts(pairs)
    assert undecided == [pairs[-1].id] and len(labels) == 200
    talk = sum(x.choice for x in labels)
    expected = learner.simulated().probabilities((LONG, TALK))[1]
    assert 0.9 < expected < 1 and abs(talk / 200 - expected) < 0.05


def test_the_question_is_kept_and_another_one_does_not_fit_old_labels(runs, capsys):
    assert learner.question(task=TASK) == "Which continuation is most positive and happy?"
    assert learner.question("  Which is\neerie? ", task=TASK) == "Which is eerie?"
    assert learner.question(task=TASK) == "Which is eerie?" and capsys.readouterr().out == ""
    answer_all(asked())
    assert learner.question("Which is funny?", task=TASK) == "Which is funny?"
    assert "answer another question: Which is eerie?" in capsys.readouterr().out
    learner.question("Which is funny?", task=TASK)
    assert capsys.readouterr().out == ""


def test_there_is_no_taste_before_notebook_03_and_none_of_another_model(runs, capsys):
    policy = models.tiny_policy()
    assert learner.taste(policy) == (None, False)
    save_file({"taste_weights": torch.ones(1)}, runs / learner.TASTE, {"model": "another"})
    profile.record(learner.TASTE, "fitted in notebook 03", simulated=True)
    assert learner.taste(policy) == (None, False)
    said = capsys.readouterr().out
    assert "fitted on another" in said and "notebook 03" in said
