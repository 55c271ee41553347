"""`blendserve run --report` and the stages of `--metrics`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Job, chat, completion
from blendserve.io.result_writer import ResultWriter
from blendserve.llm import LLM

ROWS = [chat(f"chat{i}", "How many tokens?" * (i + 1)) for i in range(4)] + [completion("choices", n=3)]


@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_the_page_is_about_the_run(job: Job, tmp_path: Path, schedule: str) -> None:
    job.write(*ROWS, completion("bad", n=0))
    path, metrics = tmp_path / "run.html", tmp_path / "metrics.json"
    job.run("--schedule", schedule, "--report", path, "--metrics", metrics, code=1)
    page, figures = path.read_text(), json.loads(metrics.read_text())
    assert "7 sequences" in page
    assert f"this run ({schedule})" in page
    assert f"<dt>Prompt tokens</dt><dd>{figures['prompt_tokens']:,}</dd>" in page
    assert f"<small>{figures['steps']} in " in page


def slowed(call: Callable[..., Any]) -> Callable[..., Any]:
    def slow(*arguments: Any, **keywords: Any) -> Any:
        time.sleep(0.2)
        return call(*arguments, **keywords)

    return slow


@pytest.mark.parametrize("options", [[], ["--no-async-scheduling"], ["--window", 2]])
def test_the_stages_add_up_to_the_job(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[object]
) -> None:
    # Stages long enough that the milliseconds between them do not count.
    monkeypatch.setattr(LLM, "for_job", staticmethod(slowed(LLM.for_job)))
    monkeypatch.setattr(ResultWriter, "write", slowed(ResultWriter.write))
    job.write(*ROWS)
    metrics = tmp_path / "metrics.json"
    job.run("--metrics", metrics, *options)
    figures = json.loads(metrics.read_text())
    stages = figures["stage_s"]
    before = sum(stages[name] for name in ("reading", "loading", "checking", "planning"))
    loop = sum(stages[name] for name in ("schedule", "step", "update", "answers", "writing", "progress", "windows"))
    assert sum(stages.values()) == pytest.approx(before + loop)
    assert stages["loading"] > 0.2
    assert stages["writing"] > 0.2
    assert 0.5 * figures["setup_s"] < before <= figures["setup_s"]
    assert 0.5 * figures["run_s"] < loop <= figures["run_s"]
    assert 0 < sum(figures["step_stage_s"].values()) <= figures["run_s"]


def test_a_job_in_which_nothing_had_to_run_has_no_report(job: Job, tmp_path: Path) -> None:
    job.write(*ROWS)
    job.run()
    path = tmp_path / "run.html"
    assert f"no report {path}: no request had to run\n" in job.run("--report", path).log
    assert not path.exists()


def test_the_report_is_a_file_of_its_own(job: Job, tmp_path: Path) -> None:
    job.write(*ROWS)
    path = tmp_path / "both"
    ended = job.run("--report", path, "--metrics", path, code=2)
    assert f"report {path} is the metrics file; give another path" in ended.log
    assert not job.output.exists()


def test_a_page_that_cannot_be_written_costs_no_answer(job: Job) -> None:
    job.write(*ROWS)
    ended = job.run("--report", "/dev/full", code=2)
    assert "error: report /dev/full cannot be written: No space left on device" in ended.log
    assert len(job.answers) == 5
