"""Rows that must have the same answer are computed once, and each is written as its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Job, chat, completion


def rows() -> list[bytes]:
    """Three answers for nine rows."""
    return [
        *(completion(f"greedy{i}", "The quick brown fox", max_tokens=6, model=f"name{i}") for i in range(4)),
        *(completion(f"seeded{i}", "lazy dog", temperature=1.2, seed=7, n=2) for i in range(3)),
        chat("chat0", "fox"),
        chat("chat1", "fox"),
    ]


def run(job: Job, folder: Path, *options: object) -> dict[str, Any]:
    job.run("--no-resume", "--metrics", folder / "metrics.json", *options)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_equal_rows_are_computed_once_and_answered_each(job: Job, tmp_path: Path, schedule: str) -> None:
    job.write(*rows())
    apart = run(job, tmp_path, "--window", 1)
    expected = job.answers
    assert (apart["windows"], apart["duplicates"]) == (9, 0)
    together = run(job, tmp_path, "--schedule", schedule)
    assert (together["windows"], together["duplicates"], together["num_answered"]) == (1, 6, 9)
    assert together["output_tokens"] < apart["output_tokens"] / 2
    assert without_cached(job.answers) == without_cached(expected)
    for name in ("greedy1", "seeded2", "chat1"):
        usage = job.answers[name]["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
    assert [job.answers[f"greedy{i}"]["model"] for i in range(4)] == ["name0", "name1", "name2", "name3"]
    assert len({body["id"] for body in job.answers.values()}) == 9


def without_cached(answers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**body, "usage": {key: n for key, n in body["usage"].items() if key != "prompt_tokens_details"}}
        for name, body in answers.items()
    }


def test_a_window_boundary_between_equal_rows_changes_no_answer(job: Job, tmp_path: Path) -> None:
    job.write(*rows())
    run(job, tmp_path)
    expected = without_cached(job.answers)
    metrics = run(job, tmp_path, "--window", 2)
    assert (metrics["windows"], metrics["duplicates"]) == (5, 3)
    assert without_cached(job.answers) == expected


def test_the_summary_names_them(job: Job) -> None:
    job.write(*rows(), completion("other", "naive"))
    assert "rows           10 answered, 6 of them as copies of equal ones, 0 failed\n" in job.run().log


def test_a_job_goes_on_with_copies_of_rows_that_are_written(job: Job) -> None:
    job.write(*rows())
    job.run()
    expected = without_cached(job.answers)
    lines = job.output.read_bytes().splitlines(keepends=True)
    job.output.write_bytes(b"".join(lines[:5]))
    assert "4 answered" in job.run().log
    assert without_cached(job.answers) == expected
