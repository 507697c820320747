"""A table that cannot be written is refused in words when it is declared."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from streamflow.core.halving import each_alone
from streamflow.core.sink_spec import SinkSpec
from streamflow.errors import TopologyError

SCHEMA = pa.schema(
    [
        ("shop", pa.dictionary(pa.int32(), pa.string())),
        ("day", pa.date32()),
        ("price", pa.float64()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def spec(schema: pa.Schema = SCHEMA, **options: Any) -> SinkSpec:
    return SinkSpec("sales", "sales", schema, "id", "topology", "v1", **options)


def test_a_table_by_text_and_dates_is_taken() -> None:
    assert spec(partition_by=("shop", "day")).partition_by == ("shop", "day")


@pytest.mark.parametrize(
    ("schema", "options", "words"),
    [
        (pa.schema([*SCHEMA, ("day", pa.int64())]), {}, "column 'day' is there twice"),
        (SCHEMA, {"target_bytes": 0}, "target_bytes is 0, it must be above 0"),
        (SCHEMA, {"roll_interval": timedelta(0)}, "roll_interval is 0:00:00, it must be above 0"),
        (SCHEMA, {"inactivity_interval": timedelta(0)}, "inactivity_interval is 0:00:00, it must"),
        (SCHEMA, {"partition_by": ("week",)}, "names 'week', the rows have shop, day, price, at"),
        (SCHEMA, {"partition_by": ("price",)}, "column 'price' is double; folders are named by"),
        (SCHEMA, {"partition_by": ("day", "day")}, "partition_by repeats a column: day, day"),
        (pa.schema([("a", pa.int8())]), {"partition_by": ("a",)}, "no column is left for the file"),
        (
            pa.schema([("a", pa.list_(pa.timestamp("ns")))]),
            {},
            r"column 'a' holds nanoseconds, .*: use timestamp\('us', 'UTC'\)",
        ),
    ],
)
def test_any_other_is_refused(schema: pa.Schema, options: dict[str, Any], words: str) -> None:
    with pytest.raises(TopologyError, match=f"^sink 'sales': .*{words}"):
        spec(schema, **options)


def test_a_lack_of_memory_is_no_fault_of_a_row() -> None:
    def greedy(_rows: pa.RecordBatch) -> pa.Array:
        raise MemoryError

    with pytest.raises(MemoryError):
        each_alone(greedy, pa.RecordBatch.from_pydict({"n": [1, 2]}), pa.int64())
