"""The rates of the layers and of attention, each measured alone, and of both together."""

from __future__ import annotations

from dataclasses import dataclass

from blendserve.models import ModelConfig
from blendserve.profiling.layer_calls import LayerCalls
from blendserve.profiling.made_steps import made_step
from blendserve.profiling.random_decoder import random_layers
from blendserve.profiling.rate_curve import ROWS, RateCurve, rate_curve
from blendserve.profiling.timing import median_times_s
from blendserve.resources import ResolvedConfig, kv_bytes_per_token
from blendserve.specs import ModelSpec

__all__ = ["LayerRates"]

_MAX_WEIGHTS = 2**27  # of all layers that are measured: more than most caches hold
_CHUNK_LEN, _CHUNK_END = 128, 384  # of prefill attention
_DECODE_LEN, _DECODE_BYTES = 256, 2**28  # of decode attention: far more KV than most caches hold
_MIXED_ROWS = 256


@dataclass(frozen=True, slots=True)
class LayerRates:
    """`curve`: of all but attention. `weight_bandwidth`: B/s of weights that a step of one row waits for. `beta`: what
    a step of prefill and decodes takes beyond the longer of compute and decode attention, as a share of the shorter.
    """

    curve: RateCurve
    weight_bandwidth: float
    prefill_attention_flops: float
    decode_attention_bandwidth: float
    beta: float

    @classmethod
    def measure(cls, config: ModelConfig, model: ModelSpec, settings: ResolvedConfig, seconds: float) -> LayerRates:
        """`config` is the shape of `model`."""
        layer_weights = model.layer_params / model.num_layers
        num_layers = max(1, min(model.num_layers, int(_MAX_WEIGHTS // layer_weights)))
        kv_bytes = kv_bytes_per_token(config, settings.kv_dtype) * num_layers / model.num_layers
        num_decodes = min(_MIXED_ROWS // 2, max(1, int(_DECODE_BYTES / kv_bytes / _DECODE_LEN)))

        chunks = [made_step([rows], [rows]) for rows in ROWS]
        prefill = made_step([_CHUNK_LEN], [_CHUNK_END])
        decode_lens, rest = [_DECODE_LEN] * num_decodes, [_MIXED_ROWS - num_decodes]
        decodes = made_step([1] * num_decodes, decode_lens)
        mixed = made_step([1] * num_decodes + rest, decode_lens + rest)

        decoder = random_layers(config, num_layers, settings.dtype, settings.weight_dtype)
        calls = LayerCalls(decoder, settings.kv_dtype, num_tokens=num_decodes * _DECODE_LEN + max(ROWS))
        whole = [calls.layers(step) for step in (*chunks, mixed)]
        alone = [calls.attention(step) for step in (*chunks, made_step(rest, rest), prefill, decodes)]
        times = median_times_s([*whole, *alone], seconds)
        *chunks_s, mixed_s = times[: len(whole)]
        *attention_s, rest_s, prefill_s, decodes_s = times[len(whole) :]

        rows_s = [chunk_s - of_it_s for chunk_s, of_it_s in zip(chunks_s, attention_s, strict=True)]
        prefill_squares = _CHUNK_END**2 - (_CHUNK_END - _CHUNK_LEN) ** 2
        return cls(
            curve=rate_curve(rows_s, layer_weights * num_layers),
            weight_bandwidth=model.weight_bytes * layer_weights * num_layers / rows_s[0],
            prefill_attention_flops=2 * model.attention_width * num_layers * prefill_squares / prefill_s,
            decode_attention_bandwidth=kv_bytes * num_decodes * _DECODE_LEN / decodes_s,
            beta=_beta(rows_s[ROWS.index(_MIXED_ROWS)] + rest_s, decodes_s, mixed_s),
        )


def _beta(compute_s: float, memory_s: float, both_s: float) -> float:
    return min(1.0, max(0.0, (both_s - max(compute_s, memory_s)) / min(compute_s, memory_s)))
