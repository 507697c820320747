"""`streamflow produce` on a real broker."""

import asyncio
import csv
import fcntl
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from click.testing import CliRunner, Result

from streamflow import cli
from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.errors import SettingsError, StreamflowError
from streamflow.produce import produce_chunks, produce_records
from streamflow.produce.topics import made_topic

PARTITIONS = 4
READINGS = """
from pydantic import AwareDatetime, BaseModel
from streamflow import Topology, source, topic

class Reading(BaseModel):
    who: str
    n: int
    at: AwareDatetime

readings = source(topic("{topic}"), Reading, key="who", event_time="at")
topology = Topology("readings", readings.to(topic("out")), readings.rejected.to(topic("dlq")))
"""


def stored(kafka: Broker, topic: str, partitions: int = PARTITIONS) -> list[list[Record]]:
    """Everything in the topic, by partition."""

    async def read() -> list[list[Record]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(tps)
        await consumer.start()
        try:
            found: dict[TopicPartition, list[Record]] = {tp: [] for tp in tps}
            stops = await consumer.end_offsets(tps)
            while any(len(found[tp]) < stops[tp] for tp in tps):
                for tp, fetched in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp] += [Record(r.key, r.value, r.timestamp) for r in fetched]
            return [found[tp] for tp in tps]
        finally:
            await consumer.stop()

    return asyncio.run(read())


def run(kafka: Broker, *words: str, text: bytes | None = None) -> Result:
    return CliRunner().invoke(
        cli.main, ["produce", *words, "--broker", kafka.bootstrap], input=text
    )


def make(kafka: Broker, topic: str) -> dict[str, str]:
    connection = {"bootstrap_servers": kafka.bootstrap}
    asyncio.run(made_topic(connection, topic, PARTITIONS))
    return connection


def test_keys_go_where_the_client_puts_them_in_order_and_unchanged(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    rng = random.Random(7)
    lines = [
        b'{"n": %d,  "who":"%s\xc3\xa4", "at":%d}' % (n, b"k%d" % rng.randrange(300), n + 1)
        for n in range(20_000)
    ]
    file = tmp_path / "in.ndjson"
    file.write_bytes(b"\n".join(lines))
    done = run(kafka, fresh, str(file), "--key", "who", "--timestamp", "at", "--create", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["records"], summary["bytes"]) == (20_000, sum(map(len, lines)))

    expected: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    place, everywhere = DefaultPartitioner(), list(range(PARTITIONS))
    for n, line in enumerate(lines):
        key = json.loads(line)["who"].encode()
        expected[place(key, everywhere, everywhere)].append(Record(key, line, (n + 1) * 1000))
    assert stored(kafka, fresh) == expected


def test_records_are_sent_and_counted(kafka: Broker, fresh: str) -> None:
    connection = make(kafka, fresh)
    told: list[int] = []
    records = [Record(b"k%d" % (n % 9), None if n % 5 == 0 else b"v", n) for n in range(5_000)]
    sent = asyncio.run(produce_records(connection, fresh, iter(records), PARTITIONS, told.append))
    assert sent == told[-1] == 5_000
    found = [record for part in stored(kafka, fresh) for record in part]
    assert sorted(found, key=lambda r: r.timestamp or 0) == records


def test_records_without_a_key_are_spread_by_whole_batches(kafka: Broker, fresh: str) -> None:
    connection = make(kafka, fresh)
    records = [Record(None, b"x" * 1000, n) for n in range(8_000)]
    asyncio.run(produce_records(connection, fresh, records, PARTITIONS))
    found = stored(kafka, fresh)
    assert all(found)
    assert sorted(r.timestamp or 0 for part in found for r in part) == list(range(8_000))


def test_a_slow_input_is_not_held_back(kafka: Broker, fresh: str) -> None:
    connection = make(kafka, fresh)

    def chunks() -> Iterator[list[Record]]:
        yield [Record(b"k", b"first")]
        # Nothing more comes before the first one can be read.
        while not any(stored(kafka, fresh)):
            pass
        yield [Record(b"k", b"second")]

    assert asyncio.run(produce_chunks(connection, fresh, chunks(), PARTITIONS)) == 2


def test_a_bad_line_ends_it_with_everything_before_it_sent(kafka: Broker, fresh: str) -> None:
    done = run(kafka, fresh, "--create", "--key", "k", text=b'{"k":"a"}\n{"k":"b"}\n{"x":"c"}\n')
    assert done.exit_code == 2
    assert "error: stdin:3: there is no field 'k'; it has ['x']" in done.stderr
    values = sorted(r.value or b"" for part in stored(kafka, fresh) for r in part)
    assert values == [b'{"k":"a"}', b'{"k":"b"}']


def test_ctrl_c_sends_what_was_read_and_says_how_much_is_in_the_topic(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    """It reads from a pipe that stays open, so that only the signal ends it."""
    make(kafka, fresh)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "streamflow", "produce", fresh, str(pipe)]
    with (
        subprocess.Popen(
            [*command, "--broker", kafka.bootstrap], stderr=subprocess.PIPE, text=True
        ) as child,
        pipe.open("wb") as writer,
    ):
        writer.write(b"1\n" * 1_234 + b"unfinished")
        writer.flush()
        while sum(map(len, stored(kafka, fresh))) < 1_234:
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert said == f"interrupted: 1,234 records are in {fresh}, acknowledged\n"
    assert child.returncode == 130
    assert sum(len(part) for part in stored(kafka, fresh)) == 1_234


def test_ctrl_c_ends_it_while_arrow_waits_for_more_of_a_table(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    """Arrow reads ahead on a thread of its own, which would keep the process from leaving."""
    make(kafka, fresh)
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "streamflow", "produce", fresh, str(pipe)]
    with (
        subprocess.Popen(
            [*command, "--broker", kafka.bootstrap], stderr=subprocess.PIPE, text=True
        ) as child,
        pipe.open("wb") as writer,
    ):
        writer.write(b"n\n" + b"1\n" * 1_000)
        writer.flush()
        unread = bytearray(4)
        while fcntl.ioctl(writer, termios.FIONREAD, unread) == 0 and any(unread):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        try:
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert said == f"interrupted: 0 records are in {fresh}, acknowledged\n"
    assert child.returncode == 130


def test_gzip_is_sent_as_the_lines_it_holds(kafka: Broker, fresh: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "1.ndjson", tmp_path / "2.ndjson.gz"
    plain.write_bytes(b"1\n2\n")
    packed.write_bytes(gzip.compress(b"3\n") + gzip.compress(b"4"))
    done = run(kafka, fresh, str(plain), str(packed), str(plain), "--create", "--partitions", "1")
    assert done.exit_code == 0, done.output
    values = [record.value for record in stored(kafka, fresh, 1)[0]]
    assert values == [b"1", b"2", b"3", b"4", b"1", b"2"]


def test_csv_and_parquet_are_sent_as_the_objects_of_their_rows(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    """From CSV with the types of a topology, from Parquet with its own; each keyed and timed."""
    (tmp_path / "readings.py").write_text(READINGS.format(topic=fresh))
    rows, start = 5_000, datetime(2024, 5, 1, tzinfo=UTC)
    times = [start + timedelta(milliseconds=n, microseconds=123) for n in range(2 * rows)]
    documents = [
        b'{"who":"k%d","n":%d,"at":"%s"}' % (n % 50, n, f"{at:%Y-%m-%dT%H:%M:%S.%fZ}".encode())
        for n, at in enumerate(times)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["who", "n", "at"])
    writer.writeheader()
    writer.writerows(map(json.loads, documents[:rows]))
    one, two = tmp_path / "1.csv.gz", tmp_path / "2.parquet"
    one.write_bytes(gzip.compress(text.getvalue().encode()))
    second = range(rows, 2 * rows)
    columns = {"who": [f"k{n % 50}" for n in second], "n": list(second), "at": times[rows:]}
    pq.write_table(pa.table(columns), two, row_group_size=700)
    words = ("--types", str(tmp_path / "readings.py"), "--key", "who", "--timestamp", "at")
    done = run(kafka, fresh, str(one), str(two), *words, "--partitions", str(PARTITIONS))
    assert done.exit_code == 0, done.output
    found = [record for part in stored(kafka, fresh) for record in part]
    expected = [
        Record(b"k%d" % (n % 50), value, int(at.timestamp() * 1000))
        for n, (value, at) in enumerate(zip(documents, times, strict=True))
    ]
    assert sorted(found, key=lambda record: record.timestamp or 0) == expected


def test_a_wrong_row_ends_it_with_its_line_and_everything_before_it_sent(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'k,v\na,"1\n2"\nb,3\nc\nd,4\n')
    done = run(kafka, fresh, str(path), "--create", "--key", "k")
    assert done.exit_code == 2
    assert f"error: {path}:5: the row has 1 field and the header 2; --keep-bad" in done.stderr
    values = sorted(r.value or b"" for part in stored(kafka, fresh) for r in part)
    assert values == [b'{"k":"a","v":"1\\n2"}', b'{"k":"b","v":"3"}']


def test_a_missing_topic_names_the_flag_that_makes_it(kafka: Broker, fresh: str) -> None:
    done = run(kafka, fresh, text=b"1\n")
    assert done.exit_code == 2
    assert f"topic '{fresh}' does not exist; `streamflow produce {fresh} --create`" in done.stderr
    with pytest.raises(SettingsError, match="does not exist"):
        asyncio.run(produce_records({"bootstrap_servers": kafka.bootstrap}, fresh, [], 1))


def test_a_topic_with_other_partitions_is_left_alone(kafka: Broker, fresh: str) -> None:
    connection = make(kafka, fresh)
    done = run(kafka, fresh, "--partitions", "3", text=b"1\n")
    assert done.exit_code == 2
    assert "exists and has 4 partitions, not 3" in done.stderr
    with pytest.raises(SettingsError, match="has 4 partitions, not 3"):
        asyncio.run(produce_records(connection, fresh, [], 3))


def test_what_the_broker_refuses_is_an_error(kafka: Broker, fresh: str) -> None:
    connection = make(kafka, fresh)
    tomorrow = int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)
    with pytest.raises(StreamflowError, match="InvalidTimestamp"):
        asyncio.run(produce_records(connection, fresh, [Record(b"k", b"v", tomorrow)], PARTITIONS))


@pytest.mark.slow
def test_a_rate_spreads_records_over_time(kafka: Broker, fresh: str) -> None:
    done = run(kafka, fresh, "--create", "--rate", "100", "--json", text=b"1\n" * 50)
    assert json.loads(done.stdout)["seconds"] >= 0.4
