"""What an input gives: values in order, where each stands, and what is wrong with bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Chunk:
    """Some values of an input, in its order.

    Attributes:
        values: A document of JSON each; of what is no record of the input's format, its bytes.
        places: The line on which each begins, or the number of its row; from 1.
        broken: Why those are no records that are none, by their index among the values.
    """

    values: list[bytes] = field(default_factory=list[bytes])
    places: list[int] = field(default_factory=list[int])
    broken: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, place: int, value: bytes, broken: str | None = None) -> None:
        """One more value."""
        if broken is not None:
            self.broken[len(self.values)] = broken
        self.values.append(value)
        self.places.append(place)


class Input(Protocol):
    """An open file of any format, read once."""

    @property
    def name(self) -> str:
        """In messages."""
        ...

    @property
    def taken(self) -> int:
        """Bytes of the file that were read, for progress."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """All it holds, with bounded memory.

        Raises:
            StreamflowError: the file cannot be read on. All before that has been yielded.
        """
        ...

    def where(self, place: int) -> str:
        """A place in words, after the file's name."""
        ...
