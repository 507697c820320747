"""A topology whose gate pauses a partition after the third value in ten that is missing."""

from datetime import timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel

from streamflow import Rule, Threshold, Topology, source, topic


class Reading(BaseModel, frozen=True):
    sensor: str
    n: int
    value: int | None
    at: AwareDatetime


def made(resume_after: timedelta | None) -> Topology:
    """With a pause that ends after this time of the clock, or when somebody says so."""
    limit: dict[str, Any] = {"max_count": 2, "last": 10, "probe": 3, "name": "outage"}
    gated = source(topic("readings"), Reading, key="sensor", event_time="at").gate(
        Rule("known", "value IS NOT NULL", severity="warning"),
        threshold=Threshold(action="pause", resume_after=resume_after, **limit),
    )
    return Topology("pausing", gated.to(topic("passed")), gated.rejected.to(topic("dlq")))


topology = made(None)
