"""The rates of the layers and of attention, each measured alone, and of both together."""

from __future__ import annotations

from blendserve.models import ModelConfig
from blendserve.profiling.layer_timer import LayerTimer
from blendserve.profiling.made_steps import made_step
from blendserve.profiling.random_decoder import random_layers
from blendserve.profiling.rate_curve import ROWS, RateCurve, rate_curve
from blendserve.resources import ResolvedConfig, kv_bytes_per_token
from blendserve.specs import ModelSpec

__all__ = ["LayerRates"]

_MAX_WEIGHTS = 2**27  # of all layers that are measured: more than most caches hold
_CHUNK_LEN, _CHUNK_END = 128, 384  # of prefill attention
_DECODE_LEN, _DECODE_BYTES = 256, 2**28  # of decode attention: far more KV than most caches hold
_MIXED_ROWS = 256


class LayerRates:
    """`config` is the shape of `model`, whose element size is that of the settings' dtype."""

    def __init__(self, config: ModelConfig, model: ModelSpec, settings: ResolvedConfig) -> None:
        layer_weights = model.layer_params / model.num_layers
        num_layers = max(1, min(model.num_layers, int(_MAX_WEIGHTS // layer_weights)))
        self._num_weights = layer_weights * num_layers
        self._weight_bytes = model.weight_bytes
        self._kv_token_bytes = kv_bytes_per_token(config, settings.dtype) * num_layers / model.num_layers
        self._square_flops = 2 * model.attention_width * num_layers
        num_decodes = int(_DECODE_BYTES / self._kv_token_bytes / _DECODE_LEN)
        self._decodes = [1] * min(_MIXED_ROWS // 2, max(1, num_decodes))
        self._decode_lens = [_DECODE_LEN] * len(self._decodes)
        self._timer = LayerTimer(
            random_layers(config, num_layers, settings.dtype, settings.weight_dtype),
            settings.dtype,
            num_tokens=sum(self._decode_lens) + max(ROWS),
        )

    def curve(self) -> RateCurve:
        """Of all but attention."""
        return rate_curve(self._rows_s, self._num_weights)

    def weight_bandwidth(self, curve: RateCurve) -> float:
        """B/s of weights that a step of a single row waits for."""
        rows, flops = curve[0]
        return self._weight_bytes * flops / (2 * rows)

    def prefill_flops(self) -> float:
        squares = _CHUNK_END**2 - (_CHUNK_END - _CHUNK_LEN) ** 2
        return self._square_flops * squares / self._timer.attention_s(made_step([_CHUNK_LEN], [_CHUNK_END]))

    def decode_bandwidth(self) -> float:
        return self._kv_token_bytes * sum(self._decode_lens) / self._decode_s()

    def beta(self) -> float:
        """What a step of prefill and decodes takes beyond the longer of its compute and its decode attention, as a
        share of the shorter.
        """
        chunk = [_MIXED_ROWS - len(self._decodes)]
        compute_s = self._rows_s(_MIXED_ROWS) + self._timer.attention_s(made_step(chunk, chunk))
        memory_s = self._decode_s()
        both_s = self._timer.layers_s(made_step([*self._decodes, *chunk], [*self._decode_lens, *chunk]))
        return min(1.0, max(0.0, (both_s - max(compute_s, memory_s)) / min(compute_s, memory_s)))

    def _rows_s(self, num_rows: int) -> float:
        step = made_step([num_rows], [num_rows])
        return self._timer.layers_s(step) - self._timer.attention_s(step)

    def _decode_s(self) -> float:
        return self._timer.attention_s(made_step(self._decodes, self._decode_lens))
