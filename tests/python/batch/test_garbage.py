from __future__ import annotations

import gc

import pytest
from blendserve.batch.garbage import rare_collections


def fail_in_a_job() -> None:
    with rare_collections():
        assert gc.get_threshold()[0] >= 50_000
        raise ZeroDivisionError


def test_the_thresholds_are_those_of_before_also_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError):
        fail_in_a_job()
    assert gc.get_threshold() == before
