"""How a worker comes to deliver as it does."""

import pytest

from streamflow.engine.chosen import Chosen, chosen
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError

LACKS = ("AddPartitionsToTxn", "EndTxn")


def test_exactly_once_is_what_is_done_where_nothing_is_said() -> None:
    assert chosen((), Settings.load()) == Chosen("exactly_once")
    assert chosen((), Settings.load()).words is None


def test_at_least_once_is_done_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMFLOW_DELIVERY", "at_least_once")
    assert chosen((), Settings.load()) == Chosen("at_least_once")
    assert chosen(LACKS, Settings.load()) == Chosen("at_least_once")
    assert chosen(("InitProducerId", *LACKS), Settings.load()).has_ids is False
    assert chosen(LACKS, Settings.load()).words is None


def test_a_broker_without_transactions_is_worked_with_and_that_is_said_loudly() -> None:
    found = chosen(LACKS, Settings.load())
    assert found == Chosen("at_least_once", LACKS)
    assert found.words is not None
    assert found.words.startswith("the broker has no transactions (AddPartitionsToTxn, EndTxn), so")
    assert "topics may get records again after a crash" in found.words


def test_who_insists_on_exactly_once_is_refused_by_such_a_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAMFLOW_DELIVERY", "exactly_once")
    assert chosen((), Settings.load()) == Chosen("exactly_once")
    with pytest.raises(SettingsError, match="STREAMFLOW_DELIVERY is exactly_once, and the broker"):
        chosen(LACKS, Settings.load())
