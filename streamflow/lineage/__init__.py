"""Where a row came from and where a record went."""
