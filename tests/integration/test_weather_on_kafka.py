"""Sessions, days of a zone and deduplication on a real Kafka, killed half way and started again."""

from pathlib import Path

import orjson
import pytest

from streamflow.broker import Broker
from tests.integration.worker import WorkerUnderTest
from tests.oracle.test_weather import DAYS, SPELLS, computed, judged, records, weather_table


def test_spells_of_rain_survive_a_kill(kafka: Broker, tmp_path: Path) -> None:
    table = weather_table()
    sent = list(records(table))
    under_test = WorkerUnderTest(
        kafka.bootstrap, f"weather-{tmp_path.name}", tmp_path, "topologies.weather"
    )
    try:
        under_test.create("weather", 4)
        under_test.produce("weather", sent[: len(sent) // 2], 4)
        worker = under_test.start("--commit-interval", "0.05")
        under_test.wait_until(worker, lambda: under_test.committed("weather", 4) > 5_000)
        under_test.kill(worker)
        under_test.produce("weather", sent[len(sent) // 2 :], 4)
        totals = under_test.finish(under_test.start("--until-end"))["totals"]
        spells = [orjson.loads(r.value or b"") for r in under_test.read("weather.spells")]
    finally:
        under_test.close()
    assert totals["in"] == len(sent)
    assert totals["in"] == totals["passed"] + totals["rejected"] + totals["dropped"]
    after = judged(table).table
    wanted = computed(after, SPELLS)
    found = sorted((s["origin"], s["window_start"], s["window_end"], s["hours"]) for s in spells)
    texts = [(o, f"{a:%FT%TZ}", f"{b:%FT%TZ}", n) for o, a, b, n, *_ in wanted]
    assert found == texts
    inches = {(s["origin"], s["window_start"]): s["inches"] for s in spells}
    assert list(dict(sorted(inches.items())).values()) == pytest.approx([w[4] for w in wanted])
    days = list((tmp_path / "lake" / "rainy-days").rglob("*.parquet"))
    assert sum(_rows(path) for path in days) == len(computed(after, DAYS))


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows
