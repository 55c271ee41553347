"""`blendserve env`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from blendserve.environment import Availability, Environment, Gpu, read_environment

__all__ = ["env"]


def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what this machine and this installation can run, and what is missing for the rest."""
    environment = read_environment()
    typer.echo(json.dumps(asdict(environment), indent=2) if as_json else _table(environment))


def _table(environment: Environment) -> str:
    rows = [
        ("blendserve", environment.blendserve),
        ("Python", f"{environment.python}, {environment.system}"),
        (
            "CPU",
            f"{environment.num_cores} cores, {environment.memory_bytes / 2**30:.1f} GiB, {environment.cpu_isa} kernels",
        ),
        *(("GPU", text) for text in [_gpu_text(gpu) for gpu in environment.gpus] or ["none"]),
        ("GPU driver", environment.driver or "none"),
        ("CUDA library", _text(environment.cuda_library)),
        *((f"attention {name}", _text(each)) for name, each in environment.attention.items()),
        ("default model", _text(environment.default_model)),
        *((name, version or "not installed") for name, version in environment.packages.items()),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _text(availability: Availability) -> str:
    said = "available" if availability.available else "not available"
    return said if availability.reason is None else f"{said}: {availability.reason}"


def _gpu_text(gpu: Gpu) -> str:
    if gpu.memory_bytes is None:
        return f"{gpu.name}, which torch cannot use"
    return (
        f"{gpu.name}, {gpu.memory_bytes / 2**30:.1f} GiB, sm_{(gpu.compute_capability or '').replace('.', '')}, "
        f"{gpu.num_multiprocessors} multiprocessors"
    )
