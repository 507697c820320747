"""A topology's app with agents of a user's own: one over records, one over micro-batches.

What the agents saw goes to the file `SEEN`. A record `die` kills the process as soon as a file
`DIE` lies beside it, in the middle of a batch.
"""

import os
import signal
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

from streamflow.batch import MicroBatch
from streamflow.engine.app import StreamflowApp
from streamflow.engine.settings import Settings
from streamflow.service import topology_app
from topologies.flights import topology

settings = Settings.load()
folder = Path(settings.state_dir).parent
app: StreamflowApp = topology_app(topology, settings)

greetings: Any = app.topic(f"{settings.topic_prefix}greetings", value_serializer="raw")
answers: Any = app.topic(f"{settings.topic_prefix}answers", value_serializer="raw")
numbers = app.batch_topic(f"{settings.topic_prefix}numbers")


@app.agent(greetings)
async def greet(stream: Any) -> None:
    """One event per record, as in any Faust app."""
    async for value in stream:
        await answers.send(value=value.upper())


@app.agent(numbers)
async def tally(stream: AsyncIterable[MicroBatch]) -> None:
    """One event per micro-batch."""
    async for batch in stream:
        with (folder / "SEEN").open("a") as seen:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                print(batch.tp.partition, offset, (value or b"").decode(), file=seen, flush=True)
                if value == b"die" and (folder / "DIE").exists():
                    os.kill(os.getpid(), signal.SIGKILL)
