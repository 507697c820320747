"""One commit of a task, step by step (each step is a named crash point).

    begin    open the task's transaction
    produce  outputs, dead letters, late records, sink rows with trailers, changelog
    offsets  the group's next offset, for monitors; the position that counts is the changelog's
    commit   end the transaction; from here on an error means *unknown*
    apply    one write to the local state: changes and the changelog offset they came from
    ack      the micro-batches are acknowledged to the host

An error before `commit` aborts: nothing was changed. An error at `commit` is never retried: the
task is taken up as after a crash, and its changelog tells what became of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from streamflow.batch import TopicPartition
from streamflow.core.seal import Sealed
from streamflow.engine.faults import Faults
from streamflow.errors import StreamflowError, TaskLost
from streamflow.ports import Outbox, StateStore

#: Kept in the local state only: the changelog offset up to which it is applied, and when (ms).
APPLIED = b"~applied"
APPLIED_AT = b"~applied-at"


async def commit(
    sealed: Sealed,
    *,
    source: TopicPartition,
    changelog: TopicPartition,
    outbox: Outbox,
    store: StateStore,
    now_ms: int,
    ack: Callable[[], None],
    faults: Faults,
) -> None:
    """Make one commit.

    Raises:
        TaskLost: the commit failed or its fate is unknown; take the task up again.
    """
    try:
        applied = await _transaction(sealed, source, changelog, outbox, faults)
    except StreamflowError:
        raise
    except Exception as error:
        raise TaskLost(f"commit {sealed.state.commit} of {source}: {error!r}") from error
    faults("apply")
    local = [(APPLIED, str(applied).encode()), (APPLIED_AT, str(now_ms).encode())]
    store.apply([*sealed.changes, *local])
    faults("ack")
    ack()


async def _transaction(
    sealed: Sealed,
    source: TopicPartition,
    changelog: TopicPartition,
    outbox: Outbox,
    faults: Faults,
) -> int:
    faults("begin")
    await outbox.begin()
    try:
        faults("produce")
        for to, records in sealed.outputs:
            await outbox.produce(to, records)
        await outbox.produce(changelog, sealed.changelog())
        written = await outbox.flush()
        faults("offsets")
        await outbox.offsets({source: sealed.state.position})
    except Exception:
        with suppress(Exception):
            await outbox.abort()
        raise
    faults("commit")
    await outbox.commit()
    return written[changelog]
