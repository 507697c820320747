"""A cut: the decision which rows of a rows topic become which files, written down before any file.

The cuts of one rows partition are numbered from 0 and meet without gap or overlap: `next` of one is
`first` of the following. Cut 0 is the origin: it rolls nothing and says where the chain starts.
A cut holds all that its files depend on, so that whoever finishes it writes equal files. They are
all written the same way; where a storage plan says how, the cut has it once, and is of a format
that versions without plans refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from streamflow.batch import TopicPartition
from streamflow.core.hive import Group, Position
from streamflow.core.rows import Trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.counted import counted
from streamflow.errors import SinkRefused, TopologyError
from streamflow.writer_settings import UNPLANNED, WriterSettings, known_to

#: Of cuts without a plan, whose files name their settings each, and of those with one.
FORMAT: Final = 1
PLANNED_FORMAT: Final = 2

Span = tuple[int, int, int]
"""`(partition, first, next)` of a source topic."""


@dataclass(frozen=True, slots=True)
class CutFile:
    """One file of a cut. `sort` names the columns it is sorted by; empty: the topic's order."""

    name: str
    values: tuple[str | None, ...]
    rows: int
    first: Position
    last: Position
    schema_id: str
    sort: tuple[str, ...] = ()
    writer: WriterSettings = UNPLANNED


@dataclass(frozen=True, slots=True)
class Cut:
    """Rolls the offsets `[first, next)`: the whole commits after commit `after`, up to `trailer`.

    `watermark` and `end_of_input` are those of the last trailer; `sources`, `counts` and `gates`
    are sums over all of them. `epoch` is that of the owner at `next` (`core/rows.py`).
    `schema_version` is that of the rows (`core/table_schema.py`), None where the table has none.
    `run` is the id of the run of a part of the sources that the table is of, if it is of one.
    """

    k: int
    topic: str
    partition: int
    first: int
    next: int
    after: int | None
    trailer: int | None
    topology: str
    topology_version: str
    partition_by: tuple[str, ...]
    commits: int
    watermark: int | None
    end_of_input: bool
    sources: Mapping[str, tuple[Span, ...]]
    counts: Mapping[str, int]
    gates: Mapping[str, int]
    files: tuple[CutFile, ...]
    epoch: int = 0
    schema_version: int | None = None
    run: str | None = None

    # What a newer version adds to a cut has a meaning that this one would miss.
    __pydantic_config__ = ConfigDict(extra="forbid")

    def __str__(self) -> str:
        return f"cut {self.k} of {self.tp}@{self.first}..{self.next}"

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def name(self) -> str:
        """Its private name beside the table."""
        return f"{stem(self.tp, self.k)}.json"

    @property
    def sort(self) -> tuple[str, ...]:
        """What its files are sorted by, all of them alike."""
        return self.files[0].sort if self.files else ()


_CUT = TypeAdapter(Cut)
_WRITER = TypeAdapter(WriterSettings)


def origin(tp: TopicPartition, first: int, spec: SinkSpec) -> Cut:
    """Cut 0 of a chain that starts at the offset `first`."""
    return Cut(
        k=0,
        topic=tp.topic,
        partition=tp.partition,
        first=first,
        next=first,
        after=None,
        trailer=None,
        topology=spec.topology,
        topology_version=spec.topology_version,
        partition_by=spec.partition_by,
        commits=0,
        watermark=None,
        end_of_input=False,
        sources={},
        counts={},
        gates={},
        files=(),
        run=spec.run,
    )


def next_cut(
    previous: Cut,
    topology: str,
    groups: Sequence[Group],
    trailers: Sequence[Trailer],
    stop: int,
    writer: WriterSettings = UNPLANNED,
    sort: tuple[str, ...] = (),
    schema_version: int | None = None,
) -> Cut:
    """The cut after `previous`, over `trailers` (at least one) and their rows, ending at `stop`.

    All trailers have one layout, of this version of the table. `groups` are the rows arranged by
    its partition columns; each becomes one file, sorted by the columns `sort` and written as
    `writer` says.
    """
    tp, k, last = previous.tp, previous.k + 1, trailers[-1]
    return Cut(
        k=k,
        topic=tp.topic,
        partition=tp.partition,
        first=previous.next,
        next=stop,
        after=previous.trailer,
        trailer=last.commit,
        topology=topology,
        topology_version=last.layout.topology_version,
        partition_by=last.layout.partition_by,
        commits=len(trailers),
        watermark=last.watermark,
        end_of_input=last.end_of_input,
        sources=_ranges(trailers),
        counts=sums(trailer.counts for trailer in trailers),
        gates=sums(trailer.gates for trailer in trailers),
        files=tuple(
            CutFile(
                name=f"{group.folder}{stem(tp, k)}-{i:05d}.parquet",
                values=group.values,
                rows=group.count,
                first=group.first,
                last=group.last,
                schema_id=last.layout.schema_id,
                sort=sort,
                writer=writer,
            )
            for i, group in enumerate(groups)
        ),
        epoch=last.epoch,
        schema_version=schema_version,
        run=previous.run,
    )


def footer(cut: Cut, file: CutFile) -> dict[str, str]:
    """What the footer of a file says of its origin, by words only: no clock, no worker.

    `sources`, `counts` and `gates` are those of the whole cut, the same in each of its files: who
    adds them up over files counts every (rows topic, partition, cut) once.
    """
    return {
        "topology": cut.topology,
        "topology_version": cut.topology_version,
        "rows_topic": cut.topic,
        "rows_partition": str(cut.partition),
        "rows_range": _json([cut.first, cut.next]),
        "cut": str(cut.k),
        "schema_id": file.schema_id,
        **({} if cut.schema_version is None else {"schema_version": str(cut.schema_version)}),
        **({} if cut.run is None else {"run": cut.run}),
        "sources": _json({topic: list(spans) for topic, spans in cut.sources.items()}),
        "counts": _json(dict(cut.counts)),
        "gates": _json(dict(cut.gates)),
        **({"sort": _json(list(file.sort))} if file.sort else {}),
    }


def check_rows(cut: Cut, groups: Sequence[Group]) -> None:
    """Raise `SinkRefused` unless the rows come out exactly as the cut says, file by file."""
    found = [(group.values, group.count, group.first, group.last) for group in groups]
    wanted = [(file.values, file.rows, file.first, file.last) for file in cut.files]
    if found == wanted:
        return
    rows = sum(group.count for group in groups), sum(file.rows for file in cut.files)
    place = next(
        (i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
        min(len(found), len(wanted)),
    )
    here, there = [repr(x[place]) if place < len(x) else "nothing" for x in (found, wanted)]
    raise SinkRefused(
        f"{cut}: the topic gives {counted(rows[0], 'row')} in {counted(len(found), 'file')}"
        f" where the cut says {rows[1]}"
        f" in {len(wanted)}; file {place} is {here} instead of {there}: was the topic made anew,"
        " or the cut edited?"
    )


def encode_cut(cut: Cut) -> bytes:
    """Its JSON. Equal cuts give equal bytes."""
    document: dict[str, Any] = _CUT.dump_python(cut, mode="json")
    if not cut.epoch:  # else it is as versions have it that know only transactions
        del document["epoch"]
    for later in ("schema_version", "run"):
        if document[later] is None:
            del document[later]
    writers = {file.writer for file in cut.files}
    found = FORMAT
    if any(writer.writer != UNPLANNED.writer for writer in writers):
        assert len(writers) == 1, "all files of a cut are written the same way"
        found, document["writer"] = PLANNED_FORMAT, known_to(document["files"][0]["writer"])
    for file in document["files"]:
        settings = file.pop("writer")
        if found == FORMAT:
            file["writer"] = known_to(settings)
    return _json({"format": found, **document}).encode()


def decode_cut(data: bytes, name: str) -> Cut:
    """The cut that the file `name` holds. Raises `SinkRefused` when it cannot be executed."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        found = document.pop("format", None)
        if found not in {FORMAT, PLANNED_FORMAT}:
            raise SinkRefused(
                f"cut {name}: its format is {found!r}, this version knows {FORMAT} and"
                f" {PLANNED_FORMAT}; start the version of streamflow that wrote it"
            )
        writer = None
        if found == PLANNED_FORMAT:
            given = orjson.dumps(document.pop("writer", None))
            writer = _WRITER.validate_json(given, strict=True)
        cut = _CUT.validate_json(orjson.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "writer"
        raise SinkRefused(
            f"cut {name}: {where}: {first['msg']}; start the version of streamflow that wrote it"
        ) from None
    except TopologyError as error:
        raise SinkRefused(
            f"cut {name}: {error}; start the version of streamflow that wrote it"
        ) from None
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise SinkRefused(f"cut {name} is damaged: {error}; restore it from a backup") from None
    if writer is not None:
        cut = replace(cut, files=tuple(replace(file, writer=writer) for file in cut.files))
    if cut.name != name:
        raise SinkRefused(f"cut {name} says that it is {cut.name}: was a file renamed?")
    return cut


def stem(tp: TopicPartition, k: int | None = None) -> str:
    """What the names of everything of a rows partition begin with; of cut `k` alone."""
    found = f"{tp.topic}-{tp.partition:05d}"
    return found if k is None else f"{found}-{k:08d}"


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def sums(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of each key."""
    total: dict[str, int] = {}
    for part in parts:
        for key, number in part.items():
            total[key] = total.get(key, 0) + number
    return dict(sorted(total.items()))


def _ranges(trailers: Iterable[Trailer]) -> dict[str, tuple[Span, ...]]:
    """The offsets that trailers cover, by topic."""
    return merged_spans((topic, *span) for t in trailers for topic, span in t.sources.items())


def merged_spans(spans: Iterable[tuple[str, int, int, int]]) -> dict[str, tuple[Span, ...]]:
    """`(topic, partition, first, next)` by topic; spans that meet are one."""
    merged: dict[str, list[Span]] = {}
    for topic, partition, first, stop in sorted(spans):
        known = merged.setdefault(topic, [])
        if known and known[-1][0] == partition and first <= known[-1][2]:
            known[-1] = (partition, known[-1][1], max(stop, known[-1][2]))
        elif first < stop:
            known.append((partition, first, stop))
    return {topic: tuple(known) for topic, known in merged.items()}
