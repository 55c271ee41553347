from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from blendserve.attention.cuda_library import KvAppendParams, load_cuda_library
from blendserve.attention.kv_elements import as_cached, as_indexable
from blendserve.attention.rotation import Rotation, rotate_
from blendserve.errors import UserError
from blendserve.models.rope_config import RopeConfig
from blendserve.models.rotary import inverse_frequencies, rotation_at
from paged_problem import DEVICE, DTYPE_CODES
from torch import Tensor

pytestmark = pytest.mark.gpu

NUM_HEADS, NUM_KV_HEADS = 6, 3
ROPES = [
    RopeConfig(theta=10000.0),
    RopeConfig(theta=1e6, rope_type="linear", factor=4.0),
    RopeConfig(
        theta=500000.0,
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    ),
    RopeConfig(theta=1e6, rope_type="yarn", factor=4.0, original_max_position_embeddings=32768),
]


@dataclass(frozen=True)
class NewTokens:
    """Views into one buffer, as a fused projection leaves them, and the slots that their keys and values go to."""

    q: Tensor
    k: Tensor
    v: Tensor
    kv: Tensor
    slots: Tensor
    k_scale: float = 1.0
    v_scale: float = 1.0

    @staticmethod
    def random(num_tokens: int, head_dim: int, block_size: int, dtype: torch.dtype) -> NewTokens:
        num_blocks = num_tokens // block_size + 2
        heads = torch.randn(num_tokens, NUM_HEADS + 2 * NUM_KV_HEADS + 1, head_dim, device=DEVICE).to(dtype)
        q, k, v, _ = heads.split([NUM_HEADS, NUM_KV_HEADS, NUM_KV_HEADS, 1], dim=1)
        kv = torch.randn(num_blocks, 2, NUM_KV_HEADS, block_size, head_dim, device=DEVICE).to(dtype)
        return NewTokens(q, k, v, kv, torch.randperm(num_blocks * block_size, device=DEVICE)[:num_tokens])

    def in_e4m3(self, k_scale: float, v_scale: float) -> NewTokens:
        """The same tokens for a cache in e4m3."""
        return replace(self, kv=self.kv.to(torch.float8_e4m3fn), k_scale=k_scale, v_scale=v_scale)

    def kv_with(self, k: Tensor, v: Tensor) -> Tensor:
        """The cache with these keys and values in their slots, and nothing else changed; see `as_indexable`."""
        expected = as_indexable(self.kv).clone()
        block_size = self.kv.shape[3]
        for side, (x, scale) in enumerate(((k, self.k_scale), (v, self.v_scale))):
            cached = as_indexable(as_cached(x, self.kv.dtype, scale))
            expected[self.slots // block_size, side, :, self.slots % block_size] = cached
        return expected

    def append(self, rotation: Rotation | None) -> None:
        cos, signed_sin = rotation or (None, None)
        params = KvAppendParams(
            q=self.q.data_ptr(),
            k=self.k.data_ptr(),
            v=self.v.data_ptr(),
            kv=self.kv.data_ptr(),
            slot_mapping=self.slots.data_ptr(),
            cos=cos.data_ptr() if cos is not None else None,
            signed_sin=signed_sin.data_ptr() if signed_sin is not None else None,
            q_stride=self.q.stride(0),
            k_stride=self.k.stride(0),
            v_stride=self.v.stride(0),
            num_tokens=len(self.slots),
            num_heads=NUM_HEADS,
            num_kv_heads=NUM_KV_HEADS,
            head_dim=self.q.shape[2],
            block_size=self.kv.shape[3],
            dtype=DTYPE_CODES[self.q.dtype],
            kv_dtype=DTYPE_CODES[self.kv.dtype],
            k_scale=self.k_scale,
            v_scale=self.v_scale,
        )
        load_cuda_library().kv_append(params, torch.cuda.current_stream().cuda_stream)


@pytest.mark.parametrize("head_dim", [64, 80, 128])
@pytest.mark.parametrize("block_size", [1, 8, 16])
@pytest.mark.parametrize("num_tokens", [1, 33, 9000])
def test_every_token_reaches_its_slot_and_nothing_else_changes(head_dim: int, block_size: int, num_tokens: int) -> None:
    tokens = NewTokens.random(num_tokens, head_dim, block_size, torch.bfloat16)
    q, k, v = tokens.q.clone(), tokens.k.clone(), tokens.v.clone()
    expected = tokens.kv_with(k, v)
    tokens.append(None)
    assert torch.equal(tokens.kv, expected)
    assert torch.equal(tokens.q, q)
    assert torch.equal(tokens.k, k)


@pytest.mark.parametrize("rope", ROPES, ids=lambda rope: rope.rope_type)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_tokens", [1, 33, 9000])
def test_queries_and_keys_are_rotated_as_torch_does_it_bit_for_bit(
    rope: RopeConfig, dtype: torch.dtype, num_tokens: int
) -> None:
    tokens = NewTokens.random(num_tokens, 128, 16, dtype)
    q, k, v = tokens.q.clone(), tokens.k.clone(), tokens.v.clone()
    positions = torch.randint(0, 100_000, (num_tokens,), device=DEVICE)
    rotation = rotation_at(positions, inverse_frequencies(rope, 128).to(DEVICE), dtype)
    rotate_(q, rotation)
    rotate_(k, rotation)
    expected = tokens.kv_with(k, v)
    tokens.append(rotation)
    assert torch.equal(tokens.q, q)
    assert torch.equal(tokens.k, k)
    assert torch.equal(tokens.v, v)
    assert torch.equal(tokens.kv, expected)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1 / 512, 0.3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_e4m3_cache_gets_the_nearest_numbers_after_the_rotation_bit_for_bit(
    dtype: torch.dtype, scales: tuple[float, float]
) -> None:
    tokens = NewTokens.random(333, 128, 16, dtype).in_e4m3(*scales)
    q, k, v = tokens.q.clone(), tokens.k.clone(), tokens.v.clone()
    positions = torch.randint(0, 100_000, (333,), device=DEVICE)
    rotation = rotation_at(positions, inverse_frequencies(ROPES[0], 128).to(DEVICE), dtype)
    rotate_(q, rotation)
    rotate_(k, rotation)
    expected = tokens.kv_with(k, v)
    tokens.append(rotation)
    assert torch.equal(tokens.q, q)
    assert torch.equal(as_indexable(tokens.kv), expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 24}, "kv_append: head_dim is 24"),
        ({"k_stride": 4}, "k_stride 4"),
        ({"cos": 16}, "a rotation needs cos, signed_sin, q"),
        ({"dtype": 5}, "dtype is 5"),
        ({"kv_dtype": 1}, "kv_dtype is 1"),
        ({"kv_dtype": 2, "v_scale": 0.0}, "v_scale 0.0"),
    ],
)
def test_a_bad_call_is_refused_with_the_value(fields: dict[str, float], message: str) -> None:
    good = {"num_tokens": 1, "num_kv_heads": 1, "head_dim": 32, "block_size": 1, "k_scale": 1.0, "v_scale": 1.0}
    with pytest.raises(UserError, match=message):
        load_cuda_library().kv_append(KvAppendParams(**{**good, **fields}), 0)
