"""The embedded mode: a topology over files instead of topics, in one process, with no broker.

The same core, commit, RocksDB state and Parquet sink, with an in-memory log that is trimmed as it
is consumed. There is nothing to go on from after a crash, so a run is one attempt: everything is
written into a private folder, which gets its name when the input is done.
"""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

from streamflow.batch import Record, TopicPartition
from streamflow.clock import Clock, SystemClock
from streamflow.core.masking import Masks, require_key
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan, TaskPlan
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory import MemoryBroker, MemoryChangelog, MemoryOutbox
from streamflow.edges.rocksdb import StateFolder, StateMemory
from streamflow.engine.chain import Table, chain_of
from streamflow.engine.lookups import Lookups
from streamflow.engine.sink import SinkPartition
from streamflow.engine.sync import Beside, run_sync
from streamflow.engine.table_spec import table_spec
from streamflow.engine.task import Task, TaskLimits
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import SettingsError
from streamflow.ports import LoggedTable
from streamflow.store_url import DELTA
from streamflow.table_files import delta_log
from streamflow.topology import Topology

#: Input records taken at a time; bounds the memory of a run.
CHUNK_RECORDS = 20_000
PARTITIONS = 4


@dataclass(frozen=True)
class LocalResult:
    """What a local run did. `topics` are the NDJSON files of the topology's topics."""

    totals: Counter[str]
    rules: Counter[str]
    folder: Path
    topics: Mapping[str, Path]
    files: int
    rows: int
    bytes: int


class LocalRun:
    """One attempt of a topology on files.

    Args:
        topology: What to run.
        folder: Where results appear when the run is done; must not exist yet.
        partitions: How many tasks per source; keys decide, as in Kafka.
        masks: What masks sensitive fields, where there are some.
    """

    def __init__(
        self,
        topology: Topology,
        folder: Path,
        *,
        partitions: int = PARTITIONS,
        clock: Clock | None = None,
        masks: Masks | None = None,
    ) -> None:
        require_key(topology.tasks, masks)
        with _in_words(folder):
            if folder.exists():
                raise SettingsError(
                    f"{folder} exists already; a local run writes a new folder each time"
                )
        if topology.archives:
            raise SettingsError(
                f"{topology.archives[0].source!r} is archived, which keeps what a topic has; a"
                " local run has no topics: leave the archive out, or run the topology on Kafka"
            )
        self._topology = topology
        self._folder = folder
        self._work = folder.with_name(f".{folder.name}.unfinished")
        self._clock = clock or SystemClock()
        self._masks = masks
        self._names = Names(topology.name)
        self._partitions = partitions
        self._broker = MemoryBroker(self._now_ms())
        self._tasks: list[Task] = []
        self._sinks: dict[TopicPartition, SinkPartition] = {}
        self._outputs: dict[str, IO[bytes]] = {}
        self._beside = Beside()
        self._answer = self._beside.blocking(Lookups(self._clock).answer_in_the_end)

    def run(
        self,
        inputs: Mapping[str, Iterable[Record]],
        on_progress: Callable[[Counter[str]], None] = lambda totals: None,
    ) -> LocalResult:
        """Read every input to its end; `inputs` are records per source topic."""
        self._make_folder()
        try:
            result = self._run(inputs, on_progress)
            shutil.rmtree(self._work / "state", ignore_errors=True)
            self._work.rename(self._folder)
        except BaseException:  # Ctrl-C too: nobody can go on from half a run
            shutil.rmtree(self._work, ignore_errors=True)
            raise
        return result

    def _make_folder(self) -> None:
        """A private folder; one that a killed run has left behind is cleared away."""
        with _in_words(self._folder):
            if self._work.exists():
                self._see_that_nobody_writes()
                shutil.rmtree(self._work)
            (self._work / "topics").mkdir(parents=True)

    def _see_that_nobody_writes(self) -> None:
        try:
            StateFolder(self._work / "state").close()
        except SettingsError as error:
            raise SettingsError(
                f"{self._folder} is being written by another run; name another folder"
            ) from error

    def _run(
        self, inputs: Mapping[str, Iterable[Record]], on_progress: Callable[[Counter[str]], None]
    ) -> LocalResult:
        with ExitStack() as stack:
            self._open(stack)
            for topic, records in inputs.items():
                self._consume(topic, records, on_progress)
            for task in self._tasks:
                task.end_of_input()
                run_sync(task.commit())
            self._drain()
            return self._result()

    def _consume(
        self,
        topic: str,
        records: Iterable[Record],
        on_progress: Callable[[Counter[str]], None],
    ) -> None:
        places: dict[bytes | None, TopicPartition] = {}
        source = iter(records)
        while chunk := list(islice(source, CHUNK_RECORDS)):
            self._broker.now_ms = self._now_ms()
            for record in chunk:
                if record.key not in places:
                    places[record.key] = self._broker.place(topic, record.key)
                self._broker.append(places[record.key], record)
            for task in self._tasks:
                self._work_off(task)
            self._drain()
            on_progress(self._totals())

    def _work_off(self, task: Task) -> None:
        log = self._broker.partition(task.tp)
        while task.state.position < log.next_offset:
            batch = self._broker.fetch(task.tp, task.state.position, CHUNK_RECORDS)
            run_sync(task.receive(batch))
            if task.due:
                run_sync(task.commit())
            task.refuse_to_wait()
        if task.idle:
            log.trim(task.state.position)

    def _drain(self) -> None:
        """Feed the sinks, move topic outputs to their files, and forget what is done."""
        for tp, sink in self._sinks.items():
            log = self._broker.partition(tp)
            while sink.wanted < log.next_offset:
                done = sink.receive(self._broker.fetch(tp, sink.wanted))
                if done is not None:
                    log.trim(done)
        for topic, file in self._outputs.items():
            for log in self._broker.topics[topic]:
                for _, record in log.records:
                    file.write(as_line(record))
                log.trim(log.next_offset)

    def _open(self, stack: ExitStack) -> None:
        tasks = self._partitions * len(self._topology.tasks)
        states = StateFolder(self._work / "state", StateMemory(databases=tasks))
        stack.callback(states.close)
        stack.callback(self._beside.close)
        for plan in self._topology.tasks:
            for topic in plan.output_topics:
                self._broker.create(topic, self._partitions)
                path = self._work / "topics" / f"{topic}.ndjson"
                self._outputs[topic] = stack.enter_context(path.open("wb"))
            self._broker.create(plan.source.topic, self._partitions)
            self._broker.create(self._names.changelog(plan.source.topic), self._partitions)
            for partition in range(self._partitions):
                self._open_task(plan, TopicPartition(plan.source.topic, partition), states, stack)
            for sink in plan.all_sinks:
                self._open_sink(sink)

    def _open_task(
        self, plan: TaskPlan, tp: TopicPartition, states: StateFolder, stack: ExitStack
    ) -> None:
        changelog = TopicPartition(self._names.changelog(plan.source.topic), tp.partition)
        ports = TaskPorts(
            MemoryOutbox(self._broker, self._names.producer(tp)),
            MemoryChangelog(self._broker, changelog),
            states.store(f"{tp.topic}-{tp.partition}"),
            self._clock,
            answer=self._answer,
            masks=self._masks,
        )
        task = Task(
            plan,
            self._names,
            tp,
            ports,
            partitions=self._partitions,
            version=self._topology.version,
            limits=TaskLimits(records=CHUNK_RECORDS),
        )
        run_sync(task.open(0))
        stack.callback(lambda: run_sync(task.close()))
        self._tasks.append(task)

    def _open_sink(self, sink: SinkPlan) -> None:
        self._broker.create(self._names.rows(sink.name), self._partitions)
        spec = table_spec(self._topology, self._names, sink, self._partitions)
        spec = replace(spec, roll_interval=None, inactivity_interval=None)
        for partition in range(self._partitions):
            tp = TopicPartition(self._names.rows(sink.name), partition)
            table = self._table(sink)
            chain_of(table).agree(spec)
            opened = SinkPartition(spec, tp, table, clock=self._clock, owner=self._names.app)
            opened.open(0, 0)
            self._sinks[tp] = opened

    def _table(self, sink: SinkPlan) -> Table:
        files = LocalFiles(self._work, sink.table.folder)
        if not sink.table.location.startswith(DELTA):
            return files
        uri = str((self._work / sink.table.folder).absolute())
        return LoggedTable(files, delta_log(uri, None, self._clock))

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _totals(self) -> Counter[str]:
        return sum((task.totals for task in self._tasks), Counter[str]())

    def _result(self) -> LocalResult:
        rules = sum((Counter(task.state.rules) for task in self._tasks), Counter[str]())
        sinks = self._sinks.values()
        return LocalResult(
            totals=self._totals(),
            rules=rules,
            folder=self._folder,
            topics={t: self._folder / "topics" / f"{t}.ndjson" for t in self._outputs},
            files=sum(sink.written.files for sink in sinks),
            rows=sum(sink.written.rows for sink in sinks),
            bytes=sum(sink.written.bytes for sink in sinks),
        )


@contextmanager
def _in_words(folder: Path) -> Generator[None]:
    """What the file system says about a folder that is to be made, for the one who named it."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be made: {error.strerror}; let this user write there, or name "
            "another folder for the results"
        ) from error


def as_line(record: Record) -> bytes:
    """A record as one line of JSON; bytes that are not UTF-8 are `{"base64": ...}`."""
    document = {
        "key": _text(record.key),
        "value": _text(record.value),
        "timestamp": record.timestamp,
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _text(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
