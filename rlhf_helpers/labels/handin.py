"""Handing in labels: one file that is complete, was read back, and comes with a receipt.

The file is in a store's own format (`exchange.export`): JSON lines with the whole history. Students
hand it in instead of the database; `agreement.merge` takes it.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlhf_helpers.labels.store import Contents, Event, LabelStore, StoreError
from rlhf_helpers.labels.store.opening import SQLITE_MAGIC


@dataclass(frozen=True)
class Receipt:
    """What a file of labels holds, counted after reading it back.

    `labels` counts the choices that stand, gold items included; `simulated` how many of them no
    person made; `others` the other answers that stand: "cannot tell", skipped, second answers.
    """

    path: Path
    labels: int
    simulated: int
    others: int
    labelers: tuple[str, ...]
    sha256: str

    def __str__(self) -> str:
        if not self.labels + self.others:
            return f"No labels inside {self.path.name}"
        what = "1 label" if self.labels == 1 else f"{self.labels:,} labels"
        if self.simulated:
            count = "" if self.simulated == self.labels else f"{self.simulated:,} of them "
            what += f" ({count}simulated)"
        if self.others:
            what += f" and {self.others:,} other answer{'s' if self.others > 1 else ''}"
        who = self.labelers[0] if len(self.labelers) == 1 else f"{len(self.labelers)} labelers"
        return f"{what} by {who} inside {self.path.name}, sha256 {self.sha256[:12]}"

    def _repr_html_(self) -> str:
        return (
            f"<p><strong>{html.escape(str(self))}</strong><br>"
            f"Hand in this file: <code>{html.escape(os.path.relpath(self.path))}</code></p>"
        )


def hand_in(store: LabelStore, labeler: str, folder: Path | str = ".") -> Receipt:
    """Write a labeler's whole history to NAME_labels.jsonl, read it back, and return the receipt.

    An earlier hand-in is replaced if this one holds all of it. Otherwise, as when two names give
    one file name, or one person has two stores, the file is called NAME-2_labels.jsonl. Raises
    ValueError if the labeler has no labels in the store, and StoreError if the file does not hold
    what the store holds.
    """
    held = _only(store.contents(), labeler)
    if not held.events:
        known = ", ".join(store.labelers()) or "nobody"
        raise ValueError(f"{store.name} holds no labels by {labeler!r}; it has labels by: {known}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "_", labeler).strip("._") or "labeler"
    with _scratch() as part:
        part.append(held, strict=True)
        return export(part, _target(folder, name, part.contents()))


def export(store: LabelStore, path: Path | str) -> Receipt:
    """Write a whole store to a file, read it back, and return the receipt.

    Raises StoreError if the file does not hold what the store holds.
    """
    from rlhf_helpers.labels import exchange  # it loads transformers, which takes seconds

    path = Path(path)
    exchange.export(store, path)
    with _scratch() as copy:
        exchange.load(copy, path)
        wrote, found = _standing(store), _standing(copy)
        if wrote != found:
            raise StoreError(
                f"{path} does not hold what {store.name} holds: {len(found)} answers instead of "
                f"{len(wrote)}. Did somebody label meanwhile? Try again, and do not use this file"
            )
        labels = copy.labels(gold=True)
        return Receipt(
            path, len(labels), sum(x.simulated for x in labels), len(found) - len(labels),
            tuple(copy.labelers()), hashlib.sha256(path.read_bytes()).hexdigest(),
        )  # fmt: skip


def read(source: LabelStore | Path | str) -> tuple[str, Contents]:
    """Read the name and the contents of a store, or of a file that `hand_in` or `export` wrote.

    The first bytes tell what a file is, not its name; it may be compressed. Raises ValueError for a
    file that is empty or does not exist, and makes nothing in its place.
    """
    if isinstance(source, LabelStore):
        return source.name, source.contents()
    if not Path(source).is_file():
        raise ValueError(f"there is no file {source}")
    with Path(source).open("rb") as file:
        start = file.read(len(SQLITE_MAGIC))
    if not start:
        raise ValueError(f"{source} is empty: ask for the file that handin.hand_in writes")
    if start == SQLITE_MAGIC:
        return str(source), LabelStore(source).contents()
    from rlhf_helpers.labels import exchange

    with _scratch() as copy:
        exchange.load(copy, source)
        return str(source), copy.contents()


def _target(folder: Path, name: str, held: Contents) -> Path:
    """Name the file to write: one that is not there yet, or whose whole history is in `held`."""
    known, number = _history(held), 1
    while True:
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}_labels.jsonl"
        if not path.exists():
            return path
        try:
            if _history(read(path)[1]) <= known:
                return path
        except (ValueError, StoreError):
            pass  # something else, which is left alone
        number += 1


def _history(held: Contents) -> set[Event]:
    """Return the events without their numbers, which differ from store to store."""
    return {event._replace(id=None, undoes=None) for event in held.events}


def _only(held: Contents, labeler: str) -> Contents:
    """Keep one labeler's events, and what they refer to."""
    events = [e for e in held.events if e.labeler == labeler]
    ids = {e.comparison_id for e in events}
    return Contents(
        [c for c in held.comparisons if c.id in ids],
        events,
        [s for s in held.sittings if s.labeler == labeler],
        {i: choice for i, choice in held.gold.items() if i in ids},
        {i: systems for i, systems in held.systems.items() if i in ids},
    )


def _standing(store: LabelStore) -> list[tuple[object, ...]]:
    """List the answers that stand, whatever the numbers of their events."""
    return sorted(
        (e.labeler, e.comparison_id, e.repeat, e.kind, e.choice or 0, e.order)
        for e in store.events(standing=True)
    )


@contextmanager
def _scratch() -> Iterator[LabelStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(Path(folder) / "labels.db")
        try:
            yield store
        finally:
            store.close()
