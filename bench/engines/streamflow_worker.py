"""This project's worker, through its own command line: the whole of topologies.flights.

Validation, gate, watermarks, hourly windows with four aggregates, two Parquet tables, results, late
flights and dead letters, exactly once.
"""

from __future__ import annotations

from pathlib import Path

from arguments import arguments

from streamflow.cli import main

given = arguments()
folder = Path(given.folder)
options = {
    "--broker": given.broker,
    "--topic-prefix": given.prefix,
    "--app-id": given.name,
    "--lake": str(folder / "lake"),
    "--state-dir": str(folder / "state"),
}
words = [word for pair in options.items() for word in pair]
main(["worker", "topologies.flights", "--until-end", "--json", *words])
