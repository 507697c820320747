"""Names of the topics a run uses, made from the app's id and the topology's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamflow.batch import TopicPartition
from streamflow.core.plan import TaskPlan
from streamflow.errors import TopologyError


@dataclass(frozen=True)
class Names:
    """The app's id is the consumer group; `prefix` is put before every topic of the topology."""

    app: str
    prefix: str = ""

    def topic(self, name: str) -> str:
        """A topic that the topology reads or writes."""
        return f"{self.prefix}{name}"

    def changelog(self, source: str) -> str:
        """The changelog of the tasks of a source, one partition per task."""
        return f"{self.app}-{source}-changelog"

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


def check_outputs(names: Names, plans: Sequence[TaskPlan]) -> None:
    """Raises `TopologyError` where an output topic is one that the engine keeps for itself."""
    own = {names.rows(sink.name) for plan in plans for sink in plan.all_sinks}
    own.add(names.control.topic)
    for source in (plan.source.topic for plan in plans):
        own |= {names.changelog(source), names.watermarks(source).topic}
    for plan in plans:
        for topic in (plan.source.topic, *plan.output_topics):
            if names.topic(topic) in own:
                raise TopologyError(
                    f"topology {plan.topology!r}: {topic!r} is the name of a topic of its own "
                    "state or rows; give it another one"
                )
