"""What becomes of several results of one window in a table."""

from __future__ import annotations

from dataclasses import replace

from streamflow.core.merging import Merging
from streamflow.core.plan import SinkPlan
from streamflow.errors import TopologyError
from streamflow.results import Results
from streamflow.triggers import Update


def with_revisions(results: Results, sink: SinkPlan) -> SinkPlan:
    """The table as it takes these results.

    Raises:
        TopologyError: it takes no row back, and it is not said which results it is to have.
    """
    windowed, key = results.windowed, ("window_start",)
    if sink.table.replaces and sink.table.revisions in (None, "merge"):
        key = sink.columns((*windowed.by, *key))
        sink = replace(sink, replaces=(results.name, key))
    if windowed.early is None and not isinstance(windowed.late, Update):
        return sink
    said = sink.table.revisions
    if said == "merge" or (said is None and sink.table.replaces):
        return replace(sink, merging=Merging(key, windowed.early is not None))
    if said is None:
        raise TopologyError(
            f"{sink.table}: windows of {results} give more than one result, and rows of a table"
            ' are never replaced; say revisions="final" for the first final one of each, or'
            ' revisions="append" for all, told apart by final and revision; or write a'
            " delta(...) table, which keeps the newest"
        )
    return sink
