"""What every `TableLog` must keep. Run `LAWS`, each with the log of a table that is not there yet.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_log_keeps_the_contract(law, my_log):
    law(my_log)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from streamflow.errors import SinkUnavailable
from streamflow.ports import LoadedTable, TableLog

SCHEMA = pa.schema([("origin", pa.string()), ("id", pa.int64())])
MORE = pa.schema([("more", pa.float64())])


def _made(log: TableLog) -> LoadedTable:
    log.create(SCHEMA, ["origin"])
    table = log.load()
    assert table is not None
    return table


def _loaded(log: TableLog) -> LoadedTable:
    table = log.load()
    assert table is not None
    return table


def _is_refused(act: Callable[[], None]) -> None:
    try:
        act()
    except SinkUnavailable:
        return
    raise AssertionError("a commit on an old version was taken")


def there_is_no_table_before_it_is_made(log: TableLog) -> None:
    assert log.load() is None
    table = _made(log)
    assert table.schema.names == log.form(SCHEMA).names == ["origin", "id"]
    assert table.partition_by == ("origin",)
    assert table.mark("a") is None


def a_table_is_made_once(log: TableLog) -> None:
    _made(log)
    log.create(pa.schema([("other", pa.int64())]), [])
    assert _loaded(log).schema.names == ["origin", "id"]


def a_commit_sets_all_its_marks(log: TableLog) -> None:
    table = _made(log)
    table.commit([], {"a": 3, "a/commit": 1})
    assert [_loaded(log).mark(name) for name in ("a", "a/commit", "b")] == [3, 1, None]
    _loaded(log).commit([], {"a": 7})
    assert [_loaded(log).mark(name) for name in ("a", "a/commit")] == [7, 1]


def of_two_commits_on_one_version_one_is_refused(log: TableLog) -> None:
    _made(log)
    first, second = _loaded(log), _loaded(log)
    first.commit([], {"a": 3})
    _is_refused(lambda: second.commit([], {"a": 3}))
    _is_refused(lambda: second.commit([], {"a": 4, "b": 1}))
    again = _loaded(log)
    assert [again.mark(name) for name in ("a", "b")] == [3, None]


def commits_of_other_marks_do_not_meet(log: TableLog) -> None:
    _made(log)
    first, second = _loaded(log), _loaded(log)
    first.commit([], {"a": 3})
    second.commit([], {"b": 4})
    assert [_loaded(log).mark(name) for name in ("a", "b")] == [3, 4]


def a_version_does_not_see_what_comes_later(log: TableLog) -> None:
    table = _made(log)
    _loaded(log).commit([], {"a": 3})
    assert table.mark("a") is None


def columns_can_be_added(log: TableLog) -> None:
    table = _made(log)
    before = _loaded(log)
    table.widen(MORE)
    assert _loaded(log).schema.names == ["origin", "id", "more"]
    _is_refused(lambda: before.commit([], {"a": 3}))
    _loaded(log).commit([], {"a": 3})
    assert _loaded(log).mark("a") == 3


def marks_outlive_many_commits(log: TableLog) -> None:
    """Logs are cut short now and then."""
    _made(log).commit([], {"old": 1})
    for number in range(120):
        _loaded(log).commit([], {"a": number})
    assert [_loaded(log).mark(name) for name in ("old", "a")] == [1, 119]


LAWS: Sequence[Callable[[TableLog], None]] = (
    there_is_no_table_before_it_is_made,
    a_table_is_made_once,
    a_commit_sets_all_its_marks,
    of_two_commits_on_one_version_one_is_refused,
    commits_of_other_marks_do_not_meet,
    a_version_does_not_see_what_comes_later,
    columns_can_be_added,
    marks_outlive_many_commits,
)
