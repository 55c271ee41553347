"""Models and devices as the performance model sees them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from blendserve import _core
from blendserve._core import DeviceSpec
from blendserve.errors import ModelError, UserError
from blendserve.models.architecture import read_architecture

__all__ = ["DeviceSpec", "ModelSpec", "device_fields", "read_device", "with_kv_memory", "with_tp"]

_DEVICE_FIELDS = (
    "name",
    "flops_4_byte",
    "flops_2_byte",
    "flops_1_byte",
    "bandwidth",
    "memory_bytes",
    "tp",
    "beta",
    "num_nano_batches",
    "token_tile",
    "kv_memory_bytes",
)
_REQUIRED_DEVICE_FIELDS = ("flops_4_byte", "flops_2_byte", "flops_1_byte", "bandwidth", "memory_bytes")


class ModelSpec(_core.ModelSpec):
    """What the performance model needs to know of a model: by name, from a model folder, or from figures."""

    @classmethod
    def named(
        cls, name: str, *, weight_bytes: int = 2, kv_bytes: int | None = None, cascade_attention: bool = False
    ) -> ModelSpec:
        """A well-known model with the parameters its authors publish; an unknown name is a ValueError that lists them.

        Elements of the weights take `weight_bytes`: 4 (fp32), 2 (fp16, bf16) or 1 (fp8, int8); those of the KV cache
        `kv_bytes` (None: as many).
        """
        return cls(
            _core.ModelSpec.named(name),
            weight_bytes=weight_bytes,
            kv_bytes=weight_bytes if kv_bytes is None else kv_bytes,
            cascade_attention=cascade_attention,
        )

    @classmethod
    def from_hf(
        cls,
        path: str | os.PathLike[str],
        *,
        weight_bytes: int = 2,
        kv_bytes: int | None = None,
        cascade_attention: bool = False,
    ) -> ModelSpec:
        """A model folder, or its config.json, in the Hugging Face format; the parameters are counted from its sizes.

        The name is the folder's; element sizes are as in `named`, whatever the folder stores. Raises `ModelError` for a
        config.json that is missing or broken, and names a key that it lacks.
        """
        config = Path(path)
        if config.is_dir():
            config = config / "config.json"
        architecture = read_architecture(config)
        try:
            spec = architecture.spec(config.resolve().parent.name)
        except ValueError as error:
            raise ModelError(f"{config}: {error}") from error
        return cls(
            spec,
            weight_bytes=weight_bytes,
            kv_bytes=weight_bytes if kv_bytes is None else kv_bytes,
            cascade_attention=cascade_attention,
        )


def device_fields(device: DeviceSpec) -> dict[str, Any]:
    """All fields, as `DeviceSpec(**fields)` takes them."""
    return {name: getattr(device, name) for name in _DEVICE_FIELDS}


def with_kv_memory(device: DeviceSpec, kv_memory_bytes: float) -> DeviceSpec:
    """The device with so many bytes of KV cache, of all `tp` devices."""
    return DeviceSpec(**{**device_fields(device), "kv_memory_bytes": float(kv_memory_bytes)})


def with_tp(device: DeviceSpec, tp: int) -> DeviceSpec:
    return DeviceSpec(**{**device_fields(device), "tp": tp})


def read_device(path: str | os.PathLike[str]) -> DeviceSpec:
    """The device of a JSON file: an object with the fields of `DeviceSpec`; `name` is the file's unless given.

    Raises `UserError` for a file that cannot be read, a field that is unknown or missing, and a value that is none.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"device file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"device file {path} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UserError(f"device file {path} holds no JSON object; give the fields {', '.join(_DEVICE_FIELDS)}")
    unknown = set(fields) - set(_DEVICE_FIELDS)
    if unknown:
        raise UserError(
            f"device file {path} has {', '.join(sorted(unknown))}, which no device has; its fields are "
            f"{', '.join(_DEVICE_FIELDS)}"
        )
    missing = [name for name in _REQUIRED_DEVICE_FIELDS if name not in fields]
    if missing:
        raise UserError(f"device file {path} lacks {', '.join(missing)}")
    try:
        return DeviceSpec(**{"name": Path(path).stem, **fields})
    except (TypeError, ValueError) as error:
        raise UserError(f"device file {path}: {str(error).splitlines()[0]}") from None
