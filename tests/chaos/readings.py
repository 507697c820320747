"""The input: an endless stream of readings with everything in it that leaves on another way."""

import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson

START = datetime(2024, 1, 1, tzinfo=UTC)
SENSORS = tuple(f"sensor-{n:02}" for n in range(12))
#: How often a reading has no value, comes again, or comes ten minutes late.
MISSING, AGAIN, LATE = 0.02, 0.03, 0.02
#: A reading that comes again is one of so many of its sensor's last.
RECENT = 20


def readings(seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; each sensor measures once in a second of event time, about in order."""
    rng = random.Random(seed)
    sent = {sensor: deque[bytes]((), RECENT) for sensor in SENSORS}
    tick = 0
    while True:
        for sensor in SENSORS:
            recent = sent[sensor]
            if recent and rng.random() < AGAIN:
                yield sensor.encode(), rng.choice(recent)
            at = START + timedelta(seconds=tick + rng.randint(-15, 15))
            if rng.random() < LATE:
                at -= timedelta(minutes=10)
            value = None if rng.random() < MISSING else rng.randrange(1000)
            made = {"sensor": sensor, "event": f"{sensor}#{tick}", "value": value, "at": at}
            recent.append(orjson.dumps(made))
            yield sensor.encode(), recent[-1]
        tick += 1
