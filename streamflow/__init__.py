"""streamflow: Kafka topics in, trustworthy Parquet and topics out."""
