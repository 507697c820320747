"""A lease on a table, for commands that rewrite it: one at a time.

It spares two of them each other's work. No row depends on it: what they do is safe without
(`compact.py`), also where a lease has run out under a command that is slow.

It is a file beside the table, with its holder and the time until which it holds, under a name that
is taken once. Where it has run out it is exchanged, by one of those who find it so; and only its
own holder deletes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import orjson

from streamflow.clock import Clock, from_millis, millis
from streamflow.errors import StateRefused
from streamflow.ports import ReplaceableFiles

LEASE = "lease.json"
#: A command that has not ended by then is taken for dead.
LONGEST = timedelta(hours=1)


@contextmanager
def lease(files: ReplaceableFiles, holder: str, clock: Clock) -> Generator[None]:
    """Hold the lease.

    Raises:
        StateRefused: somebody else holds it.
        SinkUnavailable: the store of the table does not answer.
    """
    now = millis(clock.now())
    until = now + LONGEST // timedelta(milliseconds=1)
    mine = orjson.dumps({"holder": holder, "until": until, "token": uuid.uuid4().hex})
    while not _taken(files, mine, now):
        continue
    try:
        yield
    finally:
        if _standing(files) == mine:
            files.delete_private([LEASE])


def _taken(files: ReplaceableFiles, mine: bytes, now: int) -> bool:
    """Is it ours now? False where it has changed hands meanwhile, and has to be looked at again."""
    if files.create(LEASE, mine, private=True):
        return True
    standing = _standing(files)
    if standing is None or standing == mine:  # an answer was lost
        return standing == mine
    found: Any = orjson.loads(standing)
    if now < found["until"]:
        raise StateRefused(
            f"{found['holder']} is rewriting this table, or has died in it: its lease runs out"
            f" at {from_millis(found['until']):%Y-%m-%d %H:%M:%S} UTC; wait until then"
        )
    return files.exchange(LEASE, standing, mine)


def _standing(files: ReplaceableFiles) -> bytes | None:
    try:
        return files.read(LEASE, private=True)
    except FileNotFoundError:
        return None
