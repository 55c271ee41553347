"""Signals and crashes while a job runs, in a process of its own: whole lines stay, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from batch_jobs import Job, completion, start, wait
from tiny_models import build_llama

NUM_ROWS = 40
DEADLINE_S = 60


@pytest.fixture(scope="module")
def slow_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, with long answers: 40 of them, one at a time, take seconds."""
    folder = tmp_path_factory.mktemp("slow")
    return build_llama(folder, num_layers=6, max_positions=4096, eos_token_id=None)


@pytest.fixture
def long_job(tmp_path: Path, slow_model_dir: Path) -> Job:
    job = Job(tmp_path, slow_model_dir)
    job.write(*(completion(f"r{i}", [5, 6, 7 + i], max_tokens=20 + i) for i in range(NUM_ROWS)))
    return job


def run_until_rows_are_written(job: Job, num_rows: int = 3) -> subprocess.Popen[bytes]:
    """The running process, once that many rows are in the output: they are written as they finish."""
    process = start(*job.arguments("--max-batch-requests", 1))
    until = time.monotonic() + DEADLINE_S
    while not job.output.exists() or job.output.read_bytes().count(b"\n") < num_rows:
        assert process.poll() is None, "it ended before a row was seen"
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("stop", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_stopped_job_keeps_whole_rows_and_goes_on(long_job: Job, stop: signal.Signals, code: int) -> None:
    process = run_until_rows_are_written(long_job)
    process.send_signal(stop)
    ended = wait(process)
    assert ended.code == code
    assert "Traceback" not in ended.log
    if stop != signal.SIGKILL:
        assert ended.log.splitlines()[-1] == (
            "stopped; the rows finished so far are written: run the same command again to answer the rest"
        )
    num_written = len(long_job.rows)
    assert 3 <= num_written < NUM_ROWS

    resumed = long_job.run()
    assert f"{NUM_ROWS - num_written} answered, 0 failed, {num_written} kept from an earlier run" in resumed.log
    assert set(long_job.answers) == {f"r{i}" for i in range(NUM_ROWS)}


def test_a_reader_of_standard_output_may_leave_early(long_job: Job) -> None:
    long_job.output = Path("-")
    process = start(*long_job.arguments())
    assert process.stdout is not None
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    assert process.stderr is not None
    log = process.stderr.read().decode()
    assert process.wait(DEADLINE_S) == 2
    process.stderr.close()
    assert "error: standard output cannot be written: Broken pipe; give a file, which can be resumed" in log
    assert "Traceback" not in log
    assert "Exception ignored" not in log
