"""The rate of the LM head with its norm and arg-max."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from blendserve.models import ModelConfig
from blendserve.profiling.random_decoder import random_head
from blendserve.profiling.rate_curve import ROWS, RateCurve, rate_curve
from blendserve.profiling.timing import median_times_s

__all__ = ["head_curve"]

_MAX_WEIGHTS = 2**25  # a larger head is no faster or slower


def head_curve(config: ModelConfig, dtype: torch.dtype, seconds: float) -> RateCurve:
    vocab_size = min(config.vocab_size, _MAX_WEIGHTS // config.hidden_size)
    head = random_head(config, vocab_size, dtype)
    hidden = np.ones((max(ROWS), config.hidden_size), np.float32)
    calls = [partial(head.most_likely, hidden, np.arange(rows, dtype=np.int32)) for rows in ROWS]
    return rate_curve(median_times_s(calls, seconds), vocab_size * config.hidden_size)
