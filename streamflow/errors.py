"""The failures streamflow knows, each named for the reaction it asks for.

    StreamflowError
    ├── TopologyError     fix the topology and start again
    │   └── NoMethod      the same: what was asked for is no method of this part
    ├── SettingsError     fix the settings or the command line and start again
    │   └── NoBroker      the same at the start; later it is waited for
    ├── CheckFailed       fix what `streamflow check` lists and start again
    ├── TaskLost          close the task and take it up as after a crash
    │   ├── Fenced        the same, and another owner has it now
    │   ├── Unavailable   the same, later: a topic is missing, or may not be written to
    │   └── Refused       the same, and find out which of some records the broker does not take
    ├── StateDamaged      drop the local state and restore it from the changelog
    ├── StateRefused      a person has to decide: the message names the command
    ├── SinkRefused       stop the sink stage: its chain of cuts does not fit its topic
    ├── SinkUnavailable   pause and try again: a disk or a store did not take the write
    │   ├── Overtaken     look again: somebody else has committed to the log of the table
    │   └── TableAway     the same, after so long: it was asked too often in vain
    ├── WorkerStalled     end the worker with code 3, so that whoever runs it starts it again
    └── LookupUnavailable pause and ask again later: whom a stage asks is away

A record that is wrong is not an exception: it is a `Reject` and goes to the dead-letter topic.
Messages are lowercase, carry coordinates (`topic[partition]@offset`, stage, field) and end with
what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamflow.counted import counted

if TYPE_CHECKING:
    from streamflow.batch import Record
    from streamflow.retry import ErrorClass


class StreamflowError(Exception):
    """Any failure that streamflow itself raises; the command line prints it without a traceback."""

    streamflow_exit_code = 2


class TopologyError(StreamflowError):
    """The topology cannot be built as written."""


class NoMethod(TopologyError, AttributeError):
    """A part of a topology is asked for what only another part of it has."""


class SettingsError(StreamflowError):
    """A setting or an argument is missing or has a value that cannot be used."""


class NoBroker(SettingsError):
    """No broker answers, or none that leads the group: the address is wrong, or it is away."""


class CheckFailed(StreamflowError):
    """One or more problems were found before anything was started."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class TaskLost(StreamflowError):
    """What the task has in memory can no longer be trusted; take it up from its changelog."""


class Fenced(TaskLost):
    """Another producer with this task's transactional id has been initialised since."""


class Unavailable(TaskLost):
    """A topic or the broker cannot be written to as things are: it is missing, does not answer, or
    does not let us. No record is to blame; trying again later helps once somebody has mended it.
    """


class Refused(TaskLost):
    """The broker will never take one of these records as it is.

    Attributes:
        topic: Where they were sent.
        records: Those that were sent in one batch, in order; at least one of them is refused.
        why: The broker's words.
    """

    def __init__(self, topic: str, records: Sequence[Record], why: str) -> None:
        self.topic, self.records, self.why = topic, records, why
        super().__init__(f"{topic} refuses one of {counted(len(records), 'record')}: {why}")


class StateDamaged(StreamflowError):
    """The local state does not fit the changelog; it can be rebuilt from there."""


class StateRefused(StreamflowError):
    """State, topic and topology disagree in a way that only a person can settle."""


class FunctionFailed(StateRefused):
    """A function of an aggregate of somebody's own failed on rows.

    Attributes:
        offsets: The first and the last one that the rows come from, where that is known.
    """

    offsets: tuple[int, int] | None = None


class SinkRefused(StreamflowError):
    """The rows topic and the chain of cuts disagree; going on would lose or repeat rows."""


class SinkUnavailable(StreamflowError):
    """The table's file system or store did not take a write; nothing is lost by trying again.

    Attributes:
        error_class: Of which kind the failure is; None: as of a connection that broke.
    """

    def __init__(self, message: str, error_class: ErrorClass | None = None) -> None:
        self.error_class = error_class
        super().__init__(message)


class Overtaken(SinkUnavailable):
    """Somebody else has committed to the table's log since it was loaded: load it again."""


class TableAway(SinkUnavailable):
    """A table's circuit breaker is open: its store is not asked for so many seconds; with none,
    until one call has shown that it is back.
    """

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class WorkerStalled(StreamflowError):
    """Nothing moves, and nothing says why."""

    streamflow_exit_code = 3


class LookupUnavailable(StreamflowError):
    """A stage's circuit breaker is open: nothing is asked for so many seconds, nothing is lost."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)
