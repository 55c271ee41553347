"""The Python face of corrected times: as values, and from the steps of a device to the pace of a scheduler."""

from __future__ import annotations

import blendserve as bs
import numpy as np
import pytest
from blendserve._core import BatchDesc, CostModel, TimeCorrection, TimeCorrector, simulate

MODEL = bs.ModelSpec.named("llama-3.1-8b")
A100 = bs.DeviceSpec.named("a100-sxm-80gb")
FASTER = bs.DeviceSpec(
    name="an A100 with four times the arithmetic",
    flops_4_byte=4 * A100.flops_4_byte,
    flops_2_byte=4 * A100.flops_2_byte,
    flops_1_byte=4 * A100.flops_1_byte,
    bandwidth=A100.bandwidth,
    memory_bytes=A100.memory_bytes,
)


def test_a_correction_is_a_value() -> None:
    correction = TimeCorrection(compute=1.25, memory=0.5)
    assert (correction.compute, correction.memory) == (1.25, 0.5)
    assert TimeCorrection() == TimeCorrection(1.0, 1.0) != correction
    assert len({correction, TimeCorrection(1.25, 0.5)}) == 1
    assert correction != (1.25, 0.5)
    assert repr(correction) == "TimeCorrection(compute=1.25, memory=0.5)"


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_none_is_named(factor: float) -> None:
    with pytest.raises(ValueError, match=r"memory is .*; it must be a positive finite number"):
        TimeCorrection(memory=factor)


def test_a_step_that_is_none_is_refused() -> None:
    corrector = TimeCorrector(CostModel(MODEL, A100))
    with pytest.raises(ValueError, match="num_tokens is 0; it must be at least 1"):
        corrector.add(BatchDesc(), 1.0)
    with pytest.raises(ValueError, match='"fast"'):
        TimeCorrector(CostModel(MODEL, A100), "fast")


def test_simulated_steps_of_another_device_correct_the_scheduler() -> None:
    """The plan is for a device with four times the arithmetic; the steps run on the A100."""
    rng = np.random.default_rng(1)
    lengths = np.where(np.arange(2000) % 8 == 0, rng.integers(500, 1500, 2000), rng.integers(1, 60, 2000))
    prompt_lens = np.where(np.arange(2000) % 8 == 0, 40, rng.integers(200, 1200, 2000))
    tokens = rng.integers(0, 2**30, prompt_lens.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(prompt_lens)])

    def run(device: bs.DeviceSpec, corrector: TimeCorrector | None = None) -> float:
        plan = bs.plan(tokens, offsets, lengths, model=MODEL, device=device)
        scheduler = bs.StepScheduler(plan, num_blocks=10_000, schedule="blend", max_new_tokens=lengths.astype(np.int32))
        cost = CostModel(MODEL, A100)
        return simulate(scheduler, cost, lengths.astype(np.int32), corrector=corrector).total_s

    corrector = TimeCorrector(CostModel(MODEL, FASTER))
    right_s, wrong_s, corrected_s = run(A100), run(FASTER), run(FASTER, corrector)
    assert corrector.correction == TimeCorrection(compute=4.0, memory=1.0)
    assert abs(corrected_s - right_s) < 0.2 * (wrong_s - right_s)
