"""What an operator can set: `STREAMFLOW_<NAME>` in the environment, or on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamflow import store_url
from streamflow.core.masking import Masks
from streamflow.core.names import Names
from streamflow.engine.delivery import Delivery
from streamflow.engine.faults import SIGNALS
from streamflow.engine.fetch_share import FETCH_MEMORY
from streamflow.engine.roll_memory import ROLL_MEMORY
from streamflow.errors import SettingsError
from streamflow.ranges import RUN_ID, TAKEN

PREFIX = "STREAMFLOW_"
#: Variables that are read elsewhere.
OTHERS = (*SIGNALS, "STREAMFLOW_CACHE")
#: Options that are not called like their setting.
OPTIONS = {"run_from": "--from", "run_to": "--to"}
PORTS = range(1, 65536)
#: How long a worker, and a command that a person waits for, waits for a broker to answer.
WORKER_WAIT, COMMAND_WAIT = timedelta(minutes=5), timedelta(seconds=3)
ENDPOINT = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")
SERVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d+)")
#: What Kafka takes in the names of topics and groups.
NAME = r"^[A-Za-z0-9._-]*$"


def _seconds(value: Any) -> Any:
    """A number is one of seconds, in text too; everything else is left to pydantic."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Duration = Annotated[timedelta, BeforeValidator(_seconds)]


class Settings(BaseSettings):
    """Settings of a worker."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    broker: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, comma separated.")
    broker_wait: Duration | None = Field(
        None,
        ge=timedelta(0),
        description="A start waits so long for a broker that does not answer; if unset, a worker "
        "5 minutes, other commands 3 seconds.",
    )
    app_id: str | None = Field(
        None,
        pattern=NAME,
        description="Consumer group and name of internal topics; the topology's name if unset.",
    )
    topic_prefix: str = Field(
        "", pattern=NAME, description="Put before every topic that the topology names."
    )
    lake: str = Field(
        "lake", description="Folder below which tables lie, or an address such as s3://bucket/lake."
    )
    store_endpoint: str | None = Field(
        None, description="Address of an S3-compatible server, where the store is not Amazon's."
    )
    store_allow_http: bool = Field(
        False, description="Speak to object stores without encryption, in a network of one's own."
    )
    store_timeout: Duration = Field(
        timedelta(minutes=2),
        gt=timedelta(0),
        description="A request to an object store, with all bytes of a file, takes no longer.",
    )
    masking_key: SecretStr | None = Field(
        None,
        description="Key of the hashes that leave instead of sensitive values: 16 to 64 bytes, the "
        "same for all workers.",
    )
    state_dir: Path = Field(Path(".streamflow/state"), description="Folder of local states.")
    state_memory: int = Field(
        128 * 1024 * 1024,
        ge=16 * 1024 * 1024,
        description="Bytes of memory for the local states of all tasks together.",
    )
    worker_id: str = Field("worker", description="Names this worker's folder among the states.")
    instance_id: str | None = Field(
        None,
        pattern=NAME,
        min_length=1,
        description="Kafka's group.instance.id, unlike any other worker's: a restart within the "
        "session time-out does not rebalance the others.",
    )
    replication_factor: int | None = Field(
        None,
        ge=1,
        description="How many brokers have each record of a topic that is made; 3 if unset, or as "
        "many as there are.",
    )
    commit_interval: Duration = Field(
        timedelta(seconds=1), gt=timedelta(0), description="A commit waits no longer than this."
    )
    commit_records: int = Field(50_000, gt=0, description="A commit has no more input than this.")
    commit_bytes: int = Field(
        32 * 1024 * 1024, gt=0, description="A commit has no more bytes of input than this."
    )
    fetch_memory: int = Field(
        FETCH_MEMORY,
        gt=0,
        description="Bytes of all partitions, as the broker sends them, that wait for their tasks "
        "and tables.",
    )
    sink_buffer_bytes: int = Field(
        256 * 1024 * 1024,
        gt=0,
        description="Encoded rows that the sinks of a worker hold; above it the largest rolls.",
    )
    roll_memory: int = Field(
        ROLL_MEMORY,
        ge=32 * 1024 * 1024,
        description="Bytes of rows that the sinks of a worker, or a compaction, have unpacked to "
        "write them; what is more is written in parts.",
    )
    sink_retry_wait: Duration = Field(
        timedelta(seconds=1),
        gt=timedelta(0),
        description="A write that a table did not take is tried again after this at the least.",
    )
    sink_retry_max_wait: Duration = Field(
        timedelta(seconds=30), gt=timedelta(0), description="And after this at the most."
    )
    sink_breaker_failures: int = Field(
        5,
        ge=0,
        description="So many failures among the last ten calls open a table's circuit breaker: "
        "its store is left alone. 0 for none.",
    )
    sink_breaker_open: Duration = Field(
        timedelta(seconds=60),
        gt=timedelta(0),
        description="For so long at first; each time longer while it stays away, up to 5 minutes.",
    )
    max_sink_lag: int = Field(
        1024 * 1024 * 1024,
        gt=0,
        description="Bytes of rows of a partition that wait for a table before it is paused.",
    )
    disk_warn_percent: float = Field(
        85.0, gt=0, le=100, description="A disk of states or tables that is so full is warned of."
    )
    disk_pause_percent: float = Field(
        95.0, gt=0, le=100, description="What is written to a disk that is so full waits."
    )
    delivery: Delivery = Field(
        "exactly_once",
        description="exactly_once, in transactions; or at_least_once, where topics may get records "
        "again after a crash.",
    )
    backup_dir: Path | None = Field(
        None, description="Folder for copies of the states, from which empty states begin."
    )
    backup_interval: Duration = Field(
        timedelta(hours=1), gt=timedelta(0), description="A task's state is copied so often."
    )
    standby_replicas: int = Field(
        0,
        ge=0,
        le=10,
        description="Other workers of the app that keep each task's state warm, to take it over.",
    )
    recall_keys: int = Field(
        500_000,
        ge=0,
        description="Keys per partition whose unchanged records are known without being decoded; "
        "0.2 kB of memory each.",
    )
    session_timeout: Duration = Field(
        timedelta(seconds=15),
        ge=timedelta(seconds=6),
        description="Kafka takes a worker's partitions away when it is silent for this long.",
    )
    shutdown_timeout: Duration = Field(
        timedelta(seconds=20),
        ge=timedelta(0),
        description="What is in hand is committed within this, or forgotten.",
    )
    run_id: str | None = Field(
        None,
        pattern=RUN_ID,
        description="Run a part of the sources, beside the live app: a replay of this name.",
    )
    run_from: str | None = Field(
        None, description="Where that part begins: a time, offsets, or `beginning`."
    )
    run_to: str | None = Field(None, description="Where it ends: a time, offsets, or `end`.")
    stall_timeout: Duration = Field(
        timedelta(seconds=60),
        gt=timedelta(0),
        description="A worker where nothing is done for so long, and no pause says why, is unwell.",
    )
    stall_exit: bool = Field(False, description="End with code 3 then, to be started again.")
    until_end: bool = Field(False, description="Stop when everything there was at start is done.")
    resume: bool = Field(
        False, description="Where a gate has stopped the app before, try again, half open."
    )
    web_port: int | None = Field(
        None,
        ge=PORTS.start,
        lt=PORTS.stop,
        description="Port of /live and /ready on loopback; no server if unset.",
    )
    web_bind: str = Field("127.0.0.1", description="Address the web server listens on.")

    @field_validator("broker")
    @classmethod
    def _servers(cls, broker: str) -> str:
        for server in broker.split(","):
            found = SERVER.fullmatch(server.strip())
            if found is None:
                one = "it" if server == broker else repr(server.strip())
                raise ValueError(f"{one} is not HOST:PORT, as 127.0.0.1:9092 is")
            if int(found[1]) not in PORTS:
                raise ValueError(f"a port is a number from 1 to 65535, not {found[1]}")
        return broker

    @field_validator("lake", mode="before")
    @classmethod
    def _text(cls, lake: Any) -> Any:
        return str(lake) if isinstance(lake, Path) else lake

    @field_validator("lake")
    @classmethod
    def _place(cls, lake: str) -> str:
        problem = store_url.problem_of(store_url.trimmed(lake)) if store_url.is_url(lake) else None
        if problem is not None:
            raise ValueError(problem)
        return store_url.trimmed(lake) if store_url.is_url(lake) else lake

    @field_validator("store_endpoint")
    @classmethod
    def _endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
            raise ValueError("an endpoint is http://HOST:PORT or https://HOST, and nothing else")
        return endpoint

    @field_validator("masking_key")
    @classmethod
    def _secret(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not 16 <= len(key.get_secret_value().encode()) <= 64:
            raise ValueError("a key is a secret of 16 to 64 bytes")
        return key

    @model_validator(mode="after")
    def _whole_run(self) -> Settings:
        if self.run_id in TAKEN:
            raise ValueError(f"--run-id {self.run_id!r} stands for something else; take another")
        if self.run_id is None and (self.run_from or self.run_to):
            raise ValueError(
                "--from and --to need a --run-id: without one a worker goes on where it was"
            )
        return self

    @model_validator(mode="after")
    def _in_the_clear(self) -> Settings:
        if (self.store_endpoint or "").startswith("http://") and not self.store_allow_http:
            raise ValueError(
                f"STREAMFLOW_STORE_ENDPOINT {self.store_endpoint} is not encrypted; in a network "
                "of your own set STREAMFLOW_STORE_ALLOW_HTTP=true as well"
            )
        return self

    def wait_for_broker(self, otherwise: timedelta) -> float:
        """Seconds that a start waits for a broker; `otherwise` where it is not set."""
        return (otherwise if self.broker_wait is None else self.broker_wait).total_seconds()

    @property
    def masks(self) -> Masks | None:
        """What masks sensitive values; None without a key."""
        key = self.masking_key
        return None if key is None else Masks(key.get_secret_value().encode())

    @property
    def lake_folder(self) -> Path | None:
        """Where tables lie on a disk of this machine; None where they lie in an object store."""
        return None if store_url.is_url(self.lake) else Path(self.lake)

    @property
    def bounded(self) -> bool:
        """Does the input have an end?"""
        return self.until_end or self.run_id is not None

    def live_names(self, topology: str) -> Names:
        """What the live app of a topology calls its topics."""
        return Names(self.app_id or topology, self.topic_prefix)

    def names(self, topology: str) -> Names:
        """What a worker of a topology calls its topics."""
        live = self.live_names(topology)
        return live if self.run_id is None else live.of_run(self.run_id)

    @staticmethod
    def load(**given: object) -> Settings:
        """The settings from the environment, overridden by whatever is given and not None.

        Raises:
            SettingsError: naming every setting that cannot be used.
        """
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return Settings(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = [_problem(detail, given) for detail in error.errors()]
            raise SettingsError("; ".join(problems)) from error


def unknown_variables(names: Iterable[str]) -> list[str]:
    """A warning for each variable that looks like a setting and is none."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    warnings: list[str] = []
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in (*known, *OTHERS):
            nearest = get_close_matches(name.upper(), known, 1, 0)
            warnings.append(f"{name} is no setting and does nothing; is {nearest[0]} meant?")
    return warnings


def _problem(detail: Any, given: dict[str, object]) -> str:
    """One setting: where it was set, to what, and what it should be."""
    words = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:  # of several together, which it names
        return words
    name = str(detail["loc"][0])
    option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
    variable = f"{PREFIX}{name.upper()}"
    place = option if name in given else variable
    if name == "masking_key":
        return f"{place}: {words[:1].lower()}{words[1:]}"
    value = given.get(name, os.environ.get(variable, detail["input"]))
    if isinstance(value, str):  # which may hold a password that does not belong there
        value = re.sub(r"//[^/]*@|[?#].*", lambda found: f"{found[0][:2]}...", value)
    return f"{place} {value!r}: {words[:1].lower()}{words[1:]}"
