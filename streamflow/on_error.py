"""What becomes of records on which a function of a stage fails."""

from __future__ import annotations

from typing import Any, Literal

from streamflow.errors import TopologyError

#: `"dead_letter"`: the record leaves on the rejected side, with the words of the failure, and its
#: neighbours go on. `"retry"`: all before it is committed, then the task is taken up again from
#: there, after a pause that grows up to ten seconds, until the function has done it. `"halt"`:
#: all before it is committed, then the worker stops with words.
OnError = Literal["dead_letter", "retry", "halt"]
#: The same for a rule: `"broken"` is a rule that the record breaks.
OnRuleError = Literal["broken", "retry", "halt"]
DEAD_LETTER: tuple[str, ...] = ("dead_letter", "retry", "halt")
BROKEN: tuple[str, ...] = ("broken", "retry", "halt")


def is_on_error(where: str, value: Any, known: tuple[str, ...] = DEAD_LETTER) -> None:
    """Raises `TopologyError` unless the value is one of those that are known."""
    if not isinstance(value, str) or value not in known:
        raise TopologyError(f"{where}: on_error {value!r} is none of {', '.join(known)}")
