"""Whether what is written to a topic reads as what it is.

Bytes leave as the text that they are. A model that reads the text of bytes as base64 or hex would
read others, and say nothing.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from streamflow.errors import TopologyError


def check_read_back(where: str, model: type[BaseModel], topics: tuple[str, ...]) -> None:
    """Raises `TopologyError` where rows of the model go to topics and are read as other bytes."""
    found = _other_bytes(model) if topics else None
    if found is not None:
        name, how = found
        raise TopologyError(
            f"{where}: bytes go to the topic {topics[0]!r} as the text that they are, and {name} is"
            f" read as {how}: leave val_json_bytes out of its model, or make a str of it"
        )


def _other_bytes(model: type[BaseModel]) -> tuple[str, str] | None:
    """A field of bytes that is read otherwise, with its model's name, and how."""
    how = str(model.model_config.get("val_json_bytes", "utf8"))
    for name, info in model.model_fields.items():
        kinds = set(_kinds(info.annotation))
        if bytes in kinds and how != "utf8":
            return f"{model.__name__}.{name}", how
        for kind in kinds:
            inner = _other_bytes(kind) if _is_model(kind) else None
            if inner is not None:
                return inner
    return None


def _kinds(annotation: Any) -> list[Any]:
    """The types that an annotation is made of."""
    inner = [kind for one in get_args(annotation) for kind in _kinds(one)]
    return inner or [annotation] if isinstance(annotation, type) else inner


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
