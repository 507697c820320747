"""A topology of notes of any length, to topics and a table."""

from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, parquet, source, topic


class Note(BaseModel, frozen=True):
    author: str
    n: int
    text: str
    at: AwareDatetime


notes = source(topic("notes"), Note, key="author", event_time="at")
topology = Topology(
    "notes",
    notes.to(topic("copies")),
    notes.to(topic("latest")),
    notes.to(parquet("notes")),
    notes.rejected.to(topic("dlq")),
)
