"""What this machine and this installation have, as far as it decides what `run` can do here; works without torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from blendserve import __version__, _core

__all__ = ["PACKAGES", "Availability", "Environment", "Gpu", "read_environment"]

PACKAGES = (
    "numpy", "torch", "transformers", "tokenizers", "safetensors", "jinja2", "gguf", "orjson", "psutil", "rich",
    "typer", "pyarrow", "matplotlib",
)  # fmt: skip
"""What blendserve needs, and what its extras `engine` and `plan` bring."""

_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something can be used here, else why not."""

    available: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU; what only torch can tell is None without it."""

    name: str
    memory_bytes: int | None = None
    compute_capability: str | None = None
    num_multiprocessors: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """packages: versions by name, None for one that is not installed."""

    blendserve: str
    python: str
    system: str
    cpu_isa: str
    num_cores: int  # that this process may use
    memory_bytes: int
    gpus: list[Gpu]
    driver: str | None
    attention: dict[str, Availability]
    cuda_library: Availability
    default_model: Availability
    packages: dict[str, str | None]


def read_environment() -> Environment:
    attention, cuda_library = _attention()
    return Environment(
        blendserve=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        cpu_isa=_core.isa(),
        num_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        gpus=_gpus(),
        driver=_driver_version(),
        attention=attention,
        cuda_library=cuda_library,
        default_model=_default_model(),
        packages={name: _version(name) for name in PACKAGES},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing(error: ImportError) -> Availability:
    if isinstance(error, ModuleNotFoundError):
        return Availability(False, f"{error.name} is not installed: pip install 'blendserve[engine]'")
    return Availability(False, f"{error.name} does not load: {error}; install it again")


def _attention() -> tuple[dict[str, Availability], Availability]:
    """Of each backend, and of the CUDA library."""
    from blendserve.config import attention_names

    try:
        from blendserve.attention import why_unavailable
        from blendserve.attention.cuda_library import library_path, why_not_loaded
    except ImportError as error:
        missing = _missing(error)
        return dict.fromkeys(attention_names(), missing), missing
    reasons = {name: why_unavailable(name) for name in attention_names()}
    not_loaded = why_not_loaded()
    library = Availability(not_loaded is None, not_loaded or str(library_path()))
    return {name: Availability(reason is None, reason) for name, reason in reasons.items()}, library


def _default_model() -> Availability:
    try:
        from blendserve.models.default_model import why_no_default_model
    except ImportError as error:
        return _missing(error)
    reason = why_no_default_model()
    return Availability(reason is None, reason)


def _gpus() -> list[Gpu]:
    try:
        import torch
    except ImportError:
        return [Gpu(name) for name in _gpu_names()]
    if not torch.cuda.is_available():
        return [Gpu(name) for name in _gpu_names()]
    properties = [torch.cuda.get_device_properties(device) for device in range(torch.cuda.device_count())]
    return [
        Gpu(each.name, each.total_memory, f"{each.major}.{each.minor}", each.multi_processor_count)
        for each in properties
    ]


def _gpu_names() -> list[str]:
    """As the driver tells them, whether or not torch can use them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(_DRIVER.glob("gpus/*/information"))]
    return [name.strip() for text in texts for name in re.findall(r"^Model:(.*)$", text, re.MULTILINE)]


def _driver_version() -> str | None:
    try:
        text = (_DRIVER / "version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)*)\s", text)
    return found[1] if found else None
