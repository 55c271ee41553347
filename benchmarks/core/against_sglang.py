"""The prefix tree beside SGLang's radix cache, on the same tokens."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import blendserve as bs
from checks import check_sample
from made_prompts import half_shared
from measure import median_times_s
from sglang_radix import NotInstalled, RadixCache, fetch
from workload import Options, Report, beside, sizes


def against_sglang(options: Options) -> Report:
    prompts = half_shared(options.scaled(20_000), prefix_len=256, tail_len=(256, 256), unique_len=(512, 512))
    report = sizes(prompts) | {"check": check_sample(prompts)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            peer = RadixCache(fetch(options.sglang, Path(folder)))
        except NotInstalled as error:
            return report | {"sglang": f"not measured: {error}"}
    inputs = peer.inputs(prompts)
    unique = bs.PrefixTree.build(prompts.tokens, prompts.offsets).num_unique_tokens
    assert peer.insert(inputs) == unique, "SGLang's cache holds another number of tokens"
    calls: dict[str, Callable[[], object]] = {
        "sglang_s": lambda: peer.insert(inputs),
        "sglang_with_keys_s": lambda: peer.insert(peer.inputs(prompts)),
    }
    for threads in options.threads:
        calls[f"build_s, threads {threads}"] = functools.partial(
            bs.PrefixTree.build, prompts.tokens, prompts.offsets, num_threads=threads
        )
    seconds = median_times_s(calls, options.repeats)
    build_s = seconds[f"build_s, threads {options.threads[-1]}"]
    return report | {
        "sglang": Path(options.sglang).name,
        **seconds,
        "sglang tokens/s": len(prompts.tokens) / seconds["sglang_s"],
        "build tokens/s": len(prompts.tokens) / build_s,
        "sglang / build": beside(seconds["sglang_s"] / build_s, ">= 30"),
        "sglang with keys / build": seconds["sglang_with_keys_s"] / build_s,
    }
