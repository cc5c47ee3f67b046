"""Where labels are kept: network file systems by mount tables as Linux and macOS write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_helpers.labels import cards, place
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison

# as in proc_pid_mountinfo(5): optional fields before the hyphen, and spaces as \040
MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 master:1 - nfs4 hub:/export/home rw,vers=4.2
31 30 0:41 / /home/local rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/my\040share rw - cifs //server/share rw
33 22 0:43 / /srv rw - ext4 /dev/sdc1 rw
34 33 0:44 / /srv rw - fuse.sshfs ada@hub:/ rw
35 22 0:45 / /opt rw - overlay overlay rw
"""
MACOS = """
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//ada@hub/home on /Volumes/my home (smbfs, nodev, nosuid, mounted by ada)
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/home/ada/rlhf/runs/labels.db", "nfs4"),
        ("/home", "nfs4"),
        ("/homework/labels.db", ""),  # on /, though the letters begin alike
        ("/home/local/labels.db", ""),  # the innermost mount counts
        ("/mnt/my share/labels.db", "cifs"),
        ("/srv/labels.db", "fuse.sshfs"),  # the later of two mounts on one folder is on top
        ("/opt/labels.db", ""),
        ("/elsewhere/labels.db", ""),
    ],
)
def test_network_disks_are_found_in_the_mount_table(path: str, kind: str) -> None:
    assert place.network_disk(path, place.parse_mountinfo(MOUNTINFO)) == kind


def test_network_disks_are_found_in_the_mount_table_of_macos() -> None:
    mounts = place.parse_mount(MACOS)
    assert mounts == [("/", "apfs"), ("/Volumes/my home", "smbfs")]
    assert place.network_disk("/Volumes/my home/labels.db", mounts) == "smbfs"
    assert place.network_disk("/Users/ada/labels.db", mounts) == ""


def test_this_computer_has_a_mount_table_or_none() -> None:
    assert place.network_disk("/", []) == ""
    assert all(Path(point).is_absolute() for point, _ in place.mount_table())


@pytest.mark.parametrize("network", [False, True])
def test_the_card_says_where_labels_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, network: bool
) -> None:
    monkeypatch.setenv("RLHF_HEADLESS", "1")
    root = [("/", "ext4"), (str(tmp_path), "nfs4" if network else "ext4")]
    monkeypatch.setattr(place, "mount_table", lambda: root)
    store = LabelStore(tmp_path / "labels.db")
    card = cards.label([Comparison("t", "q", ("a", "b"))], labeler="ann", store=store)
    (said,) = card.describe()["notes"]
    assert said.startswith(f"Labels are saved in {tmp_path / 'labels.db'}")
    assert ("on a network disk (nfs4)" in said and "one place at a time" in said) is network
    assert str(tmp_path) not in card.picture()  # which is kept in saved notebooks
    card.answer_by_typing(lambda _: "q")
    assert str(tmp_path / "labels.db") in capsys.readouterr().out
    # and nothing but the file itself is used there
    assert [p.name for p in tmp_path.iterdir()] == ["labels.db"]
