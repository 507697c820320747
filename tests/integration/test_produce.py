"""`streamflow produce` on a real broker."""

import asyncio
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def test_gzip_is_sent_as_the_lines_it_holds(kafka: Broker, fresh: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "1.ndjson", tmp_path / "2.ndjson.gz"
    plain.write_bytes(b"1\n2\n")
    packed.write_bytes(gzip.compress(b"3\n") + gzip.compress(b"4"))
    done = run(kafka, fresh, str(plain), str(packed), str(plain), "--create", "--partitions", "1")
    assert done.exit_code == 0, done.output
    values = [record.value for record in stored(kafka, fresh, 1)[0]]
    assert values == [b"1", b"2", b"3", b"4", b"1", b"2"]


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
