"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it.

    Attributes:
        check: What was looked at: topology, broker, transactions, topic, lake, table or state.
        level: `problem` stops a worker or loses data; `warning` may be meant so.
        what: What was found, in words.
        fix: What to do; empty where nothing is.
        full: A disk has no room, all else may be well: whoever waits can go on when it has some.
    """

    check: str
    level: Literal["ok", "warning", "problem"]
    what: str
    fix: str = ""
    full: bool = False

    @staticmethod
    def ok(check: str, what: str) -> Finding:
        """It is as it should be."""
        return Finding(check, "ok", what)

    @staticmethod
    def warning(check: str, what: str, fix: str) -> Finding:
        """It may be meant so."""
        return Finding(check, "warning", what, fix)

    @staticmethod
    def problem(check: str, what: str, fix: str) -> Finding:
        """It has to be put right first."""
        return Finding(check, "problem", what, fix)
