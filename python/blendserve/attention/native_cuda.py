"""Attention on an NVIDIA GPU with this project's own kernels; prefill chunks go through torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.cuda_library import DecodeBatch, KvAppendParams, PagedDecodeParams, load_cuda_library
from blendserve.attention.kv_elements import as_indexable, from_cached
from blendserve.attention.rotation import Rotation
from blendserve.errors import UserError

__all__ = ["NativeCudaAttention"]

_DTYPE_CODES = {torch.bfloat16: 0, torch.float16: 1}
_KV_DTYPE_CODES = {**_DTYPE_CODES, torch.float8_e4m3fn: 2}
_HEAD_DIMS = (64, 128)
_MAX_GROUP = 16
_ALIGNMENT = 16
_SHARING_WORKSPACE_BYTES = 64 << 20  # of partial results


@dataclass(frozen=True, slots=True)
class _PrefillChunk:
    """Tokens [begin, end) of the step: the last of their sequence's kv_len positions."""

    begin: int
    end: int
    kv_len: int
    blocks: Tensor


class _StepBuffer:
    """A pinned host buffer and its device twin: all arrays of a step reach the device in one asynchronous copy."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._reserve(1 << 20)

    def _reserve(self, num_bytes: int) -> None:
        self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
        self._on_device = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)

    def begin(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """The host side, at least `num_bytes` long, once the copy of the last step has left it."""
        self._copied.synchronize()
        if num_bytes > len(self._host):
            self._reserve(2 * num_bytes)
        view: npt.NDArray[np.uint8] = self._host.numpy()
        return view

    def send(self, num_bytes: int) -> Tensor:
        """Queues the copy of the first `num_bytes`; returns the device side."""
        self._on_device[:num_bytes].copy_(self._host[:num_bytes], non_blocking=True)
        self._copied.record()
        return self._on_device


class NativeCudaAttention:
    """Sequences with one new token take `paged_decode`, longer chunks torch's attention on gathered keys and values.

    num_ctas: how many multiprocessors decode attention may take, all of them at first; set it before `plan`.
    share_prefixes: whether blocks that several sequences share may be read once for all; the plan of each step decides
        where that pays.
    """

    name = "native_cuda"

    def __init__(self, spec: AttentionSpec) -> None:
        reason = _unsupported(spec)
        if reason is not None:
            raise UserError(f"{reason}; choose another attention backend")
        self.spec = spec
        self.share_prefixes = True
        self.num_ctas = torch.cuda.get_device_properties(spec.device).multi_processor_count
        self.kv_cache = torch.empty((spec.num_layers, *spec.layer_shape), dtype=spec.dtype, device=spec.device)
        self._device_index = self.kv_cache.device.index
        self._layer_pointers = [layer.data_ptr() for layer in self.kv_cache]
        self._library = load_cuda_library()
        self._buffer = _StepBuffer(spec.device)
        self._workspace = torch.empty(0, dtype=torch.uint8, device=spec.device)
        group = spec.num_heads // spec.num_kv_heads
        self._partial_bytes = self._library.decode_partial_bytes(group, spec.head_dim)
        self._num_decodes = -1  # before the first plan()
        self._prefills: list[_PrefillChunk] = []
        self._append = KvAppendParams(
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            kv_dtype=_KV_DTYPE_CODES[spec.dtype],
        )
        self._batch = DecodeBatch(
            num_kv_heads=spec.num_kv_heads,
            group=group,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            kv_element_bytes=spec.dtype.itemsize,
        )
        self._decode = PagedDecodeParams(
            num_blocks=spec.num_blocks,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            kv_dtype=_KV_DTYPE_CODES[spec.dtype],
            scale=spec.scale,
        )

    def plan(self, step: StepTensors) -> None:
        """Divides the step's work and queues one copy to the device; nothing waits for the device's last step."""
        qo_lens = np.diff(step.qo_indptr)
        chunks = np.flatnonzero(qo_lens != 1)
        self._num_decodes = int(chunks[0]) if len(chunks) else len(qo_lens)

        table_at = _aligned(step.slot_mapping.nbytes)
        plan_at = table_at + _aligned(step.block_table.nbytes)
        max_partials = self._reserve_workspace()
        plan_bytes = self._library.decode_plan_bytes(
            self._num_decodes, self.spec.num_kv_heads, self.num_ctas, max_partials
        )
        host = self._buffer.begin(plan_at + plan_bytes)
        host[: step.slot_mapping.nbytes] = step.slot_mapping.view(np.uint8)
        host[table_at : table_at + step.block_table.nbytes] = step.block_table.view(np.uint8)
        self._batch.num_ctas, self._batch.max_partials = self.num_ctas, max_partials
        planned = self._library.decode_plan(
            self._batch,
            step.kv_lens[: self._num_decodes],
            step.block_indptr[: self._num_decodes + 1],
            step.block_table if self.share_prefixes else None,
            host[plan_at : plan_at + plan_bytes],
        )
        on_device = self._buffer.send(plan_at + planned.used_bytes)

        block_table = on_device[table_at : table_at + step.block_table.nbytes].view(torch.int32)
        self._prefills = [
            _PrefillChunk(
                begin=int(step.qo_indptr[row]),
                end=int(step.qo_indptr[row + 1]),
                kv_len=int(step.kv_lens[row]),
                blocks=block_table[int(step.block_indptr[row]) : int(step.block_indptr[row + 1])],
            )
            for row in range(self._num_decodes, len(qo_lens))
        ]
        self._append.num_tokens = len(step.slot_mapping)
        self._append.slot_mapping = on_device.data_ptr()
        self._decode.num_ctas, self._decode.max_partials = self.num_ctas, max_partials
        self._decode.read_shared = int(planned.num_shared_items > 0)
        self._decode.block_table = block_table.data_ptr()
        self._decode.plan = on_device.data_ptr() + plan_at

    @property
    def reads_shared(self) -> bool:
        """Whether the planned step reads some blocks once for several sequences."""
        return bool(self._decode.read_shared)

    def forward(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None = None) -> Tensor:
        """See `AttentionBackend.forward`. The token rows of q, k and v may be slices of wider rows."""
        if self._num_decodes < 0:
            raise RuntimeError("forward() before plan(): call plan(step) once per step")
        stream = torch._C._cuda_getCurrentRawStream(self._device_index)  # current_stream() takes 10 us
        q, k, v = _dense_rows(q), _dense_rows(k), _dense_rows(v)
        self._append_tokens(layer, q, k, v, rotation, stream)
        out = q.new_empty(q.shape)
        if self._num_decodes:
            self._attend_decodes(layer, q, out, stream)
        for chunk in self._prefills:
            rows = slice(chunk.begin, chunk.end)
            out[rows] = self._attend_chunk(layer, chunk, q[rows], k[rows], v[rows])
        return out

    def _append_tokens(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None, stream: int
    ) -> None:
        """Rotates q and k in place if there is a rotation."""
        cos, signed_sin = (None, None) if rotation is None else (factors.data_ptr() for factors in rotation)
        self._append.cos, self._append.signed_sin = cos, signed_sin
        self._append.q, self._append.q_stride = q.data_ptr(), q.stride(0)
        self._append.k, self._append.k_stride = k.data_ptr(), k.stride(0)
        self._append.v, self._append.v_stride = v.data_ptr(), v.stride(0)
        self._append.kv, self._append.dtype = self._layer_pointers[layer], _DTYPE_CODES[q.dtype]
        self._append.k_scale, self._append.v_scale = self.spec.kv_scale(layer)
        self._library.kv_append(self._append, stream)

    def _attend_decodes(self, layer: int, q: Tensor, out: Tensor, stream: int) -> None:
        self._decode.q, self._decode.q_stride = q.data_ptr(), q.stride(0)
        self._decode.out, self._decode.out_stride = out.data_ptr(), out.stride(0)
        self._decode.kv, self._decode.dtype = self._layer_pointers[layer], _DTYPE_CODES[q.dtype]
        self._decode.k_scale, self._decode.v_scale = self.spec.kv_scale(layer)
        self._library.paged_decode(self._decode, stream)

    def _attend_chunk(self, layer: int, chunk: _PrefillChunk, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        starts_sequence = len(q) == chunk.kv_len
        keys, values = (
            (k.transpose(0, 1), v.transpose(0, 1)) if starts_sequence else self._gather(layer, chunk, q.dtype)
        )
        attended = scaled_dot_product_attention(
            q.transpose(0, 1).unsqueeze(0),
            keys.unsqueeze(0),
            values.unsqueeze(0),
            attn_mask=None if starts_sequence else causal_lower_right(len(q), chunk.kv_len),
            is_causal=starts_sequence,
            scale=self.spec.scale,
            enable_gqa=self.spec.num_heads > self.spec.num_kv_heads,
        )
        return attended.squeeze(0).transpose(0, 1)

    def _gather(self, layer: int, chunk: _PrefillChunk, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The keys and values of all the sequence's positions, each [num_kv_heads, kv_len, head_dim], in `dtype`."""
        cache = as_indexable(self.kv_cache[layer])
        tiles = cache.index_select(0, chunk.blocks)  # whole blocks: index_select is slow on small rows
        keys, values = tiles.view(self.spec.dtype).permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, : chunk.kv_len]
        k_scale, v_scale = self.spec.kv_scale(layer)
        return from_cached(keys, dtype, k_scale), from_cached(values, dtype, v_scale)

    def _reserve_workspace(self) -> int:
        """Memory for the partial results of a step; returns how many they may be."""
        max_partials = 2 * self.num_ctas
        if self.share_prefixes:
            max_partials = max(max_partials, _SHARING_WORKSPACE_BYTES // self._partial_bytes)
        needed = max_partials * self._partial_bytes
        if needed > len(self._workspace):
            self._workspace = torch.empty(needed, dtype=torch.uint8, device=self.spec.device)
            self._decode.workspace, self._decode.workspace_bytes = self._workspace.data_ptr(), needed
        return max_partials


def _unsupported(spec: AttentionSpec) -> str | None:
    """What of `spec` the kernels lack, in words."""
    group = spec.num_heads // spec.num_kv_heads
    if spec.device.type != "cuda":
        return f"device is {spec.device}, but native_cuda attention runs on an NVIDIA GPU"
    if spec.dtype not in _KV_DTYPE_CODES:
        return f"dtype is {spec.dtype}, but native_cuda attention keeps bfloat16, float16 or float8_e4m3fn"
    if spec.head_dim not in _HEAD_DIMS:
        return f"head_dim is {spec.head_dim}, but native_cuda attention has {_HEAD_DIMS}"
    if group > _MAX_GROUP:
        return f"{group} query heads share a KV head, but native_cuda attention has at most {_MAX_GROUP}"
    if any(spec.windows):
        return f"layers attend to a window of {max(spec.windows)} tokens, which native_cuda attention lacks"
    if spec.softcap:
        return f"attention scores are capped at {spec.softcap:g}, which native_cuda attention lacks"
    return None


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _dense_rows(x: Tensor) -> Tensor:
    """x [T, heads, head_dim] with dense rows: as it is, or copied when its heads are not side by side."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()
