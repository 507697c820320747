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

from streamflow.core.part import Part
from streamflow.core.seal import Sealed
from streamflow.engine.faults import Faults
from streamflow.engine.suspects import Suspects
from streamflow.errors import Refused, StreamflowError, TaskLost
from streamflow.ports import Outbox, StateStore

#: Kept in the local state only: the changelog offset up to which it is applied, and when (ms).
APPLIED = b"~applied"
APPLIED_AT = b"~applied-at"


async def commit(
    sealed: Sealed,
    part: Part,
    *,
    outbox: Outbox,
    suspects: Suspects,
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
        applied = await _transaction(sealed, part, outbox, suspects, faults)
    except Refused as refused:
        suspects.learn(refused)
        raise
    except StreamflowError:
        raise
    except Exception as error:
        raise TaskLost(f"commit {sealed.state.commit} of {part.tp}: {error!r}") from error
    faults("apply")
    local = [(APPLIED, str(applied).encode()), (APPLIED_AT, str(now_ms).encode())]
    store.apply([*sealed.changes, *local])
    faults("ack")
    ack()


async def _transaction(
    sealed: Sealed,
    part: Part,
    outbox: Outbox,
    suspects: Suspects,
    faults: Faults,
) -> int:
    faults("begin")
    await outbox.begin()
    try:
        faults("produce")
        for to, records in (*sealed.outputs, (part.changelog, sealed.changelog())):
            for some in suspects.apart(to if isinstance(to, str) else to.topic, records):
                await outbox.produce(to, some)
        written = await outbox.flush()
        faults("offsets")
        await outbox.offsets({part.tp: sealed.state.position})
    except Exception:
        with suppress(Exception):
            await outbox.abort()
        raise
    faults("commit")
    await outbox.commit()
    suspects.forget()
    return written[part.changelog]
