"""Mixes of a density and a sharing."""

from __future__ import annotations

import json
from pathlib import Path

import blendserve as bs
import numpy as np
import pyarrow as pa
import pytest
from blendserve.errors import UserError
from blendserve.synthesis import Synthesis, synthesize
from blendserve.traces import read_trace


def write_lengths(path: Path, *rows: tuple[int, int]) -> Path:
    path.write_text("prompt_len,output_len\n" + "".join(f"{prompt},{output}\n" for prompt, output in rows))
    return path


def counts_of(made: Synthesis) -> dict[str, int]:
    return {source.name: source.num_requests for source in made.figures.sources}


@pytest.mark.parametrize(("density", "sharing"), [(1.4, 0.35), (0.9, 0.35), (1.4, 0.05), (0.9, 0.05), (1.1, 0.25)])
@pytest.mark.parametrize(("num_requests", "of_density", "of_sharing"), [(20_000, 0.005, 0.005), (1000, 0.02, 0.015)])
def test_the_papers_workloads_have_the_density_and_sharing_asked_for(
    density: float, sharing: float, num_requests: int, of_density: float, of_sharing: float
) -> None:
    figures = synthesize(num_requests=num_requests, density=density, sharing=sharing, seed=3).figures
    assert figures.num_requests == num_requests
    assert figures.density == pytest.approx(density, rel=of_density)
    assert figures.sharing == pytest.approx(sharing, abs=of_sharing)


def test_the_figures_are_what_the_planner_finds_in_the_trace() -> None:
    made = synthesize(num_requests=3000, density=1.2, sharing=0.2)
    trace = made.trace
    plan = bs.plan(
        trace.tokens,
        trace.offsets,
        trace.output_lengths,
        model=bs.ModelSpec.named("llama-3.1-8b"),
        device=bs.DeviceSpec.named("a100-sxm-80gb"),
    )
    assert made.figures.density == plan.density
    assert made.figures.sharing_of_tokens == plan.report.sharing_ratio_optimal
    assert sum(counts_of(made).values()) == trace.num_requests == 3000
    assert sum(source.output_tokens for source in made.figures.sources) == trace.num_output_tokens
    assert [trace.sources[index] for index in np.unique(trace.source[trace.is_known])] == ["openvid"]


def test_a_saved_workload_is_compact_comes_back_and_tells_how_it_was_made(tmp_path: Path) -> None:
    made = synthesize(num_requests=2000, density=1.2, sharing=0.2, seed=5)
    made.save(tmp_path / "a.arrow")
    assert (tmp_path / "a.arrow").stat().st_size < 2000 * 40
    again = read_trace(str(tmp_path / "a.arrow"))
    assert np.array_equal(again.tokens, made.trace.tokens)
    assert np.array_equal(again.output_lengths, made.trace.output_lengths)
    assert again.sources == made.trace.sources
    told = json.loads(pa.ipc.open_file(str(tmp_path / "a.arrow")).schema.metadata[b"blendserve.synthesis"])
    assert (told["seed"], told["density"], told["model"]) == (5, 1.2, "llama-3.1-8b")
    assert told["reached"]["density"] == made.figures.density


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesize(num_requests=500, density=1.0, sharing=0.1, seed=seed).save(tmp_path / name)
    first, same, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == same != other


def test_requests_of_all_sources_are_interleaved() -> None:
    source = synthesize(["burstgpt", "mmlu"], num_requests=2000).trace.source
    assert [int(np.count_nonzero(half)) for half in np.split(source, 2)] == pytest.approx([500, 500], abs=80)


def test_files_are_mixed_and_dropped_rows_are_counted(tmp_path: Path) -> None:
    short = write_lengths(tmp_path / "short.csv", (1000, 10), (2000, 20), (5, 0))
    long = write_lengths(tmp_path / "long.csv", (100, 9000), (100, 11_000))
    mix = [f"chat={short}", f"video=lengths:{long}"]
    made = synthesize(mix, num_requests=1000, density=1.5)
    assert made.figures.density == pytest.approx(1.5, rel=0.03)
    assert [source.num_dropped for source in made.figures.sources] == [1, 0]
    assert [source.origin for source in made.figures.sources] == [str(short), f"lengths:{long}"]
    assert set(made.trace.prompt_lens.tolist()) == {100, 1000, 2000}
    assert made.lengths is not None


def test_a_source_with_prompts_of_its_own_makes_a_whole_workload(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"input_length": 600, "output_length": 5, "hash_ids": [0, block]} for block in range(1, 40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = synthesize([f"mooncake={path}", "burstgpt", "openvid"], num_requests=400, density=2.0, sharing=0.3)
    assert made.lengths is None
    assert made.figures.sharing == pytest.approx(0.3, abs=0.02)
    assert made.figures.density == pytest.approx(2.0, rel=0.02)
    made.save(tmp_path / "w.arrow")
    assert np.array_equal(read_trace(str(tmp_path / "w.arrow")).tokens, made.trace.tokens)


def test_without_targets_all_sources_have_equal_shares() -> None:
    assert counts_of(synthesize(["burstgpt", "mmlu", "openvid"], num_requests=300)) == {
        "burstgpt": 100,
        "mmlu": 100,
        "openvid": 100,
    }


def test_density_is_meant_for_the_model_and_device_given() -> None:
    model, device = bs.ModelSpec.named("llama-3.1-70b"), bs.DeviceSpec.named("h100-sxm-80gb", tp=8)
    made = synthesize(num_requests=5000, density=1.0, sharing=0.2, model=model, device=device)
    trace = made.trace
    planned = bs.plan(trace.tokens, trace.offsets, trace.output_lengths, model=model, device=device)
    assert planned.density == made.figures.density == pytest.approx(1.0, rel=0.01)
    assert (made.settings["hardware"], made.settings["tp"]) == (device.name, 8)


@pytest.mark.parametrize(
    ("mix", "options", "complaint"),
    [
        (
            ["burst"],
            {},
            "mix burst: no generator is named that; use one of burstgpt, openvid, mmlu, azure, sharegpt, wil",
        ),
        (["=a.csv"], {}, "mix =a.csv is not NAME or NAME=[FORMAT:]FILE"),
        (["a="], {}, "mix a= is not NAME or NAME=[FORMAT:]FILE"),
        (["a=gone.csv"], {}, "trace gone.csv does not exist"),
        ([], {}, "the mix has no source; give at least one"),
        (["mmlu"] * 13, {}, "the mix has 13 sources; give at most 12"),
        (["mmlu", "mmlu"], {}, "two sources of the mix are named mmlu; give each a name of its own"),
        (["mmlu", "openvid"], {"num_requests": 1}, "requests is 1; give at least one for each of the 2 sources"),
        (["mmlu"], {"density": 0.0}, "density is 0; it must be a positive number"),
        (["mmlu"], {"density": float("nan")}, "density is nan; it must be a positive number"),
        (["mmlu"], {"sharing": 1.0}, "sharing is 1; it must be at least 0 and less than 1"),
        (["mmlu"], {"seed": -1}, "seed is -1; it must be 0 or more"),
        (["burstgpt", "openvid"], {"sharing": 0.5}, "sharing 0.5 cannot be reached: these sources reach "),
        (["burstgpt", "openvid"], {"density": 90.0}, "density 90 cannot be reached: these sources reach 0.0"),
        (
            ["mmlu"],
            {"device": bs.DeviceSpec.named("a100-sxm-80gb"), "model": bs.ModelSpec.named("deepseek-67b")},
            "deepseek-67b needs 134.8 GB for",
        ),
    ],
)
def test_what_cannot_be_mixed_is_named(mix: list[str], options: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError) as error:
        synthesize(mix, **{"num_requests": 100, **options})  # type: ignore[arg-type]
    assert str(error.value).startswith(complaint)
