"""The storage plan: how the columns of a table are written, measured from its data."""
