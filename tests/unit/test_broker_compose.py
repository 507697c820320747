"""The files for those who prefer Docker."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streamflow.broker.jars import KAFKA_VERSION
from streamflow.engine.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


def has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def test_docker_compose_understands_the_file() -> None:
    if not has_compose():
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        ["docker", "compose", "--file", str(COMPOSE), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_ports_are_published_on_loopback_only() -> None:
    published = re.findall(r'- "([^"]*:\d+)"', COMPOSE.read_text())
    assert published == ["127.0.0.1:9092:9092"]


def test_its_settings_are_settings() -> None:
    names = set(re.findall(r"STREAMFLOW_([A-Z_]+):", COMPOSE.read_text()))
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_kafka_is_of_the_version_that_the_local_broker_runs() -> None:
    assert f"image: apache/kafka:{KAFKA_VERSION}\n" in COMPOSE.read_text()


def test_the_image_runs_as_a_plain_user_and_says_whether_it_lives() -> None:
    stage = (ROOT / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert "\nUSER streamflow\n" in stage
    assert "http://127.0.0.1:6066/live" in stage
    assert 'ENTRYPOINT ["streamflow"]' in stage
