"""What a step takes outside the model."""

from __future__ import annotations

import statistics
import time

import numpy as np

from blendserve.config import EngineConfig
from blendserve.engine import Engine, EngineRequest
from blendserve.models.config import ModelConfig
from blendserve.profiling.random_decoder import tiny_decoder
from blendserve.resources import resolve
from blendserve.runner import ModelRunner
from blendserve.sampling_params import SamplingParams

__all__ = ["host_step_s"]

_NUM_REQUESTS, _PROMPT_LEN, _OUTPUT_LEN = 64, 16, 64


def host_step_s(config: ModelConfig) -> float:
    """Seconds of the engine's steps of 64 greedy requests, in a model of the family that takes next to no time."""
    decoder = tiny_decoder(config)
    settings = resolve(EngineConfig(schedule="dfs", device="cpu", kv_memory="16MiB"), decoder.config)
    engine = Engine(ModelRunner(decoder, settings), settings, (), decode=None)
    prompt = np.zeros(_PROMPT_LEN, np.int32)
    params = SamplingParams(temperature=0.0, max_tokens=_OUTPUT_LEN)
    engine.add([EngineRequest(prompt, params, str(index)) for index in range(_NUM_REQUESTS)])
    times = []
    is_running = True
    while is_running:
        started = time.perf_counter()
        is_running = engine.step() is not None
        times.append(time.perf_counter() - started)
    return statistics.median(times)
