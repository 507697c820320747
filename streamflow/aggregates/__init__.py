"""Aggregates as values: what to keep per group, how partial results merge, and what comes out.

Each aggregate describes its *partial*: columns that a micro-batch's rows are reduced to and that
merge with other partials of the same group in any order. Its class says when a result is null:
`null_of_nulls`, where its field is null, with `null_where` in words; `null_of_few`, also where
there is less than it needs.
"""

from streamflow.aggregates.frequent import Frequent
from streamflow.aggregates.function import METHODS, AggregateFunction, UserDefined
from streamflow.aggregates.ordered import Collect, First, Last, TopK
from streamflow.aggregates.part import Part
from streamflow.aggregates.simple import Count, Distinct, Max, Mean, Min, Sum
from streamflow.aggregates.sketches import ApproxDistinct, Quantile
from streamflow.aggregates.spread import StdDev, Variance

Aggregate = (
    Count
    | Sum
    | Mean
    | Min
    | Max
    | Distinct
    | Variance
    | StdDev
    | First
    | Last
    | Collect
    | TopK
    | Quantile
    | ApproxDistinct
    | Frequent
    | UserDefined
)

__all__ = [
    "METHODS",
    "Aggregate",
    "AggregateFunction",
    "ApproxDistinct",
    "Collect",
    "Count",
    "Distinct",
    "First",
    "Frequent",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Part",
    "Quantile",
    "StdDev",
    "Sum",
    "TopK",
    "UserDefined",
    "Variance",
    "fields_of",
    "name_of",
]


def fields_of(aggregate: Aggregate) -> tuple[str, ...]:
    """The fields of rows that it is computed on."""
    if isinstance(aggregate, UserDefined):
        return aggregate.fields
    if isinstance(aggregate, TopK):
        return aggregate.of, aggregate.by
    return () if aggregate.field is None else (aggregate.field,)


def name_of(aggregate: Aggregate) -> str:
    """Its name, as the topology has it."""
    return aggregate.name if isinstance(aggregate, UserDefined) else type(aggregate).__name__
