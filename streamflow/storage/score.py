"""Which of the ways that were tried is the best for an aim.

Sizes are the same each time and times are not, so size decides unless a difference in time is one
that noise does not make: twice as fast for `balanced`, a third for the aims that are about time.
And nothing is ever chosen that is larger than the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from streamflow.storage.trial import Trial
from streamflow.writer_settings import Aim

#: A way that is this much faster may be that much larger, for `balanced`.
FASTER: Final = 2.0
LARGER: Final = 1.03
#: Times this far apart are as good as equal, for the aims that are about time.
ALIKE: Final = 1.5


def choose(trials: Sequence[Trial], aim: Aim) -> Trial:
    """The best of the trials, of which the first is the reference. Earlier ones win ties."""
    able = [trial for trial in trials if trial.bytes <= trials[0].bytes]
    smallest = min(able, key=lambda trial: trial.bytes)
    if aim == "smallest":
        return smallest
    if aim == "balanced":
        return _balanced(able, smallest)
    if aim == "fastest-read":
        return _fastest(able, lambda trial: trial.read_seconds)
    return _fastest(able, lambda trial: trial.write_seconds)


def _balanced(trials: Sequence[Trial], smallest: Trial) -> Trial:
    near = [
        trial
        for trial in trials
        if trial.bytes <= smallest.bytes * LARGER and trial.seconds * FASTER < smallest.seconds
    ]
    return min(near, key=lambda trial: trial.seconds, default=smallest)


def _fastest(trials: Sequence[Trial], seconds: Callable[[Trial], float]) -> Trial:
    bound = min(map(seconds, trials)) * ALIKE
    return min((t for t in trials if seconds(t) <= bound), key=lambda trial: trial.bytes)
