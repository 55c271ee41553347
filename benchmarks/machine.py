"""What a benchmark says of where it ran."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np

__all__ = ["cpu_name", "describe"]


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(**more: Any) -> dict[str, Any]:
    """Command, machine and versions, and what else the benchmark knows. `load`: of the machine as it starts."""
    return {
        "command": " ".join(sys.argv),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "blendserve": bs.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        **more,
    }
