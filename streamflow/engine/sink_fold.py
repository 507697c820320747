"""Folds old cuts of a chain into one summary: a table's private folder does not grow for ever.

The summary is written before the cuts are deleted, and the last two cuts are never folded. So who
finds a cut's name free, and takes it, finds the summary afterwards (`sink_chain.settle`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamflow.batch import TopicPartition
from streamflow.core.cut import stem
from streamflow.core.summary import (
    Links,
    decode_summary,
    encode_summary,
    fold,
    summary_name,
)
from streamflow.engine.sink_chain import read_cut, standing_links
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import TableFiles

log = logging.getLogger(__name__)

#: Each is read at most once; a cut is about 1 KB for each of its files.
FOLD_AFTER = 100
#: The last one may be unfinished, and that before it says which epoch it begins with.
KEPT = 2


def fold_cuts(files: TableFiles, tp: TopicPartition, faults: Callable[[str], None]) -> None:
    """Fold all cuts of a chain but the last two; all but the last are finished.

    What fails is left for the next time.
    """
    try:
        there = standing_links(files, tp)
        folded = there.standing[:-KEPT]
        if folded:
            _summarise(files, tp, there, folded)
            faults("folded")
            there = standing_links(files, tp)
        files.delete_private(_left_over(tp, there))
    except FileNotFoundError:
        return  # another owner has folded them
    except (SinkRefused, SinkUnavailable) as error:
        log.warning("%s: its old cuts are not folded: %s", tp, error)


def _summarise(
    files: TableFiles, tp: TopicPartition, there: Links, folded: tuple[int, ...]
) -> None:
    before = None
    if there.summaries:
        name = summary_name(tp, there.folded)
        before = decode_summary(files.read(name, private=True), name)
    summary = fold(before, [read_cut(files, tp, k) for k in folded])
    files.create(summary.name, encode_summary(summary), private=True)


def _left_over(tp: TopicPartition, there: Links) -> list[str]:
    """What the last summary stands for."""
    cuts = [f"{stem(tp, k)}.json" for k in there.cuts if k <= there.folded]
    return cuts + [summary_name(tp, k) for k in there.summaries[:-1]]
