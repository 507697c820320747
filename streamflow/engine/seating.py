"""What a worker and its group tell each other about states, beside the partitions themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamflow.batch import TopicPartition


@dataclass
class Seating:
    """What the host tells the group, and what the group tells the host.

    The consumer's thread reads `has` and `follows` and writes the others, the host's the other way
    round; each is replaced as a whole, never changed.
    """

    #: Up to where the local states have applied the changelogs of tasks.
    has: Mapping[TopicPartition, int] = field(default_factory=dict)
    #: Tasks whose states are followed here.
    follows: frozenset[TopicPartition] = frozenset()
    #: Tasks of other workers whose states are to be followed.
    standbys: frozenset[TopicPartition] = frozenset()
    #: Those of them that are to become this worker's, once they are warm.
    warming: frozenset[TopicPartition] = frozenset()
