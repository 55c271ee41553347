"""`profile_device`: this machine as the performance model takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from blendserve import _core
from blendserve._core import DeviceSpec, MeasuredRates
from blendserve.config import EngineConfig
from blendserve.errors import UserError
from blendserve.models import ModelConfig, read_config
from blendserve.models.families import FAMILIES
from blendserve.profiling.head_rates import head_curve
from blendserve.profiling.host_time import host_step_s
from blendserve.profiling.layer_rates import LayerRates
from blendserve.resources import resolve
from blendserve.specs import ModelSpec

__all__ = ["profile_device"]

_LAYERS_SHARE = 0.75  # of the time


def profile_device(
    model_dir: Path,
    config: EngineConfig,
    *,
    seconds: float = 20.0,
    on_phase: Callable[[str], object] = lambda _phase: None,
) -> DeviceSpec:
    """Measures the CPU with the engine's own kernels and threads, on the shapes of a model.

    `config` says in which dtypes; `seconds` are spent on timed calls, three of each at least. Raises
    `UserError` for a GPU, and for a model that does not run on packed weights.
    """
    shape = read_config(model_dir)
    settings = resolve(config, shape)
    if settings.device.type != "cpu":
        raise UserError(f"device is {settings.device.type}, which `profile` cannot measure; give --device cpu")
    if not isinstance(shape, ModelConfig):
        raise UserError(f"model {model_dir} has no packed weights; choose one of {', '.join(FAMILIES)}")
    model = ModelSpec.from_hf(model_dir, weight_bytes=settings.dtype.itemsize)
    on_phase("measuring layers and attention")
    rates = LayerRates.measure(shape, model, settings, _LAYERS_SHARE * seconds)
    on_phase("measuring the head")
    head = head_curve(shape, settings.dtype, (1 - _LAYERS_SHARE) * seconds)
    on_phase("measuring the host")
    step_s = host_step_s(shape)
    peak = max(flops for _, flops in rates.curve)
    return DeviceSpec(
        name=f"{_cpu_name()}, {_core.num_threads()} threads, {_core.isa()}",
        flops_4_byte=peak,
        flops_2_byte=peak,  # narrow elements are widened first
        flops_1_byte=peak,
        bandwidth=rates.weight_bandwidth,
        memory_bytes=float(psutil.virtual_memory().total),
        beta=rates.beta,
        token_tile=1,
        measured=MeasuredRates(
            element_bytes=settings.dtype.itemsize,
            layers=rates.curve,
            head=head,
            prefill_attention_flops=rates.prefill_attention_flops,
            decode_attention_bandwidth=rates.decode_attention_bandwidth,
            step_s=step_s,
        ),
    )


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
