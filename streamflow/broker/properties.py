"""The `server.properties` of local brokers: both roles in each, loopback only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PROPERTIES = """\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}

# A replica on each node, at most three, and one of them may be away. Few partitions to start fast.
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions={coordinators}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions={coordinators}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}

# Retention goes by the time in the record: old data must neither expire nor
# roll a new segment for every week of event time.
log.retention.ms=-1
log.roll.ms=9223372036854775807

# A killed broker that comes back waits for the end of its own old session.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# A group forms at once, and a test may notice a lost member within a second.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500

# A transaction that timed out is aborted within a second instead of ten.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000

# A topic is created on purpose, with the partitions it needs.
auto.create.topics.enable=false

# A laptop, not a server.
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=2097152
"""


@dataclass(frozen=True)
class Node:
    """A broker that is also one of its cluster's controllers."""

    id: int
    port: int
    controller_port: int


def server_properties(node: Node, nodes: Sequence[Node], logs: Path) -> str:
    """The text of the file of one of these nodes; `logs` is the folder of its data."""
    replicas = min(len(nodes), 3)
    return _PROPERTIES.format(
        id=node.id,
        voters=",".join(f"{each.id}@127.0.0.1:{each.controller_port}" for each in nodes),
        port=node.port,
        controller_port=node.controller_port,
        logs=logs,
        replicas=replicas,
        in_sync=max(replicas - 1, 1),
        coordinators=len(nodes),
    )
