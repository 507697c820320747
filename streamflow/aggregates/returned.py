"""What a user's function returned, as a column of its type keeps it: exactly that, or not at all.

Arrow alone cuts fractions off, takes letters for a list of texts, and makes null of what a nested
struct has under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Number
from operator import index
from typing import Any

import pyarrow as pa

from streamflow.failed_words import shown

_is = pa.types
_TESTS: tuple[Callable[[pa.DataType], bool], ...] = (
    _is.is_list,
    _is.is_large_list,
    _is.is_fixed_size_list,
    _is.is_list_view,
    _is.is_large_list_view,
)
#: What stands for a list and has no order, or other things in it than it seems.
_NO_LISTS = (str, bytes, bytearray, Mapping, set, frozenset)


def as_kept(made: Any, kind: pa.DataType) -> Any:
    """The value as it comes back from a column of the type.

    Raises:
        ArrowException, ValueError, TypeError, OverflowError: it does not fit.
    """
    return pa.scalar(_checked(made, kind), kind).as_py()


def _checked(value: Any, kind: Any) -> Any:
    """The same for Arrow, without what it would change in silence."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if value is None:
        return None
    if _is.is_struct(kind):
        return _struct(value, kind)
    if _is.is_map(kind):
        return _map(value, kind)
    if any(test(kind) for test in _TESTS):
        return _list(value, kind)
    if _is.is_dictionary(kind):
        return _checked(value, kind.value_type)
    whole = _is.is_integer(kind) or (_is.is_temporal(kind) and isinstance(value, Number))
    return _whole(value) if whole and not isinstance(value, bool) else value


def _whole(value: Any) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{shown(value)} is no integer") from None


def _struct(value: Any, kind: Any) -> dict[str, Any]:
    names = {field.name for field in kind}
    if not isinstance(value, Mapping) or set(value) != names:
        raise ValueError(f"a dict with the names {sorted(names)} is wanted")
    return {field.name: _checked(value[field.name], field.type) for field in kind}


def _map(value: Any, kind: Any) -> list[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else value
    made = [(_checked(k, kind.key_type), _checked(v, kind.item_type)) for k, v in pairs]
    seen = set[Any]()
    for key, _ in made:
        mark = repr(key) if isinstance(key, dict | list) else key
        if mark in seen:
            raise ValueError(f"the key {shown(key)} is there twice")
        seen.add(mark)
    return made


def _list(value: Any, kind: Any) -> list[Any]:
    if isinstance(value, _NO_LISTS) or not isinstance(value, Iterable):
        raise TypeError(f"a list is wanted, and not a {type(value).__name__}")
    return [_checked(one, kind.value_type) for one in value]
