"""The benchmarks run from end to end, on workloads too small to time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PREPROCESS = Path(__file__).parents[2] / "benchmarks" / "core" / "preprocess.py"


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
