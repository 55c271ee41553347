"""Devices in files, and copies of them with another field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from blendserve._core import DeviceSpec, MeasuredRates
from blendserve.errors import UserError

__all__ = ["device_fields", "device_of", "element_bytes", "named_device", "read_device", "with_kv_memory", "with_tp"]

_NUMBERS = (
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
_FIELDS = ("name", *_NUMBERS, "measured")
_REQUIRED = ("flops_4_byte", "flops_2_byte", "flops_1_byte", "bandwidth", "memory_bytes")
_INTEGERS = ("tp", "num_nano_batches", "token_tile", "element_bytes")
_CURVES = ("layers", "head")
_RATES = ("prefill_attention_flops", "decode_attention_bandwidth")
_MEASURED_FIELDS = ("element_bytes", *_CURVES, *_RATES, "step_s")
_MEASURED_REQUIRED = _MEASURED_FIELDS[:-1]
_MAKE_ONE = "`blendserve profile` makes one of this machine"


def device_fields(device: DeviceSpec) -> dict[str, Any]:
    """All fields as JSON has them; `device_of` takes them."""
    fields: dict[str, Any] = {name: getattr(device, name) for name in _FIELDS}
    if device.measured is not None:
        fields["measured"] = {name: getattr(device.measured, name) for name in _MEASURED_FIELDS}
    return fields


def device_of(fields: dict[str, Any]) -> DeviceSpec:
    """Raises ValueError that names a field which is unknown, missing or out of its range."""
    _check(fields, "", _FIELDS, _REQUIRED)
    measured = fields.get("measured")
    if measured is None:
        return DeviceSpec(**fields)
    if not isinstance(measured, dict):
        raise ValueError(f"measured is {measured!r}; it must be an object with {', '.join(_MEASURED_FIELDS)}")
    _check(measured, "measured.", _MEASURED_FIELDS, _MEASURED_REQUIRED)
    return DeviceSpec(**{**fields, "measured": MeasuredRates(**measured)})


def named_device(name: str, tp: int | None = None) -> DeviceSpec:
    """A known device, or that of a JSON file; `tp` None is what the file says, else 1.

    Raises `UserError` that lists the known devices, or says what is wrong with the file.
    """
    if name.endswith(".json"):
        device = read_device(name)
        return device if tp is None else with_tp(device, tp)
    try:
        return DeviceSpec.named(name, tp=tp or 1)
    except ValueError as error:
        raise UserError(f"hardware {name}: {error}, in a .json file") from None


def read_device(path: str | os.PathLike[str]) -> DeviceSpec:
    """The device of a JSON file: an object with the fields of `DeviceSpec`; `name` is the file's unless given.

    Raises `UserError` for a file that cannot be read, and for what `device_of` refuses.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"device file {path} cannot be read: {error.strerror}; {_MAKE_ONE}") from None
    except ValueError as error:
        raise UserError(f"device file {path} is no JSON: {error}; {_MAKE_ONE}") from None
    if not isinstance(fields, dict):
        raise UserError(f"device file {path} holds no JSON object; give the fields {', '.join(_FIELDS)}")
    try:
        return device_of({"name": Path(path).stem, **fields})
    except ValueError as error:
        raise UserError(f"device file {path}: {error}") from None


def element_bytes(device: DeviceSpec) -> int:
    """Of a model's weights and KV cache on this device: as measured, or 2."""
    return 2 if device.measured is None else device.measured.element_bytes


def with_kv_memory(device: DeviceSpec, kv_memory_bytes: float) -> DeviceSpec:
    """The device with so many bytes of KV cache, of all `tp` devices."""
    return device_of({**device_fields(device), "kv_memory_bytes": float(kv_memory_bytes)})


def with_tp(device: DeviceSpec, tp: int) -> DeviceSpec:
    return device_of({**device_fields(device), "tp": tp})


def _check(fields: dict[str, Any], prefix: str, known: tuple[str, ...], required: tuple[str, ...]) -> None:
    """What is there, and of what kind; the ranges are C++'s."""
    for name in required:
        if name not in fields:
            raise ValueError(f"{prefix}{name} is missing; give it, or measure the device with `blendserve profile`")
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{prefix}{name} is no field of a device; the fields are {', '.join(known)}")
        if not _fits(name, value):
            raise ValueError(f"{prefix}{name} is {value!r}; it must be {_kind(name)}")


def _fits(name: str, value: Any) -> bool:
    if name in ("name", "measured"):
        return name == "measured" or isinstance(value, str)
    if name == "kv_memory_bytes" and value is None:
        return True
    if name in _CURVES:
        return isinstance(value, list) and all(_is_point(point) for point in value)
    return _is_number(value) and (name not in _INTEGERS or isinstance(value, int))


def _is_point(point: Any) -> bool:
    return isinstance(point, list | tuple) and len(point) == 2 and all(_is_number(value) for value in point)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(name: str) -> str:
    if name == "name":
        return "a text"
    if name in _CURVES:
        return "a list of [rows, FLOP/s]"
    return "an integer" if name in _INTEGERS else "a number"
