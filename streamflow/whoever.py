"""Who has started this process, in words for other people."""

from __future__ import annotations

import getpass
import socket
from contextlib import suppress


def whoever() -> str:
    """`user@machine`; `somebody@machine` for a user without a name, as in a container."""
    name = "somebody"
    with suppress(Exception):
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
