"""Attention on an NVIDIA GPU: this project's own kernels, torch's for whole prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from blendserve.attention.any_shape import AnyShapeAttention
from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.cuda_library import (
    DecodeBatch,
    KvAppendParams,
    PagedDecodeParams,
    load_cuda_library,
)
from blendserve.attention.dtype_codes import DTYPE_CODES, KV_DTYPE_CODES
from blendserve.attention.flashinfer import FlashInferPrefill
from blendserve.attention.portion import DeviceStep, LayerCache, PlannedPortion, Portion, divide, windows_of_step
from blendserve.attention.rotation import Rotation
from blendserve.errors import UserError

__all__ = ["NativeCudaAttention"]

_DECODE_HEAD_DIMS = (64, 128)  # of paged_decode
_MAX_DECODE_GROUP = 16
_MAX_HEAD_DIM = 256  # of paged_attention
_HEAD_DIM_STEP = 16
_ALIGNMENT = 16
_SHARING_WORKSPACE_BYTES = 64 << 20  # of partial results


@dataclass(frozen=True, slots=True)
class _LayerWork:
    """Who computes what of the planned step in the layers of one window."""

    has_decodes: bool  # the step's leading decodes, by paged_decode
    prompts: list[slice]  # query tokens of whole prompts, by torch
    portions: list[tuple[PlannedPortion, int]]  # with the address of each one's plan


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
    """Decodes take `paged_decode`, whole prompts torch's attention, all else the kernel that takes any shape: chunks
    after a cached prefix, windows, caps, and decodes of heads that `paged_decode` lacks.

    num_ctas: how many multiprocessors this project's attention kernels may take, all of them at first; set it before
        `plan`.
    with_flashinfer: prompts and chunks take FlashInfer's prefill in layers without windows and caps.
    share_prefixes: whether blocks that several sequences share may be read once for all; the plan of each step decides
        where that pays.
    """

    def __init__(self, spec: AttentionSpec, *, with_flashinfer: bool = False) -> None:
        reason = _unsupported(spec)
        if reason is not None:
            raise UserError(f"{reason}; choose another attention backend")
        self.name = "flashinfer" if with_flashinfer else "native_cuda"
        self.spec = spec
        self.share_prefixes = True
        self.num_ctas = torch.cuda.get_device_properties(spec.device).multi_processor_count
        self.kv_cache = torch.empty((spec.num_layers, *spec.layer_shape), dtype=spec.dtype, device=spec.device)
        self._device_index = self.kv_cache.device.index
        self._layers = [
            LayerCache(layer.data_ptr(), *spec.kv_scale(number)) for number, layer in enumerate(self.kv_cache)
        ]
        self._library = load_cuda_library()
        self._buffer = _StepBuffer(spec.device)
        self._workspace = torch.empty(0, dtype=torch.uint8, device=spec.device)
        group = spec.num_heads // spec.num_kv_heads
        self._partial_bytes = self._library.decode_partial_bytes(group, spec.head_dim)
        self._has_decode = spec.head_dim in _DECODE_HEAD_DIMS and group <= _MAX_DECODE_GROUP and not spec.softcap
        self._any_shape = AnyShapeAttention(spec, self._library)
        self._prefill = FlashInferPrefill(spec, self._library) if with_flashinfer else None
        self._windows: list[int] = []  # of the planned step's layers
        self._work: dict[int, _LayerWork] = {}  # by window
        self._append = KvAppendParams(
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            block_size=spec.block_size,
            kv_dtype=KV_DTYPE_CODES[spec.dtype],
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
            kv_dtype=KV_DTYPE_CODES[spec.dtype],
            scale=spec.scale,
        )

    def plan(self, step: StepTensors) -> None:
        """Divides the step's work and queues one copy to the device; nothing waits for the device's last step."""
        spec = self.spec
        self._windows = windows_of_step(spec, step)
        divisions = {
            window: divide(
                step,
                window,
                has_cap=spec.softcap != 0,
                has_decode=self._has_decode,
                takes_prefill=None if self._prefill is None else self._prefill.takes,
            )
            for window in sorted(set(self._windows))
        }
        portions = [
            (window, kernel, Portion.of(step, sequences, window))
            for window, division in divisions.items()
            for kernel, sequences in ((self._prefill, division.chunks), (self._any_shape, division.rest))
            if kernel is not None and len(sequences)
        ]
        num_decodes = max(division.num_decodes for division in divisions.values())
        max_partials = self._reserve_workspace(has_portions=bool(portions))

        table_at = _aligned(step.slot_mapping.nbytes)
        at = plan_at = table_at + _aligned(step.block_table.nbytes)
        host = self._buffer.begin(
            plan_at
            + _aligned(self._library.decode_plan_bytes(num_decodes, spec.num_kv_heads, self.num_ctas, max_partials))
            + sum(_aligned(kernel.plan_bytes(portion, self.num_ctas)) for _, kernel, portion in portions)
        )
        host[: step.slot_mapping.nbytes] = step.slot_mapping.view(np.uint8)
        host[table_at : table_at + step.block_table.nbytes] = step.block_table.view(np.uint8)
        self._decode.read_shared = 0
        if num_decodes:
            at += _aligned(self._plan_decodes(step, num_decodes, max_partials, host[at:]))
        planned: dict[int, list[tuple[PlannedPortion, int]]] = {window: [] for window in divisions}
        for window, kernel, portion in portions:
            planned_portion = kernel.plan(portion, self.num_ctas, host[at:])
            planned[window].append((planned_portion, at))
            at += _aligned(planned_portion.used_bytes)
        on_device = self._buffer.send(at).data_ptr()

        self._work = {
            window: _LayerWork(
                has_decodes=division.num_decodes > 0,
                prompts=[slice(int(step.qo_indptr[s]), int(step.qo_indptr[s + 1])) for s in division.prompts],
                portions=[(each, on_device + place) for each, place in planned[window]],
            )
            for window, division in divisions.items()
        }
        self._append.num_tokens = len(step.slot_mapping)
        self._append.slot_mapping = on_device
        self._decode.block_table = on_device + table_at
        self._decode.plan = on_device + plan_at
        self._device_step = DeviceStep(
            block_table=on_device + table_at,
            workspace=self._workspace.data_ptr(),
            workspace_bytes=len(self._workspace),
        )

    def _plan_decodes(self, step: StepTensors, num_decodes: int, max_partials: int, host: npt.NDArray[np.uint8]) -> int:
        """Returns the bytes of the plan that are to reach the device."""
        self._batch.num_ctas, self._batch.max_partials = self.num_ctas, max_partials
        planned = self._library.decode_plan(
            self._batch,
            step.kv_lens[:num_decodes],
            step.block_indptr[: num_decodes + 1],
            step.block_table if self.share_prefixes else None,
            host,
        )
        self._decode.num_ctas, self._decode.max_partials = self.num_ctas, max_partials
        self._decode.read_shared = int(planned.num_shared_items > 0)
        return int(planned.used_bytes)

    @property
    def reads_shared(self) -> bool:
        """Whether the planned step reads some blocks once for several sequences."""
        return bool(self._decode.read_shared)

    def forward(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None = None) -> Tensor:
        """See `AttentionBackend.forward`. The token rows of q, k and v may be slices of wider rows."""
        if not self._work:
            raise RuntimeError("forward() before plan(): call plan(step) once per step")
        stream = torch._C._cuda_getCurrentRawStream(self._device_index)  # current_stream() takes 10 us
        q, k, v = _dense_rows(q), _dense_rows(k), _dense_rows(v)
        self._append_tokens(layer, q, k, v, rotation, stream)
        out = q.new_empty(q.shape)
        work = self._work[self._windows[layer]]
        if work.has_decodes:
            self._attend_decodes(layer, q, out, stream)
        for tokens in work.prompts:
            out[tokens] = self._attend_prompt(q[tokens], k[tokens], v[tokens])
        for portion, plan in work.portions:
            portion.attend(self._device_step, plan, self._layers[layer], q, out, stream)
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
        cache = self._layers[layer]
        self._append.kv, self._append.dtype = cache.address, DTYPE_CODES[q.dtype]
        self._append.k_scale, self._append.v_scale = cache.k_scale, cache.v_scale
        self._library.kv_append(self._append, stream)

    def _attend_decodes(self, layer: int, q: Tensor, out: Tensor, stream: int) -> None:
        self._decode.q, self._decode.q_stride = q.data_ptr(), q.stride(0)
        self._decode.out, self._decode.out_stride = out.data_ptr(), out.stride(0)
        cache = self._layers[layer]
        self._decode.kv, self._decode.dtype = cache.address, DTYPE_CODES[q.dtype]
        self._decode.k_scale, self._decode.v_scale = cache.k_scale, cache.v_scale
        self._library.paged_decode(self._decode, stream)

    def _attend_prompt(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended = scaled_dot_product_attention(
            q.transpose(0, 1).unsqueeze(0),
            k.transpose(0, 1).unsqueeze(0),
            v.transpose(0, 1).unsqueeze(0),
            is_causal=True,
            scale=self.spec.scale,
            enable_gqa=self.spec.num_heads > self.spec.num_kv_heads,
        )
        return attended.squeeze(0).transpose(0, 1)

    def _reserve_workspace(self, has_portions: bool) -> int:
        """Memory for the partial results of a step; returns how many those of paged_decode may be."""
        max_partials = 2 * self.num_ctas
        if self.share_prefixes:
            max_partials = max(max_partials, _SHARING_WORKSPACE_BYTES // self._partial_bytes)
        needed = max_partials * self._partial_bytes if self._has_decode else 0
        if has_portions:
            needed = max(needed, self._library.attention_workspace_bytes(self.num_ctas, self.spec.head_dim))
        if needed > len(self._workspace):
            self._workspace = torch.empty(needed, dtype=torch.uint8, device=self.spec.device)
            self._decode.workspace, self._decode.workspace_bytes = self._workspace.data_ptr(), needed
        return max_partials


def _unsupported(spec: AttentionSpec) -> str | None:
    """What of `spec` the kernels lack, in words."""
    if spec.device.type != "cuda":
        return f"device is {spec.device}, but native_cuda attention runs on an NVIDIA GPU"
    if spec.dtype not in KV_DTYPE_CODES:
        return f"the KV cache is {spec.dtype}, but native_cuda attention keeps bfloat16, float16 or float8_e4m3fn"
    if spec.head_dim > _MAX_HEAD_DIM or spec.head_dim % _HEAD_DIM_STEP:
        return (
            f"head_dim is {spec.head_dim}, but native_cuda attention has multiples of {_HEAD_DIM_STEP} (either half of "
            f"a head is moved 16 bytes at a time) up to {_MAX_HEAD_DIM} (a row of the output is held in registers)"
        )
    return None


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _dense_rows(x: Tensor) -> Tensor:
    """x [T, heads, head_dim] with dense rows: as it is, or copied when its heads are not side by side."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()
