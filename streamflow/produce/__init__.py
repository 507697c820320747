"""Sending records to a topic: fast, in order, each acknowledged.

from streamflow.produce import produce_records

await produce_records(connection, "orders", records, partitions=4)
"""

from streamflow.produce.send import produce_chunks, produce_records

__all__ = ["produce_chunks", "produce_records"]
