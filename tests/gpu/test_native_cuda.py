from __future__ import annotations

import numpy as np
import pytest
import torch
from blendserve.attention import AttentionBackend, create_backend
from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.kv_elements import as_cached, from_cached
from blendserve.attention.native_cuda import NativeCudaAttention
from blendserve.attention.rotation import rotate_
from blendserve.errors import UserError
from blendserve.models.rope_config import RopeConfig
from blendserve.models.rotary import inverse_frequencies, rotation_at
from torch import Tensor

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS, HEAD_DIM, BLOCK_SIZE = 2, 8, 2, 64, 16
BLOCKS_PER_SEQUENCE = 20


def make_spec(**changes: object) -> AttentionSpec:
    fields: dict[str, object] = {
        "num_layers": NUM_LAYERS,
        "num_heads": NUM_HEADS,
        "num_kv_heads": NUM_KV_HEADS,
        "head_dim": HEAD_DIM,
        "num_blocks": 5 * BLOCKS_PER_SEQUENCE,
        "block_size": BLOCK_SIZE,
        "dtype": torch.bfloat16,
        "device": DEVICE,
    }
    return AttentionSpec(**{**fields, **changes})  # type: ignore[arg-type]


def make_step(chunks: list[tuple[int, int, int]]) -> StepTensors:
    """Of (sequence, tokens before this step, new tokens); sequence s has the blocks of a fixed permutation."""
    order = np.random.default_rng(1).permutation(5 * BLOCKS_PER_SEQUENCE).astype(np.int32)
    tables = order.reshape(5, BLOCKS_PER_SEQUENCE)
    positions = [np.arange(before, before + new) for _, before, new in chunks]
    slots = [
        tables[sequence][at // BLOCK_SIZE].astype(np.int64) * BLOCK_SIZE + at % BLOCK_SIZE
        for (sequence, _, _), at in zip(chunks, positions, strict=True)
    ]
    kv_lens = np.array([before + new for _, before, new in chunks], np.int32)
    num_blocks = -(-kv_lens // BLOCK_SIZE)
    return StepTensors(
        qo_indptr=np.cumsum([0, *(new for _, _, new in chunks)], dtype=np.int32),
        kv_lens=kv_lens,
        block_indptr=np.concatenate(([0], np.cumsum(num_blocks))).astype(np.int32),
        block_table=np.concatenate([tables[s][:n] for (s, _, _), n in zip(chunks, num_blocks, strict=True)]),
        slot_mapping=np.concatenate(slots),
        positions=np.concatenate(positions).astype(np.int32),
    )


def attend(q: Tensor, k: Tensor, v: Tensor, window: int = 0, softcap: float = 0.0) -> Tensor:
    """The last len(q) tokens of a sequence, causally, in float64. q [n, heads, d]; k, v [len, kv_heads, d]."""
    group = q.shape[1] // k.shape[1]
    keys, values = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), keys) * q.shape[2] ** -0.5
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    last = torch.arange(len(k) - len(q), len(k), device=DEVICE)[:, None]
    positions = torch.arange(len(k), device=DEVICE)
    hidden = positions > last
    if window:
        hidden |= positions <= last - window
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), values)


STEPS = [
    [(0, 0, 50), (1, 0, 17)],
    [(0, 50, 1), (2, 0, 1), (1, 17, 100)],
    [(0, 51, 1), (2, 1, 1), (1, 117, 1), (3, 0, 200), (4, 0, 16)],
    [(3, 200, 1), (0, 52, 1)],
    [(4, 16, 33)],
    [(4, 49, 200), (0, 53, 7), (1, 118, 1)],
]


def as_kept(x: Tensor, spec: AttentionSpec, scale: float) -> Tensor:
    return from_cached(as_cached(x, spec.dtype, scale), torch.float32, scale)


def assert_steps_attend_to_all_that_came_before(backend: AttentionBackend) -> None:
    """Runs STEPS in every layer, compared with attention in float64; layer 0 without rotation."""
    assert isinstance(backend, NativeCudaAttention)
    spec = backend.spec
    dtype = torch.bfloat16 if spec.dtype == torch.float8_e4m3fn else spec.dtype
    frequencies = inverse_frequencies(RopeConfig(), spec.head_dim)
    backend.kv_cache.view(torch.uint8).fill_(0xFF)  # NaN
    history = {(layer, s): ([], []) for layer in range(spec.num_layers) for s in range(5)}
    torch.manual_seed(0)
    for number, chunks in enumerate(STEPS):
        step = make_step(chunks)
        backend.num_ctas = (132, 7)[number % 2]
        backend.plan(step)
        for layer in range(spec.num_layers):
            num_heads = (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
            qkv = torch.randn(len(step.positions), sum(num_heads), spec.head_dim, device=DEVICE).to(dtype)
            q, k, v = qkv.split(num_heads, dim=1)
            if layer == 0:
                out = backend.forward(layer, q, k, v)
            else:  # the backend rotates, the test does so first
                positions = torch.from_numpy(step.positions).to(DEVICE)
                rotation = rotation_at(positions, frequencies.to(DEVICE), dtype)
                heads = q.clone(), k.clone()
                rotate_(q, rotation)
                rotate_(k, rotation)
                out = backend.forward(layer, *heads, v, rotation)
            assert out.shape == q.shape
            k_scale, v_scale = spec.kv_scale(layer)
            kept_k, kept_v = as_kept(k, spec, k_scale), as_kept(v, spec, v_scale)
            for (sequence, before, new), begin, end in zip(chunks, step.qo_indptr, step.qo_indptr[1:], strict=False):
                keys, values = history[layer, sequence]
                keys.append(kept_k[begin:end])
                values.append(kept_v[begin:end])
                if before == 0 and new > 1 and not spec.softcap:  # a whole prompt attends to what it brings, unrounded
                    seen_k, seen_v = k[begin:end], v[begin:end]
                else:
                    seen_k, seen_v = torch.cat(keys), torch.cat(values)
                expected = attend(q[begin:end], seen_k, seen_v, spec.window(layer), spec.softcap)
                error = (out[begin:end].double() - expected).norm() / expected.norm()
                assert error < 1e-2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"head_dim": 128, "dtype": torch.float16},
        {"head_dim": 80, "num_heads": 6},
        {"head_dim": 96, "num_heads": 2},
        {"head_dim": 256, "softcap": 5.0, "windows": (24, 0)},
        {"head_dim": 128, "windows": (60, 60), "dtype": torch.float16},
        {"head_dim": 64, "num_heads": 64},
        {"head_dim": 16, "num_heads": 142},
        {"dtype": torch.float8_e4m3fn, "kv_scales": ((1.0, 1.0), (0.5, 0.3))},
        {"dtype": torch.float8_e4m3fn, "head_dim": 80, "softcap": 5.0, "kv_scales": ((1.0, 1.0), (0.5, 0.3))},
    ],
    ids=str,
)
def test_steps_of_any_shape_that_mix_decodes_and_chunks_attend_to_all_that_came_before(
    change: dict[str, object],
) -> None:
    assert_steps_attend_to_all_that_came_before(create_backend("native_cuda", make_spec(**change)))


def test_sequences_that_share_blocks_are_read_once_where_it_pays_with_the_same_answer() -> None:
    num_sequences, shared, own = 24, 2048, 40
    kv_len = shared + own
    backend = NativeCudaAttention(make_spec(num_kv_heads=4, num_heads=16, num_blocks=2048))
    backend.kv_cache.normal_()
    shared_blocks = np.arange(shared // BLOCK_SIZE)
    own_blocks = -(-own // BLOCK_SIZE)
    tables = [
        np.concatenate((shared_blocks, 1000 + own_blocks * s + np.arange(own_blocks))) for s in range(num_sequences)
    ]
    slots = np.array([int(table[-1]) * BLOCK_SIZE + (kv_len - 1) % BLOCK_SIZE for table in tables])
    step = StepTensors(
        qo_indptr=np.arange(num_sequences + 1, dtype=np.int32),
        kv_lens=np.full(num_sequences, kv_len, np.int32),
        block_indptr=np.arange(num_sequences + 1, dtype=np.int32) * len(tables[0]),
        block_table=np.concatenate(tables).astype(np.int32),
        slot_mapping=slots,
        positions=np.full(num_sequences, kv_len - 1, np.int32),
    )
    torch.manual_seed(0)
    q = torch.randn(num_sequences, 16, HEAD_DIM, dtype=torch.bfloat16, device=DEVICE)
    k, v = torch.randn(2, num_sequences, 4, HEAD_DIM, dtype=torch.bfloat16, device=DEVICE)
    outputs = []
    for backend.share_prefixes in (False, True):
        backend.plan(step)
        assert backend.reads_shared == backend.share_prefixes
        outputs.append(backend.forward(0, q, k, v))
    assert (outputs[1] - outputs[0]).norm() < 1e-2 * outputs[0].norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": torch.device("cpu")}, "device is cpu"),
        ({"dtype": torch.float32}, "dtype is torch.float32"),
        ({"head_dim": 72}, "head_dim is 72"),
    ],
)
def test_what_the_kernels_lack_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NativeCudaAttention(make_spec(**change))
