"""The playground for samples and the live view of training in a real JupyterLab and a real
browser."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from harness import Lab, Notebook

PLAYGROUND = r"""
import torch
from rlhf_helpers import models, tasks
from rlhf_helpers.course import playground
tokenizer = models.load_tokenizer()
policy = models.tiny_policy(len(tokenizer), context=128, seed=1)
policy.tokenizer = tokenizer
with torch.no_grad():
    for weight in policy.parameters():
        dice = torch.Generator().manual_seed(weight.numel())
        weight += 0.2 * torch.randn(weight.shape, generator=dice)
play = playground.show(policy, tasks.SENTIMENT, prompt="The lamp went out.")
play
"""
EVIL = r"""
from rlhf_helpers.labels import frontend
evil = "<img src=x onerror='window.HACKED=1'>" + frontend.visible("\u202e")
token = {"text": evil, "p": 0.3, "rank": 2, "kept": True, "others": [[evil, 0.5], ["b", 0.3]]}
other = playground.show(policy, tasks.SENTIMENT, prompt=evil)
results = [{"tokens": [token, token], "finished": False}]
other.show({**other.scene, "results": results, "error": evil})
other
"""
LIVE = """
import math, pathlib, time
from rlhf_helpers.course import live
from rlhf_helpers.runtime.runs import Run
if pathlib.Path("train").exists():
    run = Run(quiet=False)
    live.watch(run, 40, batch=64)
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    for step in range(40):
        time.sleep(0.01 if step else 1.1)
        run.log(step, {"score": math.tanh(step / 9), "kl_nats_per_response": step / 8,
                       "entropy_nats_per_response": 40 - step / 3,
                       "value_explained_variance": 1 - math.exp(-step / 6)})
        while step == 20 and not pathlib.Path("on").exists():
            time.sleep(0.05)
"""
CARD = """
items = [Comparison("sentiment", f"Number {i}.", ("one", "two")) for i in range(4)]
card = cards.label(items, labeler="ann", store="busy.db", repeat_every=0)
card
"""


def test_samples_with_their_probabilities_by_mouse_and_by_key(
    lab: Lab, page: Any, axe: Callable[[Any], list[str]]
) -> None:
    nb = Notebook(lab, page, "play.ipynb", [PLAYGROUND, EVIL], waits=".lm-play .lm-answer")
    play = page.locator(".lm-play").first

    def texts() -> list[str]:
        return play.locator(".lm-answer .lm-text").all_inner_texts()

    def sampled(press: Callable[[], object]) -> list[str]:
        heard = play.get_attribute("data-heard")
        press()
        page.wait_for_function(
            "([old]) => !document.querySelector('.lm-play[aria-busy]') && "
            "document.querySelector('.lm-play').dataset.heard !== old",
            arg=[heard],
        )
        return texts()

    go = play.get_by_role("button", name="Sample")
    first = texts()
    assert len(first) == 3 and len(set(first)) == 3
    assert sampled(go.click) == first  # the same settings, the same answers

    # the mouse over a token, and then the keys
    play.locator(".lm-token").nth(2).hover()
    detail = play.locator(".lm-detail")
    assert "rank" in detail.inner_text() and detail.locator("li").count() == 5
    nb.shoot("playground_light", play)
    assert axe(play) == []
    listbox = play.locator("[role=listbox]")
    listbox.nth(0).locator("[tabindex='0']").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert (
        listbox.nth(1)
        .locator("[role=option]")
        .nth(1)
        .evaluate("node => node === document.activeElement")
    )
    assert play.locator("[role=option][tabindex='0']").count() == 1  # one stop for the Tab key
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.split(": ")[1].split(",")[0] in detail.inner_text()
    page.keyboard.press("x")  # JupyterLab would cut the cell
    page.keyboard.press("Escape")
    assert not play.evaluate("play => play.contains(document.activeElement)") and play.count() == 1

    # other settings, other answers; Ctrl+Enter samples; nonsense is turned away in words, on the
    # spot
    play.get_by_label("Seed", exact=True).fill("7")
    other = sampled(go.click)
    assert other != first
    play.get_by_label("Seed", exact=True).fill("0")
    play.get_by_label("Top-k").fill("1")
    play.get_by_label("Samples").fill("2")
    greedy = sampled(lambda: play.get_by_label("Prompt").press("Control+Enter"))
    assert len(greedy) == 2 and greedy[0] == greedy[1]
    play.get_by_label("Prompt").fill("")
    sampled(go.click)
    assert "a prompt is empty" in play.locator("[role=status]").last.inner_text()

    # texts that try to act, in the prompt, the tokens and the error: they are shown, not obeyed
    other = page.locator(".lm-play").nth(1)
    other.locator(".lm-token").nth(1).hover()
    assert (
        other.locator(".lm-detail").inner_text().count("<img src=x") == 2
        and other.locator(".lm-detail .lm-mark").count() == 2
    )
    assert page.evaluate("window.HACKED") is None and page.locator(".lm-play img").count() == 0
    assert (
        nb.complaints == []
        and [url for url in nb.requests if not url.startswith((lab.base, "data:", "blob:"))] == []
    )


def test_the_live_view_moves_leaves_a_picture_and_labels_are_saved_meanwhile(
    lab: Lab, page: Any, axe: Callable[[Any], list[str]]
) -> None:
    lab.theme("JupyterLab Dark")
    nb = Notebook(lab, page, "live.ipynb", [CARD, LIVE])
    output = page.locator(".jp-OutputArea-output", has_text="Explained variance")
    nb.press("1")
    nb.done(1)
    (lab.work / "train").touch()
    nb.start_all()
    page.locator(".jp-OutputArea-output", has_text="The first step").wait_for()
    nb.done(1)
    # the cell ran again, so this card is new, and the kernel is busy training; the label is saved
    # all the same
    nb.press("2")
    nb.done(2)
    assert [row[0] for row in lab.events("busy.db")] == ["choose", "choose"]
    (lab.work / "go").touch()
    output.wait_for()
    assert (
        output.locator("svg[role=img]").count() == 4 and "of 2,560 responses" in output.inner_text()
    )
    assert axe(output) == []
    nb.shoot("live_dark", output)
    (lab.work / "on").touch()
    picture = page.locator(".jp-OutputArea-output[data-mime-type='image/png'] img")
    picture.wait_for()
    nb.shoot("live_end", picture)

    # what is saved shows itself without a kernel and without a widget
    saved = nb.save()
    (shown,) = [o for o in saved.cells[2].outputs if o.output_type == "display_data"]
    assert base64.b64decode(shown.data["image/png"])[1:4] == b"PNG"
    assert shown.data["text/plain"].startswith("step 40 of 40 · 2,560 of 2,560 responses · done in")
    # for pages made of the notebook
    assert shown.metadata["image/png"]["alt"] == shown.data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in shown.data
    assert nb.complaints == []
