"""How a worker delivers on this broker: as it is told, and as the broker can.

A broker says itself which requests it answers. One that does not name those of transactions has
none, whatever is tried, so that is a reliable sign; one that names them and then fails is broken,
and the worker waits for it as for any outage, rather than promise less because of a bad hour.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.engine.delivery import Delivery
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError

_IDS = "InitProducerId"
#: The requests that transactions are made of, by their numbers in Kafka's protocol.
NEEDED = {
    22: _IDS,
    24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn",
    26: "EndTxn",
    28: "TxnOffsetCommit",
}


@dataclass(frozen=True)
class Chosen:
    """How it delivers, and what the broker lacks of what it was to have; `has_ids` tells whether it
    knows producers apart.
    """

    delivery: Delivery
    lacks: tuple[str, ...] = ()
    has_ids: bool = True

    @property
    def words(self) -> str | None:
        """What to say loudly; None where all is as it was to be."""
        if not self.lacks:
            return None
        return (
            f"the broker has no transactions ({', '.join(self.lacks)}), so delivery is at least "
            "once: tables and state stay exact, but topics may get records again after a crash. "
            "Set STREAMFLOW_DELIVERY=at_least_once to say that this is meant"
        )


def chosen(lacks: tuple[str, ...], settings: Settings) -> Chosen:
    """How a worker with these settings delivers on a broker that lacks some of `NEEDED`.

    Raises:
        SettingsError: it was told to deliver exactly once, and the broker cannot.
    """
    has_ids = _IDS not in lacks
    if settings.delivery == "at_least_once":
        return Chosen("at_least_once", has_ids=has_ids)
    if not lacks:
        return Chosen("exactly_once")
    if "delivery" in settings.model_fields_set:
        raise SettingsError(
            f"STREAMFLOW_DELIVERY is exactly_once, and the broker has no transactions "
            f"({', '.join(lacks)}); set at_least_once, or name another broker"
        )
    return Chosen("at_least_once", lacks, has_ids)
