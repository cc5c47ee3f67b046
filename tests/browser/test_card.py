"""The labelling card in a real JupyterLab and a real browser; what it saved is read from the
database by this process."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

from harness import Lab, Notebook

STORIES = """
prompt = ("Through the noisy market crowd Judith pushed towards the stalls, already exhausted. "
          "Nobody in those years went near the sailors' inn at night without a shudder.")
ends = ["Cedric added a wax-sealed jar of golden honey to the bargain, and Judith felt gratified.",
        "The brass band struck up a ballad, and Cedric threw his brick red cap up for joy.",
        "Buzzing flies crawled over the grey meat at the next stall, and Judith felt sick.",
        "By early sunlight, Judith walked home with the glossy amber drum under one arm, "
        "and her aunt was waiting at the gate."]
prompts = [prompt + " The bell struck." * i for i in range(8)]
items = [Comparison("sentiment", p, tuple(" " + e for e in ends)) for p in prompts]
card = cards.label(items, labeler="ann", store="NAME.db", repeat_every=0)
card
"""
ENDS = ["Cedric added", "The brass band", "Buzzing flies", "By early"]


def stories(name: str) -> str:
    return STORIES.replace("NAME", name)


def test_a_sitting_by_click_and_by_key(lab: Lab, page: Any) -> None:
    nb = Notebook(lab, page, "sitting.ipynb", stories("sitting"))
    cells = page.locator(".jp-Notebook .jp-Cell").count()

    # by click, by key, and back again; what was clicked is what was stored, and the live region
    # says so
    option = nb.card.locator(".lm-option").nth(2)
    text = option.locator(".lm-text").inner_text()
    option.click()
    nb.done(1)
    ((kind, choice, shown),) = lab.events("sitting.db")
    assert kind == "choose" and shown[2] == choice and text.startswith(ENDS[choice])
    assert (
        nb.status() == "Saved: option 3 (1 of 8)."
        and nb.card.locator("[aria-live=polite]").count() == 1
    )
    nb.press("1")
    nb.done(2)
    nb.press("t")
    nb.done(3)
    nb.press("Backspace")
    nb.done(2)
    nb.press("u")
    nb.done(1)
    nb.press("s")
    nb.done(2)
    assert [row[0] for row in lab.events("sitting.db")] == [
        "choose",
        "choose",
        "tie",
        "undo",
        "undo",
        "skip",
    ]
    assert lab.events("sitting.db")[1][2][0] == lab.events("sitting.db")[1][1]

    nb.shoot("card_work")
    # a bad text is flagged with a note; what is typed there answers nothing
    nb.press("f")
    nb.card.locator(".lm-which").select_option("1")
    nb.card.locator(".lm-note").focus()
    page.keyboard.type("1 text stuck u")
    nb.shoot("card_flag")
    page.keyboard.press("Enter")
    nb.said("Flagged")  # the form is gone before the kernel has answered
    assert nb.card.get_attribute("data-done") == "2"
    order = lab.events("sitting.db")[-1][2]
    assert lab.rows("select note, choice from events where kind = 'flag'", "sitting.db") == [
        ("1 text stuck u", order[1])
    ]
    nb.press("f")
    page.keyboard.press("Escape")  # closes the form, and only that
    assert nb.card.locator(".lm-flag").count() == 0 and nb.card.evaluate(
        "card => card === document.activeElement"
    )

    # a double click is one answer, and so is a key held down
    nb.ready()
    nb.card.locator(".lm-option").nth(0).dblclick()
    nb.done(3)
    nb.press("2")
    nb.done(4)
    for _ in range(5):
        page.keyboard.down("2")  # without `up` the later ones are repeats
    page.keyboard.up("2")
    nb.done(5)

    # Tab walks through the card and out; wherever it stands, JupyterLab's own keys (b inserts a
    # cell, x cuts one, dd deletes it) do nothing
    nb.card.focus()
    passed = []
    while nb.card.evaluate("card => card.contains(document.activeElement)") and len(passed) < 20:
        passed.append(page.evaluate("document.activeElement.innerText.split('\\n')[0]"))
        for key in ("b", "x", "d", "d", "m"):
            page.keyboard.press(key)
        page.keyboard.press("Tab")
    assert passed == [
        "Sentiment",
        "How to choose",
        "1",
        "2",
        "3",
        "4",
        "Cannot tellT",
        "SkipS",
        "FlagF",
        "Past answersP",
        "UndoU",
    ]
    assert (
        page.locator(".jp-Notebook .jp-Cell").count() == cells
        and len(lab.events("sitting.db")) == 10
    )
    nb.press("Escape")
    assert not nb.card.evaluate("card => card.contains(document.activeElement)")
    assert nb.complaints == []
    assert [url for url in nb.requests if not url.startswith((lab.base, "data:", "blob:"))] == []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_reload_restart_and_a_kernel_killed_in_the_middle(lab: Lab, page: Any) -> None:
    nb = Notebook(lab, page, "restart.ipynb", stories("restart"))
    nb.press("1")
    nb.done(1)

    # reload: run the cell again and go on
    nb.open()
    nb.run_all()
    nb.done(1)
    nb.press("2")
    nb.done(2)

    # killed between two labels: the card must not say "saved", keeps the choice, and the cell run
    # again resumes
    os.kill(nb.pid(), signal.SIGKILL)
    nb.press("3")
    nb.wait(".lm-card[data-state='silent']")
    assert (
        "Not saved yet" in nb.status()
        and nb.card.locator(".lm-option.lm-chosen .lm-key").inner_text() == "3"
    )
    assert len(lab.events("restart.db")) == 2
    nb.shoot("card_silent")
    page.locator(".jp-Dialog", has_text="died").locator("button.jp-mod-accept").click()
    nb.kernel()
    nb.run_all()
    nb.done(2)
    nb.press("3")
    nb.done(3)

    # restarted from the menu
    nb.menu("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    lab.until(
        lambda: nb.kernel() and not alive(nb.pid()),
        "the kernel was not restarted",
        page.wait_for_timeout,
    )
    nb.run_all()
    nb.done(3)
    for count in range(4, 9):
        nb.press("4")
        nb.done(count)
    assert nb.card.get_attribute("data-state") == "done" and "Thank you" in nb.card.inner_text()
    nb.shoot("card_done")
    assert [row[0] for row in lab.events("restart.db")] == ["choose"] * 8
    assert len(lab.rows("select distinct comparison_id from events", "restart.db")) == 8


def test_two_notebooks_and_two_tabs_never_ask_the_same_thing_twice(
    lab: Lab, new_page: Callable[[], Any]
) -> None:
    one = Notebook(lab, new_page(), "one.ipynb", stories("shared"))
    two = Notebook(lab, new_page(), "two.ipynb", stories("shared"))

    def prompt(nb: Notebook) -> str:
        return nb.card.locator(".lm-prompt").inner_text()

    assert prompt(one) != prompt(two)
    answered = []
    for turn in range(6):
        nb = (one, two)[turn % 2]
        other = (two, one)[turn % 2]
        answered.append(prompt(nb))
        assert prompt(other) not in answered
        nb.press("1")
        nb.done(turn + 1)
    assert len(set(answered)) == 6 and prompt(one) != prompt(two)
    one.press("1")
    one.done(7)  # the last one is on the screen of the other
    one.wait(".lm-card[data-state='elsewhere']")
    assert "in another window of yours" in one.card.inner_text()
    one.shoot("card_elsewhere")

    # a second tab on the second notebook shows the same card: pressed here, done there
    two.save()
    tab = new_page()
    tab.goto(f"{lab.base}/lab/workspaces/tab/tree/two.ipynb?token={lab.token}&reset")
    tab.locator(".lm-card[data-ready]").wait_for()
    assert tab.locator(".lm-prompt").inner_text() == prompt(two)
    tab.locator(".lm-option").first.click()
    two.wait(".lm-card[data-state='done']")
    assert [row[0] for row in lab.events("shared.db")] == ["choose"] * 8
    one.ready()
    one.card.get_by_role("button", name="Look again").click()
    one.wait(".lm-card[data-state='done']")


TWO_CARDS = """
items = [Comparison("sentiment", f"Number {i}.", ("one", "two")) for i in range(6)]
cards.label(items, labeler="ann", store="cells.db", repeat_every=0)
"""


def test_two_cells_of_one_notebook_never_ask_the_same_thing_twice(lab: Lab, page: Any) -> None:
    nb = Notebook(lab, page, "cells.ipynb", [TWO_CARDS, TWO_CARDS])
    first, second = (page.locator(".lm-card").nth(i) for i in range(2))
    for turn in range(2):  # the second time all cells run again, and go on where they were
        prompts = [card.locator(".lm-prompt").inner_text() for card in (first, second)]
        assert len(set(prompts)) == 2
        nb.press("1")
        nb.done(2 * turn + 1)
        assert first.locator(".lm-prompt").inner_text() not in prompts
        second.locator(".lm-option").first.click()
        page.locator(f".lm-card[data-done='{2 * turn + 2}']").last.wait_for()
        nb.run_all()
    assert len(set(lab.rows("select comparison_id from events", "cells.db"))) == 4


HASTY = """
from rlhf_helpers.labels.store import opening
opening.WAIT_SECONDS = 0.5  # do not wait ten seconds for a locked file
"""
EVIL = r"""
evil = "<img src=x onerror='window.HACKED=1'><script>window.HACKED=1</script><b>bold</b>"
style = "<style>*{display:none}</style>"
items = [Comparison("sentiment", evil, (evil, "left \u202eright\u202c \x07", style, "w" * 400))]
card = cards.label(items, labeler="<i>eve</i>", store="hostile.db", question=evil, rubric=evil)
card
"""


def test_dark_a_failed_save_hostile_texts_and_zoom(
    lab: Lab, page: Any, axe: Callable[[Any], list[str]]
) -> None:
    lab.theme("JupyterLab Dark")
    nb = Notebook(lab, page, "dark.ipynb", [HASTY + stories("dark"), EVIL])
    background = nb.card.evaluate("card => getComputedStyle(card).backgroundColor")
    assert sum(int(x) for x in background.removeprefix("rgb(").rstrip(")").split(",")) < 200
    nb.card.locator(".lm-option").nth(1).hover()
    nb.shoot("card_dark")
    assert axe(nb.card) == []

    # another program holds the file: the card says that it is not saved, keeps the choice, and
    # saves when it can
    with sqlite3.connect(lab.work / "dark.db", isolation_level=None) as other:
        other.execute("begin immediate")
        nb.press("2")
        nb.wait(".lm-card[data-state='error']")
        assert nb.status().startswith(
            "Not saved: dark.db is locked by another program (database is locked). Your choice is "
            "kept"
        )
        assert (
            nb.card.locator(".lm-option.lm-chosen .lm-key").inner_text() == "2"
            and lab.events("dark.db") == []
        )
        nb.shoot("card_error")
        assert axe(nb.card) == []
        other.execute("rollback")
    nb.done(1)  # without another press
    assert [kind for kind, *_ in lab.events("dark.db")] == ["choose"]

    # texts that try to act: they are shown, not obeyed
    card = page.locator(".lm-card").nth(1)
    assert (
        page.evaluate("window.HACKED") is None
        and card.locator("img, script, b, i, style").count() == 0
    )
    assert (
        card.locator(".lm-mark").all_inner_texts().count("[U+202E]") == 1
        and "[U+0007]" in card.inner_text()
    )
    assert "<script>window.HACKED=1</script>" in card.locator(".lm-prompt").inner_text()
    assert card.evaluate("card => card.scrollWidth <= card.clientWidth + 1")
    nb.shoot("card_hostile", card)
    card.locator(".lm-option").nth(0).click()
    nb.wait(".lm-card[data-state='done']")
    assert len(lab.events("hostile.db")) == 1

    # 200 % zoom: half the points in each direction. Nothing is cut off, one option stands below the
    # other, keys still work
    page.set_viewport_size({"width": 600, "height": 450})
    nb.card.scroll_into_view_if_needed()
    assert nb.card.evaluate("card => card.scrollWidth <= card.clientWidth + 1")
    box = nb.card.bounding_box()
    for part in nb.card.locator("button, .lm-prompt, .lm-question, .lm-text").all():
        inner = part.bounding_box()
        assert inner["x"] >= box["x"] and inner["x"] + inner["width"] <= box["x"] + box["width"] + 1
        assert part.evaluate(
            "part => part.scrollWidth <= part.clientWidth + 1 || getComputedStyle(part).display "
            "=== 'inline'"
        )
    nb.shoot("card_zoom")
    assert axe(nb.card) == []
    nb.press("3")
    nb.done(2)


UNEVEN = """
long = "A long prompt goes on and on, line after line, until the reader wonders. " * 5
def options(i):
    return tuple(f"{k} " + "word " * (40 if i == 0 else 3 + i + k) for k in range(4))
items = [Comparison("sentiment", "Short." if i else long, options(i)) for i in range(6)]
card = cards.label(items, labeler="ann", store="uneven.db", repeat_every=0)
card
"""
PAIRS = """
texts = [(f" The lamp went out {i}.", f" They sang {i}.") for i in range(2)]
pairs = [Comparison("sentiment", "It was late.", options) for options in texts]
sides = {"first_is_zero": [True, True], "names": ("tuned", "base")}
blind = cards.judge(pairs, "ann", store="pairs.db", **sides)
blind
"""


def test_nothing_jumps_nothing_hides_and_judging_is_blind(
    lab: Lab, page: Any, axe: Callable[[Any], list[str]]
) -> None:
    nb = Notebook(lab, page, "light.ipynb", [stories("light"), UNEVEN, PAIRS])
    nb.shoot("card_light")
    assert axe(nb.card) == []
    nb.card.get_by_text("How to choose").click()
    nb.shoot("card_rubric")
    assert axe(nb.card) == []

    # from the longest item on, no part of the card moves
    nb.card = page.locator(".lm-card").nth(1)

    def places() -> list[tuple[float, float]]:
        nb.card.scroll_into_view_if_needed()
        top = nb.card.bounding_box()["y"]
        parts = nb.card.locator(".lm-option, .lm-tool, .lm-prompt, .lm-status, .lm-question").all()
        return [
            (round(b["x"]), round(b["y"] - top)) for b in (part.bounding_box() for part in parts)
        ]

    before = places()
    for count in range(1, 6):
        nb.press("1")
        page.locator(f".lm-card[data-done='{count}'][data-ready]").first.wait_for()
        assert places() == before
    nb.press("1")
    page.locator(".lm-card[data-state='done']").first.wait_for()
    assert (
        abs(
            nb.card.locator(".lm-status").bounding_box()["y"]
            - nb.card.bounding_box()["y"]
            - before[-1][1]
        )
        <= 1
    )
    assert axe(nb.card) == []

    # two texts without names until the end
    nb.card = page.locator(".lm-card").nth(2)
    nb.card.scroll_into_view_if_needed()
    assert (
        nb.card.locator(".lm-option").count() == 2
        and "tuned" not in page.locator(".lm-card").nth(2).inner_html()
    )
    nb.shoot("card_pair")
    lamp = nb.card.locator(".lm-option", has_text="lamp")
    sides = [lamp.get_attribute("data-slot")]
    lamp.click()
    page.locator(".lm-card[data-done='1'][data-ready]").last.wait_for()
    sides.append(lamp.get_attribute("data-slot"))
    assert sorted(sides) == ["0", "1"]  # the first stood once on each side
    lamp.click()
    nb.card.get_by_text("Preferred: tuned 2, base 0.").wait_for()


def test_notebook_7(lab: Lab, page: Any, axe: Callable[[Any], list[str]]) -> None:
    nb = Notebook(
        lab,
        page,
        "seven.ipynb",
        [stories("seven"), PAIRS.replace("pairs.db", "seven.db")],
        app="notebook",
    )
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    nb.card.locator(".lm-option").nth(1).click()
    nb.done(1)
    # the mouse rests where it clicked, and the option that lies there now must not look chosen
    border = "option => getComputedStyle(option).borderTopColor"
    colours = [nb.card.locator(".lm-option").nth(i).evaluate(border) for i in (0, 1)]
    assert colours[0] == colours[1]
    nb.press("4")
    nb.done(2)
    nb.press("Backspace")
    nb.done(1)
    for key in ("b", "x", "d", "d"):
        nb.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    assert [row[0] for row in lab.events("seven.db")] == ["choose", "choose", "undo"]
    assert axe(nb.card) == []

    # judging blind
    blind = page.locator(".lm-card").nth(1)
    assert "tuned" not in blind.inner_html() and axe(blind) == []
    for count in (1, 2):
        blind.locator(".lm-option", has_text="lamp").click()
        blind.and_(page.locator(f"[data-done='{count}'][data-ready]")).wait_for()
    blind.get_by_text("Preferred: tuned 2, base 0.").wait_for()

    # the page is loaded again, and then the kernel is restarted: both cards go on where they were
    nb.open()
    nb.run_all()
    blind.get_by_text("Preferred: tuned 2, base 0.").wait_for()
    nb.press("2")
    nb.card.get_by_text("2 done").wait_for()
    nb.menu("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    lab.until(
        lambda: nb.kernel() and not alive(nb.pid()),
        "the kernel was not restarted",
        page.wait_for_timeout,
    )
    nb.run_all()
    nb.card.get_by_text("2 done").wait_for()
    blind.get_by_text("Preferred: tuned 2, base 0.").wait_for()
    assert [row[0] for row in lab.events("seven.db")] == [
        "choose",
        "choose",
        "undo",
        "choose",
        "choose",
        "choose",
    ]
