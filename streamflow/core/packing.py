"""Which small files of a folder are worth one large one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Sized(Protocol):
    """A file."""

    @property
    def nbytes(self) -> int:
        """Its size."""
        ...


F = TypeVar("F", bound=Sized)


def packed(files: Iterable[F], target_bytes: int) -> Iterator[list[F]]:
    """Files to be made one of, in the order they come in; those that are left as they are are in
    none.

    A file of more than half the target is left. None is written again together with less than half
    its own size: so a row is written about log(target / size of its first file) times more, to the
    base of 1.5 at the worst.
    """
    pack: list[F] = []
    for file in files:
        if file.nbytes * 2 > target_bytes:
            continue
        if pack and sum(f.nbytes for f in pack) + file.nbytes > target_bytes:
            yield from _worth(pack)
            pack = []
        pack.append(file)
    yield from _worth(pack)


def _worth(pack: list[F]) -> Iterator[list[F]]:
    left = sorted(pack, key=lambda file: file.nbytes)
    while len(left) > 1 and left[-1].nbytes > 2 * sum(file.nbytes for file in left[:-1]):
        left.pop()
    if len(left) > 1:
        kept = {id(file) for file in left}
        yield [file for file in pack if id(file) in kept]
