"""The real world behind the ports: Kafka, RocksDB, Parquet, file systems, and memory."""
