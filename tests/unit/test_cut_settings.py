"""How a file is written stands in the cut, whichever version wrote that."""

from dataclasses import replace

import orjson
import pyarrow as pa
import pytest

from streamflow.batch import TopicPartition
from streamflow.core.cut import Cut, decode_cut, encode_cut, next_cut, origin
from streamflow.core.hive import Group
from streamflow.core.rows import Layout, Trailer
from streamflow.core.sink_spec import SinkSpec
from streamflow.errors import SinkRefused
from streamflow.writer_settings import UNPLANNED, ColumnSettings, WriterSettings

SPEC = SinkSpec("t", "t", pa.schema([("id", pa.int64())]), "s1", "flights", "1")
PLANNED = WriterSettings(
    level=3, columns=(ColumnSettings("id", "DELTA_BINARY_PACKED", "none"), ColumnSettings("at"))
)
#: A cut as versions wrote it that had no plans.
OLD = (
    b'{"after":null,"commits":1,"counts":{"passed":2},"end_of_input":false,"files":[{"first":[0,0],'
    b'"last":[0,1],"name":"origin=JFK/app-t-rows-00003-00000001-00000.parquet","rows":2,'
    b'"schema_id":"s1","sort":[],"values":["JFK"],"writer":{"compression":"zstd","level":3,'
    b'"row_group_rows":262144,"writer":"pyarrow-1"}}],"first":0,"format":1,"gates":{},"k":1,'
    b'"next":2,"partition":3,"partition_by":["origin"],"sources":{"in":[[3,0,2]]},'
    b'"topic":"app-t-rows","topology":"flights","topology_version":"1","trailer":1,'
    b'"watermark":null}'
)


def cut(writer: WriterSettings = UNPLANNED) -> Cut:
    groups = [Group("origin=JFK/", ("JFK",), 2, (0, 0), (0, 1))]
    layout = Layout("s1", ("origin",), "1")
    trailer = Trailer(1, None, 1, layout, sources={"in": (3, 0, 2)}, counts={"passed": 2})
    start = origin(TopicPartition("app-t-rows", 3), 0, SPEC)
    return next_cut(start, "flights", groups, [trailer], 2, writer)


def test_a_cut_without_a_plan_is_what_it_always_was() -> None:
    assert encode_cut(cut()) == OLD
    assert decode_cut(OLD, cut().name) == cut()


def test_a_cut_has_the_settings_of_its_files_once() -> None:
    two = replace(cut(PLANNED), files=cut(PLANNED).files * 2)
    data = encode_cut(two)
    assert data.count(b"DELTA_BINARY_PACKED") == 1
    assert orjson.loads(data)["format"] == 2
    assert decode_cut(data, two.name) == two


def test_a_cut_without_files_needs_no_settings() -> None:
    idle = replace(cut(PLANNED), files=())
    assert orjson.loads(encode_cut(idle))["format"] == 1
    assert decode_cut(encode_cut(idle), idle.name) == idle


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "writer: Input should be an object"),
        ({"writer": "pyarrow-9"}, "writer: Input should be"),
        ({"columns": [{"path": "id", "encoding": "NEW"}]}, "columns.0.encoding: Input should"),
        ({"level": 99}, "level=99; it is 1 to 22"),
        ({"more": 1}, "more: Unexpected keyword argument"),
    ],
)
def test_settings_of_a_version_to_come_are_not_executed(
    settings: dict[str, object], said: str
) -> None:
    document = orjson.loads(encode_cut(cut(PLANNED)))
    document["writer"] = document["writer"] | settings if settings else None
    with pytest.raises(SinkRefused) as refused:
        decode_cut(orjson.dumps(document), cut().name)
    assert "start the version of streamflow that wrote it" in str(refused.value)
    assert said in str(refused.value)
