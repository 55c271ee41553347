"""The fields of a GGUF file; every complaint names the file and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from blendserve.errors import ModelError

__all__ = ["GgufFile"]


class GgufFile:
    """Memory-mapped. `architecture` is what llama.cpp calls it, the prefix of the model's own fields."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (ValueError, IndexError) as error:
            raise ModelError(f"{path} is not a whole GGUF file ({error}); fetch it again") from error
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from error
        self.architecture: str = self.value("general.architecture")

    @property
    def tensors(self) -> list[Any]:
        return self._reader.tensors

    def get(self, key: str, default: Any = None) -> Any:
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    def value(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ModelError(f"{self.path}: the GGUF file has no field {key!r}")
        return value

    def of_model(self, key: str, default: Any = None) -> Any:
        """The model's field `key`, without which the file is broken unless there is a default."""
        key = f"{self.architecture}.{key}"
        value = self.value(key) if default is None else self.get(key, default)
        return _shortest(value) if isinstance(value, float) else value


def _shortest(value: float) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(value)))
