"""What an operator sets: understood, or refused with the place where it was set."""

from datetime import timedelta

import pytest

from streamflow.engine.settings import Settings, unknown_variables
from streamflow.errors import SettingsError

HALF = timedelta(milliseconds=500)


@pytest.mark.parametrize("text", ["0.5", "PT0.5S", "5e-1", "00:00:00.5"])
def test_a_duration_is_seconds_or_iso_in_variables_and_options_alike(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert Settings.load(commit_interval=text).commit_interval == HALF
    monkeypatch.setenv("STREAMFLOW_COMMIT_INTERVAL", text)
    assert Settings.load().commit_interval == HALF
    assert Settings.load(commit_interval=2).commit_interval == timedelta(seconds=2)


@pytest.mark.parametrize(
    "servers", ["127.0.0.1:1", "kafka:65535", "a.b-c_d:9092, [::1]:9092", "localhost:9092"]
)
def test_servers_are_hosts_and_ports(servers: str) -> None:
    assert Settings.load(broker=servers).broker == servers


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("broker", "127.0.0.1:99999", "a port is a number from 1 to 65535, not 99999"),
        ("broker", "a:9092,b:0", "a port is a number from 1 to 65535, not 0"),
        ("broker", "localhost", "it is not HOST:PORT, as 127.0.0.1:9092 is"),
        ("broker", "kafka://a:9092", "it is not HOST:PORT"),
        ("broker", "a:9092,", "'' is not HOST:PORT"),
        ("broker", "", "it is not HOST:PORT"),
        ("web_port", "99999", "input should be less than 65536"),
        ("web_port", "0", "input should be greater than or equal to 1"),
        ("web_port", "x", "input should be a valid integer, unable to parse string as an integer"),
        ("commit_interval", "soon", "input should be a valid timedelta, invalid digit in duration"),
        ("commit_interval", "0", "input should be greater than 0 seconds"),
        ("commit_interval", "inf", "input should be a valid timedelta"),
        ("session_timeout", "1", "input should be greater than or equal to 6 seconds"),
        ("shutdown_timeout", "-1", "input should be greater than or equal to 0 seconds"),
        ("app_id", "a b", "string should match pattern"),
        ("topic_prefix", "ä", "string should match pattern"),
    ],
)
def test_what_cannot_be_used_is_refused_where_it_was_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    with pytest.raises(SettingsError) as option:
        Settings.load(**{name: value})
    monkeypatch.setenv(f"STREAMFLOW_{name.upper()}", value)
    with pytest.raises(SettingsError) as variable:
        Settings.load()
    assert str(option.value).startswith(f"--{name.replace('_', '-')} {value!r}: {words}")
    assert str(variable.value).startswith(f"STREAMFLOW_{name.upper()} {value!r}: {words}")


def test_all_that_cannot_be_used_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"^--broker 'x': .*; --web-port 0: [^;]*$"):
        Settings.load(broker="x", web_port=0)


def test_a_variable_that_is_no_setting_is_told_with_the_nearest_one() -> None:
    names = ["STREAMFLOW_BROKR", "STREAMFLOW_LAKE", "STREAMFLOW_COMMIT_INTERVALL", "PATH"]
    names += ["streamflow_broker", "STREAMFLOW_CACHE", "STREAMFLOW_CRASH_AT", "STREAMFLOWER"]
    assert unknown_variables(names) == [
        f"STREAMFLOW_{name} is no setting and does nothing; is STREAMFLOW_{meant} meant?"
        for name, meant in (("BROKR", "BROKER"), ("COMMIT_INTERVALL", "COMMIT_INTERVAL"))
    ]
