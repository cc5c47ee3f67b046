"""A real PostgreSQL for tests: in a temporary folder, on a socket in it, as a user without rights,
gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def missing() -> str | None:
    """Say what is missing for a server to be started here, or None."""
    if find_spec("psycopg") is None:
        return "no psycopg here: pip install 'psycopg[binary]'"
    if _program("initdb") is None or _program("postgres") is None:
        return "no PostgreSQL here: install it (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _user() is None:
        return (
            "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
        )
    return None


class Server:
    """Knows its process and its folder; `start` and `stop` may be called again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen | None = None
        self.connection: Any = None
        self.places = 0
        self._as = {"user": _user(), "group": _group()} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(folder, self._as["user"], self._as["group"])
        self._run(
            "initdb",
            "-D",
            folder / "data",
            "-U",
            "labels",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            check=True,
        )

    def start(self) -> None:
        setting = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60")
        command = [_program("postgres"), "-D", self.folder / "data", "-k", self.folder, *setting]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/", **self._as
            )
        for _ in range(300):
            try:
                self.query("select 1")
                return
            except Exception:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-1000:]}")

    def stop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once: nothing here is to be kept tidy
            self.process.wait(timeout=30)
        self.process = None

    def empty(self) -> str:
        """Name a new place without tables: a schema, which is cheaper than a database."""
        self.places += 1
        self.query(f"create schema place_{self.places}")
        return f"place_{self.places}"

    def url(self, place: str) -> str:
        return f"postgresql+psycopg://labels@/postgres?host={self.folder}&options=-csearch_path%3D{place}"

    def query(self, text: str, place: str = "public") -> list[tuple]:
        """Ask the server itself, past the code under test."""
        import psycopg

        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(
                f"host={self.folder} user=labels dbname=postgres", autocommit=True
            )
        self.connection.execute(f"set search_path to {place}")
        cursor = self.connection.execute(text)
        return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: object, check: bool) -> None:
        done = subprocess.run(
            [_program(program), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd="/",
            **self._as,
        )
        assert not check or done.returncode == 0, done.stderr


@contextmanager
def server() -> Iterator[Server]:
    """Start a server in a new folder, and stop it and remove the folder in the end."""
    # short: the name of a socket has at most 107 letters
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    made = None
    try:
        made = Server(folder)
        made.start()
        yield made
    finally:
        with suppress(Exception):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str | None:
    """Find a program of the server; Debian keeps them out of the PATH, one folder a version."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda p: int(p.parent.name) if p.parent.name.isdigit() else 0,
    )
    found = [folder / name for folder in reversed(folders) if (folder / name).exists()]
    return shutil.which(name) or (str(found[0]) if found else None)


def _user() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _group() -> int:
    return pwd.getpwnam(str(_user())).pw_gid
