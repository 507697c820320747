"""The local broker: it answers, it stops, and it never outlives its parent."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamflow.broker import Broker, BrokerError, running_broker
from tests.integration.sockets import open_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="watches processes with pidfd and /proc"),
]


STREAMFLOW = str(Path(sys.executable).with_name("streamflow"))


async def create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def topics(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await admin.list_topics()
    finally:
        await admin.close()


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def wait_for_the_end_of(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([process], [], [], 20)
        assert ended, f"process {pid} still runs"
    finally:
        os.close(process)


def test_it_answers_and_leaves_nothing(fresh: str) -> None:
    said: list[str] = []
    with running_broker(say=said.append) as broker:
        folder = broker.log.parent
        asyncio.run(create_topic(broker.bootstrap, fresh))
        assert asyncio.run(topics(broker.bootstrap)) == [fresh]
        assert said == [f"Kafka listens on {broker.bootstrap}"]
        assert runs(broker.pid)
    assert not runs(broker.pid)
    assert not folder.exists()


def test_it_listens_on_loopback_only(kafka: Broker) -> None:
    process = Path(f"/proc/{kafka.pid}")
    sockets = open_files(kafka.pid)
    addresses: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A"
            if listens and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].split(":")[0])
    # 127.0.0.1, plain and mapped into IPv6, as the kernel prints them.
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_its_data_outlives_it_where_a_folder_is_given(tmp_path: Path, fresh: str) -> None:
    with running_broker(data_dir=tmp_path / "data") as first:
        asyncio.run(create_topic(first.bootstrap, fresh))
    with running_broker(data_dir=tmp_path / "data") as second:
        assert asyncio.run(topics(second.bootstrap)) == [fresh]


def test_its_data_outlives_a_power_cut(tmp_path: Path, fresh: str) -> None:
    with running_broker(data_dir=tmp_path / "data") as first:
        asyncio.run(create_topic(first.bootstrap, fresh))
        first.kill()
        assert not runs(first.pid)
    with running_broker(data_dir=tmp_path / "data") as second:
        assert asyncio.run(topics(second.bootstrap)) == [fresh]


def test_it_keeps_to_its_cores(kafka: Broker) -> None:
    del kafka
    one = min(os.sched_getaffinity(0))
    with running_broker(cpus={one}) as broker:
        assert os.sched_getaffinity(broker.pid) == {one}


def test_a_taken_port_is_said_before_anything_starts(kafka: Broker) -> None:
    with (
        pytest.raises(BrokerError, match=f"port {kafka.port} on 127.0.0.1 is taken"),
        running_broker(port=kafka.port),
    ):
        pass


def test_a_broker_that_cannot_start_gives_kafkas_reason(tmp_path: Path) -> None:
    with running_broker(data_dir=tmp_path / "data"):
        pass
    meta = tmp_path / "data" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=2"))
    with (
        pytest.raises(BrokerError, match=r"Kafka gave up while starting: .*Stored node id 2"),
        running_broker(data_dir=tmp_path / "data"),
    ):
        pass


PARENT = """
from streamflow.broker import running_broker
with running_broker() as broker:
    print(broker.pid, broker.log.parent, flush=True)
    input()
"""


def test_it_dies_with_a_killed_parent_and_the_next_start_clears_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.kill()
    wait_for_the_end_of(int(pid))
    assert Path(folder).parent == Path(tempfile.gettempdir())
    assert Path(folder).exists()
    with running_broker():
        assert not Path(folder).exists()


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_stops_its_broker(sent: signal.Signals, exit_code: int, tmp_path: Path) -> None:
    command = [STREAMFLOW, "broker", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert runs(said["pid"])
        assert asyncio.run(topics(said["bootstrap"])) == []
        process.send_signal(sent)
        assert process.wait(timeout=30) == exit_code
    assert not runs(said["pid"])
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_when_its_broker_ends_by_itself() -> None:
    command = [STREAMFLOW, "broker", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.kill(json.loads(process.stdout.readline())["pid"], signal.SIGKILL)
        assert process.wait(timeout=30) == 2
        assert "error: Kafka ended by itself" in process.stderr.read()
