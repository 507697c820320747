"""The files of a table in an object store: put whole under their name, if that is free.

A put with `If-None-Match: *` is atomic and durable when it is answered: a name is taken once, and
nobody sees half an object. So nothing is written aside, nothing is renamed, and no stream is used,
which could publish what came before an error.

The race: a put reaches the store, its answer is lost, and the client sends it again. The second one
finds the name taken, by itself. Each put carries a token of its own in the object's metadata, so
that the loser of a race is told from the winner who was not told.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import ObjectStore

from streamflow.edges.object_store import OpenObject, in_words
from streamflow.edges.table_names import check_name
from streamflow.edges.whole_file import WholeFile
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import NewFile, OpenFile
from streamflow.retry import ErrorClass

#: What S3 and Azure take; a longer key is never taken.
MAX_KEY_BYTES = 1024
#: Azure takes only letters and digits in the names of metadata.
TOKEN = "streamflowput"  # noqa: S105
#: Never deleted and never changed: it is there so that a second put can be refused.
PROBE = "tmp/conditional-put"


def ignore(_point: str) -> None:
    """The faults of production: none."""


class ObjectFiles:
    """`TableFiles` below `<folder>/` of a store, with private files below `<folder>.streamflow/`.

    One may be used by several threads. `faults` is called with `temp` (nothing is sent yet) and
    `linked` (the object is there). Before the first object a store that ignores the condition is
    found out, and refused: there two writers would both believe that a name is theirs.

    Args:
        store: Opened by `open_store`.
        where: What to call it in messages, `s3://bucket`.
        folder: The table's folder in the store.
    """

    def __init__(
        self,
        store: ObjectStore,
        where: str,
        folder: str,
        *,
        faults: Callable[[str], None] = ignore,
    ) -> None:
        check_name(folder, private=False)
        self._store = store
        self._where = where
        self._table = folder
        self._beside = f"{folder}.streamflow"
        self._faults = faults
        self._checking = threading.Lock()  # guards _checked
        self._checked = False

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """See `TableFiles.create`.

        An error after the object was put, such as a lost answer, leaves it visible; the next call
        returns False.
        """
        key = self._key(name, private=private)
        self._see_that_a_name_is_taken_once()
        self._faults("temp")
        created = self._put(key, data)
        self._faults("linked")
        return created

    def begin(self, name: str) -> NewFile:
        """See `TableFiles.begin`. It is put at once when it is whole."""
        return WholeFile(self, name)

    def exists(self, name: str, *, private: bool = False) -> bool:
        """See `TableFiles.exists`."""
        key = self._key(name, private=private)
        try:
            with in_words(self._url(key)):
                obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, *, private: bool = False) -> bytes:
        """See `TableFiles.read`."""
        key = self._key(name, private=private)
        with in_words(self._url(key)):
            return bytes(obstore.get(self._store, key).bytes())

    def tail(self, name: str, nbytes: int) -> bytes:
        """See `TableFiles.tail`."""
        key = self._key(name, private=False)
        with in_words(self._url(key)):
            size = obstore.head(self._store, key)["size"]
            start = max(size - nbytes, 0)
            if start == size:
                return b""
            return bytes(obstore.get_range(self._store, key, start=start, end=size))

    def open(self, name: str) -> OpenFile:
        """See `TableFiles.open`."""
        key = self._key(name, private=False)
        url = self._url(key)
        with in_words(url):
            found = obstore.head(self._store, key)
        return OpenObject(self._store, key, url, found["size"], found["e_tag"])

    def names(self, *, private: bool = False) -> list[str]:
        """See `TableFiles.names`."""
        found = self._listed(f"{self._beside if private else self._table}/")
        return [name for name in found if not (private and name.startswith("tmp/"))]

    def delete_private(self, names: Iterable[str]) -> None:
        """See `TableFiles.delete_private`. One by one: not every store has a request for many."""
        for name in names:
            self._delete(self._key(name, private=True))

    def sizes(self) -> Mapping[str, int]:
        """See `ReplaceableFiles.sizes`."""
        return self._listed(f"{self._table}/")

    def replace(self, name: str, data: bytes | memoryview) -> None:
        """See `ReplaceableFiles.replace`. To send it twice is to send it once."""
        key = self._key(name, private=False)
        self._faults("temp")
        with in_words(self._url(key)):
            obstore.put(self._store, key, memoryview(data).cast("B"), use_multipart=False)

    def exchange(self, name: str, seen: bytes, data: bytes) -> bool:
        """See `ReplaceableFiles.exchange`: put on condition that it is the object that was read."""
        key = self._key(name, private=True)
        with in_words(self._url(key)):
            try:
                found = obstore.get(self._store, key)
                # GCS goes by the version, the others by the tag.
                known = {"e_tag": found.meta["e_tag"], "version": found.meta["version"]}
                mode: Any = {name: value for name, value in known.items() if value is not None}
                if bytes(found.bytes()) != seen:
                    return False
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (FileNotFoundError, PreconditionError):
                return False
        return True

    def delete(self, name: str) -> None:
        """See `ReplaceableFiles.delete`."""
        self._delete(self._key(name, private=False))

    def _delete(self, key: str) -> None:
        try:
            with in_words(self._url(key)):
                obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def _listed(self, top: str) -> dict[str, int]:
        """The names below `top`, sorted, and their bytes."""
        with in_words(self._url(top)):
            found = {
                each["path"].removeprefix(top): each["size"]
                for chunk in obstore.list(self._store, prefix=top)
                for each in chunk
                if each["path"].startswith(top)
            }
        return dict(sorted(found.items()))

    def _url(self, key: str) -> str:
        return f"{self._where}/{key}"

    def _key(self, name: str, *, private: bool) -> str:
        check_name(name, private=private)
        key = f"{self._beside if private else self._table}/{name}"
        if len(key.encode()) > MAX_KEY_BYTES:
            raise SinkRefused(
                f"{self._url(key)}: the name has more than {MAX_KEY_BYTES} bytes, which no store"
                " takes; partition by shorter values"
            )
        return key

    def _put(self, key: str, data: bytes | memoryview) -> bool:
        token = uuid.uuid4().hex
        with in_words(self._url(key)):
            try:
                obstore.put(
                    self._store,
                    key,
                    memoryview(data).cast("B"),
                    mode="create",
                    use_multipart=False,
                    attributes={TOKEN: token},
                )
            except AlreadyExistsError:
                return self._is_own(key, token)
            except FileNotFoundError:
                raise SinkUnavailable(
                    f"{self._where} is not there; make it",
                    ErrorClass.PERMISSION,
                ) from None
        return True

    def _is_own(self, key: str, token: str) -> bool:
        """Was the object that is there put by the very call that was refused?

        Raises:
            SinkUnavailable: nothing is there. S3 refuses a put also while another request to the
                same name is in the way, and says that it is to be tried again.
        """
        try:
            found = obstore.get(self._store, key, options={"head": True}).attributes
        except FileNotFoundError:
            raise SinkUnavailable(
                f"{self._url(key)}: another request for the same name is in the way; it is tried"
                " again"
            ) from None
        return found.get(TOKEN) == token

    def _see_that_a_name_is_taken_once(self) -> None:
        with self._checking:
            if self._checked:
                return
            key = f"{self._beside}/{PROBE}"
            if self._put(key, b"") and self._put(key, b""):
                raise SinkRefused(
                    f"{self._where} takes a second put under one name, although it is told not to"
                    " (If-None-Match: *): two writers could take the same name, and rows would be"
                    " lost; put the table into a store that has conditional puts"
                )
            self._checked = True
