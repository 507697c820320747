"""What tests of object stores may ask for beside the server."""

from collections.abc import Iterator

import pytest

from streamflow.edges.object_files import ObjectFiles
from tests.stores.proxy import Proxy, proxied
from tests.stores.server import WHERE, S3Server


@pytest.fixture
def files(s3: S3Server, fresh: str) -> ObjectFiles:
    return ObjectFiles(s3.store(), WHERE, f"{fresh}/flights")


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    """What stands between a client and the server, and can lose answers."""
    with proxied(s3.port) as between:
        yield between
