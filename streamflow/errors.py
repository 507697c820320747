"""The failures streamflow knows, each named for the reaction it asks for.

    StreamflowError
    ├── TopologyError     fix the topology and start again
    ├── SettingsError     fix the settings or the command line and start again
    ├── CheckFailed       fix what `streamflow check` lists and start again
    ├── TaskLost          close the task and take it up as after a crash
    │   └── Fenced        the same, and another owner has it now
    ├── StateDamaged      drop the local state and restore it from the changelog
    ├── StateRefused      a person has to decide: the message names the command
    ├── SinkRefused       stop the sink stage: its chain of cuts does not fit its topic
    ├── SinkUnavailable   pause and try again: a disk or a store did not take the write
    └── LookupUnavailable pause and ask again later: whom a stage asks is away

A record that is wrong is not an exception: it is a `Reject` and goes to the dead-letter topic.
Messages are lowercase, carry coordinates (`topic[partition]@offset`, stage, field) and end with
what to do.
"""

from __future__ import annotations


class StreamflowError(Exception):
    """Any failure that streamflow itself raises; the command line prints it without a traceback."""

    streamflow_exit_code = 2


class TopologyError(StreamflowError):
    """The topology cannot be built as written."""


class SettingsError(StreamflowError):
    """A setting or an argument is missing or has a value that cannot be used."""


class CheckFailed(StreamflowError):
    """One or more problems were found before anything was started."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class TaskLost(StreamflowError):
    """What the task has in memory can no longer be trusted; take it up from its changelog."""


class Fenced(TaskLost):
    """Another producer with this task's transactional id has been initialised since."""


class StateDamaged(StreamflowError):
    """The local state does not fit the changelog; it can be rebuilt from there."""


class StateRefused(StreamflowError):
    """State, topic and topology disagree in a way that only a person can settle."""


class SinkRefused(StreamflowError):
    """The rows topic and the chain of cuts disagree; going on would lose or repeat rows."""


class SinkUnavailable(StreamflowError):
    """The table's file system or store did not take a write; nothing is lost by trying again."""


class LookupUnavailable(StreamflowError):
    """A stage's circuit breaker is open: nothing is asked for so many seconds, nothing is lost."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)
