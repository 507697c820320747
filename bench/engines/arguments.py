"""What every engine under test is told, and how it answers."""

from __future__ import annotations

import argparse
import json


def arguments() -> argparse.Namespace:
    """The command line of an engine: it handles `records` records of a topic and ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True)
    parser.add_argument("--prefix", required=True, help="the topic is PREFIXflights")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--name", required=True, help="group and folder nobody else uses")
    parser.add_argument("--folder", required=True)
    return parser.parse_args()


def answer(records: int, seconds: float) -> None:
    """Say what was done, as the last line."""
    print(json.dumps({"records": records, "seconds": seconds}), flush=True)
