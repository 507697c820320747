"""Input files: plain or packed, from a disk or a pipe, alike for `run --local` and `produce`."""

import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from streamflow import cli
from streamflow.clock import SystemClock
from streamflow.errors import SettingsError, StreamflowError
from streamflow.produce import unpack
from streamflow.produce.file import InputFile
from streamflow.produce.limits import Limits
from streamflow.produce.lines import LineInput
from streamflow.produce.records import RecordRules, Records

TOPOLOGY = """
from datetime import datetime
from pydantic import AwareDatetime, BaseModel
from streamflow import Topology, source, topic

class Number(BaseModel):
    n: int
    at: AwareDatetime = datetime.fromisoformat("2024-05-01T12:00:00Z")

numbers = source(topic("numbers"), Number, event_time="at")
topology = Topology("numbers", numbers.to(topic("out")), numbers.rejected.to(topic("dlq")))
"""


class Dribble:
    """A pipe: it gives a few bytes at a time, never more than it has."""

    def __init__(self, data: bytes, sizes: Iterator[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes

    def read(self, size: int) -> bytes:
        return self._data.read(min(size, next(self._sizes)))


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def forever(sizes: list[int]) -> Iterator[int]:
    while True:
        yield from sizes


@given(
    st.lists(st.tuples(st.binary(max_size=400), st.booleans()), min_size=1, max_size=3),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
    st.lists(st.integers(1, 600), min_size=1, max_size=5),
)
def test_gzip_is_unpacked_however_it_is_read(
    parts: list[tuple[bytes, bool]], given_sizes: list[int], asked: list[int]
) -> None:
    """Of any number of members, with or without zeros after them."""
    packed = b"".join(gzip.compress(part) + b"\0" * 9 * filled for part, filled in parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpack, "PACKED_BYTES", 64)
        file = InputFile("in", Dribble(packed, forever(given_sizes)).read)
        found = b""
        for size in forever(asked):
            data = file.read(size)
            if not data:
                break
            found += data
    assert found == b"".join(part for part, _ in parts)
    assert file.taken == len(packed)
    assert file.read(10) == b""


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_anything_else_stays_as_it_is(data: bytes, sizes: list[int]) -> None:
    text = b"{" + data
    file = InputFile("in", Dribble(text, forever(sizes)).read)
    assert io.BufferedReader(file).read() == text
    assert file.taken == len(text)


def test_gzip_that_ends_anywhere_too_early_or_is_changed_is_refused_by_name() -> None:
    packed = gzip.compress(b'{"n":1}\n' * 1000)
    for stop in range(2, len(packed)):
        with pytest.raises(SettingsError, match=r"^x\.gz: damaged gzip data \(it ends in the mid"):
            io.BufferedReader(InputFile("x.gz", io.BytesIO(packed[:stop]).read)).read()
    changed = packed[:-8] + bytes(4) + packed[-4:]
    with pytest.raises(SettingsError, match=r"^x\.gz: damaged gzip data \(.*incorrect data check"):
        io.BufferedReader(InputFile("x.gz", io.BytesIO(changed).read)).read()


@given(
    st.lists(st.binary(max_size=400), min_size=1, max_size=3),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_zstandard_is_unpacked_however_it_is_read(parts: list[bytes], sizes: list[int]) -> None:
    packed = b"".join(map(zstd, parts))
    file = InputFile("in", Dribble(packed, forever(sizes)).read)
    assert io.BufferedReader(file).read() == b"".join(parts)
    assert file.taken == len(packed)


def test_zstandard_that_ends_too_early_or_is_changed_is_refused_by_name() -> None:
    packed = zstd(bytes(range(256)) * 40)
    for stop in range(4, len(packed)):
        with pytest.raises(SettingsError, match=r"^x\.zst: damaged Zstandard data \(Truncated"):
            io.BufferedReader(InputFile("x.zst", io.BytesIO(packed[:stop]).read)).read()
    changed = packed[:5] + b"\xff\xff" + packed[7:]
    with pytest.raises(SettingsError, match=r"^x\.zst: damaged Zstandard data .*`zstd -t`"):
        io.BufferedReader(InputFile("x.zst", io.BytesIO(changed).read)).read()


def test_parquet_that_is_read_as_text_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^x: this is Parquet.*`--format parquet`"):
        InputFile("x", io.BytesIO(b"PAR1....").read).read(1)


def test_what_was_whole_in_a_damaged_file_is_sent_and_it_says_so() -> None:
    whole = b"".join(b'{"n":%d}\n' % n for n in range(200_000))
    packed = gzip.compress(whole)
    file = InputFile("x.gz", io.BytesIO(packed[: len(packed) // 2]).read)
    limits = Limits.of({"max.message.bytes": "1000"})
    lines = Records([LineInput(file)], RecordRules(), limits, SystemClock())
    sent: list[bytes | None] = []

    def send() -> None:
        for chunk in lines.chunks():
            sent.extend(record.value for record in chunk)

    with pytest.raises(StreamflowError, match=r"^x\.gz: .*; what comes before it was sent$"):
        send()
    assert 50_000 < len(sent) < 200_000
    assert sent == whole.splitlines()[: len(sent)]


class Running:
    """`run --local` on files in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "numbers_topology.py").write_text(TOPOLOGY)

    def run(self, *given: str | Path) -> Result:
        words = [word for path in given for word in ("--input", str(path))]
        topology = str(self.folder / "numbers_topology.py")
        output = str(self.folder / "output")
        command = ["run", topology, "--local", "--partitions", "1", "--output", output]
        return CliRunner().invoke(cli.main, [*command, *words])

    @property
    def numbers(self) -> list[int]:
        lines = (self.folder / "output" / "topics" / "out.ndjson").read_bytes().splitlines()
        return [orjson.loads(orjson.loads(line)["value"])["n"] for line in lines]


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


def test_a_run_takes_plain_and_packed_files_in_the_order_given(running: Running) -> None:
    one, two, three = (running.folder / name for name in ("1.ndjson", "2.log", "3.ndjson"))
    one.write_bytes(b'{"n":1}\n')
    two.write_bytes(gzip.compress(b'{"n":2}\n{"n":3}') + gzip.compress(b"\n"))
    three.write_bytes(b'{"n":4}\n')
    done = running.run(one, two, three, "/dev/null")
    assert done.exit_code == 0, done.output
    assert running.numbers == [1, 2, 3, 4]
    assert "4 in = 4 passed + 0 rejected" in done.stdout


def test_a_run_reads_a_pipe(running: Running) -> None:
    pipe = running.folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(b'{"n":7}\n'),))
    writer.daemon = True
    writer.start()
    done = running.run(pipe)
    assert done.exit_code == 0, done.output
    assert running.numbers == [7]


def test_a_run_refuses_what_it_cannot_read_and_leaves_nothing(running: Running) -> None:
    packed, other = running.folder / "x.gz", running.folder / "x.dat"
    packed.write_bytes(gzip.compress(b'{"n":1}\n' * 9)[:-9])
    other.write_bytes(b"PAR1....")
    before = sorted(running.folder.iterdir())
    for path, words in ((packed, "damaged gzip data"), (other, "this is Parquet")):
        done = running.run(path)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"error: {path}: {words}")
        assert done.stderr.count("\n") == 1
    assert sorted(running.folder.iterdir()) == before


@pytest.mark.parametrize("command", ["run", "produce"])
def test_what_is_no_file_is_said_to_be_what_it_is(running: Running, command: str) -> None:
    for path, words in (
        (running.folder, f"'{running.folder}' is a directory; name the files in it"),
        (running.folder / "none", f"there is no file '{running.folder / 'none'}' in "),
    ):
        if command == "run":
            done = running.run(path)
        else:
            done = CliRunner().invoke(cli.main, ["produce", "numbers", str(path)])
        assert done.exit_code == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
