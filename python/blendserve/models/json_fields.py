"""One JSON object from a file of a model folder; every complaint names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendserve.errors import ModelError

__all__ = ["JsonFields"]


class JsonFields:
    """Typed access to the keys of a JSON object. A key whose value is null counts as missing, and one without a default
    must be there.
    """

    def __init__(self, source: str, values: Mapping[str, Any]) -> None:
        self.source = source
        self.values = values

    @classmethod
    def read(cls, path: Path) -> JsonFields:
        """Raises `ModelError` when the file cannot be read or does not hold a JSON object."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise ModelError(f"{path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModelError(f"{path} must hold a JSON object, not {type(values).__name__}")
        return cls(str(path), values)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def require(self, key: str) -> Any:
        if key not in self:
            raise ModelError(f"{self.source} has no `{key}`")
        return self.values[key]

    def is_null(self, key: str) -> bool:
        """Whether the file says null, for keys where that means none and silence means the family's default."""
        return key in self.values and self.values[key] is None

    def positive_int(self, key: str, *, default: int | None = None) -> int:
        if default is not None and key not in self:
            return default
        value = self.require(key)
        if type(value) is not int or value < 1:
            raise self.mistyped(key, "a positive integer")
        return value

    def count(self, key: str, *, default: int) -> int:
        """Zero is one too."""
        value = self.values[key] if key in self else default
        if type(value) is not int or value < 0:
            raise self.mistyped(key, "a number of 0 or more")
        return value

    def positive_number(self, key: str, *, default: float | None = None) -> float:
        if default is not None and key not in self:
            return default
        value = self.require(key)
        if type(value) not in (int, float) or not value > 0:
            raise self.mistyped(key, "a positive number")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values[key] if key in self else default
        if type(value) is not bool:
            raise self.mistyped(key, "true or false")
        return value

    def text(self, key: str) -> str:
        value = self.require(key)
        if not isinstance(value, str):
            raise self.mistyped(key, "a string")
        return value

    def child(self, key: str) -> JsonFields:
        value = self.require(key)
        if not isinstance(value, dict):
            raise self.mistyped(key, "an object")
        return JsonFields(f"{self.source}: {key}", value)

    def optional_child(self, key: str) -> JsonFields:
        """The object, or an empty one where there is none."""
        return self.child(key) if key in self else JsonFields(self.source, {})

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One id or a list of ids; missing: none."""
        value = self.values[key] if key in self else []
        ids = value if isinstance(value, list) else [value]
        if not all(type(token) is int and token >= 0 for token in ids):
            raise self.mistyped(key, "a token id or a list of token ids")
        return tuple(ids)

    def mistyped(self, key: str, expected: str) -> ModelError:
        return ModelError(f"{self.source}: `{key}` must be {expected}, not {self.values[key]!r}")
