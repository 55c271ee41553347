"""What an observer of a job is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batch_jobs import completion
from blendserve import EngineConfig
from blendserve.batch import BatchJob, JobProgress
from tiny_models import build_llama


class Recorder:
    def __init__(self) -> None:
        self.phases: list[str] = []
        self.moments: list[JobProgress] = []

    def phase(self, description: str) -> None:
        self.phases.append(description)

    def progress(self, progress: JobProgress) -> None:
        self.moments.append(progress)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True, max_positions=256)


def run(folder: Path, model_dir: Path, rows: list[bytes], window: int, **config: Any) -> Recorder:
    (folder / "in.jsonl").write_bytes(b"".join(rows))
    settings = EngineConfig(device="cpu", kv_memory="1MiB", **config)
    recorder = Recorder()
    BatchJob(f"{folder}/in.jsonl", f"{folder}/out.jsonl", str(model_dir), settings, False, window).run(recorder)
    return recorder


@pytest.mark.parametrize("window", [3, 100])
@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_all_of_the_work_is_done_in_the_end_and_never_more_than_there_is(
    tmp_path: Path, model_dir: Path, window: int, schedule: Any
) -> None:
    rows = [completion(f"r{i}", [5 + i % 4, 6, 7], max_tokens=9, stop=["e"], n=1 + i % 2) for i in range(20)]
    moments = run(tmp_path, model_dir, rows, window, schedule=schedule).moments
    assert all(moment.work_done <= moment.total_work for moment in moments)
    assert moments[-1].work_done == moments[-1].total_work > 0
    assert moments[-1].num_answered == moments[-1].num_requests == 20


def test_the_work_of_rows_that_are_not_read_yet_is_estimated(tmp_path: Path, model_dir: Path) -> None:
    rows = [completion(f"r{i:05}", [5, 6, 7 + i % 100], max_tokens=1, temperature=1.0) for i in range(12_000)]
    moments = run(tmp_path, model_dir, rows, 2000, schedule="fcfs").moments
    first, last = moments[0], moments[-1]
    assert first.num_requests == 2000
    assert last.total_work == 12_000 * 4
    assert 0.15 * last.total_work <= first.total_work <= 1.05 * last.total_work


def test_the_phases_of_a_planned_job(tmp_path: Path, model_dir: Path) -> None:
    phases = run(tmp_path, model_dir, [completion("a"), completion("b")], 1, schedule="blend").phases
    assert phases == ["reading requests", "tokenizing", "loading the model", "planning", "answering"]
