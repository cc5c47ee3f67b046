"""The card that answers back, and past answers, in a real JupyterLab: on the bundled model, and
with a listener that says hostile things."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from harness import READY, Lab, Notebook

MODEL = """
from rlhf_helpers import labelers, models, tasks
from rlhf_helpers.course import mirror
policy = models.Policy.load().requires_grad_(False)
asked = labelers.recorded(tasks.SENTIMENT)[0][:24]
"""
ANSWERS = """
card = cards.label(asked, store="NAME.db", labeler="ann", repeat_every=0,
                   mirror=mirror.Mirror(policy, tasks.SENTIMENT, asked))
card
"""
PLAIN = """
asked = [Comparison("sentiment", f"Story {i} began.", tuple(f"{w} {i}." for w in
         ("Rain", "Sun", "Snow", "<b>Wind</b>"))) for i in range(9)]
def echo(session, show):
    evil = "<img src=x onerror=alert(1)>\\u202e"
    given = session.latest
    options = [] if given is None else [
        {"text": evil + given.comparison.options[i], "p": 0.25, "chosen": i == given.choice,
         "guessed": False} for i in given.order]
    show({"state": "ready", "said": f"{evil} {len(session.answers())}", "parts": {
        "expected": {"line": evil, "options": options},
        "accuracy": {"line": evil, "chance": 0.25, "count": 2, "rates": [0.2, 0.3],
                     "lows": [0.1, 0.1], "highs": [0.9, 0.8]},
        "beliefs": {"more": [{"what": evil, "effect": 0.5, "deviation": 0.1}], "less": [],
                    "line": ""},
        "writes": {"texts": [{"prompt": evil, "text": evil}], "line": evil}}})
cards.label(asked, store="NAME.db", labeler="ann", repeat_every=0, mirror=echo)
"""
MIRROR = ".lm-mirror"
READ = ".lm-card[data-mirror='ready'][data-ready]"


def places(nb: Notebook) -> list[float]:
    """Where the parts of the card stand, from its own top."""
    return nb.card.evaluate("""card => { const top = card.getBoundingClientRect().top;
        return [".lm-options", ".lm-tools", ".lm-status", ".lm-mirror"].map((name) =>
            Math.round(card.querySelector(name).getBoundingClientRect().top - top)); }""")


def toggle(nb: Notebook) -> Any:
    return nb.card.get_by_role("button", name="What it learns")


def heard(nb: Notebook) -> str:
    return nb.card.locator("[aria-live=polite]").last.inner_text()


def test_the_card_answers_back(lab: Lab, page: Any, axe: Callable[[Any], list[str]]) -> None:
    nb = Notebook(lab, page, "answers.ipynb", [MODEL, ANSWERS.replace("NAME", "answers")])
    assert toggle(nb).get_attribute("aria-pressed") == "false"
    assert nb.card.locator(MIRROR).count() == 0
    nb.press("2")
    nb.done(1)
    assert nb.card.locator(MIRROR).count() == 0  # off: nothing is said

    # on by key; it reads first, and labelling goes on meanwhile
    nb.press("m")
    nb.wait(".lm-card[data-mirror]")
    assert toggle(nb).get_attribute("aria-pressed") == "true"
    nb.press("1")
    nb.done(2)
    nb.wait(READ)
    nb.shoot("mirror_first")

    # after each click: the four options as they stood, what was expected of them, and a sentence
    for done in range(3, 9):
        texts = nb.card.locator(".lm-option .lm-text").all_inner_texts()
        before = places(nb)
        slot = max(range(4), key=lambda i: len(texts[i]))
        nb.press(str(slot + 1))
        nb.done(done)
        # the click is saved and drawn first, the mirror follows
        nb.wait(f".lm-mirror .lm-label:text-is('guess {done}')")
        beside = nb.card.locator(".lm-expected .lm-clip").all_inner_texts()
        assert [t.split() for t in beside] == [t.split() for t in texts]  # in one line there
        assert sum(before[:3]) <= sum(places(nb)[:3])  # longer texts grow it, nothing shrinks
    shares = nb.card.locator(".lm-share").all_inner_texts()
    assert 98 <= sum(int(share.split()[0]) for share in shares) <= 102
    chosen = nb.card.locator(".lm-expected li").nth(slot)
    assert "you" in chosen.locator(".lm-tags").inner_text()
    line = nb.card.locator(".lm-part p").first.inner_text()
    assert heard(nb) == line and line.startswith("It guessed option")
    assert (
        nb.card.locator(".lm-chart[role=img]")
        .get_attribute("aria-label")
        .startswith(f"{nb.card.locator('.lm-part p').nth(1).inner_text()[:8]}")
    )
    assert nb.card.locator(".lm-part blockquote").count() == 2
    nb.shoot("mirror_light")
    assert axe(nb.card) == []

    # what was taken back is forgotten, and the old choice is marked on the item that comes back
    nb.press("u")
    nb.done(7)
    nb.wait(".lm-mirror .lm-label:text-is('guess 7')")
    was = nb.card.locator(".lm-option.lm-was")
    assert was.count() == 1 and was.get_attribute("data-slot") == str(slot)
    assert "your earlier choice" in was.inner_text()
    nb.shoot("mirror_undo")
    notes = lab.rows("select note from events where kind = 'choose' order by id", "answers.db")
    assert [note for (note,) in notes] == ["", *["mirror"] * 7]

    # off by the button; the focus stays on it
    toggle(nb).focus()
    page.keyboard.press("Space")
    nb.wait(".lm-card [data-tool=mirror][aria-pressed=false]")
    nb.ready()
    assert page.evaluate("document.activeElement.dataset.tool") == "mirror"
    assert nb.card.locator(MIRROR).count() == 0

    # a killed kernel: off again, and all is learned again from the store
    os.kill(nb.pid(), signal.SIGKILL)
    page.locator(".jp-Dialog", has_text="died").locator("button.jp-mod-accept").click()
    nb.kernel()
    nb.run_all()
    assert nb.card.get_attribute("data-done") == "7"
    assert toggle(nb).get_attribute("aria-pressed") == "false"
    toggle(nb).click()
    nb.wait(READ)
    assert nb.card.locator(".lm-label:text-is('guess 7')").count() == 1
    assert nb.card.locator(".lm-expected li").count() == 0  # nothing was clicked here yet
    lab.theme("JupyterLab Dark")
    page.reload()
    nb.open()
    nb.run_all()
    nb.press("m")
    nb.wait(READ)
    nb.press("3")
    nb.wait(".lm-mirror .lm-label:text-is('guess 8')")
    nb.shoot("mirror_dark")
    assert axe(nb.card) == [] and nb.complaints == []


def test_a_card_that_was_narrow_for_a_while_is_not_tall_for_ever(lab: Lab, page: Any) -> None:
    """What the parts needed in a narrow window once stayed their height in a wide one."""
    nb = Notebook(lab, page, "narrow.ipynb", PLAIN.replace("NAME", "narrow"))
    nb.press("m")
    nb.wait(READ)
    nb.press("1")
    nb.done(1)
    height = "() => document.querySelector('.lm-card').offsetHeight"
    wide = page.evaluate(height)
    page.set_viewport_size({"width": 420, "height": 900})
    lab.until(lambda: page.evaluate(height) > wide, "it stayed wide", page.wait_for_timeout)
    page.set_viewport_size({"width": 1200, "height": 900})
    assert lab.until(lambda: page.evaluate(height) <= wide, "it stayed tall", page.wait_for_timeout)


def test_past_answers_are_found_and_changed(
    lab: Lab, page: Any, axe: Callable[[Any], list[str]]
) -> None:
    nb = Notebook(lab, page, "past.ipynb", PLAIN.replace("NAME", "past"))
    for done in range(1, 6):
        nb.press("2")
        nb.done(done)
    nb.press("p")
    nb.card.locator(".lm-past").wait_for()
    nb.wait(READY)
    assert page.evaluate("document.activeElement.type") == "search"
    rows = nb.card.locator(".lm-list > li")
    assert rows.count() == 5 and rows.first.inner_text().startswith("5.")
    page.keyboard.type("3 story")  # typed there, it answers nothing
    assert nb.card.get_attribute("data-done") == "5"
    assert nb.card.locator(".lm-list > li:visible").count() == 1
    assert nb.card.locator(".lm-found").inner_text() == "1 of 5"
    row = nb.card.locator(".lm-list > li:visible")
    row.locator("summary").click()
    assert row.locator(".lm-prompt").inner_text() == "Story 3 began."
    assert row.locator("[aria-pressed=true] .lm-key").inner_text() == "2"
    nb.shoot("past_light")
    assert axe(nb.card) == []
    before = nb.card.locator(".lm-option .lm-text").all_inner_texts()
    row.locator(".lm-old").nth(3).click()
    nb.said("Changed to: option 4")
    assert before == nb.card.locator(".lm-option .lm-text").all_inner_texts()
    events = lab.events("past.db")
    assert [kind for kind, _, _ in events] == ["choose"] * 5 + ["undo", "choose"]
    assert events[-1][1] == events[3][2][3] and events[-1][2] == events[3][2]
    # it is the latest answer now, and it can be told from the others in the list
    changed = nb.card.locator(".lm-list > li", has_text="Story 3 began.")
    assert changed.locator("[aria-pressed=true] .lm-key").text_content() == "4"
    page.keyboard.press("Escape")
    nb.card.locator(".lm-past").wait_for(state="detached")
    assert nb.card.evaluate("card => card === document.activeElement")

    # an undo after a flag withdraws the flag, and says so; the answers stand
    nb.press("f")
    page.keyboard.type("odd")
    page.keyboard.press("Enter")
    nb.said("Flagged")
    nb.press("u")
    nb.said("Flag withdrawn")
    assert nb.card.get_attribute("data-done") == "5"

    # a press on the cell's number takes the keys out of the card: Shift+Enter runs the cell again
    nb.card.focus()
    page.locator(".jp-CodeCell", has=page.locator(".lm-card")).locator(".jp-InputPrompt").click()
    assert not nb.card.evaluate("card => card.contains(document.activeElement)")
    token = nb.card.get_attribute("data-token")
    page.keyboard.press("Shift+Enter")
    page.locator(f".lm-card[data-ready]:not([data-token='{token}'])").first.wait_for()
    assert nb.card.get_attribute("data-done") == "5"


def test_a_mirror_obeys_no_markup_and_two_tabs_agree(lab: Lab, new_page: Any) -> None:
    nb = Notebook(lab, new_page(), "evil.ipynb", PLAIN.replace("NAME", "evil"))
    nb.press("m")
    nb.wait(READ)
    nb.press("4")
    nb.wait(".lm-expected")
    assert nb.card.locator("img").count() == 0 and nb.card.locator(".lm-expected li b").count() == 0
    assert "<img src=x onerror=alert(1)>[U+202E]" in nb.card.locator("blockquote").inner_text()
    nb.shoot("mirror_evil")

    # a second tab on the same notebook shows the same card: switched off here, off there
    nb.save()
    tab = new_page()
    tab.goto(f"{lab.base}/lab/workspaces/tab/tree/evil.ipynb?token={lab.token}&reset")
    tab.locator(READ).wait_for()
    assert tab.locator(".lm-expected li").count() == 4
    tab.get_by_role("button", name="What it learns").click()
    nb.wait(".lm-card [data-tool=mirror][aria-pressed=false]")
    assert nb.card.locator(MIRROR).count() == 0
    nb.press("1")
    tab.locator(".lm-card[data-done='2']").wait_for()
    notes = lab.rows("select note from events order by id", "evil.db")
    assert notes == [("mirror",), ("",)] and nb.complaints == []


def test_the_card_asks_what_the_model_chooses(lab: Lab, page: Any) -> None:
    """Seen or not it picks questions, keeps how, and goes on after an undo and a killed kernel."""
    cell = ANSWERS.replace("NAME", "chosen").replace(
        "repeat_every=0,", 'repeat_every=4, choose_next="thompson",'
    )
    nb = Notebook(lab, page, "chosen.ipynb", [MODEL, cell])
    nb.press("2")
    nb.done(1)
    nb.press("m")  # to see when it has read everything, and off again
    nb.wait(READ)
    nb.press("m")
    nb.wait(".lm-card [data-tool=mirror][aria-pressed=false]")
    for done in range(2, 13):
        nb.press("2")
        nb.done(done)
    assert nb.card.locator(MIRROR).count() == 0
    nb.press("u")
    nb.done(11)
    assert nb.card.locator(".lm-option.lm-was").count() == 1
    nb.press("1")
    nb.done(12)

    os.kill(nb.pid(), signal.SIGKILL)
    page.locator(".jp-Dialog", has_text="died").locator("button.jp-mod-accept").click()
    nb.kernel()
    nb.run_all()
    assert nb.card.get_attribute("data-done") == "12"
    for done in range(13, 16):
        nb.press("3")
        nb.done(done)
    columns = "id, kind, comparison_id, repeat, note, undoes"
    events = lab.rows(f"select {columns} from events order by id", "chosen.db")
    undone = {undoes for *_, undoes in events}
    stands = [e for e in events if e[1] == "choose" and e[0] not in undone]
    first = [item for _, _, item, repeat, _, _ in stands if not repeat]
    assert len(stands) == 15 and len(first) == len(set(first)) == 12  # three came back
    notes = [note for *_, note, _ in stands]
    assert notes[0] == "random" and set(notes) == {"random", "thompson"}
    again = [note for _, kind, _, _, note, _ in events if kind == "choose"]
    assert again[11] == again[12] and nb.complaints == []  # taken back, and answered once more
