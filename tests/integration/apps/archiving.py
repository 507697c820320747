"""An archive of clicks beside a table of orders: the one has no task, the other has."""

from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, archive, day, parquet, source, topic


class Order(BaseModel):
    id: str
    at: AwareDatetime


orders = source(topic("orders"), Order, key="id", event_time="at")

topology = Topology(
    "archiving",
    # Small files, so that there are several rolls.
    archive(topic("clicks")).to(
        parquet("raw/clicks", partition_by=[day("_timestamp")], target_bytes=20_000)
    ),
    orders.to(parquet("orders")),
    orders.rejected.drop(),
)
