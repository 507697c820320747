"""Everything in this folder is an integration test, and none runs without Kafka."""

from pathlib import Path

import pytest

from streamflow.broker import Broker

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def _needs_kafka(kafka: Broker) -> None:
    del kafka
