"""What the browser tests share. Where Playwright, JupyterLab or Chromium is missing they are
skipped, and say so."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: pip install playwright"
)
for package in ("nbformat", "jupyterlab", "notebook", "anywidget"):
    pytest.importorskip(package, reason=f"needs the notebook packages: {package} is missing")

from harness import WAIT_MS, Lab  # noqa: E402  # imports what the lines above look for

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
AXE = "axe-core@4.14.1"  # checks accessibility; taken from npm, kept in pytest's cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if CHROMIUM is None and here in item.path.parents:
            item.add_marker(
                pytest.mark.skip(reason="needs Chromium, for instance: apt-get install chromium")
            )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def lab(server: Lab) -> Iterator[Lab]:
    """The server, without kernels of earlier tests."""
    server.theme("JupyterLab Light")
    yield server
    server.kernels_off()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split(), timeout=WAIT_MS)
        yield opened
        opened.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[[], Any]]:
    """Open windows, each with cookies of its own; 1200 by 900 at one and a half pixels a point."""
    contexts = []

    def make() -> Any:
        contexts.append(
            browser.new_context(viewport={"width": 1200, "height": 900}, device_scale_factor=1.5)
        )
        contexts[-1].set_default_timeout(WAIT_MS)
        return contexts[-1].new_page()

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[[], Any]) -> Any:
    return new_page()


@pytest.fixture(scope="session")
def axe_script(request: pytest.FixtureRequest) -> str:
    """The text of axe-core, or in words why there is none."""
    folder = Path(request.config.cache.mkdir("axe"))
    archive = folder / f"{AXE.replace('@', '-')}.tgz"
    if not archive.exists():
        if (npm := shutil.which("npm")) is None:
            return f"needs {AXE}, which npm would fetch; there is no npm here"
        fetched = subprocess.run(
            [npm, "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120
        )
        if fetched.returncode:
            return f"needs {AXE}, which npm could not fetch: {fetched.stderr.strip()[-200:]}"
    with tarfile.open(archive) as packed:
        return packed.extractfile("package/axe.min.js").read().decode()


@pytest.fixture
def axe(axe_script: str) -> Callable[[Any], list[str]]:
    """Check what a locator shows for accessibility, and return what is wrong with it; without
    axe-core, warn that nobody looked."""

    def check(locator: Any) -> list[str]:
        if axe_script.startswith("needs"):
            # the rest of the test is still worth running
            warnings.warn(f"accessibility NOT checked here: {axe_script}", stacklevel=2)
            return []
        locator.page.evaluate(axe_script)
        found = locator.evaluate("(node) => axe.run(node, {resultTypes: ['violations']})")[
            "violations"
        ]
        return [
            f"{x['impact']} {x['id']}: {node['html'][:160]} {node['failureSummary']}"
            for x in found
            for node in x["nodes"]
        ]

    return check
