"""How the OpenMP threads of torch wait for work."""

from __future__ import annotations

import os

__all__ = ["let_idle_threads_sleep"]


def let_idle_threads_sleep() -> None:
    """Idle threads sleep instead of spinning, unless OMP_WAIT_POLICY says otherwise. Call it before torch is imported.

    A step is hundreds of short matrix products. Where anything else wants a core, each of them waits for a thread that
    spins away another's turn: five times slower on a machine with as many busy processes as cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
