"""The labelling card in a real JupyterLab and a real browser; what it saved is read from the database by this process.

RLHF_SCREENSHOTS=folder keeps pictures of the card, RLHF_BROWSER_WAIT=seconds is the patience for each step.
Skipped where Playwright or Chromium is missing.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the notebook packages")
pytest.importorskip("jupyterlab", reason="needs JupyterLab")
pytest.importorskip("anywidget", reason="needs anywidget")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, for instance: apt-get install chromium")]

WAIT_MS = 1000 * int(os.environ.get("RLHF_BROWSER_WAIT", "120"))  # a busy machine is slow, not wrong
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
SET_UP = """
from rlhf_helpers import widgets
from rlhf_helpers.records import Comparison
"""
STORIES = """
prompt = ("Through the noisy market crowd Judith pushed towards the stalls, already exhausted. Nobody in those years went near "
          "the sailors' inn at night without a shudder.")
ends = ["Cedric added a wax-sealed jar of golden honey to the bargain, and Judith felt gratified.",
        "The brass band struck up a ballad, and Cedric threw his brick red cap up for joy.",
        "Buzzing flies crawled over the grey meat at the next stall, and Judith felt sick.",
        "By early sunlight, Judith walked home with the glossy amber drum under one arm, and her aunt was waiting at the gate."]
prompts = [prompt + " The bell struck." * i for i in range(8)]
items = [Comparison("sentiment", p, tuple(" " + e for e in ends)) for p in prompts]
card = widgets.label(items, labeler="ann", store="labels.db", repeat_every=0)
card
"""
HASTY = """
from rlhf_helpers import database
database.WAIT_SECONDS = 0.5  # do not wait ten seconds for a locked file
"""
HOSTILE = r"""
evil = "<img src=x onerror='window.HACKED=1'><script>window.HACKED=1</script><b>bold</b>"
items = [Comparison("sentiment", evil, (evil, "left \u202eright\u202c \x07", "<style>*{display:none}</style>", "w" * 400))]
card = widgets.label(items, labeler="<i>eve</i>", store="hostile.db", question=evil, rubric=evil)
card
"""


class Lab:
    """A JupyterLab server of our own in an empty folder, with nothing of the user's settings."""

    def __init__(self, home: Path) -> None:
        self.work, self.home, self.token = home / "work", home, secrets.token_hex(16)
        self.work.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.base = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.theme("JupyterLab Light")
        self.settings("notification", {"fetchNews": "false", "checkForUpdates": False})
        port = self.base.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
                   f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.work}", "--ServerApp.allow_root=True",
                   f"--LabApp.user_settings_dir={home / 'us'}", f"--LabApp.workspaces_dir={home / 'ws'}",
                   "--LabApp.extension_manager=readonly", "--LabApp.news_url=None",
                   "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
        folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        env = {**os.environ, **{name: str(home / name.lower()) for name in folders}, "JUPYTER_PREFER_ENV_PATH": "1"}
        root = str(Path(__file__).resolve().parents[2])
        env |= {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        env.pop("RLHF_HEADLESS", None)
        self.log = (home / "server.log").open("wb")
        self.process = subprocess.Popen(command, env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def start(self) -> None:
        self.until(lambda: self.ask("status") is not None, "the server did not start")

    def settings(self, name: str, values: dict[str, Any]) -> None:
        folder = self.home / "us" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(values))

    def theme(self, name: str) -> None:
        self.settings("themes", {"theme": name})

    def ask(self, what: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.base}/api/{what}", headers={"Authorization": f"token {self.token}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except OSError:
            return None

    def until(self, condition: Callable[[], object], failure: str, pause: Callable[[float], object] | None = None) -> None:
        pause = pause or (lambda ms: time.sleep(ms / 1000))
        deadline = time.monotonic() + WAIT_MS / 1000
        while not condition():
            assert time.monotonic() < deadline, f"{failure}\n{(self.home / 'server.log').read_text()[-2000:]}"
            pause(100)

    def stop(self) -> None:
        for kernel in self.ask("kernels") or []:
            self.ask(f"kernels/{kernel['id']}", "DELETE")
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


class Notebook:
    """A notebook open in the browser; `card` is the labelling card in it."""

    def __init__(self, lab: Lab, page: Any, name: str, source: str) -> None:
        self.lab, self.page, self.name = lab, page, name
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        cells = [nbformat.v4.new_code_cell(SET_UP + source), nbformat.v4.new_code_cell("print('LAST' + '-CELL')")]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # or JupyterLab asks which
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.work / name)
        self.card = page.locator(".lm-card")
        self.open()
        self.run_all()

    def open(self) -> None:
        self.page.goto(f"{self.lab.base}/lab/workspaces/t/tree/{self.name}?token={self.lab.token}&reset")
        self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").first.wait_for()
        self.kernel()

    def kernel(self) -> str:
        """Wait until the notebook's kernel is idle, as the server sees it, and return its id."""

        def mine() -> list[str]:
            sessions = [s for s in self.lab.ask("sessions") or [] if s["path"] == self.name]
            return [s["kernel"]["id"] for s in sessions if s["kernel"]["execution_state"] == "idle" and s["kernel"]["connections"]]

        self.lab.until(mine, "no idle kernel", self.page.wait_for_timeout)
        return mine()[0]

    def run_all(self) -> None:
        self.page.get_by_role("menuitem", name="Edit", exact=True).first.click()
        self.page.get_by_role("menuitem", name="Clear Outputs of All Cells").click()
        self.page.get_by_role("menuitem", name="Run", exact=True).first.click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.locator(".jp-OutputArea-output", has_text="LAST-CELL").wait_for()
        self.card.wait_for()
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(200)

    def done(self, count: int) -> None:
        """Wait until the card says that `count` are done, and long enough to be believed again."""
        self.page.locator(f".lm-card[data-done='{count}']").wait_for()
        self.settle()

    def press(self, key: str) -> None:
        self.card.focus()
        self.page.keyboard.press(key)

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("RLHF_SCREENSHOTS"):
            self.card.screenshot(path=Path(folder) / f"card_{name}.png")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    server = Lab(tmp_path_factory.mktemp("lab"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split(), timeout=WAIT_MS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, device_scale_factor=1.5)
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


def kinds(lab: Lab, name: str = "labels.db") -> list[tuple]:
    with sqlite3.connect(f"file:{lab.work / name}?mode=ro", uri=True) as db:
        return db.execute("select kind, choice, shown from events order by id").fetchall()


def test_a_sitting_with_reload_and_restart(lab: Lab, page: Any) -> None:
    nb = Notebook(lab, page, "sitting.ipynb", STORIES)
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    nb.shoot("light")

    # by click, by key, and back again; what was clicked is what was stored
    text = nb.card.locator(".lm-option").nth(2).locator(".lm-text").inner_text()
    nb.card.locator(".lm-option").nth(2).click()
    nb.done(1)
    ((kind, choice, shown),) = kinds(lab)
    ends = ["Cedric added", "The brass band", "Buzzing flies", "By early"]
    assert kind == "choose" and json.loads(shown)[2] == choice and text.startswith(ends[choice])
    nb.press("1")
    nb.done(2)
    nb.press("t")
    nb.done(3)
    nb.press("Backspace")
    nb.done(2)
    nb.press("s")
    nb.done(3)
    assert [row[0] for row in kinds(lab)] == ["choose", "choose", "tie", "undo", "skip"]
    assert json.loads(kinds(lab)[1][2])[0] == kinds(lab)[1][1]
    nb.shoot("saved")

    # a double click is one answer, and JupyterLab's own keys (b inserts a cell, dd deletes one) do nothing in the card
    nb.card.locator(".lm-option").nth(0).dblclick()
    nb.done(4)
    for key in ("b", "x", "d", "d", "m"):
        nb.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells and len(kinds(lab)) == 6
    nb.press("Escape")
    assert not nb.card.evaluate("card => card.contains(document.activeElement)")

    # reload: run the cell again and go on
    nb.open()
    nb.run_all()
    nb.done(4)
    nb.press("2")
    nb.done(5)

    # restart under the card: it must say that nothing was saved, and the cell run again must resume
    lab.ask(f"kernels/{nb.kernel()}/restart", "POST")
    nb.kernel()
    nb.press("3")
    page.locator(".lm-card[data-state='silent']").wait_for()
    assert "Not saved yet" in nb.card.locator("[role=status]").inner_text() and len(kinds(lab)) == 7
    nb.shoot("silent")
    nb.run_all()
    nb.done(5)
    for count in (6, 7, 8):
        nb.press("4")
        nb.done(count)
    assert nb.card.get_attribute("data-state") == "done" and "Thank you" in nb.card.inner_text()
    nb.shoot("done")
    assert len(kinds(lab)) == 10
    assert nb.complaints == []
    assert [url for url in nb.requests if not url.startswith((lab.base, "data:", "blob:"))] == []


def test_dark_hostile_and_a_failed_save(lab: Lab, page: Any) -> None:
    lab.theme("JupyterLab Dark")
    nb = Notebook(lab, page, "dark.ipynb", HASTY + STORIES.replace("labels.db", "dark.db"))
    background = nb.card.evaluate("card => getComputedStyle(card).backgroundColor")
    assert sum(int(x) for x in background.removeprefix("rgb(").rstrip(")").split(",")) < 200
    nb.card.locator(".lm-option").nth(1).hover()
    nb.shoot("dark")
    nb.page.set_viewport_size({"width": 620, "height": 1000})
    nb.shoot("narrow")
    nb.page.set_viewport_size({"width": 1200, "height": 900})

    # another program holds the file: the card says that it is not saved, keeps the choice, and saves when it can
    with sqlite3.connect(lab.work / "dark.db", isolation_level=None) as other:
        other.execute("begin immediate")
        nb.press("2")
        page.locator(".lm-card[data-state='error']").wait_for()
        assert "Not saved: database is locked" in nb.card.locator("[role=status]").inner_text()
        assert nb.card.locator(".lm-option.lm-chosen .lm-key").inner_text() == "2"
        nb.shoot("error")
        other.execute("rollback")
    nb.done(1)  # without another press
    assert len(kinds(lab, "dark.db")) == 1

    nb = Notebook(lab, page, "hostile.ipynb", HOSTILE)
    assert page.evaluate("window.HACKED") is None and nb.card.locator("img, script, b, i, style").count() == 0
    assert nb.card.locator(".lm-mark").all_inner_texts().count("[U+202E]") == 1
    assert "<script>window.HACKED=1</script>" in nb.card.locator(".lm-prompt").inner_text()
    assert nb.card.evaluate("card => card.scrollWidth <= card.clientWidth + 1")
    nb.shoot("hostile")
    nb.press("1")
    nb.done(1)
    assert len(kinds(lab, "hostile.db")) == 1
