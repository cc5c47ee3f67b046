"""The mirror: what a card shows of the model after each click, against fits and softmax by hand."""

import threading

import pytest
import torch
from test_clicks import asked

from rlhf_helpers import clicks
from rlhf_helpers.course.mirror import Mirror
from rlhf_helpers.evaluation import wilson
from rlhf_helpers.features import Features
from rlhf_helpers.labels import cards, past
from rlhf_helpers.labels.sessions import Session
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison


@pytest.fixture
def pool():
    return asked(40)


@pytest.fixture
def store(tmp_path, pool):
    made = LabelStore(tmp_path / "labels.db")
    made.add(pool)
    return made


@pytest.fixture
def features(policy, task, pool):
    return Features(policy, task, pool)


@pytest.fixture
def make(policy, task, pool, features, store):
    """Make a mirror and a session that asks it after each answer; `shown` has what it said."""

    def made(**more):
        mirror = Mirror(policy, task, pool, features=features, wait=True, **{"prompts": [], **more})
        session = Session(store, "toy", "ann", repeat_every=0)
        shown = []

        def answer(kind="choose", slot=None):
            if kind == "choose" and slot is None:  # the one with most c
                slot = max(range(4), key=lambda i: shown_text(session, i).count("c"))
            session.answer(kind, slot)
            mirror(session, shown.append)
            return shown[-1]

        return mirror, session, answer

    return made


def shown_text(session, slot):
    return session.current.options[session.order[slot]]


def test_the_probabilities_are_the_softmax_of_the_taste_before_the_click(make, features):
    _, session, answer = make()
    for _ in range(6):
        answer()
    rows, item, order = session.answers(), session.current, session.order
    given = answer(slot=2)["parts"]["expected"]
    without = clicks.learn(features, {c.id: c for c in [*asked(40)]}, rows)
    p = (features([item])[0] @ without.tensors["weights"]).softmax(-1)[list(order)]
    assert [o["p"] for o in given["options"]] == pytest.approx(p.tolist(), abs=1e-4)
    assert [o["text"] for o in given["options"]] == [item.options[i] for i in order]
    assert [o["chosen"] for o in given["options"]] == [False, False, True, False]
    best = int(p.argmax())
    assert [o["guessed"] for o in given["options"]] == [i == best for i in range(4)]
    if best == 2:
        assert given["line"] == f"It guessed option 3 ({p[2]:.0%}): right."
    else:
        assert given["line"] == (
            f"It guessed option {best + 1} ({p[best]:.0%}); you chose option 3 ({p[2]:.0%})."
        )


def test_the_first_click_counts_as_chance_and_nobody_says_it_was_guessed(make):
    _, _, answer = make()
    parts = answer(slot=0)["parts"]
    assert [o["p"] for o in parts["expected"]["options"]] == [0.25] * 4
    assert not any(o["guessed"] for o in parts["expected"]["options"])
    assert "nothing to go by" in parts["expected"]["line"]
    assert parts["accuracy"]["rates"] == [0.25] and parts["accuracy"]["chance"] == 0.25


def test_the_chart_is_the_running_share_with_wilsons_interval(make):
    mirror, _, answer = make()
    for _ in range(9):
        given = answer()
    answer("tie")  # learned from, not counted
    given = answer("skip")
    hits = [g.hit for g in mirror.taste.guesses]
    assert len(hits) == 9 and len(mirror.taste.clicks.rows) == 10
    chart = given["parts"]["accuracy"]
    assert chart["rates"] == pytest.approx([sum(hits[: n + 1]) / (n + 1) for n in range(9)])
    last = wilson(sum(hits), 9)
    assert (chart["lows"][-1], chart["highs"][-1], chart["count"]) == (last.low, last.high, 9)
    assert f"{last.rate:.0%} of 9" in chart["line"] and "25%" in chart["line"]


def test_an_undo_is_forgotten_as_if_the_click_had_never_been(make, features, pool):
    mirror, session, answer = make()
    for _ in range(11):  # the tenth chooses a prior
        answer()
    rows = session.answers()
    for left in (10, 9):
        given = answer("undo")
        fresh = clicks.learn(features, {c.id: c for c in pool}, rows[:left])
        assert given["parts"]["expected"]["options"] == [] and len(mirror.taste.guesses) == left
        assert torch.allclose(mirror.taste.tensors["weights"], fresh.tensors["weights"], atol=1e-4)
        assert mirror.taste.prior == fresh.prior


def test_a_new_kernel_learns_the_same_from_the_store(make):
    mirror, session, answer = make()
    for n in range(12):
        answer("tie" if n in (3, 7) else "choose")
    again, _, _ = make()
    shown = []
    again(Session(session.store, "toy", "ann", repeat_every=0), shown.append)
    assert torch.allclose(
        again.taste.tensors["weights"], mirror.taste.tensors["weights"], atol=1e-4
    )
    hits = [[g.hit for g in m.taste.guesses] for m in (mirror, again)]
    assert hits[0] == hits[1] and len(hits[0]) == 10
    assert shown[0]["parts"]["expected"]["options"] == [] and shown[0]["state"] == "ready"


def test_answers_of_another_window_and_changed_ones_are_learned(make, features, pool):
    mirror, session, answer = make()
    for _ in range(4):
        answer()
    Session(session.store, "toy", "ann", repeat_every=0, cell="other").answer("choose", 1)
    row = past.listed(session)[-1]
    past.change(session, row["answer"], "choose", (row["slot"] + 1) % 4)
    mirror(session, lambda _: None)
    assert len(mirror.taste.clicks.rows) == 5
    fresh = clicks.learn(features, {c.id: c for c in pool}, session.answers())
    assert torch.allclose(mirror.taste.tensors["weights"], fresh.tensors["weights"], atol=1e-4)


def test_second_answers_and_gold_are_not_learned_from(policy, task, pool, features, store):
    session = Session(store, "toy", "ann", repeat_every=2, gold={pool[0].id: 1})
    mirror, shown = Mirror(policy, task, pool, features=features, prompts=[], wait=True), []
    session.answer("choose", 0)
    mirror(session, shown.append)
    assert shown[0]["said"].startswith("Nothing to learn from yet")
    while not session.repeat:
        session.answer("choose", 0)
        mirror(session, shown.append)
    count = len(mirror.taste.clicks.rows)
    session.answer("choose", 1)
    mirror(session, shown.append)
    assert len(mirror.taste.clicks.rows) == count
    assert shown[-1]["parts"]["expected"]["options"] == []
    assert "learns nothing" in shown[-1]["said"]


def test_it_writes_the_best_of_its_samples_by_the_taste(make, task):
    prompts = asked(4, options=6, seed=9)
    mirror, _, answer = make(prompts=prompts)
    for _ in range(5):
        given = answer()
    two = prompts[2:]  # after five clicks it is the next two prompts' turn
    best = [c.options[int(mirror.taste.rewards([c])[0].argmax())] for c in two]
    assert [x["text"] for x in given["parts"]["writes"]["texts"]] == best
    assert "best of 6" in given["parts"]["writes"]["line"]


def test_nothing_is_read_before_it_is_switched_on_and_labelling_goes_on_meanwhile(
    policy, task, pool, store, monkeypatch
):
    """A card by hand: the reading waits at a gate, clicks are saved, then all is shown."""
    gate, begun = threading.Event(), threading.Event()
    mirror = Mirror(policy, task, pool, prompts=[])
    prepare = mirror.prepare

    def slow(**more):
        begun.set()
        assert gate.wait(30)
        prepare(**more)

    monkeypatch.setattr(mirror, "prepare", slow)
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    card = cards.label(store, task, "ann", mirror=mirror, repeat_every=0)
    assert card.describe()["mirror"] is False and card.answer("choose", 0)
    assert not begun.is_set() and card.reflection == {}
    card.look()
    assert begun.wait(30) and card.describe()["mirror"] is True
    assert card.reflection["state"] == "preparing"
    assert card.answer("choose", 1) and card.answer("choose", 2)
    gate.set()
    mirror.thread.join(60)
    assert card.reflection["state"] == "ready" and len(mirror.taste.clicks.rows) == 3
    assert [e.note for e in store.events()] == ["", "mirror", "mirror"]
    card.look(False)
    card.answer("choose", 0)
    assert len(mirror.taste.clicks.rows) == 3 and store.events()[-1].note == ""


@pytest.fixture
def choosing(policy, task, pool, features, store, monkeypatch):
    """Make a card that asks what its mirror chooses, in a new kernel each time it is called."""
    monkeypatch.setenv("RLHF_HEADLESS", "1")

    def made(**more):
        mirror = Mirror(policy, task, pool, features=features, prompts=[], wait=True)
        more = {"repeat_every": 0, "choose_next": "thompson", **more}
        return mirror, cards.label(pool, labeler="ann", store=store, mirror=mirror, **more)

    return made


def answer_c(card, count):
    """Choose the option with most c, so often; return the items that were shown."""
    seen = []
    for _ in range(count):
        s = card.session
        seen.append(s.current)
        assert card.answer("choose", max(range(4), key=lambda i: shown_text(s, i).count("c")))
    return seen


def test_the_card_asks_what_the_last_fit_chooses(choosing, features, pool, store):
    """By a fit from scratch to all answers but the latest, which is learned after the question."""
    mirror, card = choosing()
    known, seen, hows = {c.id: c for c in pool}, [], []
    for count in range(16):
        seen += answer_c(card, 1)
        hows.append(card.session.way)
        rows = card.session.answers()[:count]
        taste = clicks.learn(features, known, rows) if rows else None
        expected = clicks.next(taste, pool, {c.id for c in seen})
        assert (card.session.current, card.session.way) == expected
        assert len(mirror.taste.clicks.rows) == count + 1
    assert len({c.id for c in seen}) == 16
    assert hows[0] == "random" and 1 <= hows[1:].count("random") <= 8  # of 15, a quarter on average
    assert card.reflection == {} and not card.session.mirrored()  # learned, and not shown
    notes = [e.note for e in store.events()]
    assert set(notes) == {"random", "thompson"} and notes[0] == "random"


def test_nobody_waits_for_a_question_while_the_taste_is_fitted(choosing):
    mirror, card = choosing()
    answer_c(card, 6)
    before = mirror.taste
    with mirror.lock:  # as if another thread were at it
        seen = [card.session.current]
        while len(seen) < 6:
            assert card.session.answer("choose", 0)
            seen.append(card.session.current)
    assert mirror.taste is before and len({c.id for c in seen}) == 6


def test_all_is_asked_once_by_one_kernel_after_another(choosing, store, pool):
    seen = []
    for _ in range(4):
        mirror, card = choosing()
        assert mirror.taste is None and card.session.way == "random"  # nothing is read before
        seen += answer_c(card, 10)
        assert len(mirror.taste.clicks.rows) == len(seen)
    assert card.session.current is None
    assert sorted(c.id for c in seen) == sorted(c.id for c in pool)
    # what was chosen to be asked, taken back by yet another kernel, is still that
    _, card = choosing(choose_next="random")
    notes = [e.note for e in store.events()]
    assert card.answer("undo") and card.session.current == seen[-1]
    assert card.answer("tie") and [e.note for e in store.events()][-1] == notes[-1]


def test_the_share_guessed_is_of_what_was_asked_at_random(choosing):
    mirror, card = choosing()
    card.look()
    answer_c(card, 20)
    picked = card.session.picked()
    hits = [g.hit for g in mirror.taste.guesses if g.comparison_id not in picked]
    assert 2 <= len(hits) <= 12 and len(mirror.taste.guesses) == 20
    chart = card.reflection["parts"]["accuracy"]
    assert chart["count"] == len(hits)
    assert chart["rates"][-1] == pytest.approx(sum(hits) / len(hits))
    assert f"of {len(hits)} asked at random so far" in chart["line"]


def test_only_a_mirror_can_choose_and_only_in_known_ways(store, task, pool):
    with pytest.raises(ValueError, match="needs a mirror"):
        cards.label(pool, store=store, labeler="ann", choose_next="thompson")
    with pytest.raises(ValueError, match="'entropy': choose 'random' or"):
        cards.label(pool, store=store, labeler="ann", choose_next="entropy")


def test_a_mirror_that_fails_says_so_and_answers_are_saved(store, task, monkeypatch):
    monkeypatch.setenv("RLHF_HEADLESS", "1")

    def broken(session, show):
        raise RuntimeError("out of <memory>\u202e")

    card = cards.label(store, task, "ann", mirror=broken)
    card.look()
    assert card.answer("choose", 0) and len(store.labels()) == 1
    assert card.reflection["said"] == "The mirror failed: out of <memory>[U+202E]"


def test_a_question_of_ones_own_has_its_own_name_labels_and_words(policy, task, tmp_path):
    """The comparisons name the task; lengths and rules are those of the task given."""
    mine = [Comparison("ghosts", c.query, c.options) for c in asked(6)]
    store = LabelStore(tmp_path / "labels.db")
    mirror = Mirror(policy, task, mine, prompts=asked(2, seed=3), wait=True)
    card = cards.label(
        mine, store=store, labeler="ann", question="Most like a ghost story?", rubric="Cold spots.",
        mirror=mirror,
    )  # fmt: skip
    card.look()
    card.answer("choose", 0)
    assert mirror.taste.features.task.name == "ghosts" and store.labels()[0].task == "ghosts"
    again = cards.label(store, "ghosts", "ann")
    assert (again.question, again.rubric) == ("Most like a ghost story?", "Cold spots.")
    assert cards.asked(store, "ghosts") == ("Most like a ghost story?", "Cold spots.")
    assert cards.asked(store, "elsewhere") == ("", "")
    with pytest.raises(ValueError, match="one task"):
        Mirror(policy, task, [*mine, *asked(2)])
