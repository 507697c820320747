"""The thread that reads what `produce` sends: who ends the process minds it while it reads."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from itertools import repeat

import pytest

from streamflow.batch import Record
from streamflow.produce.send import _on_thread


def reading() -> bool:
    """Is there a thread for which the command line leaves at once? See `cli._leave`."""
    return any(thread.name == "produce-input" for thread in threading.enumerate())


def test_a_thread_that_has_read_is_none_that_waits_for_input() -> None:
    """A bad line ends the command as any error does, with what there is to be put away."""

    def chunks() -> Iterator[Sequence[Record]]:
        assert reading()
        yield [Record(b"k", b"1")]
        raise ValueError("a bad line")

    async def go() -> None:
        given = chunks()
        for _ in repeat(None, 100):
            assert await _on_thread(iter([[Record(b"k", b"1")]])) is not None
            assert not reading()
        assert await _on_thread(given) == [Record(b"k", b"1")]
        with pytest.raises(ValueError, match="a bad line"):
            await _on_thread(given)
        assert not reading()

    asyncio.run(go())
