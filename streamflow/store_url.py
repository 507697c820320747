"""Addresses of object stores: `s3://bucket/folder`, `gs://bucket/folder`, `abfs://container/folder`.

They name a place and nothing else. Credentials come from the environment or the machine's role, so
an address with a user, a password or a query is refused, and is not repeated where it is.
"""

from __future__ import annotations

import re
from typing import Final

#: By scheme: how the store calls what it has, and what gives access to it.
STORES: Final = {
    "s3": ("bucket", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "gs": ("bucket", "GOOGLE_SERVICE_ACCOUNT"),
    "abfs": ("container", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
    "abfss": ("container", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
}
#: Before the path of a table with a log of its own.
DELTA: Final = "delta:"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_CONTAINER = re.compile(
    r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9](@[a-z0-9]{3,24}\.dfs\.core\.windows\.net)?"
)
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def is_url(path: str) -> bool:
    """Is it an address, or meant to be one?"""
    return "://" in path


def problem_of(url: str) -> str | None:
    """What is wrong with an address, in words; None for nothing."""
    scheme, _, rest = url.partition("://")
    if scheme not in STORES:
        return f"{scheme}:// is no store that is known; it is one of {', '.join(STORES)}"
    place, _, folder = rest.partition("/")
    user = place.rpartition("@")[0] if scheme in ("s3", "gs") else ""
    if user or ":" in place or "?" in rest or "#" in rest:
        return (
            f"an address {scheme}:// names a place only; credentials come from the environment"
            f" ({STORES[scheme][1]}), an endpoint from STREAMFLOW_STORE_ENDPOINT"
        )
    kind = STORES[scheme][0]
    if not place:
        return f"{scheme}:// is followed by no name of a {kind}: say {scheme}://{kind}/folder"
    if not (_BUCKET if kind == "bucket" else _CONTAINER).fullmatch(place):
        return f"{place!r} is no name of a {kind}"
    if folder and not _FOLDER.fullmatch(folder):
        return f"{folder!r} is no plain folder: letters, digits and . _ -, in parts between /"
    return None


def trimmed(url: str) -> str:
    """An address without slashes at its end, those before its place excepted."""
    scheme, between, rest = url.partition("://")
    return f"{scheme}{between}{rest.rstrip('/')}"


def split(url: str) -> tuple[str, str]:
    """`(store, folder)` of an address without problems: `s3://bucket`, `prefix/table`."""
    scheme, _, rest = url.partition("://")
    place, _, folder = rest.partition("/")
    return f"{scheme}://{place}", folder


def sink_name(path: str) -> str:
    """The name of the sink that writes a table, for its rows topic: the path with `-` for `/`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path)


def located(lake: str, table: str) -> str | None:
    """The address of a table that lies in an object store; None where it lies in a folder."""
    if is_url(table):
        return table
    return f"{lake}/{table}" if is_url(lake) else None
