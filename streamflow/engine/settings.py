"""What an operator can set: `STREAMFLOW_<NAME>` in the environment, or on the command line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamflow.errors import SettingsError


class Settings(BaseSettings):
    """Settings of a worker."""

    model_config = SettingsConfigDict(env_prefix="STREAMFLOW_", extra="ignore")

    broker: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, comma separated.")
    app_id: str | None = Field(
        None,
        description="Consumer group and name of internal topics; the topology's name if unset.",
    )
    topic_prefix: str = Field("", description="Put before every topic that the topology names.")
    lake: Path = Field(Path("lake"), description="Folder below which tables lie.")
    state_dir: Path = Field(Path(".streamflow/state"), description="Folder of local states.")
    worker_id: str = Field("worker", description="Names this worker's folder among the states.")
    commit_interval: timedelta = Field(
        timedelta(seconds=1), gt=timedelta(0), description="A commit waits no longer than this."
    )
    commit_records: int = Field(50_000, gt=0, description="A commit has no more input than this.")
    commit_bytes: int = Field(
        32 * 1024 * 1024, gt=0, description="A commit has no more bytes of input than this."
    )
    session_timeout: timedelta = Field(
        timedelta(seconds=15),
        ge=timedelta(seconds=6),
        description="Kafka takes a worker's partitions away when it is silent for this long.",
    )
    shutdown_timeout: timedelta = Field(
        timedelta(seconds=20), description="What is in hand is committed within this, or forgotten."
    )
    until_end: bool = Field(False, description="Stop when everything there was at start is done.")
    web_port: int | None = Field(
        None, description="Port of /live and /ready on loopback; no server if unset."
    )
    web_bind: str = Field("127.0.0.1", description="Address the web server listens on.")

    @staticmethod
    def load(**given: object) -> Settings:
        """The settings from the environment, overridden by whatever is given and not None.

        Raises:
            SettingsError: naming every setting that cannot be used.
        """
        try:
            return Settings(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise SettingsError("settings: " + "; ".join(lines)) from error
