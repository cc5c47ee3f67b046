"""The card's own JavaScript on a page without Jupyter: the test plays the kernel, so that answers
come late, twice or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_helpers.labels import frontend

CARD = frontend.STATIC

PAGE = """<!doctype html><meta charset="utf-8"><style>{style}</style><main id="host"></main>
<script type="module">{script}
const changed = [];
window.sent = [];
window.model = {{ get: (name) => name === "view" ? window.view : undefined,
  on: (name, f) => name === "change:view" && changed.push(f), off() {{}},
  send: (message) => window.sent.push(message) }};
window.show = (view) => {{ window.view = view; changed.forEach((f) => f()); }};
window.start = () => {{ window.card = new Card(window.model, document.getElementById("host")); }};
</script>"""


class Desk:
    """A card on a page, and what the kernel would do."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.set_content(
            PAGE.format(
                style=frontend.style(CARD / "mirror.css"),
                script=frontend.script(*(CARD / f"{x}.js" for x in ("mirror", "past", "card"))),
            )
        )
        page.evaluate("view => { window.view = view; window.start(); }", self.view(0))
        self.ready()

    def view(self, done: int, message: str = "", heard: int | None = None) -> dict[str, Any]:
        return {
            "state": "item", "elsewhere": 0, "token": f"token {done}", "showing": f"item {done}",
            "message": message, "error": "", "pending": None, "task": "sentiment",
            "question": "Which?", "rubric": "", "prompt": "It was late.", "options": list("abcd"),
            "done": done, "total": 9, "minutes": None, "undo": done > 0, "summary": [],
            "heard": heard,
        }  # fmt: skip

    def ready(self) -> None:
        self.page.locator(".lm-card[data-ready]").wait_for()
        self.page.locator(".lm-card").focus()

    def press(self, key: str) -> list[int]:
        """Press a key and return the numbers of all that the card has sent."""
        self.page.keyboard.press(key)
        return self.numbers()

    def numbers(self) -> list[int]:
        return self.page.evaluate("sent.map((message) => message.number)")

    def answer(self, done: int, message: str, heard: int) -> None:
        self.page.evaluate("view => show(view)", self.view(done, message, heard))

    def status(self) -> str:
        return self.page.locator(".lm-status").inner_text()

    def silent(self) -> None:
        self.page.locator(".lm-card[data-state='silent']").wait_for()


@pytest.fixture
def desk(page: Any) -> Desk:
    return Desk(page)


def test_an_old_saved_never_stands_beside_a_choice_that_is_not_saved_yet(desk: Desk) -> None:
    (number,) = desk.press("2")
    assert desk.status() == "Saving …"
    desk.answer(1, "Saved: option 2 (1 of 9).", number)
    desk.ready()
    desk.press("2")
    assert (
        desk.status() == "Saving …" and desk.page.locator(".lm-chosen .lm-key").inner_text() == "2"
    )


def test_a_late_answer_to_an_earlier_press_does_not_end_the_wait_for_a_newer_one(
    desk: Desk,
) -> None:
    """It did: the newer press was neither sent again nor called unsaved, and was lost if the kernel
    had not heard it."""
    (first,) = desk.press("1")
    desk.silent()
    desk.page.wait_for_function("sent.length === 2")  # sent again
    desk.answer(1, "Saved: option 1 (1 of 9).", first)
    desk.ready()
    _, late, newer = desk.press("3")
    desk.answer(1, "Saved: option 1 (1 of 9).", late)
    assert (
        desk.status() == "Saving …" and desk.page.locator(".lm-chosen .lm-key").inner_text() == "3"
    )
    desk.silent()
    assert desk.status().startswith("Not saved yet")
    desk.page.wait_for_function("sent.length === 4")
    assert desk.page.evaluate("sent.map((message) => message.slot)") == [0, 0, 2, 2]
    desk.answer(2, "Saved: option 3 (2 of 9).", newer)  # either of its two numbers will do
    desk.ready()
    assert (
        desk.status() == "Saved: option 3 (2 of 9)."
        and desk.page.locator(".lm-chosen").count() == 0
    )


def test_no_plain_key_gets_out_of_the_card_and_the_others_do(desk: Desk) -> None:
    """VS Code listens around its outputs: what got out there cut or inserted a cell."""
    desk.page.evaluate(
        "() => { window.out = []; host.addEventListener('keydown', (event) => "
        "out.push(event.key)); }"
    )
    for key in (
        "b",
        "x",
        "d",
        "z",
        "0",
        "F2",
        "Enter",
        "Space",
        "ArrowDown",
        "Tab",
        "Shift+Tab",
        "Shift+Enter",
        "Control+s",
        "Alt+x",
    ):
        desk.page.locator(".lm-card").focus()
        desk.page.keyboard.press(key)
    assert [key for key in desk.page.evaluate("out") if key not in ("Shift", "Control", "Alt")] == [
        "Tab",
        "Tab",
        "Enter",
        "s",
        "x",
    ]
    assert desk.numbers() == []


def test_the_row_of_digits_chooses_on_keyboards_where_digits_need_shift(desk: Desk) -> None:
    """On a French keyboard the key of the 1 says & and did nothing."""

    def key(**event: object) -> list[int | None]:
        desk.page.evaluate(
            "event => card.root.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, "
            "...event}))",
            event,
        )
        return desk.page.evaluate("sent.map((message) => message.slot)")

    assert key(key="!", code="Digit1", shiftKey=True) == []  # an American's exclamation mark
    assert key(key="é", code="Digit2") == [1]


def test_focus_is_seen_in_forced_colours(desk: Desk) -> None:
    """There shadows are not drawn and all borders have one colour, and those were all that showed
    it."""
    desk.page.emulate_media(forced_colors="active")
    outline = "card => getComputedStyle(card).outlineStyle"
    card = desk.page.locator(".lm-card")
    assert card.evaluate(outline) == "solid"
    card.evaluate("card => card.blur()")
    assert card.evaluate(outline) == "none"
