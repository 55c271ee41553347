"""Measures the CUDA kernels: decode bandwidth by SM budget, shared prefixes, GEMMs beside attention, prefill.

    python benchmarks/kernels/cuda_kernels.py -o results.json [--stage copy --stage bandwidth ...] [--commit HASH]

The answer is checked against float64 before anything is timed. Every stage is written as soon as it is done.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from blendserve.attention import create_backend
from blendserve.attention.base import AttentionSpec, StepTensors
from blendserve.attention.cuda_library import load_cuda_library
from blendserve.attention.native_cuda import NativeCudaAttention
from decode_workload import DecodeShape, DecodeWorkload
from device_timing import clocks, environment, median_graph_us, median_us, together_us
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

TOLERANCE = 2e-2
SMALL_BYTES = 1 << 28  # below this a call is too short to be timed alone
NUM_CTAS = (16, 20, 24, 28, 32, 36, 40, 44, 56, 66, 88, 110, 132)
BESIDE_NUM_CTAS = (16, 24, 32, 44, 64)
GEMM_K, GEMM_N = 4096, 14336
BFLOAT16_SHAPES = [
    DecodeShape(head_dim=64),
    DecodeShape(num_heads=8),
    DecodeShape(num_heads=64),
    DecodeShape(num_heads=128),
    DecodeShape(batch=1024, context=512),
    DecodeShape(batch=16, context=32768),
    DecodeShape(batch=1, context=8192),
    DecodeShape(batch=64, context=512),
    DecodeShape(block_size=64),
]
E4M3_SHAPES = [
    DecodeShape(head_dim=64, kv_dtype="fp8_e4m3"),
    DecodeShape(num_heads=8, kv_dtype="fp8_e4m3"),
    DecodeShape(num_heads=128, kv_dtype="fp8_e4m3"),
]
SHARED_SHAPES = [
    DecodeShape(batch=64, context=8192 + 256, shared=8192),
    DecodeShape(batch=256, context=2048, shared=1024),
    DecodeShape(batch=256, context=1024, shared=128),
    DecodeShape(batch=4, context=8192 + 256, shared=8192),
    DecodeShape(batch=64, context=8192 + 256, shared=8192, num_heads=8),
    DecodeShape(batch=64, context=8192 + 256, shared=8192, num_heads=128),
    DecodeShape(batch=64, context=8192 + 256, shared=8192, head_dim=64),
]
KV_COPIES = {"bulk": 2, "cp_async": 1}

Record = dict[str, Any]


def copy_bandwidth(_: Record) -> Record:
    """A device-to-device copy of 4 GiB: the ceiling. GB/s of bytes read plus bytes written."""
    source = torch.randint(0, 255, (1 << 32,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    us = median_us(lambda: target.copy_(source), seconds=2.0)
    return {"us": us, "gb_s": 2 * source.nbytes / us / 1e3}


def checked_decode(shape: DecodeShape) -> DecodeWorkload:
    workload = DecodeWorkload(load_cuda_library(), shape)
    for kv_copy in KV_COPIES.values():
        workload.out.fill_(float("nan"))
        workload.call(44, kv_copy, share=shape.shared > 0)()
        error = workload.error()
        if not error < TOLERANCE:
            raise SystemExit(f"paged_decode is wrong: relative error {error}, tolerance {TOLERANCE}")
    return workload


def decode_bandwidth(results: Record) -> Record:
    """Decode at batch 256, context 2048, 32/8 heads of 128, by number of CTAs, and other shapes."""
    return decode_figures(results, DecodeShape(), BFLOAT16_SHAPES)


def e4m3(results: Record) -> Record:
    """The same over a cache in e4m3, and shared prefixes."""
    decode = decode_figures(results, DecodeShape(kv_dtype="fp8_e4m3"), E4M3_SHAPES)
    return decode | {"shared": shared_points([replace(SHARED_SHAPES[0], kv_dtype="fp8_e4m3")])}


def decode_figures(results: Record, main_shape: DecodeShape, other_shapes: list[DecodeShape]) -> Record:
    ceiling = results["copy"]["gb_s"]

    def measure(workload: DecodeWorkload, num_ctas: int, copy: str, seconds: float) -> Record:
        timed = median_us if workload.shape.kv_bytes > SMALL_BYTES else median_graph_us
        us = timed(workload.call(num_ctas, KV_COPIES[copy]), seconds=seconds)
        gb_s = workload.shape.kv_bytes / us / 1e3
        return {
            "kv_dtype": workload.shape.kv_dtype,
            "num_ctas": num_ctas,
            "kv_copy": copy,
            "us": us,
            "gb_s": gb_s,
            "of_copy": gb_s / ceiling,
        }

    workload = checked_decode(main_shape)
    curve = [measure(workload, num_ctas, "bulk", 2.0 if num_ctas in (44, 132) else 0.5) for num_ctas in NUM_CTAS]
    curve += [measure(workload, num_ctas, "cp_async", 0.3) for num_ctas in (16, 44, 132)]
    del workload
    shapes = []
    for shape in other_shapes:
        workload = checked_decode(shape)
        for num_ctas in (44, 132):
            shapes.append({"shape": vars(shape), **measure(workload, num_ctas, "bulk", 0.2)})
        del workload
    return {"curve": curve, "shapes": shapes}


def shared_prefixes(_: Record) -> Record:
    """Decode of requests that share their first tokens: reading those once, and once for each request."""
    return {"points": shared_points(SHARED_SHAPES)}


def shared_points(shapes: list[DecodeShape]) -> list[Record]:
    points = []
    for shape in shapes:
        workload = checked_decode(shape)
        for num_ctas in (24, 44, 132):
            plain_us = median_us(workload.call(num_ctas), seconds=0.2)
            shared_us = median_us(workload.call(num_ctas, share=True), seconds=0.2)
            points.append(
                {
                    "shape": vars(shape),
                    "num_ctas": num_ctas,
                    "plain_us": plain_us,
                    "shared_us": shared_us,
                    "speedup": plain_us / shared_us,
                }
            )
        del workload
    return points


def gemm_beside_attention(results: Record) -> Record:
    """Times alone and together. beta = (together - max) / min of the two alone, attention alone on its own budget.

    beta_full charges attention as alone on all SMs, which is what a step that does one after the other would pay. The
    GEMM is repeated until it would take as long on the other SMs as attention takes on its own. Modes: `plain` leaves
    cuBLAS unaware of the budget, `carveout` tells cuBLASLt to leave num_ctas SMs.
    """
    torch.backends.cuda.preferred_blas_library("cublaslt")
    workload = checked_decode(DecodeShape())
    weight = torch.randn(GEMM_N, GEMM_K, dtype=torch.bfloat16, device="cuda") / GEMM_K**0.5
    streams = (torch.cuda.Stream(priority=-1), torch.cuda.Stream())
    full_ctas = results["environment"]["num_sms"]
    full_us = median_us(workload.call(full_ctas), seconds=0.2)
    points = []
    for num_rows in (512, 1024, 2048):
        x = torch.randn(num_rows, GEMM_K, dtype=torch.bfloat16, device="cuda")
        gemm_us = median_us(lambda x=x: x @ weight.T, seconds=0.2)
        for num_ctas in BESIDE_NUM_CTAS:
            decode = workload.call(num_ctas)
            decode_us = median_us(decode, seconds=0.1)
            repeats = max(1, round(decode_us / gemm_us * (1 - num_ctas / full_ctas)))

            def gemms(x: torch.Tensor = x, repeats: int = repeats) -> None:
                for _ in range(repeats):
                    torch.mm(x, weight.T)

            for mode in ("plain", "carveout"):
                torch._C._set_sm_carveout_experimental(num_ctas if mode == "carveout" else None)
                decode_end_us, gemm_end_us = together_us(decode, gemms, streams)
                together = max(decode_end_us, gemm_end_us)
                limited_us = median_us(gemms, seconds=0.05)
                torch._C._set_sm_carveout_experimental(None)
                alone = repeats * gemm_us
                points.append(
                    {
                        "num_rows": num_rows,
                        "num_ctas": num_ctas,
                        "mode": mode,
                        "gemm_repeats": repeats,
                        "gemm_us": alone,
                        "gemm_in_mode_us": limited_us,
                        "decode_us": decode_us,
                        "decode_all_sms_us": full_us,
                        "decode_end_us": decode_end_us,
                        "gemm_end_us": gemm_end_us,
                        "together_us": together,
                        "beta": (together - max(alone, decode_us)) / min(alone, decode_us),
                        "beta_full": (together - max(alone, full_us)) / min(alone, full_us),
                        "speedup": (alone + full_us) / together,
                    }
                )
    return {"points": points}


def gemm_by_rows(_: Record) -> Record:
    """One [rows, 4096] x [4096, 14336] product in bfloat16."""
    weights = [torch.randn(GEMM_N, GEMM_K, dtype=torch.bfloat16, device="cuda") for _ in range(2)]
    points = []
    for exponent in range(12):
        num_rows = 1 << exponent
        x = torch.randn(num_rows, GEMM_K, dtype=torch.bfloat16, device="cuda")

        def both(x: torch.Tensor = x) -> None:
            for weight in weights:
                torch.mm(x, weight.T)

        us = median_us(both, seconds=0.1) / len(weights)
        points.append({"num_rows": num_rows, "us": us, "tflop_s": 2e-6 * num_rows * GEMM_K * GEMM_N / us})
    return {"k": GEMM_K, "n": GEMM_N, "points": points}


def prefill(_: Record) -> Record:
    """One layer on whole prompts and on chunks after a cached prefix, append included, by who attends.

    native_cuda and flashinfer (where it is built in) are the backends; paged_attention is native_cuda with a window one
    token short of the context, so that nothing else may run; torch_gathered is torch's attention on
    gathered K and V, without append.
    """
    sizes = {"num_layers": 1, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128, "num_blocks": 8 * 4096 // 16}
    spec = AttentionSpec(**sizes, block_size=16, dtype=torch.bfloat16, device=torch.device("cuda"))
    lengths = ((8, 4096, 4096), (1, 4096, 4096), (1, 2048, 2048), (4, 512, 4096))
    return {"points": [prefill_point(spec, *each) for each in lengths]}


def prefill_point(spec: AttentionSpec, num_sequences: int, qo_len: int, kv_len: int) -> Record:
    backends = {"native_cuda": create_backend("native_cuda", spec)}
    if load_cuda_library().has_flashinfer():
        backends["flashinfer"] = create_backend("flashinfer", spec)
    backends["paged_attention"] = create_backend("native_cuda", replace(spec, windows=(kv_len - 1,)))
    q, k, v = random_heads(spec, num_sequences * qo_len)
    calls: dict[str, Callable[[], torch.Tensor]] = {}
    for name, backend in backends.items():
        assert isinstance(backend, NativeCudaAttention)
        backend.kv_cache.copy_(cache_values(backend))
        backend.plan(prefill_step(num_sequences, qo_len, kv_len, spec.block_size))
        calls[name] = partial(backend.forward, 0, q, k, v)
        cache = backend.kv_cache[0]
    calls["torch_gathered"] = partial(attend_gathered, cache, q, num_sequences, kv_len)
    pairs = qo_len * (kv_len - (qo_len - 1) / 2)
    flops = 4 * num_sequences * spec.num_heads * spec.head_dim * pairs
    point: Record = {"num_sequences": num_sequences, "qo_len": qo_len, "kv_len": kv_len}
    expected = calls["native_cuda"]().float()
    for name, call in calls.items():
        error = (call().float() - expected).norm() / expected.norm()
        if not error < TOLERANCE:
            raise SystemExit(f"{name} and native_cuda differ by {error:.3g} on {point}")
        point[name] = timed(call, flops)
    return point


def cache_values(backend: NativeCudaAttention) -> torch.Tensor:
    """The same for every backend of a shape."""
    generator = torch.Generator("cuda").manual_seed(1)
    return torch.randn(backend.kv_cache.shape, generator=generator, dtype=backend.kv_cache.dtype, device="cuda")


def random_heads(spec: AttentionSpec, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of one step."""
    heads = (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
    q, k, v = (torch.randn(num_tokens, n, spec.head_dim, dtype=spec.dtype, device="cuda") for n in heads)
    return q, k, v


def timed(call: Callable[[], object], flops: float) -> Record:
    us = median_us(call, seconds=0.3)
    return {"us": us, "tflop_s": flops / us / 1e6}


def attend_gathered(cache: torch.Tensor, q: torch.Tensor, num_sequences: int, kv_len: int) -> torch.Tensor:
    """Equal sequences whose blocks follow each other: their K and V are copied out of the pages, then torch attends."""
    num_blocks = -(-kv_len // cache.shape[3])
    blocks = torch.arange(num_sequences * num_blocks, device=cache.device)
    tiles = cache.index_select(0, blocks).unflatten(0, (num_sequences, num_blocks))
    k, v = tiles.permute(2, 0, 3, 1, 4, 5).flatten(3, 4)[:, :, :, :kv_len]
    queries = q.unflatten(0, (num_sequences, -1)).transpose(1, 2)
    mask = causal_lower_right(queries.shape[2], kv_len)
    attended = scaled_dot_product_attention(queries, k, v, attn_mask=mask, enable_gqa=True)
    return attended.transpose(1, 2).flatten(0, 1)


# Shapes that only paged_attention takes: of Gemma 2 9B, Phi-3 mini and Phi-2.
ANY_SHAPES: dict[str, Record] = {
    "gemma-2-9b": {"num_heads": 16, "num_kv_heads": 8, "head_dim": 256, "softcap": 50.0},
    "phi-3-mini": {"num_heads": 32, "num_kv_heads": 32, "head_dim": 96},
    "phi-2": {"num_heads": 32, "num_kv_heads": 32, "head_dim": 80},
}


def any_shape(results: Record) -> Record:
    """Decodes of 64 x 2,048 by SM budget, in GB/s of K and V, and four chunks of 512 after 1,536, in TFLOP/s."""
    copy_gb_s = results["copy"]["gb_s"]
    return {"points": [any_shape_point(name, shape, copy_gb_s) for name, shape in ANY_SHAPES.items()]}


def any_shape_point(name: str, shape: Record, copy_gb_s: float) -> Record:
    spec = AttentionSpec(
        num_layers=1, num_blocks=64 * 128, block_size=16, dtype=torch.bfloat16, device=torch.device("cuda"), **shape
    )
    backend = create_backend("native_cuda", spec)
    assert isinstance(backend, NativeCudaAttention)
    backend.kv_cache.copy_(cache_values(backend))
    q, k, v = random_heads(spec, 64)
    num_bytes = 64 * 2048 * 2 * spec.num_kv_heads * spec.head_dim * spec.dtype.itemsize
    decodes = []
    for num_ctas in (24, 44, 88, 132):
        backend.num_ctas = num_ctas
        backend.plan(prefill_step(64, 1, 2048, spec.block_size))
        us = median_us(partial(backend.forward, 0, q, k, v), seconds=0.3)
        gb_s = num_bytes / us / 1e3
        decodes.append({"num_ctas": num_ctas, "us": us, "gb_s": gb_s, "share_of_copy": gb_s / copy_gb_s})
    backend.plan(prefill_step(4, 512, 2048, spec.block_size))
    flops = 4 * 4 * spec.num_heads * spec.head_dim * 512 * (2048 - 511 / 2)
    chunks = timed(partial(backend.forward, 0, *random_heads(spec, 4 * 512)), flops)
    return {"shape": name, "decodes": decodes, "chunks": chunks}


def prefill_step(num_sequences: int, qo_len: int, kv_len: int, block_size: int) -> StepTensors:
    """Equal sequences, each with the last `qo_len` of its `kv_len` positions to compute."""
    rows = np.arange(num_sequences)
    positions = np.tile(np.arange(kv_len - qo_len, kv_len), num_sequences)
    num_blocks = -(-kv_len // block_size)
    return StepTensors(
        qo_indptr=np.arange(num_sequences + 1, dtype=np.int32) * qo_len,
        kv_lens=np.full(num_sequences, kv_len, np.int32),
        block_indptr=np.arange(num_sequences + 1, dtype=np.int32) * num_blocks,
        block_table=np.arange(num_sequences * num_blocks, dtype=np.int32),
        slot_mapping=np.repeat(rows, qo_len) * num_blocks * block_size + positions,
        positions=positions.astype(np.int32),
    )


STAGES: dict[str, Callable[[Record], Record]] = {
    "copy": copy_bandwidth,
    "bandwidth": decode_bandwidth,
    "shared": shared_prefixes,
    "beside": gemm_beside_attention,
    "gemm": gemm_by_rows,
    "prefill": prefill,
    "any_shape": any_shape,
    "e4m3": e4m3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--stage", action="append", choices=STAGES, help="copy is always run; default: all")
    parser.add_argument("--commit", default="unknown", help="of the library that is measured")
    arguments = parser.parse_args()

    results: Record = {"environment": environment() | {"commit": arguments.commit}}
    for name, stage in STAGES.items():
        if name == "copy" or not arguments.stage or name in arguments.stage:
            before = clocks()
            results[name] = stage(results)
            results[name]["clocks"] = {"before": before, "after": clocks()}
            torch.cuda.empty_cache()
            arguments.output.write_text(json.dumps(results, indent=1) + "\n")
            print(name, json.dumps(results[name]), flush=True)


if __name__ == "__main__":
    main()
