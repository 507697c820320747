"""Of which kind a failure is."""

import errno
import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiokafka import errors as kafka
from pydantic import TypeAdapter, ValidationError

from streamflow.engine.failures import classify, is_disk_full, is_retryable
from streamflow.errors import SinkUnavailable, StreamflowError, TaskLost
from streamflow.retry import ErrorClass

NETWORK, TIMEOUT, DATA, RESOURCE, PERMISSION, LOGIC = (
    ErrorClass.NETWORK,
    ErrorClass.TIMEOUT,
    ErrorClass.DATA_QUALITY,
    ErrorClass.RESOURCE_EXHAUSTION,
    ErrorClass.PERMISSION,
    ErrorClass.LOGIC,
)


def not_valid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("x")
    return caught.value


def answered(status: int) -> Exception:
    """As httpx and requests tell it: the answer is in the error."""
    error: Any = RuntimeError(f"HTTP {status}")
    error.response = SimpleNamespace(status_code=status)
    return error


class TimeoutException(Exception):
    pass


class ReadTimeout(TimeoutException):
    pass


class ServiceAsleep(Exception):
    error_class = NETWORK


KINDS: list[tuple[BaseException, ErrorClass]] = [
    (ConnectionRefusedError(), NETWORK),
    (ConnectionResetError(), NETWORK),
    (BrokenPipeError(), NETWORK),
    (OSError(errno.EHOSTUNREACH, "no route to host"), NETWORK),
    (socket.gaierror(socket.EAI_AGAIN, "temporary failure"), NETWORK),
    (socket.gaierror(socket.EAI_NONAME, "name not known"), LOGIC),
    (ssl.SSLEOFError(), NETWORK),
    (ssl.SSLCertVerificationError(), PERMISSION),
    (TimeoutError(), TIMEOUT),
    (OSError(errno.ETIMEDOUT, "timed out"), TIMEOUT),
    (ReadTimeout(), TIMEOUT),
    (MemoryError(), RESOURCE),
    (OSError(errno.ENOSPC, "no space left on device"), RESOURCE),
    (OSError(errno.EMFILE, "too many open files"), RESOURCE),
    (Exception("IO error: No space left on device: /state/MANIFEST"), RESOURCE),
    (PermissionError(), PERMISSION),
    (OSError(errno.EROFS, "read-only file system"), PERMISSION),
    (not_valid(), DATA),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), DATA),
    (kafka.KafkaConnectionError(), NETWORK),
    (kafka.GroupCoordinatorNotAvailableError(), NETWORK),
    (kafka.UnknownTopicOrPartitionError(), NETWORK),
    (kafka.RequestTimedOutError(), TIMEOUT),
    (kafka.MessageSizeTooLargeError(), DATA),
    (kafka.TopicAuthorizationFailedError(), PERMISSION),
    (kafka.KafkaStorageError(), RESOURCE),
    (kafka.IllegalStateError(), LOGIC),
    (answered(429), RESOURCE),
    (answered(500), NETWORK),
    (answered(503), RESOURCE),
    (answered(504), TIMEOUT),
    (answered(401), PERMISSION),
    (answered(404), DATA),
    (answered(200), LOGIC),
    (aiohttp.ServerDisconnectedError(), NETWORK),
    (aiohttp.ClientResponseError(None, (), status=403), PERMISSION),  # type: ignore[arg-type]
    (ServiceAsleep(), NETWORK),
    (TaskLost("fenced"), NETWORK),
    (ZeroDivisionError(), LOGIC),
    (KeyError("sku"), LOGIC),
    (RuntimeError("what is this"), LOGIC),
    (StreamflowError("nobody knows"), LOGIC),
    (FileNotFoundError(errno.ENOENT, "no such file"), LOGIC),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda value: repr(value)[:60])
def test_each_has_its_kind_and_what_is_not_known_is_not_tried_again(
    error: BaseException, kind: ErrorClass
) -> None:
    assert classify(error) is kind
    assert is_retryable(error) == (kind in (NETWORK, TIMEOUT, RESOURCE))


def test_a_full_disk_is_known_also_behind_other_words() -> None:
    full = OSError(errno.ENOSPC, "no space left on device")
    assert is_disk_full(full)
    assert is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert is_disk_full(Exception("IO error: No space left on device: While appending to file"))
    unavailable = SinkUnavailable("lake/x: cannot write")
    assert not is_disk_full(unavailable)
    unavailable.__cause__ = full
    assert is_disk_full(unavailable)
    assert not is_disk_full(PermissionError(errno.EACCES, "denied"))
