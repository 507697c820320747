"""The keys of a task's state and changelog, and the values under them.

One meta record, whose presence makes everything before it count; what stages remember of keys
(`memory.py`); one record per offset at which the partition was given a watermark while it was idle;
and per window operator, window and commit one partial: `w | operator | 0 | window
start | commit | chunk`, big endian with the sign flipped, so that the windows that close together
lie together.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from streamflow.batch import Record
from streamflow.core.step import Begun, Breaker, Decision, Extents, StateView, Tally, TaskState
from streamflow.errors import StateDamaged, StateRefused

META = b"meta"
FORMAT = 3
_FLIP = 2**63
_OFFSET = struct.Struct(">Q")
_TAIL = struct.Struct(">QQI")


def partial_key(operator: str, start: int, commit: int, chunk: int) -> bytes:
    """The key of one partial."""
    return b"w" + operator.encode() + b"\0" + _TAIL.pack(start + _FLIP, commit, chunk)


def window_range(operator: str, start: int, stop: int) -> tuple[bytes, bytes]:
    """Keys of all partials of windows that start in `[start, stop)`."""
    prefix = b"w" + operator.encode() + b"\0"
    low, high = max(start, -_FLIP), min(stop, _FLIP - 1)
    return prefix + struct.pack(">Q", low + _FLIP), prefix + struct.pack(">Q", high + _FLIP)


def operator_range(prefix: str) -> tuple[bytes, bytes]:
    """Keys of all partials of the operators whose names begin so."""
    return b"w" + prefix.encode(), b"w" + prefix.encode() + b"\xff"


def place_in(key: bytes) -> int:
    """The window start, or the place that stands for some, in the key of a partial."""
    return _TAIL.unpack(key[-_TAIL.size :])[0] - _FLIP


def encode_partials(
    operator: str, start: int, commit: int, partial: pa.Table, limit: int
) -> Iterator[tuple[bytes, bytes]]:
    """The partial of one window as entries, each below `limit` bytes (or one group)."""
    pending, chunk = [partial], 0
    while pending:
        table = pending.pop()
        data = _to_ipc(table)
        if len(data) > limit and table.num_rows > 1:
            half = table.num_rows // 2
            pending += [table.slice(half), table.slice(0, half)]
            continue
        yield partial_key(operator, start, commit, chunk), data
        chunk += 1


def decode_partial(data: bytes) -> pa.Table:
    """The partial back from its entry."""
    return pa.ipc.open_stream(data).read_all()


def entries_of(
    stage: str, until: int, commit: int, keys: list[bytes], limit: int
) -> Iterator[tuple[bytes, bytes]]:
    """A list of keys that are forgotten at `until`, as entries below `limit` bytes (or one key)."""
    rest, chunk = keys, 0
    while rest:
        count = len(rest)
        while len(data := _keys_to_ipc(rest[:count])) > limit and count > 1:
            count = (count + 1) // 2
        yield b"x" + stage.encode() + b"\0" + _TAIL.pack(until + _FLIP, commit, chunk), data
        rest, chunk = rest[count:], chunk + 1


def keys_in(data: bytes) -> list[bytes]:
    """The keys of one entry."""
    return pa.ipc.open_stream(data).read_all().column("key").to_pylist()


def list_range(stage: str, stop: int) -> tuple[bytes, bytes]:
    """Keys of all lists of what is forgotten before `stop`."""
    prefix = b"x" + stage.encode() + b"\0"
    bound = min(max(stop, -_FLIP), _FLIP - 1)
    return prefix, prefix + struct.pack(">Q", bound + _FLIP)


def _keys_to_ipc(keys: list[bytes]) -> bytes:
    return _to_ipc(pa.table({"key": pa.array(keys, pa.binary())}))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def entry_name(record: Record) -> str:
    """What to call an entry of the state in words."""
    key = record.key or b""
    return "the state's meta record" if key == META else f"the state's entry {key[:100]!r}"


def decision_entry(decision: Decision) -> tuple[bytes, bytes]:
    """A decision of idleness as an entry. Of several at one offset the last stands for all: nothing
    came between them.
    """
    value = {"decision": "idle", "watermark": decision.watermark, "at": decision.at}
    return b"i" + _OFFSET.pack(decision.offset), orjson.dumps(value)


def recorded(view: StateView) -> list[Decision]:
    """Every decision that a clock has taken for a task so far, in the order of their offsets."""
    found: list[Decision] = []
    for key, value in view.scan(b"i", b"j"):
        entry = orjson.loads(value)
        found.append(Decision("idle", _OFFSET.unpack(key[1:])[0], entry["watermark"], entry["at"]))
    meta = view.get([META])[0]
    ended = None if meta is None else decode_meta(meta)[0].ended
    if ended is not None:
        found.append(Decision("end_of_input", ended))
    return found


#: What the first byte of a key stands for; the meta record's own key is longer.
_KINDS = {b"w": "windows", b"d": "dedup", b"c": "changed", b"x": "expiry", b"i": "idle"}


def kind_of(key: bytes) -> str:
    """What an entry is of: `meta`, `windows` (and extents of checks), what stages remember
    (`dedup`, `changed`, and the `expiry` of it), decisions of `idle`ness; else `other`.
    """
    return "meta" if key == META else _KINDS.get(key[:1], "other")


def encode_meta(
    state: TaskState,
    *,
    state_id: str,
    version: str,
    partitions: int,
    tables: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The meta record: what a task has to know besides its partials. `tables` are the paths of
    those that its commit has rows for, by the names of their sinks.
    """
    ended = [{"decision": "end_of_input", "offset": state.ended}] if state.ended is not None else []
    resumed = [
        {"decision": "resume", "gate": name, "offset": one.tripped + 1, "at_ms": one.resumed}
        for name, one in state.breakers.items()
        if one.tripped is not None and one.resumed is not None
    ]
    return orjson.dumps(
        {
            "format": FORMAT,
            "born": state.born,
            "epoch": state.epoch,
            "provisional": state.provisional,
            "commit": state.commit,
            "position": state.position,
            "seen": state.seen,
            "idle": state.idle,
            "marks": dict(state.marks),
            "breakers": {name: _of_breaker(one) for name, one in state.breakers.items()},
            "extents": {key: asdict(one) for key, one in state.extents.items()},
            "tallies": {key: asdict(one) for key, one in state.tallies.items()},
            "totals": dict(state.totals),
            "rules": dict(state.rules),
            "decisions": [*ended, *resumed],
            "state_id": state_id,
            "version": version,
            "partitions": partitions,
            "tables": dict(tables),
            "joined": dict(state.joined),
            "lag": state.lag,
            "memories": _of_memories(state.memories),
            "leftover": state.leftover,
            "early": sorted(state.early),
        }
    )


def tables_in(data: bytes) -> dict[str, str] | None:
    """The tables of a meta record that can be read; None for an older one, which names none."""
    return orjson.loads(data).get("tables")


def decode_meta(data: bytes) -> tuple[TaskState, str, int]:
    """`(state, state id, number of source partitions)`.

    Raises:
        StateDamaged: it cannot be read.
        StateRefused: another version of streamflow wrote it, or it is being discarded.
    """
    try:
        meta = orjson.loads(data)
        if meta.get("discarding"):
            raise StateRefused(
                "the state was being discarded, and that was not finished; do it again: "
                "`streamflow state reset` with --discard"
            )
        if meta["format"] != FORMAT:
            raise StateRefused(
                f"the state has format {meta['format']}, and this version of streamflow reads "
                f"{FORMAT}; go on with the version that wrote it, use a new app id, or forget the "
                "state: `streamflow state reset` with --discard"
            )
        ended = [d["offset"] for d in meta["decisions"] if d["decision"] == "end_of_input"]
        state = TaskState(
            commit=meta["commit"],
            position=meta["position"],
            seen=meta["seen"],
            idle=meta.get("idle"),
            marks=meta.get("marks", {}),
            breakers={name: _breaker(one) for name, one in meta.get("breakers", {}).items()},
            extents={key: _extents(one) for key, one in meta.get("extents", {}).items()},
            tallies={key: Tally(**one) for key, one in meta.get("tallies", {}).items()},
            ended=ended[-1] if ended else None,
            totals=meta["totals"],
            rules=meta["rules"],
            epoch=meta.get("epoch", 0),
            provisional=meta.get("provisional", False),
            born=meta.get("born"),
            joined=meta.get("joined", {}),
            lag=meta.get("lag"),
            memories=_memories(meta.get("memories")),
            leftover=tuple(meta.get("leftover", ())),
            early=frozenset(meta.get("early", ())),
        )
        return state, meta["state_id"], meta["partitions"]
    except (AttributeError, KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise StateDamaged(f"the meta record cannot be read: {error}") from error


def number_in(meta: bytes | None, name: str) -> int | None:
    """A number that a meta record of any format holds, such as `commit` or `born`; else None."""
    try:
        found = orjson.loads(meta or b"{}").get(name)
    except (AttributeError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, int) else None


class Mark(NamedTuple):
    """What tells the commit of a meta record from others."""

    epoch: int
    commit: int
    born: int | None


def mark_of(meta: bytes) -> Mark:
    """The mark in a meta record of any format. Raises `StateDamaged`."""
    try:
        found = orjson.loads(meta)
        return Mark(found.get("epoch") or 0, found.get("commit") or 0, found.get("born"))
    except (AttributeError, orjson.JSONDecodeError) as error:
        raise StateDamaged(f"the meta record cannot be read: {error}") from error


def discarding(commit: int, position: int | None, epoch: int) -> bytes:
    """A meta record from which no task starts: the entries beside it are being erased."""
    numbers = {"commit": commit, "position": position, "epoch": epoch}
    return orjson.dumps({"format": FORMAT, "discarding": True, **numbers})


def _of_memories(memories: Mapping[str, Begun] | None) -> dict[str, list[Any]] | None:
    return None if memories is None else {name: [*one] for name, one in memories.items()}


def _memories(given: dict[str, Any] | None) -> dict[str, Begun] | None:
    return None if given is None else {name: Begun(*one) for name, one in given.items()}


def _of_breaker(breaker: Breaker) -> dict[str, Any]:
    return {**asdict(breaker), "recent": b64encode(breaker.recent).decode()}


def _extents(given: dict[str, Any]) -> Extents:
    given["counts"] = tuple(given["counts"])
    return Extents(**given)


def _breaker(given: dict[str, Any]) -> Breaker:
    given["recent"] = b64decode(given["recent"])
    return Breaker(**given)
