"""Where the rows come from on which a user's aggregate failed: its words have to say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import TopicPartition
from streamflow.errors import FunctionFailed, StateRefused


@contextmanager
def of_rows(partials: pa.Table) -> Generator[None]:
    """Give a failure the offsets of these partials, unless it has got fewer already."""
    try:
        yield
    except FunctionFailed as error:
        if error.offsets is None and partials.num_rows:
            first, after = pc.min(partials["__first"]), pc.max(partials["__next"])
            error.offsets = first.as_py(), after.as_py() - 1
        raise


@contextmanager
def placed(tp: TopicPartition) -> Generator[None]:
    """Raises `StateRefused` that says where a function failed."""
    try:
        yield
    except FunctionFailed as error:
        at = "" if error.offsets is None else "@{}..{}".format(*error.offsets)
        raise StateRefused(f"{tp}{at}: {error}") from error
