"""What a person sees while a job runs: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re

import pytest
from batch_jobs import Job, completion, start
from blendserve._core import StepScheduler, TimeCorrection
from blendserve.batch import JobProgress
from blendserve.cli.progress import ProgressDisplay
from blendserve.plan_job.read_batch import ReadProgress
from rich.console import Console


def read_terminal(job: Job) -> str:
    """All that the command shows on a terminal."""
    leader, follower = pty.openpty()
    process = start(*job.arguments(), stderr=follower, stdout=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    assert process.wait(60) == 0, shown
    return shown.decode()


def test_a_terminal_shows_a_bar_with_speed_rest_and_cache(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    job.write(*(completion(f"r{i}", [*range(9, 50), 60 + i], max_tokens=40) for i in range(20)))
    shown = read_terminal(job)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(
        r"answering .* \d+/20 rows answered, \d+ sequences running, [\d,]+ tokens/s, \d+% of prompts cached ETA \S+",
        plain,
    )
    assert "20 answered, 0 failed" in plain
    assert "reading requests ..." not in plain


def progress(correction: TimeCorrection | None = None, **changes: int) -> JobProgress:
    values = {"num_answered": 3, "num_requests": 20, "work_done": 500, "total_work": 2000, "num_running": 7}
    scheduler = StepScheduler(num_blocks=4, block_size=4, max_batch_tokens=8, max_batch_requests=4)
    return JobProgress(**{**values, **changes}, correction=correction or TimeCorrection(), stats=scheduler.stats)


def test_elsewhere_a_line_comes_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    out = io.StringIO()
    with ProgressDisplay(Console(file=out, width=40)) as display:
        display.phase("answering")
        for seconds, work_done in ((1.0, 100), (9.0, 400), (10.5, 500), (12.0, 510), (20.5, 600), (31.0, 600)):
            times.append(100.0 + seconds)
            display.progress(progress(work_done=work_done))
    assert out.getvalue().splitlines() == [
        "answering ...",
        " 25% 3/20 rows answered, 7 sequences running, 0 tokens/s, 0% of prompts cached, ETA 0:00:31",
        " 30% 3/20 rows answered, 7 sequences running, 0 tokens/s, 0% of prompts cached, ETA 0:02:20",
        " 30% 3/20 rows answered, 7 sequences running, 0 tokens/s, 0% of prompts cached, ETA ?",
    ]


def test_what_measured_times_changed_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    out = io.StringIO()
    with ProgressDisplay(Console(file=out, width=40)) as display:
        display.phase("answering")
        times.append(110.0)
        display.progress(progress(TimeCorrection(1.25, 0.5)))
    assert ", 0% of prompts cached, paced by arithmetic x 1.25, reads x 0.5, ETA" in out.getvalue()


def test_tokenizing_shows_rows_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    out = io.StringIO()
    with ProgressDisplay(Console(file=out, width=40)) as display:
        display.phase("tokenizing")
        for seconds, bytes_done in ((1.0, 100), (10.0, 400)):
            times.append(100.0 + seconds)
            display.reading(ReadProgress(bytes_done, 2000, 7 * bytes_done, 50 * bytes_done))
    assert out.getvalue().splitlines() == ["tokenizing ...", " 20% 2,800 rows, 2,000 tokens/s, ETA 0:00:40"]


def test_a_job_that_is_not_on_a_terminal_names_its_phases(job: Job) -> None:
    job.write(completion("a"))
    phases = ["reading requests ...", "tokenizing ...", "loading the model ...", "planning ...", "answering ..."]
    assert job.run().log.splitlines()[:5] == phases
