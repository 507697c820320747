"""Names of the topics a run uses, made from the app's id and the topology's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamflow.batch import TopicPartition
from streamflow.core.plan import SinkPlan, TaskPlan
from streamflow.errors import SettingsError, TopologyError


@dataclass(frozen=True)
class Names:
    """The app's id is the consumer group; `prefix` is put before every topic of the topology.

    A replay, or any run of a part of the sources, has names of its own for all that it writes, so
    that it touches nothing of the live app; it reads the same topics.
    """

    app: str
    prefix: str = ""
    run: str | None = None

    def of_run(self, run: str) -> Names:
        """The names of a run of this app."""
        return replace(self, app=f"{self.app}-{run}", run=run)

    @property
    def live(self) -> Names:
        """The names of the app itself."""
        if self.run is None:
            return self
        return replace(self, app=self.app.removesuffix(f"-{self.run}"), run=None)

    @property
    def runs(self) -> TopicPartition:
        """Where the runs of this app are written down."""
        return TopicPartition(f"{self.app}-runs", 0)

    @property
    def journal(self) -> TopicPartition:
        """Where the workers of this app, and of its runs, write down what they have done."""
        return TopicPartition(f"{self.app}-journal", 0)

    def source(self, name: str) -> str:
        """A topic that the topology reads."""
        return f"{self.prefix}{name}"

    def topic(self, name: str) -> str:
        """A topic that the topology writes."""
        return f"{self.prefix}{self._of_run(name)}"

    def table(self, path: str) -> str:
        """A table that the topology writes, below the lake."""
        return self._of_run(path)

    def changelog(self, source: str) -> str:
        """The changelog of the tasks of a source, one partition per task."""
        return f"{self.app}-{source}-changelog"

    def changelog_of(self, topic: str) -> str | None:
        """The same by the topic that is read; None where its name does not begin as all do."""
        source = topic.removeprefix(self.prefix)
        return self.changelog(source) if topic.startswith(self.prefix) else None

    def watermarks(self, source: str) -> TopicPartition:
        """Where workers tell each other how far the partitions of a source are."""
        return TopicPartition(f"{self.app}-{source}-watermarks", 0)

    @property
    def control(self) -> TopicPartition:
        """Where operators tell the workers of the app what is to stand, and what to go on."""
        return TopicPartition(f"{self.app}-control", 0)

    def rows(self, sink: str) -> str:
        """The rows topic of a table, one partition per task."""
        return f"{self.app}-{sink}-rows"

    def producer(self, tp: TopicPartition) -> str:
        """The transactional id of the task on this source partition."""
        return f"{self.app}-{tp.topic}-{tp.partition}"

    def _of_run(self, name: str) -> str:
        return name if self.run is None else f"{name}.{self.run}"


def check_outputs(
    names: Names, plans: Sequence[TaskPlan], archives: Sequence[SinkPlan] = ()
) -> None:
    """Raises `TopologyError` where a topic is one that the engine keeps for itself."""
    own = _internal(names, plans)
    for topic in (sink.source for sink in archives):
        if topic is not None and names.source(topic) in own:
            raise TopologyError(
                f"{topic!r} is a topic of this app's own state or rows, which is trimmed or"
                " compacted; archive what it is made from"
            )
    for plan in plans:
        outputs = {topic: names.topic(topic) for topic in plan.output_topics}
        for topic, name in {plan.source.topic: names.source(plan.source.topic), **outputs}.items():
            if name in own:
                raise TopologyError(
                    f"topology {plan.topology!r}: {topic!r} is the name of a topic of its own "
                    "state or rows; give it another one"
                )


def check_run(live: Names, run: Names, plans: Sequence[TaskPlan]) -> None:
    """Raises `SettingsError` where a run would write what is the live app's."""
    both = _written(live, plans) & _written(run, plans)
    if both:
        raise SettingsError(
            f"--run-id {run.run!r}: {min(both)!r} belongs to the app itself; choose another"
        )


def _written(names: Names, plans: Sequence[TaskPlan]) -> set[str]:
    """Topics, transactional ids and tables: those of one app, and what it reads."""
    found = _internal(names, plans)
    for plan in plans:
        found |= {names.topic(topic) for topic in plan.output_topics}
        found |= {f"table {names.table(sink.table.location)}" for sink in plan.all_sinks}
        found.add(f"producer {names.app}-{names.source(plan.source.topic)}")
    return found


def _internal(names: Names, plans: Sequence[TaskPlan]) -> set[str]:
    """The topics that the engine keeps for itself."""
    found = {names.rows(sink.name) for plan in plans for sink in plan.all_sinks}
    found |= {names.control.topic, names.runs.topic, names.journal.topic}
    for source in (plan.source.topic for plan in plans):
        found |= {names.changelog(source), names.watermarks(source).topic}
    return found
