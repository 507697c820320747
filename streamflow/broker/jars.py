"""The jars of the broker: fetched once with Maven, pinned by SHA-256, cached.

Maven does the fetching, so that the settings, mirrors and proxies of the machine hold. The jars
go to a temporary folder beside the cache and are renamed into place only after every one of them
has matched its pin: a download that broke, or two that ran at once, never count.

`KAFKA_HOME` takes precedence: the jars of an unpacked Kafka distribution, as they are.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from streamflow.broker.errors import BrokerError
from streamflow.broker.java import find_maven

KAFKA_VERSION = "4.3.1"
PINS = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.sha256")

# The binding of slf4j must be of the same line (1.7) as the slf4j-api that Kafka brings.
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>streamflow</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId>
        <artifactId>maven-dependency-plugin</artifactId>
        <version>3.8.1</version>
      </plugin>
    </plugins>
  </build>
</project>
"""


def broker_jars(say: Callable[[str], None]) -> Path:
    """The folder with the jars that make a broker; the first call on a machine downloads them.

    Raises:
        BrokerError: `KAFKA_HOME` holds no Kafka, the download was refused, or a jar is not the
            pinned one.
    """
    home = os.environ.get("KAFKA_HOME")
    if home:
        return _distribution(Path(home))
    jars = cache_folder() / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        check(jars, remedy=f"delete {jars} to fetch it anew")
    else:
        _download(jars, say)
    return jars


def cache_folder() -> Path:
    """`$STREAMFLOW_CACHE`, else `streamflow` in the user's cache folder."""
    if own := os.environ.get("STREAMFLOW_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared, "streamflow")
    return Path.home() / ".cache" / "streamflow"


def pins() -> dict[str, str]:
    """SHA-256 by the name of the jar."""
    entries = (line.split() for line in PINS.read_text().splitlines())
    return {name: digest for digest, name in entries}


def check(folder: Path, *, remedy: str) -> None:
    """Every pinned jar is in `folder` with its pinned content, and no other jar is.

    Raises:
        BrokerError: names the first jar that is wrong, and the remedy.
    """
    pinned = pins()
    found = {jar.name: jar for jar in folder.glob("*.jar")}
    if odd := sorted(found.keys() ^ pinned.keys()):
        what = "is not pinned" if odd[0] in found else "is missing"
        raise BrokerError(f"{odd[0]} {what} in {folder}; {remedy}")
    for name, jar in sorted(found.items()):
        digest = hashlib.sha256(jar.read_bytes()).hexdigest()
        if digest != pinned[name]:
            raise BrokerError(
                f"{name} in {folder} is not the pinned jar "
                f"(sha256 wanted {pinned[name][:12]}…, got {digest[:12]}…); {remedy}"
            )


def _distribution(home: Path) -> Path:
    jars = home / "libs"
    if not any(jars.glob("kafka_2.13-*.jar")):
        raise BrokerError(
            f"KAFKA_HOME is {str(home)!r}, but {jars} holds no kafka_2.13 jar; "
            "point it at an unpacked Kafka or unset it"
        )
    return jars


def _download(jars: Path, say: Callable[[str], None]) -> None:
    maven = find_maven()
    say(f"fetching Kafka {KAFKA_VERSION} with Maven (44 MB, once) into {jars}")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{jars.name}-", dir=jars.parent))
    except OSError as error:
        raise BrokerError(
            f"cannot write the cache folder {jars.parent} ({error.strerror}); "
            "set STREAMFLOW_CACHE to one that can be written"
        ) from error
    try:
        _run_maven(maven, scratch)
        check(scratch / "lib", remedy="the Maven repository or mirror in use serves another file")
        try:
            (scratch / "lib").rename(jars)
        except OSError:
            # Another process renamed its own, checked, download into place first.
            check(jars, remedy=f"delete {jars} to fetch it anew")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_maven(maven: Path, scratch: Path) -> None:
    pom = scratch / "pom.xml"
    pom.write_text(POM)
    done = subprocess.run(
        [
            maven,
            "--batch-mode",
            "--quiet",
            f"--file={pom}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={scratch / 'lib'}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(
            f"Maven could not fetch Kafka {KAFKA_VERSION}: {_reason(done.stdout + done.stderr)}"
        )


def _reason(output: str) -> str:
    """The last line of Maven's output that says something, without its decoration."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    errors = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    telling = [
        line
        for line in errors
        if line and not re.match(r"(-> \[Help|\[Help|To see the full|Re-run Maven|For more)", line)
    ]
    said = telling or [line for line in lines if line] or ["it gave no reason"]
    return re.sub(r"\s*-> \[Help \d+\]$", "", said[-1])
