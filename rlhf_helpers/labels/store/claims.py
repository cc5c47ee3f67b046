"""What is on a labeler's screen just now, so that her second window shows something else. Functions
of an open connection."""

from __future__ import annotations

import os
import socket
import time

import sqlalchemy as sa

from rlhf_helpers.labels.store.tables import claims

CLAIM_SECONDS = 600.0  # a window that shows an item longer than this has been left alone


def claim(db: sa.Connection, labeler: str, comparison_id: str, holder: str, repeat: bool) -> bool:
    """Give the item to the holder, who lets go of any other, or return False if another window
    shows it."""
    c, key = claims.c, {"labeler": labeler, "comparison_id": comparison_id, "repeat": repeat}
    same = sa.and_(*(c[name] == value for name, value in key.items()))
    row = db.execute(sa.select(c.holder, c.until).where(same)).first()
    if row is not None and row.holder != holder and is_shown(*row):
        return False
    db.execute(sa.delete(claims).where(sa.or_(same, c.holder == holder)))
    db.execute(sa.insert(claims).values(**key, holder=holder, until=time.time() + CLAIM_SECONDS))
    return True


def claimed(db: sa.Connection, labeler: str, but: str) -> set[tuple[str, bool]]:
    """Return the items on the labeler's screens, as (id, whether a repeat), but for those of one
    holder."""
    rows = db.execute(
        sa.select(claims).where(claims.c.labeler == labeler, claims.c.holder != but)
    ).all()
    return {(row.comparison_id, row.repeat) for row in rows if is_shown(row.holder, row.until)}


def release(db: sa.Connection, labeler: str, holders: str) -> None:
    """Drop the labeler's claims by every window whose name begins with `holders`."""
    db.execute(
        sa.delete(claims).where(
            claims.c.labeler == labeler, claims.c.holder.startswith(holders, autoescape=True)
        )
    )


def is_shown(holder: str, until: float) -> bool:
    """Say whether a window may still show what it claimed: it is not too old, and its process lives
    (as far as this host can tell)."""
    host, process, _ = holder.rsplit("/", 2)
    # on Windows asking after a process would end it
    if until < time.time() or host != socket.gethostname() or os.name == "nt":
        return until >= time.time()
    try:
        os.kill(int(process), 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
