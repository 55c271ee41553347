"""A stand-in for a model: its logits are drawn with the tokens up to a position as the seed, read from a paged cache.

So a log-prob has the same bits wherever it is computed from the right prefix, and others from any wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from blendserve import DeviceSpec, StepPlan
from blendserve.engine import Engine
from blendserve.resources import ResolvedConfig
from blendserve.runner.model_runner import StepLogits

VOCAB_SIZE = 12
CONTEXT_LEN = 64


def logits_after(tokens: Sequence[int]) -> torch.Tensor:
    digest = hashlib.blake2b(np.array(tokens, np.int32).tobytes(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    return torch.from_numpy(generator.normal(0, 2, VOCAB_SIZE).astype(np.float32))


class PrefixRunner:
    """Runs plans as `ModelRunner` does. `fails` is asked before every step whether it should fail."""

    def __init__(self, config: ResolvedConfig, fails: Callable[[], bool] = lambda: False) -> None:
        self.model_config: Any = SimpleNamespace(vocab_size=VOCAB_SIZE, max_position_embeddings=CONTEXT_LEN)
        self._block_size = config.block_size
        self._slots = np.full(config.kv_capacity, -1)
        self._fails = fails

    def run(self, plan: StepPlan) -> StepLogits:
        if self._fails():
            raise FloatingPointError("this step fails")
        self._slots[plan.slot_mapping] = plan.token_ids
        return StepLogits(*(self._logits(plan, rows) for rows in (plan.logit_rows, plan.prompt_logit_rows)))

    def most_likely(self, plan: StepPlan) -> np.ndarray:
        return self.run(plan).sampled.argmax(dim=-1).int().numpy()

    def _logits(self, plan: StepPlan, rows: np.ndarray) -> torch.Tensor:
        prefixes = [self._prefix(plan, int(row)) for row in rows]
        return torch.stack([*map(logits_after, prefixes), torch.zeros(VOCAB_SIZE)])[: len(prefixes)]

    def _prefix(self, plan: StepPlan, row: int) -> list[int]:
        sequence = int(np.searchsorted(plan.qo_indptr, row, side="right")) - 1
        blocks = plan.block_table[plan.block_indptr[sequence] : plan.block_indptr[sequence + 1]]
        slots = (blocks[:, None] * self._block_size + np.arange(self._block_size)).ravel()
        tokens: list[int] = self._slots[slots[: plan.positions[row] + 1]].tolist()
        assert min(tokens) >= 0
        return tokens


def engine_of(*, fails: Callable[[], bool] = lambda: False, **settings: Any) -> Engine:
    """An engine on the stand-in; `settings` are fields of `ResolvedConfig`."""
    config = ResolvedConfig(
        **{
            "schedule": "dfs",
            "device": torch.device("cpu"),
            "dtype": torch.float32,
            "weight_dtype": "auto",
            "kv_dtype": torch.float32,
            "attention": "none",
            "num_blocks": 256,
            "block_size": 4,
            "max_batch_tokens": 512,
            "max_batch_requests": 64,
            "max_prompt_logits": 512,
            "seed": 0,
            "hardware": DeviceSpec.named("cpu"),
            "async_scheduling": False,
            "stop_runaways": False,
            **settings,
        }
    )
    return Engine(PrefixRunner(config, fails), config, (0,), None)  # type: ignore[arg-type]
