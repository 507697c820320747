"""The demonstration: a year of real flights through Kafka into Parquet, and a look at the result."""
