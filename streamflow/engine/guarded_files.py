"""The files of a table behind its circuit breaker: while it is open, the store is not asked.

Goal: a store that is away, or that asks to be left alone, is not asked again and again by every
partition of the table, and comes back. Rows wait in Kafka meanwhile, so nothing is lost.

What counts as a failure is that the store was not reached, did not answer in time, or has no room
for more requests. A full disk and a missing permission do not count: asking again is cheap, and
whoever mends them wants it to go on at once. All else is an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from streamflow.clock import Clock
from streamflow.engine.circuit import Circuit, Phase
from streamflow.engine.failures import classify, is_disk_full
from streamflow.errors import Overtaken, SinkUnavailable, TableAway
from streamflow.ports import NewFile, OpenFile, TableFiles
from streamflow.retry import CircuitBreaker, ErrorClass

T = TypeVar("T")


class Guard:
    """The circuit of one table, for all its partitions on a worker. For use by several threads."""

    def __init__(self, table: str, breaker: CircuitBreaker, clock: Clock) -> None:
        self.table = table
        self._clock = clock
        self._circuit = Circuit(breaker)
        self._lock = threading.Lock()  # guards _circuit

    @property
    def phase(self) -> Phase:
        """Is it closed, open, or half open?"""
        with self._lock:
            return self._circuit.phase

    def call(self, act: Callable[[], T]) -> T:
        """Do it, when the circuit lets it.

        Raises:
            TableAway: it does not.
            Exception: whatever it raises.
        """
        number = self._admitted()
        try:
            found = act()
        except SinkUnavailable as error:
            self._end(number, away=_is_away(error))
            raise
        except Exception:
            self._end(number, away=False)
            raise
        except BaseException:
            with self._lock:
                self._circuit.abandoned(number)
            raise
        self._end(number, away=False)
        return found

    def _admitted(self) -> int:
        with self._lock:
            now = self._clock.monotonic()
            number = self._circuit.begin(now)
            left = self._circuit.seconds_left(now)
        if number is not None:
            return number
        words = f"for {left:.0f} s" if left else "until one call has shown that it is back"
        raise TableAway(
            f"the table {self.table}: its circuit breaker is open, nothing is written {words}", left
        )

    def _end(self, number: int, *, away: bool) -> None:
        with self._lock:
            if away:
                self._circuit.failed(number, self._clock.monotonic())
            else:
                self._circuit.succeeded(number)


class GuardedFiles:
    """`TableFiles` that ask a guard first."""

    def __init__(self, files: TableFiles, guard: Guard) -> None:
        self._files = files
        self._call = guard.call

    def create(self, name: str, data: bytes | memoryview, *, private: bool = False) -> bool:
        """See `TableFiles.create`."""
        return self._call(lambda: self._files.create(name, data, private=private))

    def begin(self, name: str) -> NewFile:
        """See `TableFiles.begin`."""
        return _GuardedFile(self._files.begin(name), self._call)

    def exists(self, name: str, *, private: bool = False) -> bool:
        """See `TableFiles.exists`."""
        return self._call(lambda: self._files.exists(name, private=private))

    def read(self, name: str, *, private: bool = False) -> bytes:
        """See `TableFiles.read`."""
        return self._call(lambda: self._files.read(name, private=private))

    def tail(self, name: str, nbytes: int) -> bytes:
        """See `TableFiles.tail`."""
        return self._call(lambda: self._files.tail(name, nbytes))

    def open(self, name: str) -> OpenFile:
        """See `TableFiles.open`."""
        return _GuardedOpen(self._call(lambda: self._files.open(name)), self._call)

    def names(self, *, private: bool = False) -> list[str]:
        """See `TableFiles.names`."""
        return self._call(lambda: self._files.names(private=private))

    def delete_private(self, names: Iterable[str]) -> None:
        """See `TableFiles.delete_private`."""
        self._call(lambda: self._files.delete_private(names))


class _GuardedFile:
    """A `NewFile` that asks a guard before it is put; what is written of it lies here."""

    def __init__(self, new: NewFile, call: Callable[[Callable[[], bool]], bool]) -> None:
        self._new = new
        self._call = call

    def write(self, data: bytes | memoryview) -> None:
        """See `NewFile.write`."""
        self._new.write(data)

    def create(self) -> bool:
        """See `NewFile.create`."""
        return self._call(self._new.create)

    def drop(self) -> None:
        """See `NewFile.drop`."""
        self._new.drop()


class _GuardedOpen:
    """An `OpenFile` that asks a guard before each part."""

    def __init__(self, opened: OpenFile, call: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._opened = opened
        self._call = call
        self.size = opened.size

    def read(self, start: int, nbytes: int) -> bytes:
        """See `OpenFile.read`."""
        return self._call(lambda: self._opened.read(start, nbytes))

    def close(self) -> None:
        """See `OpenFile.close`."""
        self._opened.close()


def _is_away(error: SinkUnavailable) -> bool:
    if isinstance(error, Overtaken):  # the store has answered, somebody else before
        return False
    told = error.error_class or classify(error.__cause__ or error)
    return told is not ErrorClass.PERMISSION and not is_disk_full(error)
