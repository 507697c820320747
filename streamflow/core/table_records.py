"""What a commit writes for its tables: their rows, and for each a trailer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from streamflow.batch import Record, TopicPartition
from streamflow.core.merging import Merging
from streamflow.core.part import RECORD_BYTES, Part
from streamflow.core.plan import SinkPlan
from streamflow.core.poison import Screen
from streamflow.core.rows import Layout, Trailer, encode_rows, encode_trailer, record_name
from streamflow.core.step import INFINITY, Step, TaskState


def table_records(
    part: Part, steps: Sequence[Step], state: TaskState, screen: Screen
) -> Iterator[tuple[TopicPartition, list[Record]]]:
    """Per table its rows and the commit's trailer, which is there also when no row is.

    Raises:
        StateRefused: a row is too large for its topic.
    """
    plan = part.plan
    for outlet in plan.outlets:
        rows = [batch for step in steps for batch in step.rows.get(outlet.number, ())]
        for sink in outlet.sinks:
            yield _of_sink(part, steps, state, screen, sink, rows)
    for made in (*plan.windows, *plan.checks, *plan.rolling):
        results = [b for step in steps for b in step.results.get(made.name, ())]
        for sink in made.sinks:
            yield _of_sink(part, steps, state, screen, sink, results)


def namings(part: Part, state: TaskState) -> list[tuple[TopicPartition, list[Record]]]:
    """Per table the record that names the last commit of this state: its rows count, and whatever
    follows it of a lower epoch, or came before it and is not named, is void. A table that has
    joined since has no commit yet: that is 0.
    """
    last = {sink: _since_joined(state, sink, state.commit) or 0 for sink in part.plan.all_sinks}
    return [
        (
            TopicPartition(part.names.rows(sink.name), part.tp.partition),
            [
                encode_trailer(
                    Trailer(
                        commit=commit,
                        previous=commit or None,
                        chunks=0,
                        layout=_layout(sink, part, state),
                        epoch=state.epoch,
                        provisional=True,
                    )
                )
            ],
        )
        for sink, commit in last.items()
    ]


def _of_sink(
    part: Part,
    steps: Sequence[Step],
    state: TaskState,
    screen: Screen,
    sink: SinkPlan,
    rows: list[pa.RecordBatch],
) -> tuple[TopicPartition, list[Record]]:
    tp, topic = part.tp, part.names.rows(sink.name)
    counts, rules = Counter[str](), Counter[str]()
    for step in steps:
        counts.update(step.counts)
        rules.update(step.rules)
    batches = [sink.rows(batch) for batch in rows]
    chunk_bytes = screen.chunk_bytes(topic, RECORD_BYTES)
    epoch = state.epoch if state.provisional else None
    chunks = encode_rows(batches, state.commit, chunk_bytes=chunk_bytes, epoch=epoch)
    windows = (w.name for w in part.plan.windows if sink.name in {one.name for one in w.sinks})
    # Results are complete by the watermark of their own window.
    watermark = state.watermark(part.plan.out_of_orderness, next(windows, None))
    trailer = Trailer(
        commit=state.commit,
        previous=_since_joined(state, sink, state.commit - 1),
        watermark=None if watermark == INFINITY else watermark,
        end_of_input=state.ended is not None,
        sources={tp.topic: (tp.partition, steps[0].start, steps[-1].stop)},
        counts=dict(counts),
        gates=dict(rules),
        chunks=len(chunks),
        layout=_layout(sink, part, state),
        epoch=state.epoch,
        provisional=state.provisional,
    )
    records = [*chunks, encode_trailer(trailer)]
    screen.must_fit(topic, records, 0, record_name)
    return TopicPartition(topic, tp.partition), records


def _layout(sink: SinkPlan, part: Part, state: TaskState) -> Layout:
    merging = sink.merging
    if sink.replaces is not None and sink.replaces[0] in state.early:
        merging = Merging(sink.replaces[1], early=True)
    by, early = (merging.by, merging.early) if merging is not None else ((), False)
    return Layout(sink.schema_id, sink.partition_by, part.version, by, early)


def _since_joined(state: TaskState, sink: SinkPlan, commit: int) -> int | None:
    """The number of a commit, if the table was there by then; else None."""
    return commit if commit > state.joined.get(sink.name, 0) else None
