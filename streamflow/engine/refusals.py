"""What a worker says when state, topics and group disagree, and the command that settles it.

`TOPOLOGY` stands for what the worker was started with, and is filled in by whoever knows it
(`cli/said.py`); the settings of the worker (broker, app id, topic prefix) hold for the command too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from streamflow.batch import TopicPartition
from streamflow.counted import counted
from streamflow.errors import StateRefused


def reset_command(source: str, partition: int | None, how: str) -> str:
    """The command that settles where a task of this source goes on; all of them for None."""
    which = "" if partition is None else f" --partition {partition}"
    return f"`streamflow state reset TOPOLOGY --source {source}{which} {how}`"


def other_topology(tp: TopicPartition, changelog: TopicPartition, source: str) -> StateRefused:
    """The state is of other windows, or of other aggregates in them."""
    command = reset_command(source, tp.partition, "--to changelog --discard")
    return StateRefused(
        f"{tp}: the state in {changelog} was written by other windows than this topology has, or by"
        " windows of other aggregates, groups or types of fields: if workers of a newer one run in "
        "this group, this one is out of date. Use a new app id, or "
        f"the topology that wrote it, or forget the state: {command}"
    )


def other_partitions(tp: TopicPartition, then: int, now: int) -> StateRefused:
    """The source has another number of partitions than it had."""
    return StateRefused(
        f"{tp}: the state was written when {tp.topic} had {counted(then, 'partition')}, now it"
        f" has {now}, so keys have moved; use a new app id"
    )


def source_grew(topic: str, then: int, now: int) -> StateRefused:
    """The source was given partitions while the worker ran."""
    return StateRefused(
        f"{topic} had {counted(then, 'partition')} when this worker started, now it has {now},"
        " so keys have moved, and their windows and what is remembered of them would be in two"
        " tasks; what is committed stays as it is. Use a new app id"
    )


def has_members(app: str, hosts: Sequence[str], session_timeout: timedelta) -> StateRefused:
    """Workers of the app run, or are not known to be gone."""
    members, seconds = counted(len(hosts), "member"), session_timeout.total_seconds()
    return StateRefused(
        f"workers of {app!r} seem to be running: its group has {members}, on"
        f" {', '.join(sorted(set(hosts)))}. Stop them all. One that was killed stays a member"
        f" for its session time-out: if none of them is running, try again in {seconds:g} s"
    )


def records_gone(tp: TopicPartition, position: int, first: int, source: str) -> StateRefused:
    """The source topic no longer has the records at the position."""
    command = reset_command(source, tp.partition, f"--to {first}")
    return StateRefused(
        f"{tp}: the next record is {position}, but the topic starts at {first}: records were "
        f"deleted before they were read; check its retention. To go on without them: {command}"
    )


def input_ended(tp: TopicPartition, ended: int, stop: int, source: str) -> StateRefused:
    """There are records after the end of the input."""
    # The end is declared of all partitions of a source.
    command = reset_command(source, None, "--to changelog --discard")
    return StateRefused(
        f"{tp}: the end of its input was declared at offset {ended}, as --until-end does, and all "
        f"windows were closed, but there are records up to {stop}; all would be late. Use a new "
        "app id, which reads the topic from its beginning, or stop all workers and go on from here "
        f"without the state, which for all partitions of it does: {command}"
    )


def table_left_behind(rows: TopicPartition, sink: str, path: str, commit: int) -> StateRefused:
    """The topology has a table no more of which some rows are in the rows topic only."""
    return StateRefused(
        f"{rows}: the topology writes the table {path!r} no more, but rows of it up to commit "
        f"{commit} are in no file yet. Make files of them: `streamflow sink drain TOPOLOGY {sink} "
        f"--table {path}`, or give the topology its table back; to give the rows up, delete the "
        f"topic {rows.topic}"
    )


def table_moved(rows: TopicPartition, then: str, now: str) -> StateRefused:
    """Another table would get the rows topic of one that there was."""
    return StateRefused(
        f"{rows}: the rows in it are of the table {then!r}, and not of {now!r}, whose topic has the"
        " same name: give the topology its table back, or the new one a path that differs in more"
        " than its slashes and dashes"
    )


def group_disagrees(
    tp: TopicPartition, position: int, group: int, app: str, source: str
) -> StateRefused:
    """The group's offset is not the changelog's position."""
    keep = reset_command(source, tp.partition, "--to changelog")
    return StateRefused(
        f"{tp}: the changelog's position is {position}, but the group {app!r} has committed "
        f"{group}; one of them was changed by hand. To go on at the changelog's: {keep}; at the "
        "group's: --to group"
    )


def changelog_empty(
    tp: TopicPartition, changelog: TopicPartition, group: int, app: str, source: str
) -> StateRefused:
    """The group has read records, and there is no state of it."""
    command = reset_command(source, tp.partition, "--to group --discard")
    return StateRefused(
        f"{tp}: the changelog {changelog} has no state, but the group {app!r} has committed "
        f"{group}: the changelog was deleted, or the offset was set by hand. Bring the topic back, "
        f"or begin there without a state: {command}"
    )


def changelog_lost(changelog: str, applied: int, stop: int) -> StateRefused:
    """The changelog ends before what was read from it."""
    return StateRefused(
        f"the changelog {changelog} ends at {stop}, but the local state has been brought up to "
        f"{applied} of it: it was deleted or has lost its end. Bring the topic back, or begin "
        "without a state: `streamflow state reset` with --discard, for this partition"
    )
