"""Are the topics there, and are they as a topology needs them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamflow.check.finding import Finding
from streamflow.check.replicas import KAFKA_S_OWN, check_replicas
from streamflow.core.names import Names
from streamflow.counted import counted
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.engine.archive_feed import archives_of
from streamflow.errors import StreamflowError
from streamflow.service import COMPACTION_LAG_MS, LAG, topic_specs
from streamflow.topology import Topology


async def check_topics(
    connection: Mapping[str, Any],
    topology: Topology,
    names: Names,
    create_partitions: int | None,
    replicas: int | None = None,
) -> list[Finding]:
    """Sources first, then every topic that is derived from one that is there; those that are made
    get so many replicas.
    """
    archived = archives_of(topology, names)
    sources = [*(names.source(plan.source.topic) for plan in topology.tasks), *archived]
    try:
        async with KafkaAdmin(connection) as admin:
            made: list[str] = []
            if create_partitions is not None:
                keep = {"retention.ms": "-1"}
                wanted = [TopicSpec(s, create_partitions, keep, replicas) for s in sources]
                made += await admin.create(wanted)
            counts = await admin.partitions(sources)
            specs = await topic_specs(topology, names, admin, counts, replicas)
            if create_partitions is not None:
                made += await admin.create(specs)
            findings = [check_source(source, counts.get(source), made) for source in sources]
            configs = await admin.configs([topic for topic in archived if topic in counts])
            findings += [one for found in configs.items() for one in check_archived(*found)]
            counts = await admin.partitions([spec.name for spec in specs])
            internal = _internal(topology, names)
            for spec in specs:
                count = counts.get(spec.name)
                config = await admin.config(spec.name) if count is not None else {}
                findings += check_topic(
                    spec, count, config, internal=spec.name in internal, made=spec.name in made
                )
            written = [spec.name for spec in specs]
            return findings + await _replicas(admin, [*sources, *written, *KAFKA_S_OWN])
    except StreamflowError as error:
        return [Finding.problem("topic", str(error), "put that right, and check again")]


async def _replicas(admin: KafkaAdmin, topics: list[str]) -> list[Finding]:
    brokers, replicas = await admin.brokers(), await admin.replicas()
    there = [topic for topic in topics if topic in replicas]
    return check_replicas(len(brokers), replicas, await admin.configs(there))


def check_source(name: str, count: int | None, made: list[str]) -> Finding:
    """A topic that the topology reads; any number of partitions is right."""
    if count is None:
        return Finding.problem(
            "topic",
            f"source topic {name!r} does not exist",
            f"make it: `streamflow produce {name} FILE --create`, or check with --create-topics",
        )
    new = ", just made" if name in made else ""
    return Finding.ok("topic", f"source topic {name!r} has {counted(count, 'partition')}{new}")


def check_archived(name: str, config: Mapping[str, str]) -> list[Finding]:
    """A topic of others whose records are to be archived before it deletes them."""
    kept = int(config.get(LAG, 0)) >= COMPACTION_LAG_MS
    if kept or "compact" not in config.get("cleanup.policy", ""):
        return []
    return [
        Finding.warning(
            "topic",
            f"source topic {name!r} is compacted: records that it drops before they are rolled are"
            " in no archive, and a roll that a crash cut short cannot be made again without them",
            f"set {LAG}={COMPACTION_LAG_MS} on topic {name}, or more",
        )
    ]


def check_topic(
    spec: TopicSpec, count: int | None, config: Mapping[str, str], *, internal: bool, made: bool
) -> list[Finding]:
    """A topic that a worker writes: what it is, against what it should be."""
    kind = "internal topic" if internal else "output topic"
    name = f"{kind} {spec.name!r}"
    if count is None:
        return [
            Finding.ok(
                "topic", f"{name} will be made, with {counted(spec.partitions, 'partition')}"
            )
        ]
    wrong = [
        *_partitions(name, spec, count, internal=internal),
        *_size(name, spec, config),
        *_policy(name, spec, config, internal=internal),
        *_lag(name, spec, config),
        *_retention(name, spec, config, internal=internal),
    ]
    new = ", just made" if made else ""
    return wrong or [Finding.ok("topic", f"{name} has {counted(count, 'partition')}{new}")]


def _partitions(name: str, spec: TopicSpec, count: int, *, internal: bool) -> list[Finding]:
    if count == spec.partitions:
        return []
    what = f"{name} has {counted(count, 'partition')}, its source {spec.partitions}"
    if internal:
        fix = (
            "run under another --app-id, or give the source its old number of partitions back: "
            "the state belongs to that number"
        )
    else:
        fix = f"write to another topic, or make this one anew with {spec.partitions}"
    return [Finding.problem("topic", what, fix)]


def _size(name: str, spec: TopicSpec, config: Mapping[str, str]) -> list[Finding]:
    if "max.message.bytes" not in spec.config:  # its records are short
        return []
    wanted, found = int(spec.config["max.message.bytes"]), int(config["max.message.bytes"])
    if found >= wanted:
        return []
    return [
        Finding.problem(
            "topic",
            f"{name} takes {found:,} bytes, and a source record can make {wanted:,}",
            _set(spec, "max.message.bytes"),
        )
    ]


def _policy(
    name: str, spec: TopicSpec, config: Mapping[str, str], *, internal: bool
) -> list[Finding]:
    """An output topic may be compacted or not, as its readers like."""
    wanted, found = spec.config.get("cleanup.policy", "delete"), config["cleanup.policy"]
    if not internal or found == wanted:
        return []
    loses = "state" if wanted == "compact" else "rows"
    fix = f"set cleanup.policy={wanted} on topic {spec.name}"
    what = f"{name} has cleanup.policy={found}, not {wanted}, and would lose {loses}"
    return [Finding.problem("topic", what, fix)]


def _lag(name: str, spec: TopicSpec, config: Mapping[str, str]) -> list[Finding]:
    """A changelog that an earlier version made; a worker that delivers at least once sets it."""
    wanted = int(spec.config.get(LAG, 0))
    found = int(config.get(LAG, wanted))  # not every broker knows it
    if found >= wanted:
        return []
    what = (
        f"{name} may be compacted after {_duration(found)}: at least once, a commit that never was "
        "could replace one that was"
    )
    return [Finding.warning("topic", what, f"{_set(spec, LAG)}; at least once, a worker does it")]


def _retention(
    name: str, spec: TopicSpec, config: Mapping[str, str], *, internal: bool
) -> list[Finding]:
    millis = int(config["retention.ms"])
    wanted = int(spec.config.get("retention.ms", -1))
    if millis < 0 or 0 <= wanted <= millis or config["cleanup.policy"] == "compact":
        return []
    what = f"{name} keeps its records for {_duration(millis)}, not for ever"
    if internal:
        return [
            Finding.problem("topic", f"{what}, and would lose some", _set(spec, "retention.ms"))
        ]
    return [
        Finding.warning(
            "topic",
            f"{what}; they carry event times, so old events are gone at once",
            _set(spec, "retention.ms"),
        )
    ]


def _internal(topology: Topology, names: Names) -> set[str]:
    sources = [plan.source.topic for plan in topology.tasks]
    kept = {names.control.topic, names.live.journal.topic, *map(names.changelog, sources)}
    kept |= {names.watermarks(source).topic for source in sources}
    return kept | {names.rows(s.name) for plan in topology.tasks for s in plan.all_sinks}


def _set(spec: TopicSpec, setting: str) -> str:
    return f"set {setting}={spec.config[setting]} on topic {spec.name}"


def _duration(millis: int) -> str:
    for unit, size in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if millis >= 2 * size:
            return f"{millis / size:g} {unit}"
    return f"{millis / 1000:g} seconds"
