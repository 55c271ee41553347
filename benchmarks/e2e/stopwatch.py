"""Wall and CPU seconds of a run. Standard library only, for the interpreters of the peers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Run = dict[str, float]


@contextmanager
def stopwatch() -> Iterator[Run]:
    """Sets `seconds` and `cpu_s` at its end. Far fewer CPU seconds than threads allow: others wanted the cores too."""
    run: Run = {}
    started, cpu_s_before = time.perf_counter(), _cpu_s_of_tree()
    yield run
    run["seconds"] = time.perf_counter() - started
    run["cpu_s"] = _cpu_s_of_tree() - cpu_s_before


def _cpu_s_of_tree() -> float:
    """Of this process and those below it, for vLLM computes in one of its children."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])

    def is_below(pid: int) -> bool:
        while pid not in (0, os.getpid()):
            pid = parents.get(pid, 0)
        return pid != 0

    return sum(ticks[pid] for pid in ticks if is_below(pid)) / os.sysconf("SC_CLK_TCK")
