"""What a sink holds of its rows topic beyond its chain of cuts: whole commits, and one begun."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from streamflow.batch import Headers, TopicPartition
from streamflow.core.rows import RowsChunk, Trailer, decode
from streamflow.errors import SinkRefused


@dataclass(frozen=True, slots=True, eq=False)
class Commits:
    """Whole commits: their rows by offset, and their trailers."""

    chunks: dict[int, RowsChunk]
    trailers: dict[int, Trailer]

    @property
    def payload_bytes(self) -> int:
        return sum(len(chunk.payload) for chunk in self.chunks.values())

    def tables(self) -> dict[int, pa.Table]:
        """The rows, unpacked. Raises `SinkRefused` for a damaged chunk."""
        return {offset: chunk.table() for offset, chunk in self.chunks.items()}


class Buffer:
    """Takes the records of a rows partition in order, and checks that its commits form a chain.

    It starts at offset `start`, after commit `after`. At a `start` above 0 without `after` the
    chain's beginning is not known, and the first trailer may follow any commit.
    """

    def __init__(self, tp: TopicPartition, start: int, after: int | None) -> None:
        self.tp = tp
        #: The next offset to take.
        self.position = start
        #: Just after the last trailer: what lies before it are whole commits.
        self.stop = start
        self._after = after
        self._any = after is None and start > 0
        self._chunks: dict[int, RowsChunk] = {}
        self._trailers: dict[int, Trailer] = {}
        self._begun: list[RowsChunk] = []
        self._begun_bytes = 0
        self._whole_bytes = 0
        self._changes: list[int] = []  # where commits of another layout begin

    @property
    def nbytes(self) -> int:
        """Encoded rows held, those of a commit that is still without its trailer included."""
        return self._whole_bytes + self._begun_bytes

    @property
    def whole_bytes(self) -> int:
        """Encoded rows of whole commits."""
        return self._whole_bytes

    @property
    def last(self) -> Trailer | None:
        """The last trailer held."""
        return next(reversed(self._trailers.values()), None)

    @property
    def commits(self) -> int:
        return len(self._trailers)

    def __len__(self) -> int:
        return len(self._chunks) + len(self._trailers)

    def take(self, offset: int, value: bytes | None, headers: Headers) -> Trailer | None:
        """Hold one record; the trailer when it ends a commit.

        Raises `SinkRefused` when the record is not one of a rows topic or does not fit the chain;
        then the position has not moved.
        """
        try:
            record = decode(value, headers)
            if isinstance(record, RowsChunk):
                self._begin(record)
                self._chunks[offset] = record
            else:
                self._end(record)
                self._trailers[offset] = record
                self.stop = offset + 1
        except SinkRefused as error:
            raise SinkRefused(f"{self.tp}@{offset}: {error}") from None
        self.position = offset + 1
        return record if isinstance(record, Trailer) else None

    def skip(self, position: int) -> None:
        """Move over offsets that carry no record."""
        self.position = max(self.position, position)

    @property
    def one_layout(self) -> int:
        """Just after the last of the whole commits that are laid out as the first one held is."""
        return self._changes[0] if self._changes else self.stop

    def upto(self, stop: int) -> Commits:
        """The whole commits before `stop`."""
        return Commits(
            {offset: chunk for offset, chunk in self._chunks.items() if offset < stop},
            {offset: trailer for offset, trailer in self._trailers.items() if offset < stop},
        )

    def drop(self, stop: int) -> None:
        """Forget what lies before `stop`, which is just after a trailer."""
        rolled = self.upto(stop)
        self._chunks = {o: chunk for o, chunk in self._chunks.items() if o >= stop}
        self._trailers = {o: trailer for o, trailer in self._trailers.items() if o >= stop}
        self._whole_bytes -= rolled.payload_bytes
        self._changes = [change for change in self._changes if change > stop]

    def _begin(self, chunk: RowsChunk) -> None:
        commit = self._begun[0].commit if self._begun else chunk.commit
        if (chunk.commit, chunk.number) != (commit, len(self._begun)):
            raise SinkRefused(
                f"chunk {chunk.number} of commit {chunk.commit} where chunk {len(self._begun)} of"
                f" commit {commit} was expected: were records of this topic lost?"
            )
        self._begun.append(chunk)
        self._begun_bytes += len(chunk.payload)

    def _end(self, trailer: Trailer) -> None:
        if not self._any and trailer.previous != self._after:
            raise SinkRefused(
                f"the trailer of commit {trailer.commit} follows {_commit(trailer.previous)}, but"
                f" the last one here is {_commit(self._after)}: commits were lost, or two owners"
                " wrote to this partition; the sink stops rather than lose or repeat rows"
            )
        commits = {chunk.commit for chunk in self._begun}
        if len(self._begun) != trailer.chunks or commits - {trailer.commit}:
            raise SinkRefused(
                f"the trailer of commit {trailer.commit} ends {trailer.chunks} chunks, but"
                f" {len(self._begun)} came before it, of {_commits(commits)}"
            )
        last = self.last
        if last is not None and last.layout != trailer.layout:
            self._changes.append(self.stop)
        self._after, self._any = trailer.commit, False
        self._whole_bytes += self._begun_bytes
        self._begun, self._begun_bytes = [], 0


def _commit(number: int | None) -> str:
    return "no commit" if number is None else f"commit {number}"


def _commits(numbers: set[int]) -> str:
    return " and ".join(_commit(number) for number in sorted(numbers)) or "no commit"
