"""A JupyterLab server of our own, and a notebook open in a browser, for the tests of the cards.

Every wait is for a state, never for a time: the card tells its own (`data-done`, `data-state`,
`data-ready`), the server tells the kernel's. RLHF_BROWSER_WAIT=seconds is the patience for each;
RLHF_SCREENSHOTS=folder keeps pictures.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Error

WAIT_MS = 1000 * int(os.environ.get("RLHF_BROWSER_WAIT", "90"))  # a busy machine is slow, not wrong
ROOT = Path(__file__).resolve().parents[2]
READY = ".lm-card[data-ready]"
SET_UP = """
from rlhf_helpers.labels import cards
from rlhf_helpers.records import Comparison
import os
print("PID", os.getpid())
"""


class Lab:
    """A JupyterLab server in an empty folder, with nothing of the user's settings; it serves
    Notebook 7 as well."""

    def __init__(self, home: Path) -> None:
        self.work, self.home, self.token = home / "work", home, secrets.token_hex(16)
        self.work.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.base = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.theme("JupyterLab Light")
        self._settings("notification", {"fetchNews": "false", "checkForUpdates": False})
        port = self.base.rsplit(":", 1)[1]
        command = [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.work}",
            "--ServerApp.allow_root=True",
            f"--LabApp.user_settings_dir={home / 'us'}",
            f"--LabApp.workspaces_dir={home / 'ws'}",
            "--LabApp.extension_manager=readonly",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        env = {
            **os.environ,
            **{name: str(home / name.lower()) for name in folders},
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        env |= {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "HF_HUB_OFFLINE": "1",
        }
        env.pop("RLHF_HEADLESS", None)
        self.log = (home / "server.log").open("wb")
        self.process = subprocess.Popen(
            command, env=env, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def start(self) -> None:
        self.until(lambda: self.ask("status") is not None, "the server did not start")

    def _settings(self, name: str, values: dict[str, Any]) -> None:
        folder = self.home / "us" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(values))

    def theme(self, name: str) -> None:
        """Choose the theme of pages that are opened from now on."""
        self._settings("themes", {"theme": name})

    def ask(self, what: str, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"{self.base}/api/{what}",
            headers={"Authorization": f"token {self.token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except OSError:
            return None

    def until(
        self,
        condition: Callable[[], Any],
        failure: str,
        pause: Callable[[float], object] | None = None,
    ) -> Any:
        """Wait until the condition gives something true, and return that."""
        pause = pause or (lambda ms: time.sleep(ms / 1000))
        deadline = time.monotonic() + WAIT_MS / 1000
        while not (found := condition()):
            assert time.monotonic() < deadline, (
                f"{failure}\n{(self.home / 'server.log').read_text()[-2000:]}"
            )
            pause(50)
        return found

    def kernels_off(self) -> None:
        for session in self.ask("sessions") or []:
            self.ask(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        self.kernels_off()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def rows(self, sql: str, name: str = "labels.db") -> list[tuple]:
        """Read the database from outside, as another program would."""
        with sqlite3.connect(f"file:{self.work / name}?mode=ro", uri=True) as db:
            return db.execute(sql).fetchall()

    def events(self, name: str = "labels.db") -> list[tuple]:
        """Return (kind, choice, order shown) of every event."""
        return [(kind, choice, json.loads(shown or "[]")) for kind, choice, shown in self.rows(
            "select kind, choice, shown from events order by id", name)]  # fmt: skip


class Notebook:
    """A notebook open in the browser, in JupyterLab or in Notebook 7; `card` is the first labelling
    card in it."""

    def __init__(
        self, lab: Lab, page: Any, name: str, sources: str | Sequence[str], *, app: str = "lab",
        waits: str = READY
    ) -> None:  # fmt: skip
        """Write, open and run a notebook, and wait for `waits`."""
        self.lab, self.page, self.name, self.app, self.waits = lab, page, name, app, waits
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        cells = [
            SET_UP,
            *([sources] if isinstance(sources, str) else sources),
            "print('LAST' + '-CELL')",
        ]
        # or JupyterLab asks which
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel
        )
        nbformat.write(book, lab.work / name)
        self.card = page.locator(".lm-card").first
        self.open()
        self.run_all()

    def open(self) -> None:
        place = {
            "lab": f"lab/workspaces/{self.name[:-6]}/tree/{self.name}?reset&",
            "notebook": f"notebooks/{self.name}?",
        }[self.app]
        self.page.goto(f"{self.lab.base}/{place}token={self.lab.token}")
        self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").first.wait_for()
        self.kernel()

    def kernel(self) -> str:
        """Wait until the notebook's kernel is idle, as the server sees it, and return its id."""

        def mine() -> list[str]:
            sessions = [s for s in self.lab.ask("sessions") or [] if s["path"] == self.name]
            return [
                s["kernel"]["id"]
                for s in sessions
                if s["kernel"]["execution_state"] == "idle" and s["kernel"]["connections"]
            ]

        return self.lab.until(mine, f"{self.name}: no idle kernel", self.page.wait_for_timeout)[0]

    def menu(self, menu: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).first.click()
        # its name ends with a shortcut
        self.page.get_by_role("menuitem", name=re.compile(f"^{re.escape(entry)}")).first.click()

    def run_all(self) -> None:
        self.menu("Edit", "Clear Outputs of All Cells")
        self.start_all()
        self.page.locator(".jp-OutputArea-output", has_text="LAST-CELL").wait_for()
        self.wait(self.waits)

    def start_all(self) -> None:
        self.menu("Run", "Run All Cells")

    def pid(self) -> int:
        """Return the process of the kernel, as the notebook's first cell printed it."""
        return int(
            self.page.locator(".jp-OutputArea-output", has_text="PID").first.inner_text().split()[1]
        )

    def ready(self) -> None:
        """Wait until the card takes presses: it is drawn, and the moment after a redraw in which
        presses count for nothing is over."""
        self.wait(READY)

    def done(self, count: int) -> None:
        """Wait until the card says that `count` are done, and takes presses again."""
        self.wait(f".lm-card[data-done='{count}'][data-ready]")

    def wait(self, selector: str) -> None:
        try:
            self.page.locator(selector).first.wait_for()
        except Error as error:
            seen = self.page.evaluate(
                "() => [...document.querySelectorAll('.lm-card')].map((c) => [{...c.dataset}, "
                "c.innerText])"
            )
            raise AssertionError(
                f"{self.name}: waited for {selector}\nthere: {seen}\npage: "
                f"{self.complaints}\n{error}"
            ) from error

    def press(self, key: str) -> None:
        self.ready()
        self.card.focus()
        self.page.keyboard.press(key)

    def status(self) -> str:
        return self.card.locator("[role=status]").last.inner_text()

    def said(self, words: str) -> None:
        """Wait until the card's status says `words`, and the card takes presses again."""
        self.wait(f".lm-card[data-ready] [role=status]:has-text('{words}')")

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook and read the file, as another program would."""
        path = self.lab.work / self.name
        before = path.stat().st_mtime_ns
        self.menu("File", "Save Notebook")

        def written() -> nbformat.NotebookNode | None:
            try:
                return (
                    nbformat.read(path, as_version=4) if path.stat().st_mtime_ns > before else None
                )
            except nbformat.reader.NotJSONError:  # the server is writing it just now
                return None

        return self.lab.until(written, "the notebook was not saved", self.page.wait_for_timeout)

    def shoot(self, name: str, what: Any = None) -> None:
        if folder := os.environ.get("RLHF_SCREENSHOTS"):
            (what or self.card).screenshot(path=Path(folder) / f"{name}.png", animations="disabled")
