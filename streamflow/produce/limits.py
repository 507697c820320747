"""What a topic takes, so that a record it would refuse is named before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: A record's own header fields and its batch's header take no more than this many bytes.
OVERHEAD_BYTES = 100


@dataclass(frozen=True)
class Limits:
    """The limits of a topic.

    Attributes:
        max_bytes: The largest batch, and so the largest record.
        ahead: A timestamp may lie this far in the future; None for any.
        behind: A timestamp may lie this far in the past; None for any.
    """

    max_bytes: int
    ahead: timedelta | None = None
    behind: timedelta | None = None

    @staticmethod
    def of(config: Mapping[str, str]) -> Limits:
        """The limits that a topic's settings make."""
        largest = int(config["max.message.bytes"])
        if config.get("message.timestamp.type") == "LogAppendTime":
            return Limits(largest)
        ahead = config.get("message.timestamp.after.max.ms")
        behind = config.get("message.timestamp.before.max.ms")
        return Limits(largest, _bound(ahead), _bound(behind))

    def refuses_size(self, nbytes: int) -> str | None:
        """Why a record of this many bytes would be refused, None if it would not."""
        if nbytes + OVERHEAD_BYTES <= self.max_bytes:
            return None
        return (
            f"the record has {nbytes:,} bytes and the topic takes {self.max_bytes:,}; "
            "raise the topic's max.message.bytes"
        )

    def refuses_time(self, millis: int, now: datetime) -> str | None:
        """Why a record with this timestamp would be refused, None if it would not."""
        present = int(now.timestamp() * 1000)
        if self.ahead is not None and millis > present + _millis(self.ahead):
            return (
                f"the timestamp {iso(millis)} is more than {self.ahead} ahead of now, which the "
                "topic refuses (message.timestamp.after.max.ms)"
            )
        if self.behind is not None and millis < present - _millis(self.behind):
            return (
                f"the timestamp {iso(millis)} is more than {self.behind} behind now, which the "
                "topic refuses (message.timestamp.before.max.ms)"
            )
        return None


def iso(millis: int) -> str:
    """A time in words; one that no calendar has stays a number."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)).isoformat()
    except OverflowError:
        return str(millis)


def _bound(millis: str | None) -> timedelta | None:
    # Java's largest long, which a timedelta cannot hold, is Kafka's way to say "any".
    if millis is None or int(millis) >= 10**15:
        return None
    return timedelta(milliseconds=int(millis))


def _millis(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
