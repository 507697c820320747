"""Names of the topics a run uses, made from the app's id and the topology's own words."""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.batch import TopicPartition


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

    def rows(self, sink: str) -> str:
        """The rows topic of a table, one partition per task."""
        return f"{self.app}-{sink}-rows"

    def producer(self, tp: TopicPartition) -> str:
        """The transactional id of the task on this source partition."""
        return f"{self.app}-{tp.topic}-{tp.partition}"
