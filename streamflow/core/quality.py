"""Quality of what a commit has taken in: one record for each, on the topic of `stream.quality`.

Where commits fall is no result, so neither is one record. Records of a partition meet by their
offsets, and their counts add up: over any range of them they say what was in those offsets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from streamflow.batch import Record, TopicPartition
from streamflow.core.headers import Origin, traceparent
from streamflow.core.json_values import to_json
from streamflow.core.plan import TaskPlan
from streamflow.core.step import Reject, Step, TaskState
from streamflow.rules import score
from streamflow.stages import rules_of

#: Offsets of dead letters that a record names for each rule.
EXAMPLES = 3
TURNS = ("tripped", "resumed", "routed")
EXITS = ("in", "forked", "expanded", "passed", "rejected", "dropped")


def quality_records(
    plan: TaskPlan, tp: TopicPartition, steps: Sequence[Step], state: TaskState, now_ms: int
) -> list[Record]:
    """The record of a commit with these steps, which lead to `state`; none where nothing came."""
    start, stop = steps[0].start, steps[-1].stop
    if start == stop:
        return []
    origin = Origin(tp, start, stop, state.commit)
    value = to_json(_judgement(plan, tp, steps, state) | {"at_ms": now_ms})
    headers = (traceparent(origin), origin.header())
    return [Record(f"{tp.topic}-{tp.partition}".encode(), value, now_ms, headers)]


def _judgement(
    plan: TaskPlan, tp: TopicPartition, steps: Sequence[Step], state: TaskState
) -> dict[str, Any]:
    counts, rules = Counter[str](), Counter[str]()
    for step in steps:
        counts.update(step.counts)
        rules.update(step.rules)
    rejects = [reject for step in steps for reject in step.rejects]
    refused = Counter(reject.reason for reject in rejects if reject.stage == "decode")
    known = rules_of(plan.stages)
    issues = refused.total() + sum(rules[rule.name] for rule in known)
    examples = _examples(rejects)
    return {
        "topology": plan.topology,
        "topic": tp.topic,
        "partition": tp.partition,
        "commit": state.commit,
        "offset_first": steps[0].start,
        "offset_next": steps[-1].stop,
        **{name: counts[name] for name in EXITS},
        "issues": issues,
        "score": score(issues, counts["in"]),
        "refused": dict(refused),
        "rules": [
            {
                "rule": rule.name,
                "severity": rule.severity,
                "broken": rules[rule.name],
                "fixed": rules[f"{rule.name}:fixed"],
                "examples": examples.get(rule.name, []),
            }
            for rule in known
        ],
        "thresholds": [
            {
                "threshold": watch.name,
                "phase": state.breakers[watch.name].phase,
                **{
                    what: rules[f"{watch.name}:{what}"] for what in ("tripped", "resumed", "routed")
                },
            }
            for watch in plan.watches
            if watch.name in state.breakers
        ],
    }


def _examples(rejects: Iterable[Reject]) -> dict[str, list[int]]:
    """Per rule the offsets of the first dead letters that it has made."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for reject in rejects:
        if reject.reason == "rule" and len(found[reject.rule]) < EXAMPLES:
            found[reject.rule].append(reject.raw.offset)
    return found
