"""How often what a task makes of a record is delivered, whatever crashes."""

from __future__ import annotations

from typing import Literal

#: `"exactly_once"`: commits are transactions. `"at_least_once"`: they are not, as for brokers that
#: have none; topics may get records again after a crash, state and tables may not.
Delivery = Literal["exactly_once", "at_least_once"]
