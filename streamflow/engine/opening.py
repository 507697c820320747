"""What is done when partitions have been assigned: tried again for as long as it may pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from streamflow.engine.failures import is_hopeless
from streamflow.engine.retries import FOR_EVER, OPENING, Retries
from streamflow.errors import (
    NoBroker,
    SettingsError,
    SinkRefused,
    StateRefused,
    StreamflowError,
)

log = logging.getLogger(__name__)

#: What a person has to settle.
FINAL = (StateRefused, SinkRefused, SettingsError)


async def until_it_passes(what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Do a step until it succeeds: a broker that is away, or a predecessor that is just being
    fenced, are waited for.

    Raises:
        StreamflowError: a person has to settle it, or it is a defect, which does not pass.
    """
    loop = asyncio.get_running_loop()
    retries = Retries(FOR_EVER, Random(), loop.time())
    while True:
        try:
            await step()
            return
        except Exception as error:
            if isinstance(error, FINAL) and not isinstance(error, NoBroker):
                raise
            wait = retries.wait(loop.time())
            assert wait is not None, "for ever"
            if is_hopeless(error) and retries.attempts > (OPENING.max_attempts or 0):
                log.error("%s: the last failure", what, exc_info=error)
                raise StreamflowError(
                    f"{what}: cannot be opened, after {retries.attempts - 1} attempts: {error!r}; "
                    "nothing is lost, start the worker again when it is mended"
                ) from error
            log.warning("%s: cannot be opened yet: %r", what, error)
        await asyncio.sleep(wait)
