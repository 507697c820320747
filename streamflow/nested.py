"""Fields that hold models, by themselves or in lists and dicts: structs and maps in columns.

A nested model is validated as part of its record, through a `TypedDict` of its own fields, so that
no object is made of it. Where that would not be the same, because it has validators or defaults
that are models, records go through the model, and what it holds is taken apart here.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, NotRequired, TypeGuard, Union, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
#: What a model's configuration says of its input, and not of what it holds.
_OF_INPUT = ("alias_generator", "extra")


def is_nested_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Is it a model with fields? A `RootModel` is a value in the form of one."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return is_model and not issubclass(annotation, RootModel)


def models_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and all that are nested in it, each once."""
    found = [model]
    for one in found:  # which grows meanwhile
        inside = (_in_annotation(info.annotation) for info in one.model_fields.values())
        found += [each for each in dict.fromkeys(chain.from_iterable(inside)) if each not in found]
    return found


def can_be_typed(model: type[BaseModel]) -> bool:
    """Do the fields alone say what the model accepts, and make no models of what is left out?"""
    own = model.__pydantic_decorators__
    decorators = (
        own.validators,
        own.field_validators,
        own.root_validators,
        own.model_validators,
        own.computed_fields,
    )
    made = model.__pydantic_custom_init__ or model.model_post_init is not BaseModel.model_post_init
    makes_models = any(map(_makes_models, model.model_fields.values()))
    return not (any(decorators) or made or makes_models)


def typed_dict(model: type[BaseModel]) -> Any:
    """A `TypedDict` of the model's own fields, as is each model in them."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        annotation = Annotated[_typed(info.annotation), info]
        fields[name] = annotation if info.is_required() else NotRequired[annotation]
    row: Any = TypedDict(model.__name__, fields)  # type: ignore[operator]
    row.__pydantic_config__ = model.model_config  # without one, that of the record would hold
    return row


def held_dict(model: type[BaseModel]) -> Any:
    """A `TypedDict` of what an instance of the model holds: each field under its own name, with its
    type and limits, and without functions that validate. Those have done their work when the
    instance was made, and many would not do it twice.
    """
    fields: dict[str, Any] = {
        name: _with_limits(_held(info.annotation), info.metadata)
        for name, info in model.model_fields.items()
    }
    row: Any = TypedDict(model.__name__, fields)  # type: ignore[operator]
    kept = {name: value for name, value in model.model_config.items() if name not in _OF_INPUT}
    row.__pydantic_config__ = kept
    return row


def taken_apart(value: Any) -> Any:
    """What a column holds of a field's value: models are dicts of their fields."""
    if isinstance(value, BaseModel):
        return {name: taken_apart(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, list):
        return [taken_apart(one) for one in cast("list[Any]", value)]
    if isinstance(value, dict):
        held = cast("dict[str, Any]", value)
        return {name: taken_apart(one) for name, one in held.items()}
    return value


def _in_annotation(annotation: Any) -> Iterator[type[BaseModel]]:
    if is_nested_model(annotation):
        yield annotation
    for one in get_args(annotation):
        yield from _in_annotation(one)


def _makes_models(info: FieldInfo) -> bool:
    if info.is_required() or not list(_in_annotation(info.annotation)):
        return False
    return info.default_factory is not None or info.default not in (None, [], {})


def _held(annotation: Any) -> Any:
    if annotation is int:
        return Annotated[int, Ge(INT64_MIN), Le(INT64_MAX)]
    if is_nested_model(annotation):
        return held_dict(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_limits(_held(args[0]), args[1:])
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_held, args))]  # noqa: UP007
    if origin is list:
        return list[_held(args[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[args[0], _held(args[1])]  # type: ignore[misc,valid-type]
    return annotation


def _with_limits(annotation: Any, metadata: Sequence[Any]) -> Any:
    limits = [one for one in metadata if not hasattr(one, "__get_pydantic_core_schema__")]
    return Annotated[(annotation, *limits)] if limits else annotation  # type: ignore[valid-type]


def _typed(annotation: Any) -> Any:
    """The same annotation, of `TypedDict`s, its integers limited to what a 64-bit column holds."""
    if annotation is int:
        return Annotated[int, Ge(INT64_MIN), Le(INT64_MAX)]
    if is_nested_model(annotation):
        return typed_dict(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated and list(_in_annotation(args[0])):
        return Annotated[(_typed(args[0]), *args[1:])]  # type: ignore[valid-type]
    if origin in (Union, types.UnionType):
        return Union[tuple(_typed(arg) for arg in args)]  # noqa: UP007
    if origin is list:
        return list[_typed(args[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[args[0], _typed(args[1])]  # type: ignore[misc,valid-type]
    return annotation
