"""`blendserve profile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from blendserve._core import DeviceSpec
from blendserve.cli.exit_status import exit_status
from blendserve.cli.progress import ProgressDisplay
from blendserve.config import EngineConfig
from blendserve.devices import device_fields
from blendserve.errors import UserError
from blendserve.io.paths import STANDARD_STREAM, check_new_file
from blendserve.openmp import let_idle_threads_sleep

__all__ = ["profile"]


def profile(
    output_path: Annotated[str, typer.Option("-o", "--output", metavar="FILE.json", help="The device file.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR|FILE.gguf|NAME",
            help="On whose shapes; its weights are not read [default: smollm2-135m-instruct].",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16, as of `run`.")] = "auto",
    weight_dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8, as of `run`.")] = "auto",
    kv_dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16, as of `run`.")] = "auto",
) -> None:
    """Measure this machine in less than a minute: a device file for `run`, `plan` and `simulate`."""
    console = Console(stderr=True)
    with exit_status(console, stopped="stopped before the device was measured"):
        if output_path == STANDARD_STREAM:
            raise UserError("output - is not possible: standard output has the table; give a file")
        check_new_file("output", output_path, {})
        config = EngineConfig(
            device=device,  # type: ignore[arg-type]
            dtype=dtype,  # type: ignore[arg-type]
            weight_dtype=weight_dtype,  # type: ignore[arg-type]
            kv_dtype=kv_dtype,  # type: ignore[arg-type]
        )
        let_idle_threads_sleep()
        try:
            from blendserve.models import resolve_model
            from blendserve.profiling import profile_device
        except ModuleNotFoundError as error:
            raise UserError(f"`profile` needs {error.name}: pip install 'blendserve[engine]'") from None
        with ProgressDisplay(console) as display:
            measured = profile_device(resolve_model(model), config, on_phase=display.phase)
        _write(output_path, measured)
        Console().print(_table(measured, output_path), markup=False, highlight=False, soft_wrap=True)


def _write(path: str, device: DeviceSpec) -> None:
    try:
        Path(path).write_text(json.dumps(device_fields(device), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"output {path} cannot be written: {error.strerror}; give another path") from error


def _table(device: DeviceSpec, path: str) -> str:
    rates = device.measured
    assert rates is not None
    rows = {
        "device": device.name,
        "layers": _curve_text(rates.layers),
        "head": _curve_text(rates.head),
        "attention": f"{rates.prefill_attention_flops / 1e9:,.0f} GFLOP/s of prefill, "
        f"{rates.decode_attention_bandwidth / 1e9:.1f} GB/s of KV in decode",
        "weights": f"read at {device.bandwidth / 1e9:.1f} GB/s",
        "both at once": f"beta {device.beta:.2f}: operators run one after the other, so about 1 is all there is",
        "host": f"{rates.step_s * 1e3:.2f} ms a step",
        "device file": path,
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())


def _curve_text(curve: list[tuple[float, float]]) -> str:
    points = ", ".join(f"{flops / 1e9:,.0f} at {rows:.0f}" for rows, flops in curve if rows in (1, 16, 128, 512))
    return f"GFLOP/s by rows: {points}"
