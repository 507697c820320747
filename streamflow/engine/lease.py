"""A lease on a table, for commands that rewrite it: one at a time.

It spares two of them each other's work. No row depends on it: what they do is safe without
(`compact.py`), also where a lease has run out under a command that is slow.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import orjson

from streamflow.clock import Clock, from_millis, millis
from streamflow.errors import StateRefused
from streamflow.ports import TableFiles

LEASE = "lease.json"
#: A command that has not ended by then is taken for dead.
LONGEST = timedelta(hours=1)


@contextmanager
def lease(files: TableFiles, holder: str, clock: Clock) -> Generator[None]:
    """Hold the lease.

    Raises:
        StateRefused: somebody else holds it.
    """
    now = millis(clock.now())
    mine = orjson.dumps({"holder": holder, "until": now + LONGEST // timedelta(milliseconds=1)})
    while not files.create(LEASE, mine, private=True):
        try:
            found: Any = orjson.loads(files.read(LEASE, private=True))
        except FileNotFoundError:
            continue
        if now < found["until"]:
            raise StateRefused(
                f"{found['holder']} is rewriting this table, or has died in it: its lease runs out"
                f" at {from_millis(found['until']):%Y-%m-%d %H:%M:%S} UTC; wait until then"
            )
        files.delete_private([LEASE])
    try:
        yield
    finally:
        files.delete_private([LEASE])
