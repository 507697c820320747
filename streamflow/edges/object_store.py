"""Opens object stores through obstore, and says in our own words what goes wrong there.

What a store answers can hold keys, signatures and signed addresses. So nothing of it is passed on
but the number and the name of an error, which are looked for; the exception is not chained.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import obstore
import obstore.exceptions as told
from obstore.store import ObjectStore, from_url

from streamflow.errors import SettingsError, SinkRefused, SinkUnavailable
from streamflow.retry import ErrorClass
from streamflow.store_url import STORES

#: Tries of one request in the client; after these the partition waits, and says so.
TRIES = 2
_STATUS = re.compile(r"status code:? (\d{3})")
#: How `deltalake` draws which error came of which.
_DRAWN = re.compile(r"(?:\x1b\[\d+m|\u21b3|\s)+")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_METADATA = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
_KINDS = {
    400: ErrorClass.LOGIC,
    401: ErrorClass.PERMISSION,
    403: ErrorClass.PERMISSION,
    404: ErrorClass.PERMISSION,
    408: ErrorClass.TIMEOUT,
    429: ErrorClass.RESOURCE_EXHAUSTION,
    503: ErrorClass.RESOURCE_EXHAUSTION,
    504: ErrorClass.TIMEOUT,
    507: ErrorClass.RESOURCE_EXHAUSTION,
}


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How stores are spoken to. `endpoint` is that of an S3-compatible server, and of no use to
    others; `timeout` bounds one request with all its bytes.
    """

    endpoint: str | None = None
    allow_http: bool = False
    timeout: timedelta = timedelta(minutes=2)


def open_store(url: str, options: StoreOptions) -> ObjectStore:
    """The store of an address `s3://bucket`, with the credentials of the environment or the
    machine. Nothing is asked of it yet.

    Raises:
        SettingsError: what is in the environment does not name a store.
    """
    is_s3 = url.startswith("s3://")
    config: Any = {"endpoint": options.endpoint} if is_s3 and options.endpoint else {}
    client: Any = {"allow_http": options.allow_http, "timeout": options.timeout}
    retry: Any = {"max_retries": TRIES - 1, "retry_timeout": options.timeout}
    try:
        return from_url(url, config=config, client_options=client, retry_config=retry)
    except (told.BaseError, ValueError) as error:
        scheme = url.partition("://")[0]
        hint = " (no account is named)" if "Account must be" in str(error) else ""
        raise SettingsError(
            f"{url} cannot be opened{hint}: look at the variables that give access to it, such as"
            f" {STORES[scheme][1]}, and at STREAMFLOW_STORE_ENDPOINT"
        ) from None


@contextmanager
def in_words(where: str) -> Generator[None]:
    """Say what the store at `where` says. `FileNotFoundError` and `AlreadyExistsError` are answers
    and go through.

    Raises:
        SinkUnavailable: with the kind of the failure; it can be tried again.
        SinkRefused: the store will never do it.
    """
    try:
        yield
    except told.AlreadyExistsError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(where) from None
    except told.BaseError as error:
        raise in_words_of(where, error) from None


class OpenObject:
    """An `OpenFile`: each part is asked for on condition that the object is still the same one."""

    def __init__(
        self, store: ObjectStore, key: str, url: str, size: int, e_tag: str | None
    ) -> None:
        self._store = store
        self._key = key
        self._url = url
        self.size = size
        self._condition: Any = {} if e_tag is None else {"if_match": e_tag}

    def read(self, start: int, nbytes: int) -> bytes:
        """See `OpenFile.read`."""
        if not nbytes:
            return b""
        options: Any = {"range": (start, start + nbytes), **self._condition}
        with in_words(self._url):
            try:
                return bytes(obstore.get(self._store, self._key, options=options).bytes())
            except (FileNotFoundError, told.PreconditionError):
                raise SinkUnavailable(f"{self._url} was changed while it was read") from None

    def close(self) -> None:
        """See `OpenFile.close`: nothing is held."""


def in_words_of(where: str, error: Exception) -> SinkUnavailable | SinkRefused:
    """What an error of the client says, in our own words."""
    text = _DRAWN.sub(" ", str(error))
    status = _STATUS.search(text)
    number = int(status[1]) if status else None
    code = _CODE.search(text)
    answer = f"{number or ''} {code[1] if code else ''}".strip()
    if isinstance(error, told.NotSupportedError) or number == 501:
        return SinkRefused(
            f"{where}: the store does not know conditional puts (If-None-Match: *), which keep two"
            " writers from taking one name; put the table into one that has them"
        )
    if any(address in text for address in _METADATA):
        return SinkUnavailable(
            f"{where}: there are no credentials: they are neither in the environment nor given by"
            " the machine; set them and start again",
            ErrorClass.PERMISSION,
        )
    if isinstance(error, told.PermissionDeniedError | told.UnauthenticatedError):
        return _not_allowed(where, answer)
    if number is not None:
        kind = _KINDS.get(number, ErrorClass.NETWORK if number >= 500 else ErrorClass.LOGIC)
        if kind is ErrorClass.PERMISSION:
            return _not_allowed(where, answer)
        return SinkUnavailable(f"{where}: the store answers {answer}", kind)
    if any(word in text for word in ("Timeout", "TimedOut", "timed out")):
        return SinkUnavailable(f"{where}: the store did not answer in time", ErrorClass.TIMEOUT)
    if "redirect" in text:
        return SinkUnavailable(
            f"{where}: the store is in another region; set AWS_REGION and start again",
            ErrorClass.LOGIC,
        )
    return SinkUnavailable(
        f"{where}: the store cannot be reached; is it there, and is its address right?",
        ErrorClass.NETWORK,
    )


def _not_allowed(where: str, answer: str) -> SinkUnavailable:
    return SinkUnavailable(
        f"{where}: the store does not let us ({answer or 'no permission'}); let these credentials"
        " read, write, list and delete there",
        ErrorClass.PERMISSION,
    )
