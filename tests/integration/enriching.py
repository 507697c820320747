"""A topology that looks answers up at a service, which is slow at times, or down."""

import asyncio
import os
from datetime import timedelta

import orjson
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, parquet, source, topic


class Sale(BaseModel):
    shop: str
    sku: str
    n: int
    at: AwareDatetime


class Priced(BaseModel):
    shop: str
    sku: str
    n: int
    cents: int | None


async def prices(skus: list[str]) -> dict[str, dict[str, int]]:
    """A line of JSON each way."""
    host, port = os.environ["PRICES_AT"].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(orjson.dumps(skus, option=orjson.OPT_APPEND_NEWLINE))
        answer = orjson.loads(await reader.readline())
        return {sku: {"cents": cents} for sku, cents in answer.items()}
    finally:
        writer.close()


HOUR = timedelta(hours=1)
sales = source(topic("sales"), Sale, key="shop", event_time="at")
priced = sales.enrich(Priced, prices, key="sku", on_error="retry", batch=3, timeout=HOUR)
topology = Topology(
    "enriching",
    priced.to(topic("priced")),
    priced.to(parquet("priced")),
    sales.rejected.to(topic("dlq")),
)
