"""Where the time goes."""

from __future__ import annotations

import pytest
from blendserve.recording import StageClock


def test_time_belongs_to_the_stage_that_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 12.0, 13.0, 20.0, 20.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    clock = StageClock()
    clock.mark("model")  # 10 to 12
    clock.mark("writing")  # to 13
    clock.start()  # until 20 it belongs to nobody
    clock.mark("model")
    assert clock.seconds == {"model": 2.5, "writing": 1.0}
