"""What every `StateStore` must keep. Run `LAWS`, each with a function that opens one fresh state.

Called again after `close`, the function opens the same state, as a worker does that comes back.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_store_keeps_the_contract(law, open_my_store):
    law(open_my_store)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from streamflow.ports import StateStore

OpenStore = Callable[[], StateStore]
Change = tuple[bytes, bytes | None]


def values_come_in_the_order_of_the_keys(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"1"), (b"b", b"2")])
        assert store.get([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
        assert store.get([]) == []


def an_empty_value_is_a_value(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"")])
        assert store.get([b"a"]) == [b""]
        assert store.scan(b"a", b"b") == [(b"a", b"")]


def none_deletes(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"1"), (b"b", b"")])
        store.apply([(b"a", None), (b"b", None), (b"never there", None)])
        assert store.get([b"a", b"b", b"never there"]) == [None, None, None]
        assert store.scan(b"", b"\xff") == []


def the_last_change_of_a_key_counts(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"1"), (b"a", None), (b"a", b"2"), (b"b", b"3"), (b"b", None)])
        assert store.get([b"a", b"b"]) == [b"2", None]


def a_scan_is_half_open_and_in_the_order_of_bytes(open_store: OpenStore) -> None:
    keys = [b"a", b"a\x00", b"a\xff", b"b", b"b\x00", b"\x00", b"\xff\xff"]
    with closing(open_store()) as store:
        store.apply([(key, key) for key in keys])
        found = [key for key, _ in store.scan(b"a", b"b")]
        assert found == [b"a", b"a\x00", b"a\xff"]
        everything = store.scan(b"", b"\xff\xff\xff")
        assert everything == [(key, key) for key in sorted(keys)]


def a_scan_can_end_early(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"c", b"3"), (b"a", b"1"), (b"b", b"2")])
        assert store.scan(b"a", b"c", limit=1) == [(b"a", b"1")]
        assert store.scan(b"b", b"d", limit=2) == [(b"b", b"2"), (b"c", b"3")]
        assert store.scan(b"b", b"d", limit=9) == [(b"b", b"2"), (b"c", b"3")]
        assert store.scan(b"a", b"c", limit=0) == []


def a_scan_of_nothing_is_empty(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        assert store.scan(b"a", b"z") == []
        store.apply([(b"b", b"1")])
        assert store.scan(b"b", b"b") == []
        assert store.scan(b"z", b"a") == []
        assert store.scan(b"c", b"z") == []


def all_changes_are_written_or_none(open_store: OpenStore) -> None:
    def broken() -> Iterator[Change]:
        yield b"a", b"new"
        yield b"b", None
        raise InterruptedError

    with closing(open_store()) as store:
        store.apply([(b"a", b"old"), (b"b", b"old")])
        try:
            store.apply(broken())
        except InterruptedError:
            assert store.scan(b"a", b"z") == [(b"a", b"old"), (b"b", b"old")]
            return
    raise AssertionError("the error of the changes did not come through")


def clear_forgets_everything_and_the_store_goes_on(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"1"), (b"b", b"2")])
        store.clear()
        assert store.scan(b"", b"\xff") == []
        store.apply([(b"b", b"3")])
        assert store.scan(b"", b"\xff") == [(b"b", b"3")]
    with closing(open_store()) as again:
        assert again.scan(b"", b"\xff") == [(b"b", b"3")]


def what_was_loaded_is_there_in_its_order(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"old", b"1")])
        store.clear()
        store.load([(b"b", b"1"), (b"a", b"1"), (b"c", b"1"), (b"a", b"2")])
        store.load([(b"b", None), (b"d", b"1"), (b"never there", None)])
        store.load([(b"b", b"3"), (b"c", None), (b"e", b"")])
        store.loaded()
        wanted = [(b"a", b"2"), (b"b", b"3"), (b"d", b"1"), (b"e", b"")]
        assert store.scan(b"", b"\xff") == wanted
        store.apply([(b"d", None)])
        wanted.remove((b"d", b"1"))
        assert store.scan(b"", b"\xff") == wanted
    with closing(open_store()) as again:
        assert again.scan(b"", b"\xff") == wanted
        assert again.get([b"a", b"c", b"old"]) == [b"2", None, None]


def nothing_may_be_loaded(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.clear()
        store.load([])
        store.loaded()
        assert store.scan(b"", b"\xff") == []
        store.clear()
        store.loaded()
        store.apply([(b"a", b"1")])
        assert store.get([b"a"]) == [b"1"]


def a_load_that_was_broken_off_is_cleared(open_store: OpenStore) -> None:
    store = open_store()
    store.clear()
    store.load([(b"a", b"1")])
    store.close()
    with closing(open_store()) as again:
        again.clear()
        again.load([(b"b", b"2")])
        again.clear()
        again.load([(b"c", b"3")])
        again.loaded()
        assert again.scan(b"", b"\xff") == [(b"c", b"3")]


def what_was_applied_is_there_after_opening_again(open_store: OpenStore) -> None:
    with closing(open_store()) as store:
        store.apply([(b"a", b"1")])
        store.apply([(b"b", b"2")])
    for _ in range(3):
        with closing(open_store()) as again:
            assert again.get([b"a", b"b"]) == [b"1", b"2"]


def close_is_idempotent_and_lets_the_state_be_opened_again(open_store: OpenStore) -> None:
    store = open_store()
    store.apply([(b"a", b"1")])
    held = store.scan(b"a", b"b"), store.get([b"a"])  # no result may keep the state open
    store.close()
    store.close()
    with closing(open_store()) as again:
        assert (again.scan(b"a", b"b"), again.get([b"a"])) == held


LAWS: Sequence[Callable[[OpenStore], None]] = (
    values_come_in_the_order_of_the_keys,
    an_empty_value_is_a_value,
    none_deletes,
    the_last_change_of_a_key_counts,
    a_scan_is_half_open_and_in_the_order_of_bytes,
    a_scan_can_end_early,
    a_scan_of_nothing_is_empty,
    all_changes_are_written_or_none,
    clear_forgets_everything_and_the_store_goes_on,
    what_was_loaded_is_there_in_its_order,
    nothing_may_be_loaded,
    a_load_that_was_broken_off_is_cleared,
    what_was_applied_is_there_after_opening_again,
    close_is_idempotent_and_lets_the_state_be_opened_again,
)
