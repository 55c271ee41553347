"""`blendserve simulate`: what it reads, shows and writes, and what it refuses."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Ended, completion, invoke, start, wait

HARDWARE: dict[str, Any] = {
    "flops_4_byte": 1.56e14,
    "flops_2_byte": 3.12e14,
    "flops_1_byte": 6.24e14,
    "bandwidth": 2.039e12,
    "memory_bytes": 80e9,
}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Long prompts with short outputs and the reverse, more of either than run at once."""
    path = tmp_path / "t.csv"
    rows = ["2000,4" if row % 2 else "50,700" for row in range(1200)]
    path.write_text("\n".join(["ContextTokens,GeneratedTokens", *rows, "0,3"]) + "\n")
    return path


def simulate(
    *arguments: object, code: int = 0, model: object = "llama-3.1-8b", hardware: object = "a100-sxm-80gb"
) -> Ended:
    ended = invoke("simulate", "--model", model, "--hardware", hardware, *arguments)
    assert ended.code == code, ended.log
    return ended


def refused(*arguments: object, **options: object) -> str:
    log = simulate(*arguments, code=2, **options).log  # type: ignore[arg-type]
    (message,) = re.findall(r"^error: (.*)\n\Z", log, re.MULTILINE)
    return str(message)


def figures_of(tmp_path: Path, *arguments: object, **options: object) -> dict[str, Any]:
    simulate(*arguments, "--json", tmp_path / "s.json", **options)  # type: ignore[arg-type]
    figures: dict[str, Any] = json.loads((tmp_path / "s.json").read_text())
    return figures


def test_the_table_sets_every_schedule_against_the_bound(trace: Path) -> None:
    shown = simulate("--trace", f"azure:{trace}").out.decode()
    assert shown.startswith("model      llama-3.1-8b on a100-sxm-80gb, 411,520 tokens of KV cache\n")
    assert "workload   1,200 requests, 1,230,000 prompt and 422,400 output tokens\n" in shown
    assert "dropped    1 of the rows read, which are no requests\n" in shown
    assert re.search(r"^lengths    unknown but for \d+ samples, \d\.\d% of the requests$", shown, re.MULTILINE)
    assert re.search(r"^density    [\d.]+; \w", shown, re.MULTILINE)
    rows = [line.split() for line in shown.splitlines() if " overlapped " in line]
    assert [row[0] for row in rows] == ["dfs", "paper", "blend"]
    assert rows[0][-1] == "1.00x"
    assert all(0 < float(row[-4].rstrip("%")) <= 100 for row in rows)
    assert re.search(r"blend is 1\.\d\dx dfs.* reaches \d\d\.\d% of the practical optimum\.$", shown.rstrip())


def test_progress_goes_to_stderr(trace: Path) -> None:
    log = simulate("--trace", trace, "--schedule", "dfs").log
    assert log.splitlines() == ["reading ...", "planning ...", "simulating dfs, overlapped (1 of 1) ..."]


def test_all_schedules_are_run_once_each(trace: Path, tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "--trace", trace, "--schedule", "random", "--schedule", "all")
    assert [run["schedule"] for run in figures["runs"]] == ["random", "blend", "paper", "dfs", "fcfs"]


def test_the_json_follows_the_options(trace: Path, tmp_path: Path) -> None:
    options = ["--schedule", "random", "--schedule", "blend", "--execution", "both", "--lengths", "known", "--dp", 2]
    options += ["--seed", 5, "--sample-rate", 0.2, "--max-batch-tokens", 512, "--kv-memory", "8GiB", "--tp", 2]
    figures = figures_of(tmp_path, "--trace", trace, *options)
    assert [(run["schedule"], run["execution"], run["lengths"], run["dp"]) for run in figures["runs"]] == [
        ("random", "overlapped", "known", 2),
        ("blend", "overlapped", "known", 2),
        ("random", "sequential", "known", 2),
        ("blend", "sequential", "known", 2),
    ]
    asked = {"tp": 2, "dp": 2, "seed": 5, "sample_rate": 0.2, "max_batch_tokens": 512, "counts_scheduling": False}
    assert {name: figures[name] for name in asked} == asked
    assert (figures["kv_bytes"], figures["kv_capacity_tokens"]) == (2, 8 * 2**30 // 131072)
    assert figures["workload"]["dropped_rows"] == 1


def test_a_narrower_kv_cache_holds_more_tokens_that_are_read_faster(trace: Path, tmp_path: Path) -> None:
    options = ["--trace", trace, "--schedule", "dfs", "--kv-memory", "8GiB", "--kv-dtype"]
    wide, narrow = (figures_of(tmp_path, *options, kv_dtype) for kv_dtype in ("auto", "fp8_e4m3"))
    assert (narrow["kv_bytes"], narrow["kv_capacity_tokens"]) == (1, 2 * wide["kv_capacity_tokens"])
    assert narrow["bound"]["t_mem_s"] == pytest.approx(wide["bound"]["t_mem_s"] / 2)
    assert narrow["bound"]["t_comp_s"] == wide["bound"]["t_comp_s"]
    refused = simulate(*options, "int4", code=2)
    assert "kv_dtype is 'int4'; it must be one of auto, float32" in refused.log


def test_several_traces_are_mixed_in_an_order_that_the_seed_decides(trace: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("prompt_len,output_len\n" + "300,30\n" * 200)
    both = ["--trace", trace, "--trace", f"lengths:{other}", "--schedule", "fcfs"]
    first, again, third = (figures_of(tmp_path, *both, "--seed", seed) for seed in (1, 1, 2))
    assert first["workload"]["sources"] == {"t": 1200, "other": 200}
    assert first["workload"]["dropped_rows"] == 1
    assert first["runs"][0]["total_s"] == again["runs"][0]["total_s"] != third["runs"][0]["total_s"]


def test_a_batch_file_is_tokenized_by_the_models_tokenizer(tmp_path: Path, model_dir: Path) -> None:
    batch = tmp_path / "b.jsonl"
    batch.write_bytes(completion("a", "fox", max_tokens=9) + completion("b", [1, 2, 3], max_tokens=90))
    arguments = ["--trace", batch, "--mean-output", 20, "--schedule", "dfs"]
    figures = figures_of(tmp_path, *arguments, model=model_dir)
    assert (figures["workload"]["num_requests"], figures["workload"]["output_tokens"]) == (2, 29)


def test_a_device_file_takes_the_place_of_a_name(trace: Path, tmp_path: Path) -> None:
    device = tmp_path / "mine.json"
    device.write_text(json.dumps({**HARDWARE, "tp": 2}))
    arguments = ["--trace", trace, "--schedule", "dfs"]
    figures = figures_of(tmp_path, *arguments, hardware=device)
    assert (figures["hardware"], figures["tp"]) == ("mine", 2)
    figures = figures_of(tmp_path, *arguments, "--tp", 1, hardware=device)
    named = figures_of(tmp_path, *arguments)
    assert figures["runs"][0]["total_s"] == named["runs"][0]["total_s"]


def test_a_profiled_device_runs_its_steps_sequentially_unless_told_otherwise(trace: Path, tmp_path: Path) -> None:
    rates = {"layers": [[1, 1e14]], "head": [[1, 1e14]], "prefill_attention_flops": 1e14}
    measured = {"element_bytes": 2, **rates, "decode_attention_bandwidth": 1e12}
    device = tmp_path / "cpu.json"
    device.write_text(json.dumps({**HARDWARE, "measured": measured}))
    arguments = ["--trace", trace, "--schedule", "dfs"]
    for options, execution in (([], "sequential"), (["--execution", "overlapped"], "overlapped")):
        figures = figures_of(tmp_path, *arguments, *options, hardware=device)
        assert [run["execution"] for run in figures["runs"]] == [execution]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**HARDWARE, "flops": 1}, "flops is no field of a device"),
        ({"bandwidth": 1e12}, "flops_4_byte is missing; give it, or measure the device"),
        ({**HARDWARE, "bandwidth": -1}, "bandwidth is -1"),
        ({**HARDWARE, "bandwidth": "fast"}, "bandwidth is 'fast'; it must be a number"),
        ([1], "holds no JSON object"),
    ],
)
def test_a_device_file_that_is_none_is_refused(trace: Path, tmp_path: Path, fields: object, message: str) -> None:
    device = tmp_path / "mine.json"
    device.write_text(json.dumps(fields))
    assert message in refused("--trace", trace, hardware=device)


def test_a_device_file_that_is_no_json_or_not_there_is_refused(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    assert "is no JSON" in refused("--trace", trace, hardware=tmp_path / "broken.json")
    assert "No such file" in refused("--trace", trace, hardware=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedule", "sjf"], "schedule is 'sjf'; it must be one of blend, paper, dfs, random, fcfs"),
        (["--execution", "fast"], "execution is 'fast'; it must be one of overlapped, sequential"),
        (["--lengths", "some"], "lengths is 'some'; it must be one of sampled, hinted, known"),
        (["--sample-rate", "0"], "sample_rate is 0.0; it must be above 0 and at most 1"),
        (["--kv-memory", "lots"], 'size "lots" is not understood'),
        (["--kv-memory", "4MiB"], "none of the 1200 requests fits the KV cache of 32 tokens"),
        (["--json", "-"], "--json - is not possible: standard output has the table; give a file"),
        (["--report", "no/such/r.html"], "folder"),
        (["--dp", "5000"], "dp is 5000, more than the 1200 requests"),
    ],
)
def test_what_cannot_be_used_is_named(trace: Path, options: list[str], message: str) -> None:
    assert message in refused("--trace", trace, *options)


def test_unknown_names_and_missing_files_are_refused(trace: Path, tmp_path: Path) -> None:
    assert "llama-3.1-8b" in refused("--trace", trace, model="gpt-9")
    assert "a100-sxm-80gb" in refused("--trace", trace, hardware="tpu")
    assert "does not exist" in refused("--trace", tmp_path / "none.csv")
    assert "is the trace" in refused("--trace", trace, "--json", trace)


def test_a_signal_stops_it(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text("prompt_len,output_len\n" + "100,4000\n" * 20_000)
    arguments = ["--model", "llama-3.1-8b", "--hardware", "a100-sxm-80gb", "--schedule", "dfs"]
    process = start("simulate", "--trace", path, *arguments)
    assert process.stderr is not None
    while b"simulating" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    ended = wait(process)
    assert ended.code == 130
    assert "stopped before the simulation was complete" in ended.log
