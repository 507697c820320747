"""One commit of a task, step by step (each step is a named crash point).

In a transaction, where delivery is exactly once:

    begin    open the task's transaction
    produce  outputs, dead letters, late records, sink rows with trailers, changelog
    offsets  the group's next offset, for monitors; the position that counts is the changelog's
    commit   end the transaction; from here on an error means *unknown*
    apply    one write to the local state: changes and the changelog offset they came from
    ack      the micro-batches are acknowledged to the host

An error before `commit` aborts: nothing was changed. An error at `commit` is never retried: the
task is taken up as after a crash, and its changelog tells what became of it.

Without transactions, where delivery is at least once:

    begin    nothing is opened, and nothing can be taken back
    produce  outputs, dead letters, late records, sink rows with provisional trailers; all are there
    commit   the changelog's entries
    mark     the meta record, their mark: with it the commit is made, without it it is void
    apply    as above
    name     a record for each table that names the commit: from here on its rows count
    ack      as above

After a crash before the mark, the next owner does the same work again: readers of topics see some
of it twice. State and tables do not: what has no mark, or was never named, is void.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from streamflow.batch import Record, TopicPartition
from streamflow.core.keys import META
from streamflow.core.part import Part
from streamflow.core.seal import Sealed
from streamflow.core.table_records import namings
from streamflow.engine.task_ports import TaskPorts
from streamflow.errors import Fenced, Refused, StreamflowError, TaskLost

#: Kept in the local state only: the changelog offset up to which it is applied, and when (ms).
APPLIED = b"~applied"
APPLIED_AT = b"~applied-at"


async def commit(
    sealed: Sealed,
    part: Part,
    ports: TaskPorts,
    *,
    now_ms: int,
    expected: int | None = None,
    ack: Callable[[], None] = lambda: None,
) -> int:
    """Make one commit, the way its state says.

    `expected` is where the changelog has to go on, if nobody else has written there; returns where
    it goes on then.

    Raises:
        TaskLost: the commit failed or its fate is unknown; take the task up again.
        Fenced: somebody else has written to the changelog, so this owner is none any more.
    """
    assert sealed.changes[-1][0] == META, "the meta record marks the entries before it"
    provisional = sealed.state.provisional
    try:
        if provisional:
            applied = await _without_transaction(sealed, part, ports, expected)
        else:
            applied = await _in_transaction(sealed, part, ports, expected)
        ports.faults("apply")
        local = [(APPLIED, str(applied).encode()), (APPLIED_AT, str(now_ms).encode())]
        ports.store.apply([*sealed.changes, *local])
        if provisional:
            ports.faults("name")
            await _produce(ports, namings(part, sealed.state))
            await ports.outbox.flush()
    except Refused as refused:
        ports.suspects.learn(refused)
        raise
    except StreamflowError:
        raise
    except Exception as error:
        raise TaskLost(f"commit {sealed.state.commit} of {part.tp}: {error!r}") from error
    ports.suspects.forget()
    ports.faults("ack")
    ack()
    return applied if provisional else applied + 1  # the transaction's own marker is there


async def _in_transaction(
    sealed: Sealed, part: Part, ports: TaskPorts, expected: int | None
) -> int:
    outbox = ports.outbox
    ports.faults("begin")
    await outbox.begin()
    try:
        ports.faults("produce")
        await _produce(ports, [*sealed.outputs, (part.changelog, sealed.changelog())])
        end = (await outbox.flush())[part.changelog]
        _see_that_nobody_wrote(sealed, part, end, expected)
        ports.faults("offsets")
        await outbox.offsets({part.tp: sealed.state.position})
    except Exception:
        with suppress(Exception):
            await outbox.abort()
        raise
    ports.faults("commit")
    await outbox.commit()
    return end


async def _without_transaction(
    sealed: Sealed, part: Part, ports: TaskPorts, expected: int | None
) -> int:
    outbox = ports.outbox
    ports.faults("begin")
    await outbox.begin()
    for output in sealed.outputs:
        ports.faults("produce")
        await _produce(ports, [output])
    await outbox.flush()
    *entries, mark = sealed.changelog()
    ports.faults("commit")
    await _produce(ports, [(part.changelog, entries)])
    ports.faults("mark")
    await _produce(ports, [(part.changelog, [mark])])
    end = (await outbox.flush())[part.changelog]
    _see_that_nobody_wrote(sealed, part, end, expected)
    return end


async def _produce(
    ports: TaskPorts, outputs: Sequence[tuple[TopicPartition | str, Sequence[Record]]]
) -> None:
    for to, records in outputs:
        for some in ports.suspects.apart(to if isinstance(to, str) else to.topic, records):
            await ports.outbox.produce(to, some)


def _see_that_nobody_wrote(sealed: Sealed, part: Part, end: int, expected: int | None) -> None:
    """Where transactions have fenced every owner there ever was, nobody can have."""
    first = end - len(sealed.changes)
    if expected is not None and first != expected and sealed.state.epoch:
        raise Fenced(
            f"{part.changelog} goes on at {first} instead of {expected}: another owner of this task"
            " has written there"
        )
