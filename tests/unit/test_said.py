"""Commands in messages can be run as they stand there."""

import logging

import pytest

from streamflow.batch import TopicPartition
from streamflow.cli.said import filled, naming
from streamflow.engine.refusals import input_ended, reset_command, table_left_behind
from streamflow.errors import StateRefused

TP = TopicPartition("orders", 0)
GIVEN = {"broker": None, "app_id": "it's mine", "lake": "/my lake", "resume": True}


def test_a_command_has_what_was_given_and_the_options_that_it_takes() -> None:
    command = reset_command("orders", 2, "--to changelog")
    assert filled(f"do {command}", "topologies/orders.py:both", GIVEN) == (
        """do `streamflow state reset topologies/orders.py:both --app-id 'it'"'"'s mine'"""
        " --source orders --partition 2 --to changelog`"
    )
    assert "`streamflow state reset a.b --source orders --to" in filled(
        reset_command("orders", None, "--to 1"), "a.b", {"app_id": None}
    )
    said = filled(str(table_left_behind(TP, "t", "x/t", 3)), "a.b", {**GIVEN, "app_id": "x"})
    assert "`streamflow sink drain a.b --app-id x --lake '/my lake' t --table x/t`" in said


def test_failures_are_raised_as_they_are_but_for_the_command() -> None:
    refused = input_ended(TP, 3, 5, "orders")
    with pytest.raises(StateRefused) as raised, naming("a.b", {}):
        raise refused
    assert raised.value is refused
    assert str(refused).endswith(
        "`streamflow state reset a.b --source orders --to changelog --discard`"
    )
    with pytest.raises(StateRefused, match=r"^TOPOLOGY of mine$"), naming("a.b", {}):
        raise StateRefused("TOPOLOGY of mine")
    with pytest.raises(ValueError, match="other"), naming("a.b", {}):
        raise ValueError("other")


def test_a_failure_in_the_log_names_the_command_too(caplog: pytest.LogCaptureFixture) -> None:
    """Where several partitions are refused at once, one is raised, and the others are logged."""
    root, log = logging.getLogger(), logging.getLogger("streamflow.engine.host")
    before = {handler: list(handler.filters) for handler in root.handlers}
    with naming("a.b", {"app_id": "x"}):
        log.error("%s", input_ended(TP, 3, 5, "orders"))
        log.error("%s of %d", "TOPOLOGY", 3)
    assert "`streamflow state reset a.b --app-id x --source orders --to" in caplog.messages[0]
    assert caplog.messages[1] == "TOPOLOGY of 3"
    assert {handler: list(handler.filters) for handler in root.handlers} == before
