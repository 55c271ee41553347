"""Checks of JSON values. A refusal is a `RequestError` that names the path, the value and the rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve._core import token_array
from blendserve.errors import RequestError

__all__ = ["MAX_INT32", "JsonObject", "not_supported", "refused", "shown", "token_ids", "unknown_field"]

MAX_INT32 = 2**31 - 1

_SHOWN_CHARS = 40


def shown(value: Any) -> str:
    """The value as a user would recognise it in the file, short whatever its size."""
    match value:
        case str():
            cut = value[:_SHOWN_CHARS]
            return json.dumps(cut, ensure_ascii=False) + ("…" if len(value) > len(cut) else "")
        case list():
            return f"a list of {len(value)} items" if value else "an empty list"
        case dict():
            return "an object"
        case _:
            return json.dumps(value)


def refused(path: str, value: Any, rule: str) -> RequestError:
    return RequestError(f"{path} is {shown(value)}; it must be {rule}", param=path)


def not_supported(path: str, value: Any, remedy: str) -> RequestError:
    return RequestError(f"{path} is {shown(value)}, which is not supported; {remedy}", code="unsupported", param=path)


def unknown_field(parent: str, name: str, known: Iterable[str]) -> RequestError:
    """`parent` is the path of the object that holds the field, empty for the row itself."""
    name = name[:_SHOWN_CHARS]
    near = get_close_matches(name, known, n=1)
    path = f"{parent}.{name}" if parent else name
    remedy = f'did you mean "{near[0]}"?' if near else "remove it"
    return RequestError(f"unknown field {path}; {remedy}", param=path)


def token_ids(path: str, values: list[Any]) -> NDArray[np.int32]:
    ids = token_array(values)
    if ids is not None:
        return ids
    bad = next(i for i, value in enumerate(values) if type(value) is not int or not 0 <= value <= MAX_INT32)
    raise refused(f"{path}[{bad}]", values[bad], f"a token id, an integer between 0 and {MAX_INT32}")


@dataclass(slots=True)
class JsonObject:
    """Reads the fields of one JSON object; a field that is absent or null reads as None.

    path: where the object stands in the row, as in "body.messages[2]"; empty for the row itself.
    """

    path: str
    fields: Mapping[str, Any]

    @classmethod
    def check(cls, path: str, value: Any) -> JsonObject:
        if not isinstance(value, dict):
            raise refused(path, value, "an object")
        return cls(path, value)

    def path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        return self.fields.get(name)

    def required(self, name: str, rule: str) -> Any:
        value = self.get(name)
        if value is None:
            path = self.path_of(name)
            raise RequestError(
                f"{path} is {'null' if name in self.fields else 'missing'}; it must be {rule}", param=path
            )
        return value

    def string(self, name: str) -> str | None:
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value
        raise refused(self.path_of(name), value, "a string")

    def boolean(self, name: str) -> bool | None:
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise refused(self.path_of(name), value, "true or false")

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.get(name)
        if value is None or (type(value) is int and low <= value <= high):
            return value
        raise refused(self.path_of(name), value, f"an integer between {low} and {high}")

    def number(self, name: str, low: float, high: float, *, above_low: bool = False) -> float | None:
        """A number in [low, high], or in (low, high] with `above_low`."""
        value = self.get(name)
        if value is None:
            return None
        if type(value) in (int, float) and low <= value <= high and not (above_low and value == low):
            return float(value)
        rule = f"above {low} and at most {high}" if above_low else f"between {low} and {high}"
        raise refused(self.path_of(name), value, f"a number {rule}")

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        value = self.get(name)
        if value is None or isinstance(value, dict):
            return value
        raise refused(self.path_of(name), value, "an object")
