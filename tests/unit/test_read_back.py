"""Bytes that leave for a topic as text, and a model that reads such text otherwise."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest
from pydantic import AwareDatetime, BaseModel, Field

from streamflow import Last, Topology, TopologyError, Tumbling, parquet, source, topic
from streamflow.testing import TopologyDriver

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Token(BaseModel, val_json_bytes="base64"):
    key: str
    token: bytes
    at: AwareDatetime


class Inner(BaseModel, val_json_bytes="hex"):
    token: Annotated[bytes, Field(max_length=9)] | None


class Nested(BaseModel):
    key: str
    all: list[Inner]
    at: AwareDatetime


class Latest(BaseModel, val_json_bytes="base64"):
    key: str
    window_start: AwareDatetime
    token: bytes


class Text(BaseModel):
    key: str
    token: bytes
    at: AwareDatetime


tokens = source(topic("tokens"), Token, key="key", event_time="at")
nested = source(topic("nested"), Nested, key="key", event_time="at")
latest = tokens.window(Tumbling(timedelta(minutes=1)), by="key").aggregate(
    Latest, token=Last("token")
)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([tokens.map(Token).to(topic("out")), tokens.rejected.drop()], "Token.token is read as b"),
        ([nested.map(Nested).to(topic("out")), nested.rejected.drop()], "Inner.token is read as h"),
        ([latest.to(topic("out")), latest.late.drop(), tokens.rejected.drop()], "Latest.token is"),
    ],
)
def test_a_model_that_would_read_other_bytes_is_refused(edges: list[object], words: str) -> None:
    with pytest.raises(TopologyError, match=words):
        Topology("t", *edges)  # type: ignore[arg-type]


def test_tables_records_as_they_came_and_other_models_are_not() -> None:
    edges = [
        tokens.to(topic("as-it-came")),
        tokens.map(Token).to(parquet("tokens")),
        tokens.map(Text).to(topic("texts")),
        tokens.rejected.drop(),
    ]
    driver = TopologyDriver(Topology("t", *edges), NOW)
    driver.send("tokens", {"key": "a", "token": "YWJj", "at": NOW})
    driver.end_of_input()
    assert [row["token"] for row in driver.files("tokens")] == [b"abc"]
    assert [row["token"] for row in driver.read("texts")] == ["abc"]
    assert [row["token"] for row in driver.read("as-it-came")] == ["YWJj"]
