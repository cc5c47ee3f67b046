"""Cards without a browser: every answer goes the way of a click, and the store is read from
outside."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_helpers import evaluation
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison
from rlhf_helpers.tasks import SENTIMENT


def questions(count: int, options: int = 4, task: str = "sentiment") -> list[Comparison]:
    return [
        Comparison(task, f"query {i}", tuple(f"option {i}.{k}" for k in range(options)))
        for i in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    made = LabelStore(tmp_path / "labels.db")
    made.add(questions(12))
    return made


@pytest.fixture(params=["live", "headless"])
def card(request: pytest.FixtureRequest, store: LabelStore, monkeypatch: pytest.MonkeyPatch):
    if request.param == "live":
        pytest.importorskip("anywidget")
        monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    else:
        monkeypatch.setenv("RLHF_HEADLESS", "1")
    return cards.label(store, "sentiment", "ann")


def test_a_card_answers_without_a_browser(card, store: LabelStore) -> None:
    assert (
        card.answer("choose", 0)
        and card.answer("tie")
        and card.answer("skip")
        and card.answer("undo")
    )
    assert [(x.labeler, x.simulated) for x in card.labels()] == [("ann", False)]
    assert (
        repr(card).startswith("ann on sentiment: 2 of 12 labelled") or "2 of 12" in card.picture()
    )
    with sqlite3.connect(f"file:{store.name}?mode=ro", uri=True) as db:
        assert [row[0] for row in db.execute("select kind from events order by id")] == [
            "choose",
            "tie",
            "skip",
            "undo",
        ]


def test_the_question_and_the_rubric_are_kept_with_the_labels(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    cards.label(store, labeler="ann", question="Which is kindest?", rubric="Read all four.").answer(
        "choose", 0
    )
    assert [(x.labeler, x.question, x.rubric) for x in store.sittings()] == [
        ("ann", "Which is kindest?", "Read all four.")
    ]


def test_the_live_card_speaks_with_the_browser(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anywidget")
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    card = cards.label(store, SENTIMENT, "ann")
    view = card.view
    assert (
        view["options"] == [questions(1)[0].options[i] for i in card.session.order]
        and view["total"] == 13  # twelve, of which one comes back
    )
    card._handle_custom_msg(
        {"kind": "choose", "slot": 1, "token": view["token"], "number": 1, "ms": 900}, []
    )
    assert (
        card.view["heard"] == 1
        and card.view["done"] == 1
        and card.view["message"] == "Saved: option 2 (1 of 13)."
    )
    card._handle_custom_msg(
        {"kind": "choose", "slot": 1, "token": view["token"], "number": 2, "ms": 900}, []
    )
    assert card.view["heard"] == 2 and card.view["done"] == 1  # heard, and rightly ignored
    card._handle_custom_msg("nonsense", [])
    data, _ = card._repr_mimebundle_()
    assert (
        "application/vnd.jupyter.widget-view+json" in data
        and "<ol>" in data["text/html"]
        and "1 of 12" in data["text/plain"]
    )


def test_headless_never_needs_the_widget_packages(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["anywidget"] = sys.modules["ipywidgets"] = None  # as if they were not installed
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.records import Comparison
card = cards.label([Comparison("sentiment", "q", ("a", "b"))], labeler="ann", store=sys.argv[1])
print(type(card).__name__, card.answer("choose", 1), len(card.labels()))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "l.db")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "RLHF_HEADLESS": "1"}
    )
    assert done.stdout.split() == ["StillCard", "True", "1"], done.stderr


def test_which_task_is_meant(
    tmp_path: Path, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "runs"))
    assert cards.label(store, labeler="ann").session.task == "sentiment"
    assert cards.label(questions(2), labeler="ann").session.store.name == str(
        tmp_path / "runs" / "labels.db"
    )
    store.add(questions(2, task="tldr"))
    for wrong in (lambda: cards.label(store), lambda: cards.label([])):
        with pytest.raises(ValueError, match="say which task"):
            wrong()
    with pytest.raises(ValueError, match="belong to sentiment, not to tldr"):
        cards.label(questions(2), "tldr", store=store)


def test_everybody_has_a_name_of_their_own_that_stays(
    tmp_path: Path, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All were called "me", so that the files of a class could not be merged."""
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "nobody"))
    assert cards.me() == "me" and not (tmp_path / "nobody").exists()
    monkeypatch.delenv("RLHF_HEADLESS")
    names = []
    for student in "ab":
        monkeypatch.setenv("RLHF_RUNS", str(tmp_path / student))
        names += [cards.me(), cards.me(" ")]
    assert names[0] == names[1] != names[2] == names[3] and "me" not in names
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    assert cards.me(" heron ") == cards.me() == "heron"
    assert (
        cards.label(store).session.labeler
        == cards.judge(questions(1, options=2), store=store).session.labeler
        == "heron"
    )


def test_judging_is_blind_and_apart_from_the_labels(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    pairs, first_is_zero = questions(6, options=2), [True, True, True, False, False, False]
    card = cards.judge(
        pairs, "ann", store=store, first_is_zero=first_is_zero, names=("tuned", "base")
    )
    shown = []
    while card.session.current is not None:
        shown_now = card.describe()
        assert "tuned" not in str(shown_now) and "base" not in str(shown_now)
        shown.append(card.session.order)
        # option 0 each time: `first` in three pairs
        card.answer("choose", card.session.order.index(0))
    left = [(order[0] == 0) == zero for order, zero in zip(shown, first_is_zero, strict=True)]
    # the tuned model's text stands left as often as right
    assert sum(left) == 3 and len(set(shown)) == 2
    assert [x.comparison_id for x in card.labels()] == [p.id for p in pairs]  # as they were passed
    assert evaluation.judge(pairs, first_is_zero, card.labels()).rate == 0.5
    assert card.summary() == [
        "Choices: 6. Cannot tell: 0. Skipped: 0.",
        "Preferred: tuned 3, base 3.",
    ]
    assert store.labels("sentiment") == [] and len(store.comparisons("sentiment")) == 12
    with pytest.raises(ValueError, match="exactly two"):
        cards.judge(questions(2), "ann", store=store)


def test_what_a_judge_could_not_tell_counts_half(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was dropped: who preferred the tuned model in three pairs of twenty, and saw no difference
    in the others, gave it 100 %."""
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    pairs = questions(21, options=2)
    card = cards.judge(
        pairs, "ann", store=store, first_is_zero=[True] * 21, names=("tuned", "base")
    )
    for turn in range(21):
        if turn < 3:
            card.answer("choose", card.session.order.index(0))
        else:
            card.answer("tie" if turn < 20 else "skip")
    assert card.ties() == [p.id for p in pairs[3:20]]
    found = evaluation.judge(pairs, [True] * 21, card.labels(), card.ties())
    assert (found.successes, found.total, found.ties) == (3 + 17 / 2, 20, 17) and str(
        found
    ).endswith("n = 20, 17 ties)")


def test_a_finished_judging_card_tells_its_result_when_its_cell_runs_again(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live card was drawn before it knew who wrote what, and drawn again only after an
    answer."""
    pytest.importorskip("anywidget")
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    pairs = questions(2, options=2)
    for _ in range(2):
        card = cards.judge(
            pairs, "ann", store=store, first_is_zero=[True, True], names=("tuned", "base")
        )
        while card.session.current is not None:
            card.answer("choose", card.session.order.index(0))
        assert card.view["summary"][-1] == "Preferred: tuned 2, base 0."


JUDGING = """
import os, signal, sys
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.records import Comparison
texts = [(f"option {i}.0", f"option {i}.1") for i in range(6)]
pairs = [Comparison("sentiment", f"query {i}", options) for i, options in enumerate(texts)]
sides = {"first_is_zero": 3 * [True] + 3 * [False], "names": ("tuned", "base")}
card = cards.judge(pairs, "ann", store=sys.argv[1], **sides)
done, chosen = card.session.progress.done, (x.choice for x in card.labels())
print(done, *chosen, "asks", card.session.current.query, flush=True)
for _ in range(2):
    card.answer("choose", card.session.order.index(0))
print(card.session.current.query, flush=True)
os.kill(os.getpid(), signal.SIGKILL)  # the kernel dies with a pair on the screen
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_judging_goes_on_after_the_kernel_was_killed_and_the_store_uncovers_the_winners(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", JUDGING, str(tmp_path / "l.db")]
    said = [
        subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "RLHF_HEADLESS": "1"}
        ).stdout
        for _ in range(2)
    ]
    assert said == ["0 asks query 0\nquery 2\n", "2 0 0 asks query 2\nquery 4\n"]
    found = LabelStore(tmp_path / "l.db").judgements("sentiment-judging")
    assert [(j.labeler, j.choice, j.simulated) for j in found] == [("ann", 0, False)] * 4
    assert [j.winner for j in found] == ["tuned", "tuned", "tuned", "base"]
    with sqlite3.connect(f"file:{tmp_path / 'l.db'}?mode=ro", uri=True) as db:
        kept = db.execute(
            "select system_0, count(*) from judgements group by system_0 order by system_0"
        ).fetchall()
        assert kept == [("base", 3), ("tuned", 3)]


def test_judging_under_other_names_or_with_too_few_sides_is_refused_in_words(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    pairs = [*questions(2, options=2), Comparison("sentiment", "query", ("the same", "the same"))]
    cards.judge(
        pairs, "ann", store=store, first_is_zero=[True, False, True], names=("tuned", "base")
    )
    # equal texts have no sides
    cards.judge(
        pairs, "ann", store=store, first_is_zero=[True, False, False], names=("tuned", "base")
    )
    with pytest.raises(
        ValueError,
        match="by tuned and base here but by ppo and base there.*Name the models as before",
    ):
        cards.judge(
            pairs, "ann", store=store, first_is_zero=[True, False, True], names=("ppo", "base")
        )
    with pytest.raises(ValueError, match="of 2 pairs who wrote option 0, but there are 3"):
        cards.judge(pairs, "ann", store=store, first_is_zero=[True, False])


def test_hidden_characters_are_shown() -> None:
    assert frontend.visible("a\u202eb\x00c\u200bd\ud800") == "a[U+202E]b[U+0000]c[U+200B]d[U+D800]"
    assert frontend.visible("tab\tline\nend\r\n\r") == "tab\tline\nend\n[U+000D]"
    assert frontend.visible("naïve 東京 שלום مرحبا 🙂") == "naïve 東京 שלום مرحبا 🙂"


def test_the_picture_obeys_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    asked = Comparison("t\u202e", evil, (evil, "</li><b>"))
    card = cards.label([asked], labeler="ann", store=tmp_path / "l.db", question="<i>?</i>\u202e")
    page = card._repr_html_()
    assert (
        "<script" not in page
        and "<img" not in page
        and "<b>" not in page
        and "<i>" not in page
        and "\u202e" not in page
    )
    assert "&lt;script&gt;" in page and "[U+202E]" in page and "\u202e" not in str(card.describe())


def test_a_bad_text_is_flagged_through_the_card(card, store: LabelStore) -> None:
    order = card.session.order
    assert (
        card.answer("flag", 1, note="broken off")
        and card.describe()["state"] == "item"
        and card.describe()["done"] == 0
    )
    assert "Flagged" in card.describe()["message"] and (
        store.events()[0].choice,
        store.events()[0].note,
    ) == (order[1], "broken off")
    while card.session.current is not None:
        card.answer("choose", 0)
    assert "Remarks on bad texts: 1." in card.summary()


def test_the_summary_tells_attention_and_the_labels_leave_gold_out(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    asked = questions(4)
    card = cards.label(
        asked, labeler="ann", store=store, gold={asked[1].id: 2, asked[3].id: 2}, repeat_every=0
    )
    assert "gold" not in str(card.describe()) and not card.session.attention()[1]
    while card.session.current is not None:
        card.answer(
            "choose", card.session.order.index(2 if card.session.current == asked[1] else 0)
        )
    assert card.summary()[:2] == [
        "Choices: 2. Cannot tell: 0. Skipped: 0.",
        "Questions with a known answer: 2. Answered that way: 1.",
    ]
    assert [x.comparison_id for x in card.labels()] == [asked[0].id, asked[2].id]


def test_labelling_by_typing(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    card = cards.label(
        questions(3), labeler="ann", store=store, repeat_every=0, rubric="Look twice."
    )
    typed = iter(["2", "t", "u", "9", "hm", "?", "f too short", "s", "4", "never read"])
    order = card.session.order
    card.answer_by_typing(lambda _: next(typed))
    assert [e.kind for e in store.events()] == [
        "choose",
        "tie",
        "undo",
        "flag",
        "skip",
        "choose",
    ] and next(typed) == "never read"
    assert store.labels()[0].choice == order[1] and store.events()[3].note == "too short"
    said = capsys.readouterr().out
    for words in (
        "Saved: option 2 (1 of 3).",
        "Saved: cannot tell (2 of 3).",
        "Taken back.",
        "none of 1 to 4",
        "Look twice.",
        "Flagged",
        "Choices: 2.",
    ):
        assert words in said, words
    card = cards.label(store, labeler="ann", repeat_every=0)
    # the last two: no keyboard, as in a headless kernel
    for end in (EOFError, KeyboardInterrupt, NotImplementedError, OSError):

        def gone(_: str, end: type[BaseException] = end) -> str:
            raise end

        card.answer_by_typing(gone)
        assert "what you answered is saved" in capsys.readouterr().out


def test_a_failed_save_is_told_to_who_types(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    card = cards.label(store, labeler="ann")

    def full(*_: object, **__: object) -> None:
        raise OSError("database or disk is full")

    monkeypatch.setattr(store, "record", full)
    typed = iter(["1", "q"])
    card.answer_by_typing(lambda _: next(typed))
    assert "Not saved: database or disk is full" in capsys.readouterr().out and store.events() == []


def test_no_text_moves_a_terminals_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    evil = "\x1b[2Jgone\x07\u202e"
    typed = iter("?q")
    card = cards.label(
        [Comparison("sentiment", evil, (evil, "b"))],
        labeler="ann",
        store=tmp_path / "l.db",
        question=evil,
        rubric=evil,
    )
    card.answer_by_typing(lambda _: next(typed))
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said and "\u202e" not in said
    # the question, prompt and option twice, the rubric
    assert said.count("[U+001B][2Jgone[U+0007][U+202E]") == 1 + 2 * 2 + 1


TERMINAL = """
import sys
sys.modules["anywidget"] = None
from rlhf_helpers.labels import cards, frontend
from rlhf_helpers.records import Comparison
items = [Comparison("sentiment", f"q{i}", ("a", "b")) for i in range(3)]
card = cards.label(items, labeler="ann", store=sys.argv[1])
print("LABELS", len(card.labels()))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
@pytest.mark.parametrize("headless", ["", "1"])
def test_a_terminal_asks_in_plain_text_unless_it_is_headless(tmp_path: Path, headless: str) -> None:
    import pty

    keyboard, screen = pty.openpty()
    os.write(keyboard, b"1\nt\nq\n")
    env = {**os.environ, "RLHF_HEADLESS": headless}
    command = [sys.executable, "-c", TERMINAL, str(tmp_path / "l.db")]
    done = subprocess.run(
        command, stdin=screen, capture_output=True, text=True, env=env, timeout=120
    )
    os.close(screen)
    os.close(keyboard)
    assert ("LABELS 0" if headless else "LABELS 1") in done.stdout, done.stderr
    assert ("Type a number" in done.stdout) is not bool(headless)


def test_where_nobody_is_there_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    monkeypatch.setattr(frontend, "find_spec", lambda _: None)
    monkeypatch.setattr(frontend.sys, "stdin", open(os.devnull))
    assert frontend.way_to_ask() == "still"


# ---- comparisons whose options are equal ---------------------------------------------------------


def test_the_card_says_how_many_comparisons_were_left_out(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    alike = [Comparison("sentiment", f"alike {i}", ("same", " same ")) for i in range(3)]
    card = cards.label([*alike, *questions(2)], labeler="ann", store=store, repeat_every=0)
    said = "3 comparisons with equal options were left out."
    assert card.describe()["notes"][1:] == [said] and said in card.picture()
    assert card.describe()["total"] == 2
    card.answer("choose", 0)
    card.answer("choose", 0)
    assert card.summary() == ["Choices: 2. Cannot tell: 0. Skipped: 0.", said]
    one = cards.label([alike[0]], labeler="ann", store=store)
    assert one.summary()[-1] == "1 comparison with equal options was left out."


def test_equal_pairs_are_ties_without_being_asked(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    a, b, c = questions(3, options=2)
    alike = [Comparison("sentiment", f"alike {i}", ("same", " same")) for i in range(3)]
    pairs = [alike[0], a, alike[1], b, alike[2], c]
    first_is_zero = [True, True, False, True, True, True]
    card = cards.judge(
        pairs, "ann", store=store, first_is_zero=first_is_zero, names=("tuned", "base")
    )
    assert card.ties() == [] and card.describe()["total"] == 3
    results = []
    for wanted in (0, 0, 1):
        card.answer("choose", card.session.order.index(wanted))
        found = evaluation.judge(pairs, first_is_zero, card.labels(), card.ties())
        results.append((found.successes, found.total, found.ties))
    # equal pairs count up to the last answer, so that one who stops early is not pulled to a half
    assert results == [(1.5, 2, 1), (3.0, 4, 2), (3.5, 6, 3)]
    assert card.ties() == [x.id for x in alike] and card.session.current is None
    assert card.summary()[-1] == "3 comparisons with equal options were left out."


def test_sides_are_balanced_among_the_pairs_that_are_asked(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    pairs = []
    for pair in questions(10, options=2):
        pairs += [pair, Comparison("sentiment", f"alike {pair.query}", ("same", "same"))]
    card, left = cards.judge(pairs, "ann", store=store), 0
    while card.session.current is not None:
        left += card.session.order[0] == 0
        card.answer("choose", 0)
    assert left == 5


def test_a_tie_on_a_second_showing_is_in_the_summary(
    store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three repeats were answered with "cannot tell", and the summary counted one repeat."""
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    card = cards.label(store, SENTIMENT, "ann", repeat_every=4)
    while card.session.current is not None:
        undecided = card.session.repeat and card.session.progress.done > 4
        card.answer("tie") if undecided else card.answer("choose", card.session.order.index(1))
    assert card.summary()[:2] == [
        "Choices: 12. Cannot tell: 0. Skipped: 0.",
        "Shown a second time, in another order: 3. The same choice again: 1. Cannot tell the "
        "second time: 2.",
    ]
