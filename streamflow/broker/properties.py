"""The `server.properties` of the local broker: one node, both roles, loopback only."""

from pathlib import Path

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}

# One node: every internal topic has one replica, and few partitions to start fast.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

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


def server_properties(*, port: int, controller_port: int, logs: Path) -> str:
    """The text of the file; `logs` is the folder in which Kafka keeps its data."""
    return _PROPERTIES.format(port=port, controller_port=controller_port, logs=logs)
