"""Workers whose lake is an S3 server: killed in the middle of a roll, they leave every row once."""

from itertools import islice
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.fs

from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from streamflow.engine.faults import VARIABLE
from tests.integration.worker import WorkerUnderTest
from tests.stores.server import BUCKET, CREDENTIALS, S3Server

FLIGHTS = 2_000


class InAStore(WorkerUnderTest):
    """Its tables lie in the S3 server."""

    @property
    def lake(self) -> str:  # type: ignore[override]
        return f"s3://{BUCKET}/{self.app}"


def keys(s3: S3Server, table: str) -> list[tuple[int, int]]:
    """Where each row of a table comes from."""
    system = pyarrow.fs.S3FileSystem(
        access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=s3.endpoint,
        region="us-east-1",
    )
    found = ds.dataset(f"{BUCKET}/{table}", filesystem=system, partitioning="hive")
    rows = found.to_table(columns=["_partition", "_offset"]).to_pydict()
    return sorted(zip(rows["_partition"], rows["_offset"], strict=True))


def test_a_worker_killed_between_two_objects_leaves_every_row_once(
    kafka: Broker, s3: S3Server, fresh: str, tmp_path: Path
) -> None:
    under_test = InAStore(kafka.bootstrap, fresh, tmp_path, environment=s3.environment)
    try:
        under_test.create("flights", 2)
        under_test.produce("flights", islice(flight_records(), FLIGHTS), 2)
        killed = under_test.start("--until-end", **{VARIABLE: "files-written:2"})
        killed.communicate(timeout=60)
        assert killed.returncode == -9
        finished = under_test.finish(under_test.start("--until-end"))
        found = keys(s3, f"{under_test.app}/flights")
        assert len(found) == len(set(found)) == finished["totals"]["passed"] > 0
    finally:
        under_test.close()
