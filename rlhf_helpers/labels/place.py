"""Where labels and runs are kept on this machine, and whether that place is on a network disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# names of file systems that are on another computer (as in /proc/self/mountinfo, and of macOS)
NETWORK = {
    "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "davfs", "fuse.davfs2",
    "fuse.sshfs", "sshfs", "macfuse", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs",
    "glusterfs", "ceph", "fuse.ceph", "lustre", "gpfs", "beegfs", "afs", "9p", "ncpfs", "coda",
    "orangefs", "pvfs2", "panfs", "wekafs",
}  # fmt: skip


def folder() -> Path:
    """Return where your own runs and labels live: $RLHF_RUNS, or `runs/` beside the notebooks."""
    return Path(os.environ.get("RLHF_RUNS", ROOT / "runs"))


def network_disk(path: Path | str, mounts: list[tuple[str, str]] | None = None) -> str:
    """Return the network file system that holds a path, for instance "nfs4", or "" for none.

    `mounts` lists (folder, file system), later ones on top of earlier ones; the computer's own
    mount table by default. Where it cannot be read (Windows), the answer is "".
    """
    where = Path(path).resolve()
    kind, depth = "", -1
    for point, name in mount_table() if mounts is None else mounts:
        parts = Path(point).parts
        if where.parts[: len(parts)] == parts and len(parts) >= depth:
            kind, depth = name, len(parts)
    return kind if kind in NETWORK else ""


def mount_table() -> list[tuple[str, str]]:
    """Read (folder, file system) of all mounts; [] where there is no table to read."""
    try:
        if sys.platform == "darwin":
            command = ["/sbin/mount"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5)
            return parse_mount(done.stdout)
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        return parse_mountinfo(text)
    except (OSError, subprocess.SubprocessError):
        return []


def parse_mountinfo(text: str) -> list[tuple[str, str]]:
    """Read the lines of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        if len(fields := before.split(" ")) > 4 and after:
            # space, tab, newline and backslash are written as octal numbers
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
            found.append((point, after.split(" ")[0]))
    return found


def parse_mount(text: str) -> list[tuple[str, str]]:
    """Read what `mount` prints on macOS: `//ada@hub/home on /Volumes/home (smbfs, nodev)`."""
    return re.findall(r"^.* on (/.*) \((\w+)[,)]", text, re.MULTILINE)


def saved_in(file: Path | None, name: str) -> str:
    """Say where a store keeps its labels, and what to mind there."""
    said = f"Labels are saved in {file or name}"
    if file is None or not (kind := network_disk(file)):
        return f"{said}."
    return (
        f"{said}, on a network disk ({kind}): have it open in one place at a time, and hand in the "
        "file that `hand_in` writes, not this one."
    )
