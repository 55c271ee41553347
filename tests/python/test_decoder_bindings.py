"""The C++ decoder from Python: what does not fit is refused, with nothing written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blendserve import _core

HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 16, 24, 4, 2, 8, 50


def random(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def linear(num_outputs: int, num_inputs: int) -> _core.PackedLinear:
    return _core.PackedLinear(_core.PackedMatrix(random(num_outputs, num_inputs)))


def layer(**changes: Any) -> _core.DecoderLayer:
    arguments: dict[str, Any] = {
        "num_heads": HEADS,
        "num_kv_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "activation": "silu",
        "attention_scale": 0.3,
        "attention_softcap": 0.0,
        "window": 0,
        "rotary": _core.RotaryTable(random(HEAD_DIM // 2)),
        "attention_norm": random(HIDDEN),
        "qkv": linear((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN),
        "q_norm": None,
        "k_norm": None,
        "attention_output": linear(HIDDEN, HEADS * HEAD_DIM),
        "post_attention_norm": None,
        "mlp_norm": random(HIDDEN),
        "gate_up": linear(2 * INNER, HIDDEN),
        "down": linear(HIDDEN, INNER),
        "post_mlp_norm": None,
    }
    return _core.DecoderLayer(**{**arguments, **changes})


def step(num_tokens: int = 3, **changes: Any) -> _core.LayerStep:
    arguments: dict[str, Any] = {
        "positions": np.arange(num_tokens, dtype=np.int32),
        "slot_mapping": np.arange(num_tokens, dtype=np.int64),
        "qo_indptr": np.array([0, num_tokens], np.int32),
        "kv_lens": np.array([num_tokens], np.int32),
        "block_indptr": np.array([0, 1], np.int32),
        "block_table": np.array([0], np.int32),
    }
    return _core.LayerStep(**{**arguments, **changes})


def cache(kv_heads: int = KV_HEADS) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full((2, 2, kv_heads, 4, HEAD_DIM), np.nan, np.float32)


@pytest.mark.parametrize("name", ["rotary", "qkv", "attention_output", "gate_up", "down"])
def test_what_a_layer_cannot_do_without_is_not_none(name: str) -> None:
    with pytest.raises(TypeError, match="incompatible"):
        layer(**{name: None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "relu"}, 'activation is "relu"; it must be "silu" or "gelu_tanh"'),
        ({"num_kv_heads": 3}, "num_heads is 4 and num_kv_heads 3; the first must be a multiple of the second"),
        ({"attention_softcap": float("nan")}, "attention_softcap is nan; it must be 0"),
        ({"mlp_norm": random(HIDDEN + 1)}, "mlp_norm has 17 elements; it must have 16"),
        ({"mlp_norm": None}, "mlp_norm has 0 elements; it must have 16"),
        ({"down": linear(HIDDEN, INNER + 1)}, r"gate_up has the shape \[48, 16\]; it must have \[50, 16\]"),
    ],
)
def test_what_does_not_fit_a_layer_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.array([0, -1, 2], np.int32)}, r"positions\[1\] is -1; it must be 0 or more"),
        ({"slot_mapping": np.arange(2, dtype=np.int64)}, "slot_mapping has 2 elements; it must have 3"),
        ({"kv_lens": np.array([3], np.int64)}, "kv_lens must be a contiguous array of dtype int32"),
    ],
)
def test_arrays_of_a_step_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step(**changes)


@pytest.mark.parametrize(
    ("changes", "kv_heads", "message"),
    [
        (
            {"slot_mapping": np.array([0, 1, 8], np.int64)},
            KV_HEADS,
            r"slot_mapping\[2\] is 8; the cache has slots 0",
        ),
        ({"kv_lens": np.array([9], np.int32)}, KV_HEADS, r"kv_lens\[0\] is 9; its blocks hold 4 positions"),
        ({}, 1, "kv has 1 heads of 8; the layer has 2 of 8"),
    ],
)
def test_states_stay_as_they_are_when_step_and_cache_do_not_fit(
    changes: dict[str, Any], kv_heads: int, message: str
) -> None:
    hidden = random(3, HIDDEN)
    with pytest.raises(ValueError, match=message):
        layer().forward(hidden, step(**changes), cache(kv_heads), _core.LayerBuffers())
    np.testing.assert_array_equal(hidden, random(3, HIDDEN))


def test_a_step_advances_every_state() -> None:
    hidden = random(3, HIDDEN)
    layer().forward(hidden, step(), cache(), _core.LayerBuffers())
    assert np.all(np.isfinite(hidden))
    assert np.all(hidden != random(3, HIDDEN))


def test_the_head_reads_rows_that_are_there() -> None:
    head = _core.LmHead(norm=random(HIDDEN), linear=linear(VOCAB, HIDDEN), rms_norm_eps=1e-5, softcap=0.0)
    hidden = random(4, HIDDEN)
    logits = head.logits(hidden, np.array([3, 0], np.int32))
    assert logits.shape == (2, VOCAB)
    np.testing.assert_array_equal(head.most_likely(hidden, np.array([3, 0], np.int32)), logits.argmax(axis=1))
    with pytest.raises(ValueError, match="rows has 4; it must be one of the rows 0 to 3 of hidden"):
        head.logits(hidden, np.array([4], np.int32))
    with pytest.raises(ValueError, match="hidden"):
        head.logits(random(HIDDEN, 4).T, np.array([0], np.int32))
    with pytest.raises(ValueError, match="token id -1 is not in a vocabulary of 50"):
        head.embed(np.array([-1], np.int32))


@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_the_first_nan_is_the_most_likely_with_and_without_logits(softcap: float) -> None:
    weights = random(VOCAB, HIDDEN)
    weights[[7, 20]] = np.nan
    packed = _core.PackedLinear(_core.PackedMatrix(weights))
    head = _core.LmHead(norm=random(HIDDEN), linear=packed, rms_norm_eps=1e-5, softcap=softcap)
    hidden, rows = random(2, HIDDEN), np.arange(2, dtype=np.int32)
    np.testing.assert_array_equal(head.most_likely(hidden, rows), [7, 7])
    np.testing.assert_array_equal(head.logits(hidden, rows).argmax(axis=1), [7, 7])
