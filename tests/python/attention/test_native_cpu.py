"""The C++ CPU backend against the torch reference, and the binding's refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from blendserve import _core
from blendserve.attention import AttentionBackend, AttentionSpec, StepTensors, create_backend
from blendserve.errors import UserError
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

SPEC = AttentionSpec(
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=24,
    num_blocks=64,
    block_size=8,
    dtype=torch.float32,
    device=torch.device("cpu"),
)


@pytest.fixture(params=["scalar", "avx2", "auto"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa("auto")


def blocks_of(sequence: int) -> np.ndarray:
    """Every fourth block, from the last one down: four sequences of at most 128 positions never meet."""
    return np.arange(SPEC.num_blocks - 1 - sequence, -1, -4, dtype=np.int32)


def step(*chunks: tuple[int, int, int]) -> StepTensors:
    """Chunks (sequence, positions already cached, query tokens)."""
    positions = [np.arange(done, done + qo_len, dtype=np.int32) for _, done, qo_len in chunks]
    tables = [blocks_of(s)[: -(-(done + qo_len) // SPEC.block_size)] for s, done, qo_len in chunks]
    slots = [
        blocks_of(s)[p // SPEC.block_size].astype(np.int64) * SPEC.block_size + p % SPEC.block_size
        for (s, _, _), p in zip(chunks, positions, strict=True)
    ]
    return StepTensors(
        qo_indptr=np.cumsum([0, *(len(p) for p in positions)], dtype=np.int32),
        kv_lens=np.array([done + qo_len for _, done, qo_len in chunks], np.int32),
        block_indptr=np.cumsum([0, *(len(t) for t in tables)], dtype=np.int32),
        block_table=np.concatenate(tables),
        slot_mapping=np.concatenate(slots),
        positions=np.concatenate(positions),
    )


def qkv(num_tokens: int, seed: int, spec: AttentionSpec = SPEC) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
    q, k, v = (torch.randn(num_tokens, n, spec.head_dim, generator=generator) for n in heads)
    return q, k, v


def forward(backend: AttentionBackend, plan: StepTensors, seed: int, layer: int = 0) -> torch.Tensor:
    backend.plan(plan)
    return backend.forward(layer, *qkv(len(plan.slot_mapping), seed, backend.spec))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("isa")
def test_prefill_chunks_and_decodes_in_one_step_equal_the_reference(dtype: torch.dtype) -> None:
    spec = replace(SPEC, dtype=dtype)
    native, reference = create_backend("native_cpu", spec), create_backend("torch_ref", spec)
    steps = [step((0, 0, 1), (1, 0, 50)), step((0, 1, 1), (1, 50, 1), (2, 0, 9)), step((1, 51, 30), (2, 9, 100))]
    for seed, plan in enumerate(steps):
        for layer in (0, 1):
            out = forward(native, plan, 2 * seed + layer, layer)
            expected = forward(reference, plan, 2 * seed + layer, layer)
            torch.testing.assert_close(out, expected, rtol=0, atol=3e-6)


def test_bfloat16_cache_differs_from_float32_by_its_rounding_alone() -> None:
    plan = step((0, 0, 60))
    exact = forward(create_backend("native_cpu", SPEC), plan, 5)
    rounded = forward(create_backend("native_cpu", replace(SPEC, dtype=torch.bfloat16)), plan, 5)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.03)


@pytest.mark.usefixtures("isa")
def test_rows_are_bitwise_equal_however_a_prompt_is_chunked_and_batched() -> None:
    q, k, v = qkv(100, 1)
    whole = create_backend("native_cpu", SPEC)
    whole.plan(step((0, 0, 100)))
    expected = whole.forward(0, q, k, v)
    chunked = create_backend("native_cpu", SPEC)
    for begin, end in [(0, 1), (1, 40), (40, 41), (41, 100)]:
        company = qkv(20, end)
        chunked.plan(step((3, 0, 20), (0, begin, end - begin)))
        mixed = [torch.cat([other, own[begin:end]]) for other, own in zip(company, (q, k, v), strict=True)]
        assert torch.equal(chunked.forward(0, *mixed)[20:], expected[begin:end])


def test_threads_do_not_change_a_bit() -> None:
    outs = []
    before = _core.num_threads()
    for num_threads in (1, 2, 3):
        _core.set_num_threads(num_threads)
        assert _core.num_threads() == num_threads
        outs.append(forward(create_backend("native_cpu", SPEC), step((0, 0, 100), (1, 0, 3)), 1))
    _core.set_num_threads(before)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_rows_of_a_fused_projection_need_no_copy() -> None:
    plan = step((0, 0, 30))
    q, k, v = qkv(30, 1)
    fused = torch.cat([q, k, v], dim=1)
    backend = create_backend("native_cpu", SPEC)
    backend.plan(plan)
    out = backend.forward(0, fused[:, :6], fused[:, 6:8], fused[:, 8:])
    assert torch.equal(out, forward(create_backend("native_cpu", SPEC), plan, 1))


def test_bfloat16_activations_come_back_as_bfloat16() -> None:
    plan = step((0, 0, 30))
    q, k, v = (x.bfloat16() for x in qkv(30, 1))
    native, reference = create_backend("native_cpu", SPEC), create_backend("torch_ref", SPEC)
    native.plan(plan)
    reference.plan(plan)
    out = native.forward(0, q, k, v)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, reference.forward(0, q, k, v), rtol=0.01, atol=0.01)


def test_kv_append_rounds_to_nearest_even_and_writes_only_its_slots() -> None:
    kv = torch.full((3, 2, 1, 4, 2), -1.0, dtype=torch.bfloat16)
    k = torch.tensor([[[1.0 + 2**-8, 1.0 + 3 * 2**-8]]])
    v = torch.tensor([[[2.5, -3.0]]])
    _core.kv_append(k, v, kv, np.array([6]))
    expected = torch.full_like(kv, -1.0)
    expected[1, 0, 0, 2] = torch.tensor([1.0, 1.0 + 2**-6], dtype=torch.bfloat16)
    expected[1, 1, 0, 2] = torch.tensor([2.5, -3.0], dtype=torch.bfloat16)
    assert torch.equal(kv, expected)


def transformers_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, softcap: float
) -> torch.Tensor:
    """One sequence by transformers' own mask and the attention of its Gemma 2."""
    module = torch.nn.Module()
    module.head_dim, module.num_key_value_groups, module.training = q.shape[-1], q.shape[1] // k.shape[1], False
    visible = sliding_window_causal_mask_function(window) if window else causal_mask_function
    position = torch.arange(len(q))
    mask = torch.where(visible(0, 0, position[:, None], position), 0.0, float("-inf"))
    heads_first = (x.double().transpose(0, 1)[None] for x in (q, k, v))
    out, _ = eager_attention_forward(module, *heads_first, mask, softcap=softcap or None)
    return out[0].float()


def attend_windowed(
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor], chunk_len: int, window: int, softcap: float
) -> torch.Tensor:
    """All rows of sequence 0, in chunks."""
    kv, outs = np.empty(SPEC.layer_shape, np.float32), []
    for done in range(0, len(qkv[0]), chunk_len):
        q, k, v = (x[done : done + chunk_len] for x in qkv)
        plan, out = step((0, done, len(q))), np.empty(q.shape, np.float32)
        _core.kv_append(k, v, kv, plan.slot_mapping)
        indices = (plan.qo_indptr, plan.kv_lens, plan.block_indptr, plan.block_table)
        _core.paged_attention(q, kv, out, *indices, SPEC.scale, window=window, softcap=softcap)
        outs.append(torch.from_numpy(out))
    return torch.cat(outs)


@pytest.mark.parametrize("softcap", [0.0, 3.0, 50.0])
@pytest.mark.parametrize("window", [0, 1, 17, 64, 1000])
@pytest.mark.usefixtures("isa")
def test_windows_and_soft_caps_are_those_of_transformers(window: int, softcap: float) -> None:
    inputs = qkv(120, 3)
    out = attend_windowed(inputs, 120, window, softcap)
    torch.testing.assert_close(out, transformers_attention(*inputs, window, softcap), rtol=0, atol=3e-6)
    assert torch.equal(attend_windowed(inputs, 31, window, softcap), out)


class TestRefusals:
    def call(self, **changes: object) -> None:
        arguments: dict[str, object] = {
            "q": np.zeros((3, 4, 8), np.float32),
            "kv": np.zeros((5, 2, 2, 4, 8), np.float32),
            "out": np.zeros((3, 4, 8), np.float32),
            "qo_indptr": np.array([0, 3], np.int32),
            "kv_lens": np.array([6], np.int32),
            "block_indptr": np.array([0, 2], np.int32),
            "block_table": np.array([4, 0], np.int32),
            "scale": 1.0,
        }
        _core.paged_attention(**(arguments | changes))  # type: ignore[arg-type]

    def test_the_arguments_without_changes_are_good(self) -> None:
        self.call()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"q": [1.0]}, "q is a list; pass a tensor with __dlpack__"),
            ({"q": np.zeros((3, 4, 8))}, "q has dtype float64; it must be float32"),
            ({"q": torch.zeros(3, 4, 8, requires_grad=True)}, "q does not lend its memory through __dlpack__"),
            ({"q": torch.zeros(3, 4, 8).bfloat16()}, "q has dtype bfloat16; it must be float32"),
            ({"q": np.zeros((3, 32), np.float32)}, r"q has shape \[3, 32\]; it must be \[T, num_heads, head_dim\]"),
            ({"q": torch.zeros(3, 8, 4).transpose(1, 2)}, "q is not contiguous"),
            ({"q": torch.zeros(1, 4, 8).expand(3, 4, 8)}, "q overlaps itself"),
            ({"out": np.zeros((2, 4, 8), np.float32)}, r"out has shape \[2, 4, 8\]; .* = \[3, 4, 8\]"),
            ({"out": torch.zeros(3, 8, 8)[:, :4]}, "out is not contiguous"),
            ({"kv": np.zeros((5, 2, 2, 4, 8), np.float16)}, "kv has dtype float16; it must be float32 or bfloat16"),
            ({"kv": np.zeros((5, 3, 2, 4, 8), np.float32)}, r"kv has shape \[5, 3, 2, 4, 8\]"),
            ({"kv": np.zeros((5, 2, 3, 4, 8), np.float32)}, "4 query heads and 3 KV heads"),
            ({"kv_lens": np.array([9], np.int32)}, r"kv_lens\[0\] is 9; its blocks hold 8 positions"),
            ({"kv_lens": np.array([6])}, "kv_lens must be a contiguous array of dtype int32"),
            ({"qo_indptr": np.array([0], np.int32)}, "qo_indptr has 1 elements; it must have 2"),
            ({"block_table": np.array([5, 0], np.int32)}, r"block_table\[0\] is 5; the cache has blocks 0 to 4"),
            ({"window": -1}, "window is -1 and softcap 0.0"),
            ({"softcap": float("inf")}, "window is 0 and softcap inf"),
            ({"block_table": np.array([4], np.int32)}, "block_table has 1 elements; it must have 2"),
        ],
    )
    def test_paged_attention_names_what_is_wrong(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.call(**changes)

    def test_kv_append_names_what_is_wrong(self) -> None:
        kv = np.zeros((5, 2, 2, 4, 8), np.float32)
        k = np.zeros((2, 2, 8), np.float32)
        with pytest.raises(ValueError, match=r"slot_mapping\[1\] is 20; the cache has slots 0 to 19"):
            _core.kv_append(k, k, kv, np.array([0, 20]))
        with pytest.raises(ValueError, match=r"v has shape \[2, 1, 8\]; .* = \[2, 2, 8\]"):
            _core.kv_append(k, k[:, :1], kv, np.array([0, 1]))

    def test_backends_name_what_is_wrong(self) -> None:
        with pytest.raises(
            UserError,
            match="attention backend is 'fast'; choose one of auto, flashinfer, native_cpu, native_cuda, torch_ref",
        ):
            create_backend("fast", SPEC)
        with pytest.raises(UserError, match=r"dtype is torch\.float16"):
            create_backend("native_cpu", replace(SPEC, dtype=torch.float16))
        with pytest.raises(UserError, match="device is meta"):
            create_backend("native_cpu", replace(SPEC, device=torch.device("meta")))
        with pytest.raises(UserError, match=r"num_heads is 5; it must be a multiple of num_kv_heads \(2\)"):
            replace(SPEC, num_heads=5)
        with pytest.raises(UserError, match="block_size is 0; it must be 1 or more"):
            replace(SPEC, block_size=0)

    def test_isa_and_threads_name_what_is_wrong(self) -> None:
        with pytest.raises(ValueError, match='isa is "sse"; it must be "scalar", "avx2", "avx512" or "auto"'):
            _core.set_isa("sse")
        with pytest.raises(ValueError, match="num_threads is 0; it must be 1 or more"):
            _core.set_num_threads(0)
