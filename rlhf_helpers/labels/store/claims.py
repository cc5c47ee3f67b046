"""What each window of a labeler shows just now, so that a second window shows something else.
Functions of an open connection."""

from __future__ import annotations

import os
import socket
import time

import sqlalchemy as sa

from rlhf_helpers.labels.store.tables import claims

CLAIM_SECONDS = 600.0  # a window that shows an item longer than this has been left alone


def claim(db: sa.Connection, labeler: str, comparison_id: str, holder: str, repeat: bool) -> bool:
    """Give the item to this window and drop its other claims, or return False if another shows it.

    A claim that the window already has is renewed only when half of its time is over, because each
    write waits for the disk.
    """
    c, now = claims.c, time.time()
    key = {"labeler": labeler, "comparison_id": comparison_id, "repeat": repeat}
    same = sa.and_(*(c[name] == value for name, value in key.items()))
    row = db.execute(sa.select(c.holder, c.until).where(same)).first()
    if row is not None and row.holder != holder and is_shown(*row):
        return False
    count = db.scalar(sa.select(sa.func.count()).where(c.holder == holder))
    if row is not None and row.holder == holder and count == 1:
        if row.until > now + CLAIM_SECONDS / 2:
            return True
    db.execute(sa.delete(claims).where(sa.or_(same, c.holder == holder)))
    db.execute(sa.insert(claims).values(**key, holder=holder, until=now + CLAIM_SECONDS))
    return True


def claimed(db: sa.Connection, labeler: str, but: str) -> set[tuple[str, bool]]:
    """Return the items that the labeler's other windows show, as (id, whether it is a repeat)."""
    rows = db.execute(
        sa.select(claims).where(claims.c.labeler == labeler, claims.c.holder != but)
    ).all()
    return {(row.comparison_id, row.repeat) for row in rows if is_shown(row.holder, row.until)}


def release(db: sa.Connection, labeler: str, holders: str) -> None:
    """Drop the claims of every window of the labeler whose name begins with `holders`."""
    db.execute(
        sa.delete(claims).where(
            claims.c.labeler == labeler, claims.c.holder.startswith(holders, autoescape=True)
        )
    )


def is_shown(holder: str, until: float) -> bool:
    """Tell whether a window may still show what it claimed.

    It does unless its claim is too old, or its process ran on this host and has ended.
    """
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
