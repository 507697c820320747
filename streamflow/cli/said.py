"""Fills what a person has said into the commands that messages name.

The engine knows nothing of the command line: in its words TOPOLOGY stands for what was given there.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from streamflow.errors import StreamflowError

#: The options that say which app it is, by the commands that take them.
_APP = ("broker", "app_id", "topic_prefix")
_TAKES: Mapping[str, tuple[str, ...]] = {"state reset": _APP, "sink drain": (*_APP, "lake")}
_COMMAND = re.compile(rf"`streamflow ({'|'.join(_TAKES)}) TOPOLOGY ")


@contextmanager
def naming(topology: str, given: Mapping[str, object]) -> Generator[None]:
    """Failures within it name commands that can be run as they stand there; those in the log too.

    Args:
        topology: What was given for it.
        given: The options that were, by the names of their settings; of others None.
    """

    def fill(error: StreamflowError) -> None:
        words = filled(str(error), topology, given)
        if words != str(error):
            error.args = (words,)

    def fill_logged(record: logging.LogRecord) -> bool:
        for word in record.args if isinstance(record.args, tuple) else ():
            if isinstance(word, StreamflowError):
                fill(word)
        return True

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(fill_logged)
    try:
        yield
    except StreamflowError as error:
        fill(error)
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(fill_logged)


def filled(words: str, topology: str, given: Mapping[str, object]) -> str:
    """The words, with what was given in the place of TOPOLOGY."""

    def command(found: re.Match[str]) -> str:
        options = [
            word
            for name in _TAKES[found[1]]
            if given.get(name) is not None
            for word in (f"--{name.replace('_', '-')}", str(given[name]))
        ]
        return f"`streamflow {found[1]} {shlex.join([topology, *options])} "

    return _COMMAND.sub(command, words)
