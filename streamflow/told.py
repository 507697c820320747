"""What tells values and functions from others: texts that are the same in each process.

A `repr` often is not: it may have the address of an object, or the elements of a set in the order
of their hashes, which are others in each process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from functools import partial
from types import CodeType, EllipsisType, FunctionType, MethodType, NoneType
from typing import Any

#: What is told by its repr. It cannot change, nor can tuples and sets of it.
_SCALARS = (str, bytes, int, float, complex, Decimal, date, time, timedelta, NoneType, EllipsisType)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def told_function(function: Callable[..., Any]) -> str:
    """The code of a function, or of an object that can be called, and what it brings along and
    cannot change: defaults, what it has taken from around it, what is set in the object.
    """
    return _told(function, ())


def told_settings(given: object) -> str:
    """What an object is and holds and cannot change, but none of its code."""
    if type(given).__repr__ is not object.__repr__:
        return _ADDRESS.sub("", repr(given))
    held = getattr(given, "__dict__", {})
    pairs = [f"{name}={_value(one)}" for name, one in sorted(held.items()) if _is_value(one)]
    return f"{type(given).__name__}({', '.join(pairs)})"


def _told(function: Any, around: tuple[Any, ...]) -> str:
    if any(one is function for one in around):  # it calls itself
        return "itself"
    within = (*around, function)
    match function:
        case partial():
            settings = [*function.args, *function.keywords.items()]
            return f"partial {_told(function.func, within)} {_held(settings, within)}"
        case MethodType():
            owner = function.__self__
            of = owner.__name__ if isinstance(owner, type) else told_settings(owner)
            return f"{of}: {_told(function.__func__, within)}"
        case FunctionType():
            cells = [_content(cell) for cell in function.__closure__ or ()]
            given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
            code = _code(function.__code__)
            return f"{function.__qualname__}:{code}{_held([*given, *cells], within)}"
        case _:
            call = type(function).__call__
            if isinstance(call, FunctionType):
                return f"{told_settings(function)}: {_told(call, within)}"
            return _ADDRESS.sub("", repr(function))


def _code(code: CodeType) -> str:
    consts = [_code(one) if isinstance(one, CodeType) else _value(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {' '.join(code.co_names)} ({', '.join(consts)})"


def _held(values: list[Any], around: tuple[Any, ...]) -> str:
    said = [_value(one) if _is_value(one) else _other(one, around) for one in values]
    return f"[{', '.join(said)}]" if said else ""


def _other(value: Any, around: tuple[Any, ...]) -> str:
    """Of what may change only its kind, unless it is a function."""
    functions = (FunctionType, MethodType, partial)
    return _told(value, around) if isinstance(value, functions) else type(value).__qualname__


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is set later
        return None


def _is_value(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_value(one) for one in value)
    return isinstance(value, _SCALARS)


def _value(value: Any) -> str:
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_value, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))})"
    return _ADDRESS.sub("", repr(value))
