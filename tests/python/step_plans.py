"""The steps that an engine runs, as values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import blendserve as bs

# What an executor is told to compute; token ids are left out, for the simulator's are its own.
FIELDS = (
    "request_ids",
    "qo_indptr",
    "positions",
    "slot_mapping",
    "kv_lens",
    "block_indptr",
    "block_table",
    "logit_rows",
    "sample_ids",
    "sample_positions",
)


def described(plan: bs.StepPlan) -> list[list[int]]:
    return [getattr(plan, field).tolist() for field in FIELDS]


@contextmanager
def recorded_steps() -> Iterator[list[list[list[int]]]]:
    """Every step that is planned meanwhile, by schedulers of the engine that exist already too."""
    steps: list[list[list[int]]] = []
    schedule = bs.StepScheduler.schedule

    def recorded(scheduler: bs.StepScheduler) -> Any:
        plan = schedule(scheduler)
        if plan is not None:
            steps.append(described(plan))
        return plan

    with mock.patch.object(bs.StepScheduler, "schedule", recorded):
        yield steps
