"""Find Java and Maven on this machine, or install them where that takes one known command."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from streamflow.broker.errors import BrokerError

OLDEST_JAVA = 17
PACKAGES = ("openjdk-17-jre-headless", "maven")
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def find_java() -> Path:
    """The first Java that is new enough: `JAVA_HOME`'s, then the `PATH`'s.

    Raises:
        BrokerError: there is none, or only older ones.
    """
    too_old: list[str] = []
    for java in _candidates():
        major = _major(java)
        if major is not None and major >= OLDEST_JAVA:
            return java
        if major is not None:
            too_old.append(f"{java} is Java {major}")
    if too_old:
        raise BrokerError(
            f"Kafka needs Java {OLDEST_JAVA} or newer, but {' and '.join(too_old)}; {_advice()}"
        )
    raise BrokerError(
        f"Kafka needs Java {OLDEST_JAVA} or newer, and neither JAVA_HOME nor PATH has one; "
        f"{_advice()}"
    )


def find_maven() -> Path:
    """The `mvn` on the `PATH`.

    Raises:
        BrokerError: there is none.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(
            "Kafka's jars are fetched with Maven, and there is no mvn on the PATH; "
            f"{_advice()}, or set KAFKA_HOME to an unpacked Kafka"
        )
    return Path(maven)


def install(say: Callable[[str], None]) -> None:
    """Install Java and Maven with apt-get: root on Debian or Ubuntu only.

    Raises:
        BrokerError: this is another system or user, or apt-get failed.
    """
    apt = _apt()
    if apt is None:
        raise BrokerError(f"can install Java only as root on Debian or Ubuntu: {_advice()}")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        say(f"running apt-get {' '.join(arguments)}")
        done = subprocess.run(
            [apt, "-qq", *arguments], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it gave no reason"]
            raise BrokerError(f"apt-get {arguments[0]} failed: {lines[-1]}")


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home and (java := Path(home, "bin", "java")).is_file():
        yield java
    on_path = shutil.which("java")
    if on_path is not None:
        yield Path(on_path)


def _major(java: Path) -> int | None:
    """The version that this Java prints, or None if it does not run (macOS ships such a stub)."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stderr + done.stdout)
    return int(found[1]) if found else None


def _apt() -> str | None:
    return shutil.which("apt-get") if os.geteuid() == 0 else None


def _advice() -> str:
    if _apt():
        return "run `streamflow broker --install`, which installs both with apt-get"
    if sys.platform == "darwin":
        return "run `brew install openjdk@17 maven`"
    if shutil.which("apt-get"):
        return f"run `sudo apt-get install {' '.join(PACKAGES)}`"
    if shutil.which("dnf"):
        return "run `sudo dnf install java-17-openjdk-headless maven`"
    return f"install Java {OLDEST_JAVA} (a JRE is enough) and Maven 3.6 or newer"
