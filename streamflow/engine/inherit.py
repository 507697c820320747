"""Takes up the state that a task's changelog has, perhaps of another version of the topology."""

from __future__ import annotations

import logging

from streamflow.core.inherited import anew
from streamflow.core.keys import decode_meta
from streamflow.core.part import Part
from streamflow.core.step import TaskState

log = logging.getLogger(__name__)


def inherit(part: Part, meta: bytes) -> tuple[TaskState, str, int]:
    """`(state, state id, number of source partitions)`; says what is begun anew.

    Raises:
        StateDamaged: it cannot be read.
        StateRefused: another version of streamflow wrote it, or it is being discarded.
    """
    state, state_id, partitions = decode_meta(meta)
    after = part.taken_up(state, meta)
    for stage in anew(state, after):
        log.warning(
            "%s: %r begins anew and knows no key yet: what it has remembered is of other fields, or"
            " of other types",
            part.tp,
            stage,
        )
    return after, state_id, partitions
