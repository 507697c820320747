"""Which names the files of a table may have, the same for every implementation."""

from __future__ import annotations

from streamflow.errors import SinkRefused

MAX_PART_BYTES = 255


def check_name(name: str, *, private: bool) -> None:
    """Raise `SinkRefused` for a name that could leave the table, or that no store would take.

    Private names never end in `.parquet`: engines read whatever is called so.
    """
    parts = name.split("/")
    problem = None
    if any(part in {"", ".", ".."} for part in parts):
        problem = "is not a relative name without empty parts, '.' and '..'"
    elif "\\" in name or any(ord(letter) < 32 for letter in name):
        problem = "holds a backslash or a control character"
    elif any(len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES for part in parts):
        problem = f"has a part of more than {MAX_PART_BYTES} bytes"
    elif private and name.endswith(".parquet"):
        problem = "ends in .parquet, which private names never do"
    elif private and parts[0] == "tmp":
        problem = "lies in tmp/, where only unfinished files are"
    if problem:
        raise SinkRefused(f"file name {name!r} {problem}")
