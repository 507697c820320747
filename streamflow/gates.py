"""A gate on a stream, next to those that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.edge import Exit
from streamflow.errors import TopologyError
from streamflow.rules import Rule, check_rules
from streamflow.stages import Gate, gate_stage
from streamflow.thresholds import Threshold

if TYPE_CHECKING:
    from streamflow.stream import Stream


def gate_on(stream: Stream, rules: tuple[Rule, ...], threshold: Threshold | None) -> Gate:
    """Raises `TopologyError` for rules that do not fit the stream, and names that are taken."""
    where = f"gate on {stream}"
    check_rules(where, rules)
    for rule in rules:
        if rule.field in stream.keys:
            raise TopologyError(
                f"{where}: rule {rule.name!r} would mend {rule.field!r}, which the topic "
                "is keyed by, and move rows to groups of other partitions; reject them instead"
            )
    made = gate_stage(rules, threshold, stream.schema, where)
    gates = [*stream.gates, made]
    names = [rule.name for gate in gates for rule, _ in gate.rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TopologyError(f"{where}: two rules are named {twice[0]!r}")
    names += [watch.name for gate in gates for watch in gate.watches if watch.rule is None]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TopologyError(
            f"{where}: its threshold is named {twice[0]!r}, as something else is; give it a "
            "name=... of its own"
        )
    return made


def routed_side(stream: Stream) -> Exit:
    """Raises `TopologyError` where no threshold routes anything."""
    watches = [watch for gate in stream.gates for watch in gate.watches]
    if not any(watch.threshold.action == "route" for watch in watches):
        raise TopologyError(f'{stream} has no threshold with action="route" to give routed records')
    return Exit(stream, "routed")
