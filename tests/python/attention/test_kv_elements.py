"""What the cache keeps, and what attention over it is: by torch_ref, the reference of the CUDA kernels too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blendserve.attention import AttentionSpec, StepTensors, create_backend
from blendserve.attention.kv_elements import as_cached, from_cached

E4M3 = torch.float8_e4m3fn
NUMBERS = torch.arange(256, dtype=torch.uint8).view(E4M3).float()  # two of them NaN
KV_LEN = 40
SPEC = AttentionSpec(
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    num_blocks=16,
    block_size=4,
    dtype=E4M3,
    device=torch.device("cpu"),
    kv_scales=((0.5, 2.0), (1.0, 0.3)),
)


def nearest(x: torch.Tensor) -> torch.Tensor:
    """The nearest of all e4m3 numbers, of two the one with an even mantissa, by trying all."""
    distance = (x[:, None].double() - NUMBERS.double()).abs().nan_to_num(torch.inf)
    ties = distance == distance.min(dim=1, keepdim=True).values
    is_even = torch.arange(256) % 2 == 0
    return NUMBERS[(ties.int() + (ties & is_even).int()).argmax(dim=1)]


@pytest.mark.parametrize("scale", [1.0, 0.3, 64.0])
def test_e4m3_keeps_the_nearest_number_and_saturates(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    halfway = (NUMBERS[1:126] + NUMBERS[2:127]) / 2
    spread = torch.randn(5000, generator=generator) * torch.logspace(-4, 4, 5000)
    x = torch.cat((NUMBERS.nan_to_num(), halfway, -halfway, spread, torch.tensor([449.0, 465.0, -1e9])))
    x = x * scale
    inverse = 1 / torch.tensor(scale)
    assert torch.equal(as_cached(x, E4M3, scale).float(), nearest(x * inverse))
    beyond = as_cached(torch.tensor([torch.inf, -torch.inf, torch.nan]), E4M3, scale).float()
    assert beyond[:2].tolist() == [448.0, -448.0]
    assert beyond[2].isnan()


def test_numbers_that_e4m3_has_come_back_and_wider_caches_round_only() -> None:
    x = NUMBERS[~NUMBERS.isnan()]
    assert torch.equal(from_cached(as_cached(3 * x, E4M3, 3.0), torch.float32, 3.0), 3 * x)
    assert torch.equal(as_cached(x / 3, torch.bfloat16, 1.0), (x / 3).bfloat16())


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The last len(q) positions of a sequence, causally, in float64."""
    keys, values = (x.double().repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), keys) * q.shape[2] ** -0.5
    hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(k) - len(q))
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)


def step_of(first: int, end: int) -> StepTensors:
    """Positions [first, end) of one sequence, which has the blocks 10, 9, ..."""
    positions = np.arange(first, end)
    table = 10 - np.arange(-(-end // SPEC.block_size))
    return StepTensors(
        qo_indptr=np.array([0, end - first], np.int32),
        kv_lens=np.array([end], np.int32),
        block_indptr=np.array([0, len(table)], np.int32),
        block_table=table.astype(np.int32),
        slot_mapping=table[positions // SPEC.block_size] * SPEC.block_size + positions % SPEC.block_size,
        positions=positions.astype(np.int32),
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_attention_over_an_e4m3_cache_is_that_of_the_numbers_it_keeps(layer: int) -> None:
    backend = create_backend("torch_ref", SPEC)
    generator = torch.Generator().manual_seed(layer)
    q, k, v = (torch.randn(KV_LEN, heads, SPEC.head_dim, generator=generator) for heads in (4, 2, 2))
    for first, end in ((0, 30), (30, 31), (31, KV_LEN)):
        backend.plan(step_of(first, end))
        out = backend.forward(layer, q[first:end].clone(), k[first:end].clone(), v[first:end].clone())
        k_scale, v_scale = SPEC.kv_scale(layer)
        kept_k = from_cached(as_cached(k[:end], E4M3, k_scale), torch.float32, k_scale)
        kept_v = from_cached(as_cached(v[:end], E4M3, v_scale), torch.float32, v_scale)
        expected = attend(q[first:end], kept_k, kept_v)
        assert (out - expected).norm() < 1e-6 * expected.norm()
        exact = attend(q[first:end], k[:end], v[:end])
        assert 5e-3 < (out - exact).norm() / exact.norm() < 5e-2  # three bits of mantissa
