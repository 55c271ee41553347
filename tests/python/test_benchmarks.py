"""The benchmarks run from end to end, on workloads too small to time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blendserve.models import read_config
from tiny_models import build_llama, build_tokenizer

CORE = Path(__file__).parents[2] / "benchmarks" / "core"
PREPROCESS = CORE / "preprocess.py"
REAL_TRACES = CORE / "real_traces.py"
E2E = CORE.parent / "e2e"
PAPER = CORE.parent / "paper"


def run_preprocess(out: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(PREPROCESS), "--repeats", "1", "--threads", "1", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(out.read_text())["workloads"]
    return report


def test_the_preprocessing_benchmark_checks_its_answers_and_reports_every_target(tmp_path: Path) -> None:
    report = run_preprocess(tmp_path / "out.json", "--scale", "0.001", "--workloads", "1m", "10m", "prefix", "paper")
    assert list(report) == ["1m", "10m", "prefix", "paper"]
    assert report["1m"]["check"]["order"] == "permutation"
    assert report["1m"]["threads 1"]["plan / sum"]["target"] == "<= 6"
    assert report["10m"]["10000 requests"]["num_requests"] == 10_000
    assert report["prefix"]["10 requests"]["check"]["sharing_ratio"] > 0.8
    for name, sharing in (("#1", 0.35), ("#2", 0.35), ("#3", 0.05), ("#4", 0.05)):
        assert report["paper"][name]["sharing of tokens"]["measured"] == pytest.approx(sharing, abs=0.15)


def test_a_peer_that_is_not_there_is_reported_and_not_invented(tmp_path: Path) -> None:
    report = run_preprocess(
        tmp_path / "out.json", "--scale", "0.01", "--workloads", "sglang", "--sglang", str(tmp_path / "none.whl")
    )
    assert report["sglang"]["check"]["sampled_requests"] == 200
    assert report["sglang"]["sglang"] == f"not measured: {tmp_path / 'none.whl'} does not exist"


def write_tiny_traces(folder: Path) -> Path:
    lengths = {
        "azure/AzureLLMInferenceTrace_code.csv": ("TIMESTAMP,ContextTokens,GeneratedTokens", ["t,100,2", "t,300,4"]),
        "azure/AzureLLMInferenceTrace_conv.csv": ("TIMESTAMP,ContextTokens,GeneratedTokens", ["t,50,20", "t,70,40"]),
        "sharegpt/sharegpt.csv": ("TIMESTAMP,ContextTokens,GeneratedTokens", ["XXX,1,1", "XXX,20000,9000"]),
        "servegen/deepseek_r1_sample20k_seed0.csv": (
            "client,window_s,ContextTokens,GeneratedTokens",
            ["1,0,10,1000", "2,0,30,3000"],
        ),
    }
    for name, (header, rows) in lengths.items():
        write_lines(folder / name, [header, *rows])
    requests = [
        {"timestamp": 0, "input_length": 600, "output_length": 6, "hash_ids": [0, 1]},
        {"timestamp": 0, "input_length": 700, "output_length": 4, "hash_ids": [0, 2]},
    ]
    write_lines(folder / "mooncake" / "synthetic_trace.jsonl", [json.dumps(request) for request in requests])
    header = "question,choice0,choice1,choice2,choice3,answer"
    for subject in ("high_school_logic", "naps"):
        dev = [f'"Is {number}, or is it not?",yes,no,both,neither,{number % 4}' for number in range(6)]
        write_lines(folder / "mmlu" / "dev" / f"{subject}_dev.csv", [header, *dev])
        write_lines(folder / "mmlu" / "test" / f"{subject}_test.csv", [header, "Why?,a,b,c,d,0", "How?,a,b,c,d,3"])
    return folder


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def run_real_traces(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REAL_TRACES), "--repeats", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_real_traces_reads_every_format_and_fails_for_figures_that_are_not_the_traces(tmp_path: Path) -> None:
    data, model = write_tiny_traces(tmp_path / "data"), build_tokenizer(tmp_path / "model")
    out = tmp_path / "out.json"
    done = run_real_traces("--data", str(data), "--model", str(model), "--seeds", "2", "--out", str(out))
    assert done.returncode == 1, done.stderr
    assert "mooncake  requests                          2  FAIL  3993 .. 3993" in done.stdout
    traces = json.loads(out.read_text())["traces"]
    figures = {name: trace["figures"] for name, trace in traces.items()}
    assert list(figures) == ["mmlu", "code", "conv", "sharegpt", "r1", "mooncake"]
    assert [of["requests"] for of in figures.values()] == [4, 2, 2, 2, 2, 2]
    assert [figures["code"][name] for name in ("mean prompt", "mean output")] == [200, 3]
    assert figures["code"]["sharing"] == pytest.approx(1 / 400)
    assert [figures["sharegpt"][name] for name in ("mean prompt", "mean output")] == [(1 + 16_384) / 2, (1 + 8_192) / 2]
    assert figures["mooncake"]["sharing"] == pytest.approx(1 - (512 + 88 + 188) / 1300)
    assert figures["mmlu"]["sharing"] > 0.4
    assert (traces["r1"]["bound"], traces["code"]["bound"]) == ("memory", "compute")
    for trace in traces.values():
        assert trace["checks"]["memory / closed form"]["holds"]
        assert trace["estimates"]["uniform"]["samples"] >= 1


def test_mmlu_is_asked_as_its_own_evaluation_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CORE)
    from trace_files import five_shot_texts

    texts = list(five_shot_texts(write_tiny_traces(tmp_path) / "mmlu"))
    choices = "\nA. yes\nB. no\nC. both\nD. neither\nAnswer:"
    shots = "".join(f"Is {n}, or is it not?{choices} {'ABCD'[n % 4]}\n\n" for n in range(5))
    header = "The following are multiple choice questions (with answers) about high school logic.\n\n"
    assert texts[1] == f"{header}{shots}How?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    assert len(texts) == 4


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_real_traces("--data", str(tmp_path), "--traces", "mooncake")
    assert done.returncode == 2
    assert f"{tmp_path / 'mooncake' / 'synthetic_trace.jsonl'} does not exist" in done.stderr


def test_the_experiments_of_the_paper_run_are_checked_and_are_written_as_they_go(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(CORE.parent / "paper" / "evaluate.py"), "workloads", "--requests", "1000"]
    done = subprocess.run([*command, "--seeds", "1", "--out", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())["cases"]
    assert [case["workload_name"] for case in cases] == [name for name in ("#1", "#2", "#3", "#4") for _ in range(3)]
    runs = [run for case in cases for run in case["runs"]]
    assert {run["schedule"] for run in runs} == {"dfs", "random", "paper", "blend"}
    assert all(0 < run["practical_optimal_fraction"] <= 1 for run in runs)
    assert done.stdout.count("\n") == 1 + len(runs)


def test_the_cpu_benchmark_checks_the_engine_and_names_a_peer_that_is_not_there(tmp_path: Path) -> None:
    out, no_python = tmp_path / "out.json", tmp_path / "none" / "python"
    command = [sys.executable, str(E2E / "cpu_throughput.py"), "--scale", "0.01", "--threads", "1", "--peers", "vllm"]
    done = subprocess.run(
        [*command, "--vllm-python", str(no_python), "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ours, vllm = json.loads(out.read_text())["results"]
    assert ours["num_tokens_equal_to_reference"] == 8 * 24
    assert ours["settings"]["num_threads"] == 1
    assert ours["runs"][0]["num_steps"] == 512
    assert ours["runs"][0]["floor_s"] > 0
    assert ours["runs"][0]["cpu_s"] > 0
    assert 0 < ours["runs"][0]["share_outside_model"] < 1
    assert vllm["not_measured"] == f"{no_python}: No such file or directory"
    assert "throughput_tok_s" not in vllm


@pytest.mark.parametrize("schedule", ["blend", "dfs"])
def test_the_stub_benchmark_checks_every_answer_and_reports_its_stages(tmp_path: Path, schedule: str) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, str(E2E / "stub_throughput.py"), "--requests", "500", "--window", "200"]
    done = subprocess.run(
        [*command, "--schedule", schedule, "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["windows"] == 3
    assert 500 * 4 <= report["output_tokens"] <= 500 * 16
    assert set(report["stages_s"]) == {"read and check", "tokenize (nothing)", "add", "steps", "write", "plan"}
    assert report["requests_per_s"]["measured"] == pytest.approx(500 / report["wall_s"])


@pytest.mark.parametrize("spoil", ["a token", "an answer is missing", "an answer comes twice"])
def test_the_stub_benchmark_finds_wrong_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    monkeypatch.syspath_prepend(E2E)
    from stub_job import StubJob

    job, results = StubJob.write(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    rows = [stub_row(index, int(job.prompt_lens[index]), job.answer(index)) for index in range(3)]
    write_lines(results, [json.dumps(row) for row in rows])
    job.check(results)
    if spoil == "a token":
        rows[1]["response"]["body"]["choices"][0]["token_ids"][2] += 1
    elif spoil == "an answer is missing":
        rows.pop()
    else:
        rows.append(rows[0])
    write_lines(results, [json.dumps(row) for row in rows])
    with pytest.raises(AssertionError):
        job.check(results)


def stub_row(index: int, prompt_len: int, answer: list[int]) -> dict[str, Any]:
    choice = {"token_ids": answer, "finish_reason": "length"}
    body = {"usage": {"prompt_tokens": prompt_len}, "choices": [choice]}
    return {"custom_id": f"r{index}", "response": {"body": body}, "error": None}


def test_a_steps_work_counts_weights_once_and_shared_keys_and_values_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(E2E)
    from roofline import Rates, step_work

    model = read_config(
        build_llama(tmp_path)
    )  # hidden 64, MLP 160, vocabulary 384; 8 query and 2 KV heads of 8; 2 layers
    decode_and_chunk = {"qo_lens": np.array([1, 4]), "kv_lens": np.array([100, 10])}
    work = step_work(model, **decode_and_chunk, num_shared=16, num_logit_rows=1, itemsize=4)
    layer, head = 64 * (2 * 64 + 2 * 16 + 3 * 160), 64 * 384
    num_visible = 100 + (7 + 8 + 9 + 10)
    assert work.flops == 2 * (2 * layer * 5 + 4 * 64 * num_visible) + 2 * head
    assert work.num_bytes == 4 * (2 * (layer + 2 * 16 * (110 - 16)) + head)
    assert work.floor_s(Rates(flops=1.0, bandwidth=1e9)) == work.flops
    assert work.floor_s(Rates(flops=1e9, bandwidth=1.0)) == work.num_bytes
    without_logits = step_work(model, **decode_and_chunk, num_shared=16, num_logit_rows=0, itemsize=4)
    assert work.num_bytes - without_logits.num_bytes == 4 * head


def test_the_papers_evaluation_checks_replicas_against_the_work_of_all(tmp_path: Path) -> None:
    out = tmp_path / "replicas.json"
    command = [sys.executable, str(PAPER / "evaluate.py"), "replicas", "--requests", "2000", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(out.read_text())["cases"]
    assert [case["dp"] for case in cases] == 4 * [1, 2, 4]
    for one in (case["runs"][0] for case in cases):
        assert len(one["replica_s"]) == one["dp"]
        assert 0.5 < one["practical_optimal_fraction"] <= 1
