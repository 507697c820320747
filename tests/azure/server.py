"""Azure's emulator (Azurite) on loopback, which does not outlive the process that starts it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from streamflow.broker import launch

LOOPBACK = "127.0.0.1"
CONTAINER = "lake"
#: Every copy of the emulator has this account and this key; they open nothing else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: Where `make azure` puts it.
BINARY = Path(__file__).parents[2] / ".cache/azurite/node_modules/.bin/azurite-blob"


@contextmanager
def running_emulator(folder: Path) -> Generator[dict[str, str]]:
    """Start it with one container, and stop it; gives what its clients need in the environment."""
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    log = folder / "azurite.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), ""),
                *(str(BINARY), "--blobHost", LOOPBACK, "--blobPort", str(port)),
                *("--location", str(folder), "--disableTelemetry", "--skipApiVersionCheck"),
            ],
            stdout=out,
            stderr=out,
        )
    try:
        _make_container(process, port, log)
        yield {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://{LOOPBACK}:{port}",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }
    finally:
        process.kill()
        process.wait()


def _make_container(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """As soon as it answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(_request(port), timeout=10) as answer:
                assert answer.status == 201
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)


def _request(port: int) -> urllib.request.Request:
    """Make the container, signed with the shared key: its client here makes none."""
    now, version = formatdate(usegmt=True), "2021-08-06"
    path = f"/{ACCOUNT}/{CONTAINER}"
    signed = (
        f"PUT{chr(10) * 12}x-ms-date:{now}\nx-ms-version:{version}\n/{ACCOUNT}{path}"
        "\nrestype:container"
    )
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": now,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    url = f"http://{LOOPBACK}:{port}{path}?restype=container"
    return urllib.request.Request(url, method="PUT", headers=headers)
