"""Where Java is looked for, and what a person is told who has none."""

import re
import stat
from pathlib import Path

import pytest

from streamflow.broker import BrokerError, java, running_broker


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_java(folder: Path, version: str) -> Path:
    return script(folder / "bin" / "java", f"""echo 'openjdk version "{version}"' >&2""")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing on the PATH and no Java or Kafka of its own."""
    for name in ("JAVA_HOME", "KAFKA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("STREAMFLOW_CACHE", str(tmp_path / "cache"))


def test_a_machine_without_java_is_told_what_to_install() -> None:
    with pytest.raises(BrokerError) as raised, running_broker():
        pass
    said = str(raised.value)
    assert said.startswith("Kafka needs Java 17 or newer, and neither JAVA_HOME nor PATH has one; ")
    assert "\n" not in said


def test_an_old_java_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = fake_java(tmp_path, "11.0.22")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=re.escape(f"but {old} is Java 11; ")), running_broker():
        pass


@pytest.mark.parametrize(
    ("version", "major"), [("1.8.0_402", 8), ("17.0.15", 17), ("21", 21), ("26-ea", 26)]
)
def test_versions_old_and_new_are_read(tmp_path: Path, version: str, major: int) -> None:
    assert java._major(fake_java(tmp_path, version)) == major


def test_a_good_java_on_the_path_serves_where_java_home_is_too_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_java(tmp_path / "old", "11.0.22")
    good = fake_java(tmp_path / "new", "21.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(good.parent))
    assert java.find_java() == good


def test_a_java_that_does_not_run_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "bin" / "java", "echo 'Unable to locate a Java Runtime' >&2; exit 1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match="neither JAVA_HOME nor PATH has one"):
        java.find_java()


def test_a_machine_without_maven_is_told_of_both_ways(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_java(tmp_path, "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"no mvn on the PATH; .*KAFKA_HOME"), running_broker():
        pass


def test_installing_elsewhere_than_on_debian_says_what_to_install() -> None:
    with (
        pytest.raises(BrokerError, match=r"only as root on Debian or Ubuntu: install Java 17"),
        running_broker(install=True),
    ):
        pass


def test_installing_runs_update_before_install_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    script(tmp_path / "apt-get", f'echo "$@" >> {calls}')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    said: list[str] = []
    java.install(said.append)
    update, install = calls.read_text().splitlines()
    assert update == "-qq update"
    assert install.endswith("openjdk-17-jre-headless maven")
    assert [line.split()[:3] for line in said] == [
        ["running", "apt-get", "update"],
        ["running", "apt-get", "install"],
    ]


def test_a_refused_install_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "apt-get", "echo 'E: Unable to locate package maven' >&2; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(BrokerError, match="apt-get update failed: E: Unable to locate package"):
        java.install(lambda _line: None)
