"""The footer of a file that is made of others: what rows, of which sources, it was made from.

Each range is kept that a footer named. Counts by exit and verdicts are not: they are those of whole
cuts, of which each file of a cut has all, and so they cannot be told of some of its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from streamflow.core.compaction import MOVED_TO
from streamflow.core.cut import merged_spans
from streamflow.core.parquet import FOOTER_PREFIX
from streamflow.core.parquet_tail import MAGIC, footer_bytes

#: Of a file that was made of others, in the place of the keys of one cut.
ORIGINS: Final = "origins"
_OF_A_CUT: Final = ("topology", "topology_version", "rows_topic", "rows_partition", "rows_range")

#: What is kept where it is the same in all.
_KEPT: Final = ("schema_id", "schema_version", "run")

_Origin = tuple[str, str, str, int]


def footer_of(metadata: Any) -> dict[str, str] | None:
    """What streamflow has written into a file (`cut.footer`, or `merged`); None where something
    else has made it. `metadata` are those of a Parquet file.
    """
    pairs: Mapping[bytes, bytes] = metadata.metadata or {}
    prefix = FOOTER_PREFIX.encode()
    found = {
        key.removeprefix(prefix).decode(): value.decode()
        for key, value in pairs.items()
        if key.startswith(prefix)
    }
    if "schema_id" in found and (ORIGINS in found or all(key in found for key in _OF_A_CUT)):
        return found
    return None


def is_emptied(tail: bytes) -> bool:
    """Does a file that ends so say that its rows are in another one now?"""
    size = footer_bytes(tail)
    footer = read_footer(pa.py_buffer(MAGIC + tail[-size:])) if size is not None else None
    return footer is not None and MOVED_TO in footer


def read_footer(data: pa.Buffer) -> dict[str, str] | None:
    """`footer_of` the bytes of a Parquet file, or of its end with the whole footer in it."""
    try:
        return footer_of(pq.read_metadata(pa.BufferReader(data)))
    except (pa.ArrowException, OSError):
        return None


def merged(footers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The footer of a file that has rows of files with these footers, all of one schema.

    `origins` has for each version of a topology and rows partition the ranges of its rows topic,
    `sources` the ranges of the source topics, as in a cut.
    """
    ranges: dict[_Origin, list[tuple[int, int]]] = {}
    spans: list[tuple[str, int, int, int]] = []
    for found in footers:
        for origin, known in _origins(found):
            ranges.setdefault(origin, []).extend(known)
        for topic, of_topic in orjson.loads(found.get("sources", "{}")).items():
            spans += [(topic, *span) for span in of_topic]
    origins = [
        {
            "topology": topology,
            "topology_version": version,
            "rows_topic": topic,
            "rows_partition": partition,
            "rows_ranges": [span[1:] for span in _joined(topic, partition, known)],
        }
        for (topology, version, topic, partition), known in sorted(ranges.items())
    ]
    same = {key for key in _KEPT if len({found.get(key) for found in footers}) == 1}
    return {
        **{key: value for key, value in footers[0].items() if key in same},
        ORIGINS: orjson.dumps(origins).decode(),
        "sources": orjson.dumps(merged_spans(spans), option=orjson.OPT_SORT_KEYS).decode(),
    }


def _origins(footer: Mapping[str, str]) -> Iterable[tuple[_Origin, list[tuple[int, int]]]]:
    if ORIGINS not in footer:
        topology, version, topic, partition, span = (footer[key] for key in _OF_A_CUT)
        first, stop = orjson.loads(span)
        yield (topology, version, topic, int(partition)), [(first, stop)]
        return
    for known in orjson.loads(footer[ORIGINS]):
        names = known["topology"], known["topology_version"], known["rows_topic"]
        yield (*names, known["rows_partition"]), [(a, b) for a, b in known["rows_ranges"]]


def _joined(
    topic: str, partition: int, known: Iterable[tuple[int, int]]
) -> Sequence[tuple[int, int, int]]:
    found = merged_spans((topic, partition, first, stop) for first, stop in known)
    return found.get(topic, ())
