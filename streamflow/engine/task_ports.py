"""What a task needs of the world, in one value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from streamflow.clock import Clock
from streamflow.core.masking import Masks
from streamflow.core.poison import TopicLimits
from streamflow.engine.faults import Faults, no_faults
from streamflow.engine.lookups import Answer, no_lookups
from streamflow.engine.suspects import Suspects
from streamflow.ports import Changelog, Outbox, StateStore

Limits = Callable[[], Awaitable[Mapping[str, TopicLimits]]]


async def no_limits() -> Mapping[str, TopicLimits]:
    """Nothing is known of what topics take."""
    return {}


@dataclass(frozen=True)
class TaskPorts:
    """What a task needs of the world. `limits` tells what its topics take, and `suspects` is what
    they have refused in its earlier lives. `masks` hides what is sensitive.
    """

    outbox: Outbox
    changelog: Changelog
    store: StateStore
    clock: Clock
    faults: Faults = no_faults
    answer: Answer = no_lookups
    limits: Limits = no_limits
    suspects: Suspects = field(default_factory=Suspects)
    masks: Masks | None = None
