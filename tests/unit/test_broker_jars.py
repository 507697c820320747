"""The jars are the pinned ones, or there is one sentence about why not."""

import hashlib
import re
import shutil
import stat
from pathlib import Path

import pytest

from streamflow.broker import BrokerError, jars


def fake_maven(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    maven = folder / "mvn"
    maven.write_text(f"#!/bin/sh\n{body}\n")
    maven.chmod(maven.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


DELIVERS = """
for argument in "$@"; do
  case "$argument" in -DoutputDirectory=*) out="${argument#-DoutputDirectory=}" ;; esac
done
mkdir -p "$out" && printf 'CONTENT' > "$out/one.jar" && printf 'other' > "$out/two.jar"
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and two small jars as the pinned ones."""
    pinned = tmp_path / "pins"
    pinned.write_text(
        "".join(
            f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            for name, content in (("one.jar", b"one"), ("two.jar", b"other"))
        )
    )
    monkeypatch.setattr(jars, "PINS", pinned)
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setenv("STREAMFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(_line: str) -> None:
    pass


def test_a_download_is_cached_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    fake_maven(monkeypatch, tmp_path / "bin", DELIVERS.replace("CONTENT", "one"))
    folder = jars.broker_jars(said.append)
    assert sorted(jar.name for jar in folder.iterdir()) == ["one.jar", "two.jar"]
    assert list(cache.iterdir()) == [folder]
    assert len(said) == 1

    fake_maven(monkeypatch, tmp_path / "bin", "exit 1")
    assert jars.broker_jars(said.append) == folder
    assert len(said) == 1


def test_a_jar_with_another_content_is_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    fake_maven(monkeypatch, tmp_path / "bin", DELIVERS.replace("CONTENT", "tampered"))
    with pytest.raises(BrokerError, match=r"one\.jar in .* is not the pinned jar \(sha256 wanted"):
        jars.broker_jars(silent)
    assert list(cache.iterdir()) == []


def test_a_cached_jar_that_changed_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_maven(monkeypatch, tmp_path / "bin", DELIVERS.replace("CONTENT", "one"))
    folder = jars.broker_jars(silent)
    (folder / "two.jar").write_text("changed")
    with pytest.raises(BrokerError, match=re.escape(f"delete {folder} to fetch it anew")):
        jars.broker_jars(silent)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "one.jar").unlink(), "one.jar is missing in"),
        (lambda folder: shutil.copy(folder / "one.jar", folder / "a.jar"), "a.jar is not pinned"),
    ],
)
def test_the_set_of_jars_is_pinned_too(tmp_path: Path, spoil: object, said: str) -> None:
    (tmp_path / "one.jar").write_text("one")
    (tmp_path / "two.jar").write_text("other")
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(BrokerError, match=re.escape(said)):
        jars.check(tmp_path, remedy="remedy")


def test_a_refused_download_gives_mavens_last_error_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    fake_maven(
        monkeypatch,
        tmp_path / "bin",
        """
echo '[ERROR] Failed to execute goal on project broker: Could not transfer artifact -> [Help 1]'
echo '[ERROR] '
echo '[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.'
echo '[ERROR] [Help 1] http://cwiki.apache.org/confluence/display/MAVEN/x'
exit 1""",
    )
    with pytest.raises(BrokerError) as raised:
        jars.broker_jars(silent)
    assert str(raised.value) == (
        "Maven could not fetch Kafka 4.3.1: "
        "Failed to execute goal on project broker: Could not transfer artifact"
    )
    assert list(cache.iterdir()) == []


def test_an_unpacked_kafka_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    libs = tmp_path / "kafka" / "libs"
    libs.mkdir(parents=True)
    (libs / "kafka_2.13-4.1.0.jar").touch()
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path / "kafka"))
    assert jars.broker_jars(silent) == libs


def test_a_kafka_home_without_a_kafka_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"holds no kafka_2\.13 jar; point it at an unpacked"):
        jars.broker_jars(silent)


def test_a_cache_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STREAMFLOW_CACHE", str(tmp_path / "file" / "below"))
    fake_maven(monkeypatch, tmp_path / "bin", "exit 1")
    with pytest.raises(BrokerError, match=r"cannot write the cache folder .*STREAMFLOW_CACHE"):
        jars.broker_jars(silent)


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert jars.cache_folder() == Path("/xdg/streamflow")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert jars.cache_folder() == Path("/home/someone/.cache/streamflow")


def test_the_shipped_pins_name_a_broker_and_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pinned = jars.pins()
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in pinned
    assert {"slf4j-api-1.7.36.jar", "slf4j-simple-1.7.36.jar"} <= pinned.keys()
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned.values())
