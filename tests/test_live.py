"""The live view of training: fed by a real run, drawn into a list instead of a notebook."""

from __future__ import annotations

import base64
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from rlhf_helpers.course import live
from rlhf_helpers.course.live import LiveView
from rlhf_helpers.runtime.runs import Run

NUMBERS = {
    "score": 0.5,
    "kl_nats_per_response": 2.0,
    "entropy_nats_per_response": 30.0,
    "value_explained_variance": 0.25,
    "beta": 0.3,
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(run: Run, steps: int, **more: Any) -> tuple[LiveView, list[dict[str, str]], Clock]:
    shown: list[dict[str, str]] = []
    clock = Clock()
    view = LiveView(run, steps, show=lambda bundle, _: shown.append(bundle), clock=clock, **more)
    run.on_log = view
    return view, shown, clock


def test_it_redraws_once_a_second_and_ends_with_a_picture() -> None:
    run = Run(quiet=True)
    view, shown, clock = watched(run, 100, batch=64)
    for step in range(100):
        clock.now += 0.25
        run.log(step, NUMBERS | {"score": step / 100})
    assert len(shown) == 26 and all("image/png" not in bundle for bundle in shown[:-1])
    # 5 steps in 1.25 s, 95 to go
    assert "step 5 of 100 · 320 of 6,400 responses · 24 s left" in shown[1]["text/plain"]
    assert shown[-1]["text/plain"].startswith(
        "step 100 of 100 · 6,400 of 6,400 responses · done in 25 s · Score 0.99 · KL from the"
    )
    png = base64.b64decode(shown[-1]["image/png"])
    assert (
        png[:8] == b"\x89PNG\r\n\x1a\n"
        and struct.unpack(">II", png[16:24])[0] > 600
        and len(png) < 150_000
    )
    _, metadata = view.picture()
    assert metadata["image/png"]["alt"] == shown[-1]["text/plain"]


def test_the_curves_are_the_numbers() -> None:
    run = Run(quiet=True)
    view, *_ = watched(run, 10)
    values = [0.0, 4.0, 1.0]
    for step, value in enumerate(values):
        run.log(step, {"loss": value, "accuracy": float("nan")})
    page = view.page()
    tree = ElementTree.fromstring(re.sub(r"&(?!amp|lt|gt|quot)", "&amp;", page))
    raw, mean = (line.get("points").split() for line in tree.iter("polyline"))
    points = [tuple(map(float, p.split(","))) for p in raw]
    assert [x for x, _ in points] == [0, live.WIDTH / 2, live.WIDTH]
    heights = [live.HEIGHT - 3 - y for _, y in points]
    assert heights == pytest.approx([v / 4 * (live.HEIGHT - 6) for v in values], abs=0.06)
    # the mean of the last step and its neighbour: (4 + 1) / 2 of 4
    assert float(mean[-1].split(",")[1]) == pytest.approx(
        live.HEIGHT - 3 - 2.5 / 4 * (live.HEIGHT - 6), abs=0.06
    )
    # not a number: not drawn
    assert "Loss: 1 now, between 0 and 4 so far" in page and "Accuracy" not in page


def test_a_resumed_run_shows_its_earlier_part_too() -> None:
    run = Run(quiet=True)
    for step in range(50):
        run.log(step, NUMBERS)
    view, shown, clock = watched(run, 60)
    for step in range(50, 54):
        clock.now += 2.0
        run.log(step, NUMBERS)
    assert "step 54 of 60 · 12 s left" in shown[-1]["text/plain"]  # 2 s a step in this sitting
    assert shown[-1]["text/html"].count("<polyline") == 8


def test_long_runs_are_thinned_and_keep_their_end() -> None:
    values = list(range(10_001))
    thin = live._thin(values)
    assert len(thin) <= live.POINTS and thin[-1] == 10_000 and len(live._thin(values[:100])) == 100


def test_a_view_that_fails_does_not_stop_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(quiet=True)

    def broken(*_: object) -> None:
        raise OSError("no screen")

    run.on_log = LiveView(run, 3, show=broken)
    for step in range(3):
        run.log(step, NUMBERS)
    assert len(run.metrics()) == 3 and capsys.readouterr().err.count("no screen") == 1


def test_headless_draws_the_end_only_and_a_terminal_nothing() -> None:
    run = Run(quiet=True)
    _, shown, clock = watched(run, 5, quiet=True)
    for step in range(5):
        clock.now += 9
        run.log(step, NUMBERS)
    assert len(shown) == 1 and "image/png" in shown[0]
    run = Run()
    view = live.watch(run, 5)
    assert run.on_log is view and view.show is None and run.quiet is False
    run.log(4, NUMBERS)


def test_a_finished_run_shows_its_end_at_once(tmp_path) -> None:
    """The view of a run that was finished before stayed on "step 0" for ever."""
    run = Run(tmp_path, quiet=True)
    for step in range(3):
        run.log(step, NUMBERS)
    view, shown, _ = watched(run, 3)
    view.draw()
    assert list(run.progress(3, 3, "tune")) == []
    assert "image/png" in shown[-1]
    assert shown[-1]["text/plain"].startswith("step 3 of 3 · finished in an earlier run · Score")


def test_no_figure_of_pyplot_is_touched() -> None:
    code = """
import matplotlib.pyplot as plt
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.course.live import LiveView
run = Run(quiet=True)
run.on_log = LiveView(run, 2, show=lambda bundle, _: print(sorted(bundle)))
for step in range(2):
    run.log(step, {"score": 1.0, "kl_nats_per_response": 0.0})
print(plt.get_fignums())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "['text/html', 'text/plain']",
        "['image/png', 'text/plain']",
        "[]",
    ], done.stderr
