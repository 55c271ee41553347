"""`blendserve run --window N`: windows bound what is held in memory, and change no answer."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Job, chat, completion, invoke, parse_rows, start, wait
from blendserve.batch import job as batch_job
from step_plans import recorded_steps

SCHEDULES = ["fcfs", "dfs", "random", "blend", "paper"]
SMALL = ["--kv-memory", 20 * 16 * 256, "--max-batch-tokens", 48]  # 20 blocks
ROOM_FOR_THREE = ["--kv-memory", 3 * 5 * 16 * 256, "--max-batch-tokens", 48]


def mixed() -> list[bytes]:
    return [
        *(completion(f"known{i}", [*range(40, 80), 100 + i], ignore_eos=True, max_tokens=20 * i + 1) for i in range(5)),
        *(chat(f"sampled{i}", "How many tokens?" * i, stop=["e"], max_tokens=40, temperature=0.9) for i in range(5)),
        completion("choices", n=3, temperature=1.0),
        completion("scores", max_tokens=0, echo=True, logprobs=1),
    ]


def room_for_three() -> list[bytes]:
    return [completion(f"r{i}", [*range(40 + i, 80 + i)], max_tokens=30 + i, temperature=i % 2) for i in range(8)]


def one_long_prompt() -> list[bytes]:
    tiny = [completion(f"tiny{i}", [10 + i], max_tokens=12) for i in range(9)]
    return [*tiny[:4], completion("long", [7 + i % 300 for i in range(230)], max_tokens=12), *tiny[4:]]


def all_equal() -> list[bytes]:
    return [completion(f"r{i}", "The quick brown fox", max_tokens=9) for i in range(9)]


def wrong_hints() -> list[bytes]:
    """Ten times as long, or as short, as the answers are."""
    lengths = [3 if i % 2 else 40 for i in range(8)]
    return [
        completion(
            f"r{i}",
            [30 + i, 31, 32],
            max_tokens=length,
            min_tokens=length - 1,
            expected_output_tokens=length * 10 if i % 2 else length // 10,
        )
        for i, length in enumerate(lengths)
    ]


JOBS = {
    "mixed": (mixed, SMALL),
    "room for three": (room_for_three, ROOM_FOR_THREE),
    "one long prompt": (one_long_prompt, SMALL),
    "all equal": (all_equal, SMALL),
    "wrong hints": (wrong_hints, SMALL),
}


def choices(job: Job) -> dict[str, Any]:
    return {name: body["choices"] for name, body in job.answers.items()}


@pytest.mark.parametrize("name", JOBS)
def test_neither_windows_nor_schedules_change_an_answer(job: Job, name: str) -> None:
    make_rows, options = JOBS[name]
    rows = make_rows()
    job.write(*rows)
    job.run("--schedule", "fcfs", "--no-resume", *options)
    expected = choices(job)
    assert len(expected) == len(rows)
    for schedule in SCHEDULES:
        for window in (1, 3, len(rows)):
            job.run("--schedule", schedule, "--window", window, "--no-resume", *options)
            assert choices(job) == expected, (schedule, window)
        job.run("--schedule", schedule, "--window", 3, "--async-scheduling", "--no-resume", *options)
        assert choices(job) == expected, schedule


def test_the_summary_and_the_metrics_count_the_windows(job: Job, tmp_path: Path) -> None:
    job.write(*mixed(), completion("bad", n=0), completion("too long", [5] * 400))
    ended = job.run("--window", 4, "--metrics", tmp_path / "metrics.json", *SMALL, code=1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["num_rows"], metrics["num_answered"], metrics["num_failed"]) == (14, 12, 2)
    assert metrics["windows"] == 3
    assert " steps and 3 windows, after " in ended.log
    assert "windows" not in job.run("--no-resume", *SMALL, code=1).log


def test_a_custom_id_of_an_earlier_window_is_refused(job: Job) -> None:
    job.write(*(completion(name) for name in ("a", "b", "c", "a", "d", "b")))
    job.run("--window", 2, code=1)
    assert [row["custom_id"] for row in job.rows if row["error"] is None] == ["a", "b", "c", "d"]
    failed = [(row["custom_id"], row["error"]["code"]) for row in job.rows if row["error"] is not None]
    assert failed == [("a", "duplicate_custom_id"), ("b", "duplicate_custom_id")]


def test_windows_of_nothing_but_bad_rows_are_written_and_the_next_ones_answered(job: Job) -> None:
    job.write(b"{\n", b"[]\n", b"5\n", completion("a"), b"{\n", b"[]\n")
    ended = job.run("--window", 2, code=1)
    assert "1 answered, 5 failed" in ended.log
    assert len(job.rows) == 6


def test_a_job_goes_on_in_the_middle_of_a_window(job: Job) -> None:
    job.write(*mixed())
    job.run("--window", 4, *SMALL)
    expected, lines = choices(job), job.output.read_bytes().splitlines(keepends=True)
    for kept in (1, 5, 8):
        job.output.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        ended = job.run("--window", 3, "--schedule", "blend", *SMALL)
        assert f"{12 - kept} answered, 0 failed, {kept} kept from an earlier run" in ended.log
        assert choices(job) == expected


@pytest.mark.parametrize("window", [1, 3, 100])
def test_standard_input_is_read_in_windows_too(job: Job, window: int) -> None:
    arguments = ["run", "-i", "-", "-o", "-", "--model", job.model_dir, "--window", window]
    ended = invoke(*arguments, stdin=b"".join(all_equal()))
    assert ended.code == 0
    assert len({row["custom_id"] for row in parse_rows(ended.out)}) == 9
    empty = invoke(*arguments, stdin=b"\n  \n")
    assert empty.code == 2
    assert "input - has no requests" in empty.log


def test_a_later_window_has_room_for_prompts_that_the_first_one_would_not_need(job: Job) -> None:
    job.write(completion("tiny", [5], max_tokens=1), completion("long", [7 + i % 300 for i in range(230)]))
    job.run("--window", 1)
    assert set(job.answers) == {"tiny", "long"}


def test_a_window_must_have_a_row(job: Job) -> None:
    job.write(completion("a"))
    assert "window is 0; it must be at least 1 row" in job.run("--window", 0, code=2).log


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_job_stopped_in_a_window_keeps_whole_rows_and_goes_on(job: Job, stop: signal.Signals) -> None:
    job.write(*(completion(f"r{i}", [5, 6, 7 + i], max_tokens=200) for i in range(60)))
    process = start(*job.arguments("--window", 7, "--max-batch-requests", 1, "--schedule", "blend"))
    until = time.monotonic() + 60
    while not job.output.exists() or job.output.read_bytes().count(b"\n") < 10:
        assert process.poll() is None, "it ended before a row was seen"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(stop)
    ended = wait(process)
    assert ended.code == 128 + stop
    assert "Traceback" not in ended.log
    num_written = len(job.rows)
    assert 10 <= num_written < 60
    assert f"{60 - num_written} answered, 0 failed, {num_written} kept" in job.run("--window", 7).log
    assert len(job.answers) == 60


@pytest.mark.parametrize("schedule", ["fcfs", "blend"])
def test_a_deterministic_schedule_does_not_depend_on_when_windows_are_ready(
    job: Job, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    job.write(*mixed())
    options = ["--schedule", schedule, "--window", 2, "--deterministic-schedule", "--no-resume", *SMALL]
    with recorded_steps() as steps:
        job.run(*options)
    prepare_window = batch_job.prepare_window

    def late(*arguments: Any) -> Any:
        time.sleep(0.05)
        return prepare_window(*arguments)

    monkeypatch.setattr(batch_job, "prepare_window", late)
    with recorded_steps() as same_steps:
        job.run(*options)
    assert same_steps == steps
