"""The demonstration: a year of real flights through Kafka into Parquet, and what came of it."""
