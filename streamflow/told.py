"""What tells values and functions from others: texts that are the same in each process.

A `repr` often is not: it may have the address of an object, or the elements of a set in the order
of their hashes, which are others in each process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from types import CodeType, EllipsisType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

from pydantic import BaseModel

#: Stands before the kind of what may change, and is not told.
UNTOLD = "<?>"
#: What is told by its repr. It cannot change, nor can tuples and sets of it.
_SCALARS = (str, bytes, int, float, complex, Decimal, date, time, timedelta, NoneType, EllipsisType)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def told_function(function: Callable[..., Any]) -> str:
    """The code of a function, or of an object that can be called, and what it brings along and
    cannot change: defaults, what it has taken from around it or finds in its module, what is set in
    the object.
    """
    return _Telling().function(function)


def told_settings(given: object) -> str:
    """What an object is and holds, but none of its code: all fields of a dataclass or model; by its
    own repr, where it has one; else numbers, texts and tuples of them.
    """
    kind = type(given)
    if is_dataclass(given) or isinstance(given, BaseModel):
        return _value(given)
    if kind.__repr__ is not object.__repr__:
        return _as_said(given)
    pairs = [f"{name}={_value(one)}" for name, one in sorted(_set_in(given)) if _is_fixed(one)]
    return f"{kind.__name__}({', '.join(pairs)})"


def _set_in(given: object) -> Iterator[tuple[str, Any]]:
    """What is set in an object, with names."""
    yield from getattr(given, "__dict__", {}).items()
    for kind in type(given).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name != "__dict__" and hasattr(given, name):
                yield name, getattr(given, name)


class _Telling:
    """Tells one function, and each that it uses once."""

    def __init__(self) -> None:
        self._told: list[Any] = []

    def function(self, function: Any) -> str:
        if any(one is function for one in self._told):  # it is used again, perhaps by itself
            return getattr(function, "__qualname__", "itself")
        self._told.append(function)
        match function:
            case partial():
                given = [*function.args, *function.keywords.items()]
                return f"partial {self.function(function.func)} {self._held(given)}"
            case MethodType():
                owner = function.__self__
                of = owner.__name__ if isinstance(owner, type) else told_settings(owner)
                return f"{of}: {self.function(function.__func__)}"
            case FunctionType():
                return self._plain(function)
            case type():
                return f"class {function.__qualname__}"
            case _:
                call = type(function).__call__
                if not isinstance(call, FunctionType):
                    return _as_said(function)
                more = "" if all(_is_fixed(one) for _, one in _set_in(function)) else UNTOLD
                return f"{told_settings(function)}{more}: {self.function(call)}"

    def _plain(self, function: FunctionType) -> str:
        code = function.__code__
        cells = [_content(cell) for cell in function.__closure__ or ()]
        given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        known = function.__globals__
        around = [known[name] for name in sorted(_names(code)) if name in known]
        mine = [self._global(one, function.__module__) for one in around]
        text = f"{function.__qualname__}:{_code(code, function.__doc__)}"
        return f"{text}{self._held([*given, *cells])}{mine or ''}"

    def _global(self, value: Any, module: str) -> str:
        """Of other modules the names do."""
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, FunctionType) and value.__module__ != module:
            return f"{value.__module__}.{value.__qualname__}"
        return self._one(value)

    def _held(self, values: Iterable[Any]) -> str:
        said = [self._one(one) for one in values]
        return f"[{', '.join(said)}]" if said else ""

    def _one(self, value: Any) -> str:
        if _is_fixed(value):
            return _value(value)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
            return f"{value[0]}={self._one(value[1])}"  # of keywords
        if isinstance(value, FunctionType | MethodType | partial):
            return self.function(value)
        if isinstance(value, type) or callable(value):
            return getattr(value, "__qualname__", None) or f"{UNTOLD}{type(value).__qualname__}"
        return f"{UNTOLD}{type(value).__qualname__}"


def _names(code: CodeType) -> set[str]:
    """The names that code uses, of globals and attributes."""
    inside = (one for one in code.co_consts if isinstance(one, CodeType))
    return {*code.co_names}.union(*map(_names, inside))


def _code(code: CodeType, doc: str | None = None) -> str:
    consts = (
        code.co_consts[1:] if doc is not None and code.co_consts[:1] == (doc,) else code.co_consts
    )
    told = [_code(one) if isinstance(one, CodeType) else _value(one) for one in consts]
    return f"{code.co_code.hex()} {' '.join(code.co_names)} ({', '.join(told)})"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is set later
        return None


def _is_fixed(value: Any) -> bool:
    """Can it not change?"""
    if isinstance(value, tuple | frozenset):
        return all(_is_fixed(one) for one in value)
    return isinstance(value, (*_SCALARS, Enum))


def _value(value: Any) -> str:  # noqa: PLR0911 - one for each kind
    match value:
        case Enum():
            return f"{type(value).__qualname__}.{value.name}"
        case set() | frozenset():
            return f"{{{', '.join(sorted(map(_value, value)))}}}"
        case tuple() | list():
            return f"({', '.join(map(_value, value))})"
        case dict():
            return f"{{{', '.join(f'{_value(k)}: {_value(one)}' for k, one in value.items())}}}"
        case type():
            return f"class {value.__qualname__}"
        case FunctionType() | MethodType():
            return f"function {value.__qualname__}"
        case BaseModel():
            return _fields_of(value, type(value).model_fields)
        case _ if is_dataclass(value):
            return _fields_of(value, [field.name for field in fields(value) if field.repr])
        case _:
            return _as_said(value)


def _as_said(value: Any) -> str:
    """Its repr; one with an address says not what it is."""
    said = repr(value)
    return said if " at 0x" not in said else UNTOLD + _ADDRESS.sub("", said)


def _fields_of(value: Any, names: Iterable[str]) -> str:
    pairs = [f"{name}={_value(getattr(value, name))}" for name in names]
    return f"{type(value).__qualname__}({', '.join(pairs)})"
