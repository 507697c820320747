"""Of which kind a failure is: by the exception's type, where that does not tell by its number, its
HTTP status or its words. What is not known is LOGIC, and not tried again.

An exception of a user's own says it itself, by an attribute: `error_class = ErrorClass.NETWORK`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pydantic
from aiokafka import errors as kafka

from streamflow.errors import SinkUnavailable, StreamflowError, TaskLost
from streamflow.failed_words import NOT_ITS_OWN, words_of
from streamflow.retry import RETRYABLE, ErrorClass

N, T, D, R, P, L = (
    ErrorClass.NETWORK,
    ErrorClass.TIMEOUT,
    ErrorClass.DATA_QUALITY,
    ErrorClass.RESOURCE_EXHAUSTION,
    ErrorClass.PERMISSION,
    ErrorClass.LOGIC,
)

#: Failures that do not pass; without progress a task is not taken up again for ever after them.
HOPELESS = frozenset({L, D})

#: The first that fits counts, so the narrower comes first.
_TYPES: tuple[tuple[type[BaseException], ErrorClass], ...] = (
    (MemoryError, R),
    (TimeoutError, T),
    (ssl.SSLCertVerificationError, P),
    (ssl.SSLError, N),
    (PermissionError, P),
    (ConnectionError, N),
    (EOFError, N),
    (pydantic.ValidationError, D),
    (UnicodeError, D),
    (kafka.RequestTimedOutError, T),
    (kafka.KafkaTimeoutError, T),
    (kafka.RecordTooLargeError, D),
    (kafka.MessageSizeTooLargeError, D),
    (kafka.RecordListTooLargeError, D),
    (kafka.InvalidTimestampError, D),
    (kafka.CorruptRecordException, D),
    (kafka.TopicAuthorizationFailedError, P),
    (kafka.GroupAuthorizationFailedError, P),
    (kafka.ClusterAuthorizationFailedError, P),
    (kafka.TransactionalIdAuthorizationFailed, P),
    (kafka.AuthenticationFailedError, P),
    (kafka.SaslAuthenticationFailed, P),
    (kafka.PolicyViolationError, P),
    (kafka.QuotaViolationError, R),
    (kafka.KafkaStorageError, R),
    # These pass, though the client does not call them retriable.
    (kafka.KafkaUnavailableError, N),
    (kafka.BrokerNotAvailableError, N),
    (kafka.ReplicaNotAvailableError, N),
    (kafka.ConcurrentTransactions, N),
    (kafka.RebalanceInProgressError, N),
    (SinkUnavailable, N),
    (TaskLost, N),
)
_ERRNO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM), R),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), P),
    **dict.fromkeys((errno.ETIMEDOUT,), T),
    **dict.fromkeys((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN), N),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.EAGAIN), N),
}
#: Answers of an HTTP service, whichever client brings them.
_HTTP = {401: P, 403: P, 407: P, 408: T, 425: N, 429: R, 503: R, 504: T, 507: R}
#: Clients of HTTP that are not installed here: httpx and aiohttp name what happened in the type.
_NAMED = {
    "TimeoutException": T,
    "ClientConnectionError": N,
    "ClientPayloadError": N,
    "NetworkError": N,
    "RemoteProtocolError": N,
}
#: RocksDB has one exception for all.
_WORDS = (("No space left on device", R), ("Disk quota exceeded", R), ("Permission denied", P))


def classify(error: BaseException) -> ErrorClass:
    """The kind of a failure."""
    for tell in _WAYS:
        kind = None
        with suppress(Exception):  # of a user's anything may fail, also its words
            kind = tell(error)
        if kind is not None:
            return kind
    return L


def as_failure(error: BaseException) -> Exception:
    """An exception as one that can be dealt with: also where it is no `Exception`, as those of
    libraries in Rust are, or a cancellation that nobody has asked for. One that ends the coroutine
    or the process is raised.
    """
    if isinstance(error, Exception):
        return error
    task = asyncio.current_task()
    is_cancelled = isinstance(error, asyncio.CancelledError)
    if isinstance(error, NOT_ITS_OWN) or (is_cancelled and (task is None or task.cancelling())):
        raise error
    made = RuntimeError(words_of(error))
    made.__cause__ = error
    return made


def is_retryable(error: BaseException) -> bool:
    """Does it pass by itself?"""
    return classify(error) in RETRYABLE


def is_hopeless(error: Exception) -> bool:
    """Is it a defect, which taking the task up again will not mend? Our own errors say what they
    ask for by their class.
    """
    return not isinstance(error, StreamflowError) and classify(error) in HOPELESS


def is_short_of_memory(error: BaseException) -> bool:
    """Did memory not suffice?"""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)


def is_disk_full(error: BaseException) -> bool:
    """Is there no room on a disk?"""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    cause = error.__cause__
    words = any(found in str(error) for found, kind in _WORDS if kind is R)
    return words or (cause is not None and is_disk_full(cause))


def _told(error: BaseException) -> ErrorClass | None:
    told: Any = getattr(error, "error_class", None)
    return told if isinstance(told, ErrorClass) else None


def _by_type(error: BaseException) -> ErrorClass | None:
    for kind, made in _TYPES:
        if isinstance(error, kind):
            return made
    if isinstance(error, socket.gaierror):
        # A name that nobody knows stays unknown; only a name server that is away comes back.
        return N if error.errno == socket.EAI_AGAIN else L
    if isinstance(error, OSError):
        return _ERRNO.get(error.errno or 0)
    if isinstance(error, kafka.KafkaError):
        return N if error.retriable else None
    return None


def _by_status(error: BaseException) -> ErrorClass | None:
    answer: Any = getattr(error, "response", error)
    status: Any = getattr(answer, "status_code", getattr(answer, "status", None))
    if type(status) is not int or not 400 <= status <= 599:
        return None
    return _HTTP.get(status, N if status >= 500 else D)


def _by_name(error: BaseException) -> ErrorClass | None:
    for base in type(error).__mro__:
        if base.__name__ in _NAMED:
            return _NAMED[base.__name__]
    return None


def _by_words(error: BaseException) -> ErrorClass | None:
    text = str(error)
    return next((kind for found, kind in _WORDS if found in text), None)


_WAYS: tuple[Callable[[BaseException], ErrorClass | None], ...] = (
    _told,
    _by_type,
    _by_status,
    _by_name,
    _by_words,
)
