"""The summary of old cuts: what they rolled, in one file instead of one for each.

A chain needs its last cuts only. What the others say of rows and their sources is kept as sums.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from streamflow.batch import TopicPartition
from streamflow.core.cut import Cut, Span, merged_spans, stem, sums
from streamflow.errors import SinkRefused

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Summary:
    """The cuts 0 to `k` of a rows partition, which rolled the offsets `[first, next)`.

    `files` and `rows` are those they made; `sources`, `counts` and `gates` are sums, as in a cut.
    """

    k: int
    topic: str
    partition: int
    first: int
    next: int
    commits: int
    files: int
    rows: int
    sources: Mapping[str, tuple[Span, ...]]
    counts: Mapping[str, int]
    gates: Mapping[str, int]

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def name(self) -> str:
        """Its private name beside the table."""
        return f"{stem(TopicPartition(self.topic, self.partition), self.k)}.summary.json"


@dataclass(frozen=True, slots=True)
class Links:
    """What there is of a chain, by the numbers in the names of its files.

    `summaries` and `cuts` are ascending. Cuts up to the last summary's number belong to the chain
    no more: they were folded and not deleted yet, or made by an owner that had slept meanwhile.
    """

    summaries: tuple[int, ...]
    cuts: tuple[int, ...]

    @property
    def folded(self) -> int:
        """The number of the last cut that was folded; -1 for none."""
        return self.summaries[-1] if self.summaries else -1

    @property
    def standing(self) -> tuple[int, ...]:
        """The numbers of the cuts that are the chain's end."""
        return tuple(k for k in self.cuts if k > self.folded)


_SUMMARY = TypeAdapter(Summary)


def links(names: Iterable[str], tp: TopicPartition) -> Links:
    """What is there of the chain of a rows partition, among the private names of its table."""
    pattern = re.compile(rf"{re.escape(stem(tp))}-(\d{{8,}})(\.summary)?\.json")
    found = [match for match in map(pattern.fullmatch, names) if match]
    return Links(
        tuple(sorted(int(match[1]) for match in found if match[2])),
        tuple(sorted(int(match[1]) for match in found if not match[2])),
    )


def summary_name(tp: TopicPartition, k: int) -> str:
    """The private name of the summary up to cut `k`."""
    return f"{stem(tp, k)}.summary.json"


def fold(before: Summary | None, cuts: Sequence[Cut]) -> Summary:
    """The summary of `before` and the cuts that follow it; at least one."""
    last = cuts[-1]
    parts: list[Summary | Cut] = [*([before] if before else []), *cuts]
    spans = [
        (topic, *span) for part in parts for topic, found in part.sources.items() for span in found
    ]
    return Summary(
        k=last.k,
        topic=last.topic,
        partition=last.partition,
        first=parts[0].first,
        next=last.next,
        commits=sum(part.commits for part in parts),
        files=(before.files if before else 0) + sum(len(cut.files) for cut in cuts),
        rows=(before.rows if before else 0) + sum(file.rows for cut in cuts for file in cut.files),
        sources=merged_spans(spans),
        counts=sums(part.counts for part in parts),
        gates=sums(part.gates for part in parts),
    )


def encode_summary(summary: Summary) -> bytes:
    """Its JSON. Equal summaries give equal bytes."""
    document = {"format": FORMAT, **_SUMMARY.dump_python(summary, mode="json")}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def decode_summary(data: bytes, name: str) -> Summary:
    """The summary that the file `name` holds. Raises `SinkRefused` when it cannot be read."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        found = document.pop("format", None)
        if found != FORMAT:
            raise SinkRefused(f"summary {name}: its format is {found!r}, this version knows 1")
        return _SUMMARY.validate_json(orjson.dumps(document), strict=True)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValidationError) as error:
        raise SinkRefused(f"summary {name} cannot be read: {error}") from None
