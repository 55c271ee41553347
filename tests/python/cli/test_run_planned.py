"""`blendserve run --schedule blend|paper`: the rows are those of any other schedule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_jobs import Job, chat, completion

ROWS = [
    *(completion(f"known{i}", [*range(40, 80), 100 + i], ignore_eos=True, max_tokens=20 * i + 1) for i in range(6)),
    *(chat(f"unknown{i}", "How many tokens?" * i, stop=["e"], max_tokens=60, temperature=0.9) for i in range(6)),
    completion("choices", n=3, temperature=1.0),
    completion("scores", max_tokens=0, echo=True, logprobs=1),
    completion("hinted", expected_output_tokens=50, max_tokens=4),
]
BAD_ROWS = [completion("bad", n=0), completion("long", [5] * 400)]
OPTIONS = ["--kv-memory", 20 * 16 * 256, "--max-batch-tokens", 48]  # 20 blocks


@pytest.mark.parametrize("schedule", ["blend", "paper"])
def test_a_planned_job_writes_what_any_other_writes(job: Job, tmp_path: Path, schedule: str) -> None:
    job.write(*ROWS, *BAD_ROWS)
    job.run("--schedule", "fcfs", "--no-resume", *OPTIONS, code=1)
    expected = {row["custom_id"]: text_of(row) for row in job.rows}
    metrics = tmp_path / "metrics.json"
    ended = job.run("--schedule", schedule, "--no-resume", "--metrics", metrics, *OPTIONS, code=1)
    assert {row["custom_id"]: text_of(row) for row in job.rows} == expected
    figures = json.loads(metrics.read_text())
    assert (figures["num_rows"], figures["num_answered"], figures["num_failed"]) == (17, 15, 2)
    assert 0 < figures["planning_s"] <= figures["setup_s"]
    assert figures["output_tokens"] == sum(
        row["response"]["body"]["usage"]["completion_tokens"] for row in job.rows if row["error"] is None
    )
    assert "planning ...\n" in ended.log
    assert f" s of set-up; {figures['planning_s']:.1f} s of planning\n" in ended.log


def text_of(row: dict[str, object]) -> object:
    body = row["response"]["body"] if row["response"] else None  # type: ignore[index]
    return row["error"] if body is None else [{**choice} for choice in body["choices"]]


def test_a_planned_job_goes_on_where_it_stopped(job: Job) -> None:
    job.write(*ROWS)
    job.run("--schedule", "blend", *OPTIONS)
    lines = job.output.read_bytes().splitlines(keepends=True)
    expected = job.answers
    job.output.write_bytes(b"".join(lines[:5]))
    ended = job.run("--schedule", "paper", *OPTIONS)
    assert "10 answered, 0 failed, 5 kept from an earlier run" in ended.log
    assert {name: body["choices"] for name, body in job.answers.items()} == {
        name: body["choices"] for name, body in expected.items()
    }


def test_a_job_in_which_nothing_can_run_is_not_planned(job: Job, tmp_path: Path) -> None:
    job.write(completion("long", [5] * 400))
    metrics = tmp_path / "metrics.json"
    job.run("--schedule", "blend", "--metrics", metrics, code=1)
    assert json.loads(metrics.read_text())["planning_s"] == 0.0


def test_a_run_writes_its_schedule_and_another_follows_it(job: Job, tmp_path: Path) -> None:
    job.write(*ROWS)
    log, metrics = tmp_path / "schedule.jsonl", tmp_path / "metrics.json"
    job.run("--schedule-log", log, *OPTIONS)
    header = json.loads(log.read_text().splitlines()[0])
    assert (header["schedule"], header["max_batch_tokens"]) == ("blend", 48)
    expected = job.answers
    job.run("--replay-schedule", log, "--metrics", metrics, "--no-resume", *OPTIONS)
    assert job.answers == expected
    figures = json.loads(metrics.read_text())
    assert (figures["num_corrections"], figures["compute_correction"], figures["memory_correction"]) == (0, 1.0, 1.0)
    ended = job.run("--replay-schedule", log, "--seed", 1, "--no-resume", *OPTIONS, code=2)
    assert "is of a run with another seed: 0, not 1" in ended.log


def test_a_schedule_log_is_no_other_file_of_the_job(job: Job) -> None:
    job.write(*ROWS)
    ended = job.run("--schedule-log", job.input, code=2)
    assert f"schedule log {job.input} is the input file; give another path" in ended.log
