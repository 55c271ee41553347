"""How an engine is set up: what a user asks for. `blendserve.resources.resolve` decides what is left open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from blendserve._core import DeviceSpec
from blendserve.errors import UserError

__all__ = [
    "DEFAULT_WINDOW",
    "PLANNED_SCHEDULES",
    "Attention",
    "Device",
    "Dtype",
    "EngineConfig",
    "KvDtype",
    "Schedule",
    "WeightDtype",
    "attention_names",
    "kv_element_bytes",
    "parse_size",
]

Schedule = Literal["blend", "paper", "dfs", "random", "fcfs"]
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
WeightDtype = Literal["auto", "float32", "bfloat16", "int8"]
KvDtype = Literal["auto", "float32", "bfloat16", "float16", "fp8_e4m3"]
Attention = Literal["auto", "flashinfer", "native_cpu", "native_cuda", "torch_ref"]
"""The backends of `blendserve.attention`."""


DEFAULT_WINDOW = 100_000
"""Rows of a job that are held in memory at a time."""

PLANNED_SCHEDULES: tuple[Schedule, ...] = ("blend", "paper")

_KV_ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8_e4m3": 1}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def attention_names() -> tuple[str, ...]:
    """The backends that `attention` may name besides "auto"."""
    return tuple(name for name in get_args(Attention) if name != "auto")


def parse_size(size: int | str) -> int:
    """Bytes of a size such as 1073741824, "4GiB", "500MB" or "1.5g"."""
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?\s*", size.lower())
        if match is None:
            raise UserError(f'size "{size}" is not understood; write bytes or a number with a unit, such as 4GiB')
        size = int(Fraction(match[1]) * _UNITS[match[2] or ""])
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"size {size!r} must be a positive number of bytes, or a string such as 4GiB")
    return size


def kv_element_bytes(kv_dtype: str) -> int | None:
    """Bytes of one number of a cached key or value; None for auto."""
    if kv_dtype not in get_args(KvDtype):
        raise UserError(f"kv_dtype is {kv_dtype!r}; it must be one of {', '.join(get_args(KvDtype))}")
    return _KV_ELEMENT_BYTES.get(kv_dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Every field is checked on construction; a bad value raises `UserError`. None and "auto" are decided by `resolve`.

    schedule: the order requests are admitted in: fcfs (as given), random (by seed), dfs (along shared prefixes), or by
        a plan of the job: blend (docs/blend.md), paper (BlendServe as published).
    device, dtype: where the model runs, and in what; on a CPU auto is float32.
    weight_dtype: how the CPU engine keeps the matrices of the layers, which it computes with in float32; auto is dtype.
    kv_memory: bytes of KV cache, or a string such as "4GiB".
    kv_dtype: in what the KV cache keeps keys and values; auto is dtype. docs/models.md says which there are where.
    max_batch_tokens: tokens computed in one step, at most.
    max_batch_requests: requests running at once, at most; not above max_batch_tokens.
    attention: the backend, by its name in `blendserve.attention`.
    block_size: tokens in one KV block.
    seed: the job's seed, for requests without their own.
    async_scheduling: plan the next step while one runs; a stop that the model chose then takes effect a step later.
    stop_runaways: end answers that repeat themselves, also of requests without a limit of their own (256 tokens then).
    hardware: what planned schedules take the device for: a name, a .json file that `blendserve profile` wrote, or a
        spec; None is the data sheet of `device`.
    deterministic_schedule: pace steps by `hardware` alone, and not by what they turn out to take.
    schedule_log: a file to write: what measured times changed in the pace of the steps.
    replay_schedule: a file that was written so: the same changes after the same steps, in place of measured ones.
    """

    schedule: Schedule = "blend"
    device: Device = "auto"
    dtype: Dtype = "auto"
    weight_dtype: WeightDtype = "auto"
    kv_memory: int | str | None = None
    kv_dtype: KvDtype = "auto"
    max_batch_tokens: int | None = None
    max_batch_requests: int | None = None
    attention: Attention = "auto"
    block_size: int = 16
    seed: int = 0
    async_scheduling: bool = False
    stop_runaways: bool = False
    hardware: str | Path | DeviceSpec | None = None
    deterministic_schedule: bool = False
    schedule_log: str | Path | None = None
    replay_schedule: str | Path | None = None

    def __post_init__(self) -> None:
        choices_of = {
            "schedule": Schedule,
            "device": Device,
            "dtype": Dtype,
            "weight_dtype": WeightDtype,
            "kv_dtype": KvDtype,
            "attention": Attention,
        }
        for name, choices in choices_of.items():
            value = getattr(self, name)
            if value not in get_args(choices):
                raise UserError(f"{name} is {value!r}; it must be one of {', '.join(get_args(choices))}")
        for name in ("max_batch_tokens", "max_batch_requests"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        _require_positive("block_size", self.block_size)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"seed is {self.seed!r}; it must be an integer")
        for name in ("async_scheduling", "stop_runaways", "deterministic_schedule"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be True or False")
        if not isinstance(self.hardware, str | Path | DeviceSpec | None):
            raise UserError(f"hardware is {self.hardware!r}; it must be a device's name, a .json file or a DeviceSpec")
        for name in ("schedule_log", "replay_schedule"):
            if not isinstance(getattr(self, name), str | Path | None):
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be the path of a file")
        if self.deterministic_schedule and self.replay_schedule is not None:
            raise UserError(
                f"replay_schedule {self.replay_schedule} brings times that were measured, which deterministic_schedule "
                "leaves out; choose one of the two"
            )
        if self.kv_memory is not None:
            parse_size(self.kv_memory)
        if None not in (self.max_batch_tokens, self.max_batch_requests):
            self._check_batch(self.max_batch_tokens, self.max_batch_requests)

    def _check_batch(self, max_batch_tokens: int | None, max_batch_requests: int | None) -> None:
        if (max_batch_requests or 0) > (max_batch_tokens or 0):
            raise UserError(
                f"max_batch_requests is {max_batch_requests}, more than max_batch_tokens ({max_batch_tokens}); every "
                "running request computes a token a step: raise max_batch_tokens or lower max_batch_requests"
            )


def _require_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{name} is {value!r}; it must be a positive integer")
