"""A worker as a Faust user starts it."""

import os
import subprocess
import sys

from tests.integration.worker import ROOT, WorkerUnderTest


def faust_worker(
    under_test: WorkerUnderTest, module: str, *options: str, **environ: str
) -> "subprocess.Popen[bytes]":
    """`faust -A module worker`, told everything by the environment, and `environ` besides."""
    settings = {
        "STREAMFLOW_BROKER": under_test.bootstrap,
        "STREAMFLOW_APP_ID": under_test.app,
        "STREAMFLOW_TOPIC_PREFIX": under_test.prefix,
        "STREAMFLOW_LAKE": str(under_test.lake),
        "STREAMFLOW_STATE_DIR": str(under_test.folder / "state"),
        "STREAMFLOW_COMMIT_INTERVAL": "PT0.2S",
        "STREAMFLOW_SESSION_TIMEOUT": "PT6S",
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", module, "worker", "-l", "info", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **settings, **environ, "PYTHONPATH": str(ROOT)},
    )
    under_test.started.append(worker)
    return worker
