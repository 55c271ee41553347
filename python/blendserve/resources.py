"""What the machine has, and what an engine takes of it: the one place where "auto" is decided."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from blendserve.config import EngineConfig, Schedule, WeightDtype, parse_size
from blendserve.devices import named_device
from blendserve.errors import UserError
from blendserve.models import ModelShape
from blendserve.specs import DeviceSpec

__all__ = ["ResolvedConfig", "device_spec", "kv_bytes_per_token", "resolve"]

_CPU_KV_SHARE = 0.25  # of free memory
_GPU_SHARE, _GPU_RESERVE = 0.9, 2 * 10**9  # the KV capacity rule of docs/metrics.md
_PROMPT_LOGITS_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}  # of a step's logits that score prompts
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_KV_DTYPES = {**_DTYPES, "fp8_e4m3": torch.float8_e4m3fn}
# GPUs as their driver calls them, and as the performance model does.
_GPUS = {
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "NVIDIA A100 80GB PCIe": "a100-pcie-80gb",
    "NVIDIA H100 80GB HBM3": "h100-sxm-80gb",
    "NVIDIA H100 PCIe": "h100-pcie-80gb",
    "NVIDIA H200": "h200-sxm-141gb",
    "NVIDIA B200": "b200-sxm-180gb",
    "NVIDIA L40S": "l40s-48gb",
    "NVIDIA L4": "l4-24gb",
    "NVIDIA GeForce RTX 4090": "rtx-4090-24gb",
    "NVIDIA GeForce RTX 3090": "rtx-3090-24gb",
}
_OTHER_GPU = "a100-sxm-80gb"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """An `EngineConfig` with nothing left open. `num_blocks` KV blocks of `block_size` tokens; `max_prompt_logits` rows
    of a step, at most, score prompts.
    """

    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    weight_dtype: WeightDtype
    kv_dtype: torch.dtype
    attention: str
    num_blocks: int
    block_size: int
    max_batch_tokens: int
    max_batch_requests: int
    max_prompt_logits: int
    seed: int
    async_scheduling: bool
    stop_runaways: bool
    hardware: DeviceSpec

    @property
    def kv_capacity(self) -> int:
        """Tokens the KV cache holds."""
        return self.num_blocks * self.block_size

    @property
    def kv_dtype_name(self) -> str:
        """As `EngineConfig` calls it."""
        return _name(self.kv_dtype)


def kv_bytes_per_token(model: ModelShape, kv_dtype: torch.dtype) -> int:
    """Bytes of K and V that one token takes in all layers."""
    return 2 * model.num_layers * model.num_kv_heads * model.head_dim * kv_dtype.itemsize


def resolve(config: EngineConfig, model: ModelShape, *, kv_tokens_needed: int | None = None) -> ResolvedConfig:
    """Decide every None and "auto". `kv_tokens_needed` caps the automatic KV cache at what a known job can use.

    Raises:
        UserError: the device is not there, its attention has no cache in kv_dtype, or kv_memory holds no block or is
            more than there is.
    """
    device = _resolve_device(config)
    dtype = _resolve_dtype(config, device)
    attention = f"native_{device.type}" if config.attention == "auto" else config.attention
    kv_dtype = _resolve_kv_dtype(config, dtype, attention)
    block_bytes = config.block_size * kv_bytes_per_token(model, kv_dtype)
    if config.kv_memory is not None:
        kv_bytes = parse_size(config.kv_memory)
        total_bytes = _total_bytes(device)
        if kv_bytes > total_bytes:
            raise UserError(
                f"kv_memory {config.kv_memory} is more than the {total_bytes} bytes of memory on {device}; give less"
            )
        num_blocks = kv_bytes // block_bytes
        if num_blocks < 1:
            raise UserError(
                f"kv_memory {config.kv_memory} is less than one block of {config.block_size} tokens, which takes "
                f"{block_bytes} bytes in this model; give at least that"
            )
    else:
        num_blocks = max(1, _free_bytes(device, model, dtype) // block_bytes)
        if kv_tokens_needed is not None:
            num_blocks = min(num_blocks, _with_watermark(-(-kv_tokens_needed // config.block_size)))
    max_batch_tokens, max_batch_requests = _resolve_batch(config, device)
    return ResolvedConfig(
        schedule=config.schedule,
        device=device,
        dtype=dtype,
        weight_dtype=config.weight_dtype,
        kv_dtype=kv_dtype,
        attention=attention,
        num_blocks=num_blocks,
        block_size=config.block_size,
        max_batch_tokens=max_batch_tokens,
        max_batch_requests=max_batch_requests,
        max_prompt_logits=max(1, _PROMPT_LOGITS_BYTES[device.type] // (model.vocab_size * torch.float32.itemsize)),
        seed=config.seed,
        async_scheduling=config.async_scheduling,
        stop_runaways=config.stop_runaways,
        hardware=_resolve_hardware(config, device),
    )


def device_spec(device: torch.device) -> DeviceSpec:
    """What the performance model knows of a device; of a GPU that it has no figures of, an A100's."""
    if device.type == "cpu":
        return DeviceSpec.named("cpu")
    return DeviceSpec.named(_GPUS.get(torch.cuda.get_device_name(device), _OTHER_GPU))


def _resolve_hardware(config: EngineConfig, device: torch.device) -> DeviceSpec:
    if config.hardware is None:
        return device_spec(device)
    return config.hardware if isinstance(config.hardware, DeviceSpec) else named_device(str(config.hardware))


def _with_watermark(num_blocks: int) -> int:
    """So many that `num_blocks` are left beside the 1 % that admission keeps free for running requests."""
    return num_blocks + num_blocks // 99 + 1


def _resolve_device(config: EngineConfig) -> torch.device:
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise UserError('device is "cuda", but no NVIDIA GPU is usable here; choose --device cpu')
    return torch.device("cuda" if config.device == "cuda" or (config.device == "auto" and has_cuda) else "cpu")


def _resolve_dtype(config: EngineConfig, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if config.dtype == "float16" and device.type == "cpu":
        raise UserError('dtype "float16" runs on a GPU only; choose float32 or bfloat16')
    return _DTYPES[config.dtype]


def _resolve_kv_dtype(config: EngineConfig, dtype: torch.dtype, attention: str) -> torch.dtype:
    if config.kv_dtype == "auto":
        return dtype
    kv_dtype = _KV_DTYPES[config.kv_dtype]
    kept = {
        "native_cpu": (torch.float32, torch.bfloat16),
        "native_cuda": (dtype, torch.float8_e4m3fn) if dtype.itemsize == 2 else (dtype,),
        "flashinfer": (dtype,),
    }
    if attention in kept and kv_dtype not in kept[attention]:
        names = " or ".join(map(_name, kept[attention]))
        raise UserError(
            f"kv_dtype is {config.kv_dtype!r}, but {attention} attention of a model in {_name(dtype)} keeps {names}; "
            "choose one of these, or the attention backend torch_ref"
        )
    return kv_dtype


def _name(dtype: torch.dtype) -> str:
    return next(name for name, each in _KV_DTYPES.items() if each == dtype)


def _resolve_batch(config: EngineConfig, device: torch.device) -> tuple[int, int]:
    default_tokens, default_requests = (512, 256) if device.type == "cpu" else (2048, 1024)
    max_batch_tokens = config.max_batch_tokens or max(default_tokens, config.max_batch_requests or 0)
    max_batch_requests = config.max_batch_requests or min(default_requests, max_batch_tokens)
    return max_batch_tokens, max_batch_requests


def _free_bytes(device: torch.device, model: ModelShape, dtype: torch.dtype) -> int:
    if device.type == "cpu":
        return int(_CPU_KV_SHARE * psutil.virtual_memory().available)
    return int(_GPU_SHARE * _total_bytes(device)) - _GPU_RESERVE - model.num_parameters * dtype.itemsize


def _total_bytes(device: torch.device) -> int:
    if device.type == "cpu":
        return int(psutil.virtual_memory().total)
    return int(torch.cuda.get_device_properties(device).total_memory)
