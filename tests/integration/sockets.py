"""What a process has open, as Linux tells it."""

from contextlib import suppress
from pathlib import Path


def open_files(pid: int) -> set[str]:
    """The targets of a process's descriptors, sockets as `socket:[4711]`."""
    found: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found.add(str(link.readlink()))
    return found
