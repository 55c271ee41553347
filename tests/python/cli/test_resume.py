"""A job that stopped goes on where it stopped, and a job that is done does nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Job, chat, completion

NUM_ROWS = 12


@pytest.fixture
def sampled_job(job: Job) -> Job:
    """A job whose answers depend on the seed."""
    rows = [completion(f"r{i}", [5, 6, *range(9, 9 + 5 * i)], max_tokens=5, temperature=1.5) for i in range(NUM_ROWS)]
    job.write(*rows)
    return job


def choices_of(job: Job) -> dict[str, Any]:
    """What must not depend on interruptions: usage does, for what is cached depends on who runs beside."""
    return {name: body["choices"] for name, body in job.answers.items()}


def test_an_output_cut_at_any_byte_is_completed_to_the_same_rows(sampled_job: Job) -> None:
    sampled_job.run()
    expected, whole = choices_of(sampled_job), sampled_job.output.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 1, ends[0] - 1, ends[0], ends[4] + 300, ends[-1] - 1):
        sampled_job.output.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        ended = sampled_job.run()
        assert f"{NUM_ROWS - kept} answered, 0 failed" in ended.log
        assert (
            sampled_job.output.read_bytes()[: ends[kept - 1] if kept else 0] == whole[: ends[kept - 1] if kept else 0]
        )
        assert len(sampled_job.rows) == NUM_ROWS
        assert choices_of(sampled_job) == expected


def test_a_finished_job_answers_nothing_and_loads_no_model(sampled_job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sampled_job.model_dir, folder)
    sampled_job.model_dir = folder
    sampled_job.run()
    before = sampled_job.output.read_bytes()
    (folder / "model.safetensors").unlink()
    ended = sampled_job.run()
    assert "loading the model" not in ended.log
    assert f"0 answered, 0 failed, {NUM_ROWS} kept from an earlier run" in ended.log
    assert sampled_job.output.read_bytes() == before


def test_failed_rows_are_tried_again_and_answered_ones_are_not(job: Job) -> None:
    job.write(completion("a"), completion("b", n=0), chat("c"))
    job.run(code=1)
    ended = job.run(code=1)
    assert "0 answered, 1 failed, 2 kept from an earlier run" in ended.log
    job.write(completion("a"), completion("b"), chat("c"))
    ended = job.run()
    assert "1 answered, 0 failed, 2 kept from an earlier run" in ended.log
    assert set(job.answers) == {"a", "b", "c"}


def test_no_resume_answers_every_row_again(sampled_job: Job) -> None:
    sampled_job.run()
    expected = choices_of(sampled_job)
    ended = sampled_job.run("--no-resume")
    assert f"{NUM_ROWS} answered, 0 failed\n" in ended.log
    assert choices_of(sampled_job) == expected


def test_another_seed_redoes_every_row(sampled_job: Job) -> None:
    sampled_job.run()
    before = choices_of(sampled_job)
    log = sampled_job.run("--seed", 5).log
    assert f"{NUM_ROWS} answered, 0 failed\n" in log
    assert (
        f"warning: {NUM_ROWS} answers of an earlier run in {sampled_job.output} will be computed again: the row," in log
    )
    assert set(choices_of(sampled_job)) == set(before)
    assert choices_of(sampled_job) != before


def test_weights_kept_smaller_redo_every_row(sampled_job: Job) -> None:
    sampled_job.run()
    assert f"{NUM_ROWS} answered, 0 failed\n" in sampled_job.run("--weight-dtype", "int8").log


def test_another_kv_cache_redoes_every_row(sampled_job: Job) -> None:
    sampled_job.run()
    assert f"{NUM_ROWS} answered, 0 failed\n" in sampled_job.run("--kv-dtype", "bfloat16").log
    assert f"{NUM_ROWS} kept" in sampled_job.run("--kv-dtype", "bfloat16").log


def test_another_model_redoes_every_row(sampled_job: Job, tmp_path: Path) -> None:
    sampled_job.run()
    other = tmp_path / "other"
    shutil.copytree(sampled_job.model_dir, other)
    sampled_job.model_dir = other
    assert f"{NUM_ROWS} answered, 0 failed\n" in sampled_job.run().log
    assert len(sampled_job.rows) == NUM_ROWS


def test_another_way_to_write_the_models_path_redoes_nothing(sampled_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled_job.run()
    monkeypatch.chdir(sampled_job.model_dir.parent)
    sampled_job.model_dir = Path(sampled_job.model_dir.name)
    assert f"0 answered, 0 failed, {NUM_ROWS} kept" in sampled_job.run().log


def test_what_does_not_change_the_answers_redoes_nothing(sampled_job: Job) -> None:
    sampled_job.run()
    options = ("--schedule", "fcfs", "--max-batch-tokens", 64, "--kv-memory", "1MB", "--dtype", "float32")
    assert f"0 answered, 0 failed, {NUM_ROWS} kept" in sampled_job.run(*options).log


def test_a_changed_row_alone_is_redone(sampled_job: Job) -> None:
    sampled_job.run()
    lines = sampled_job.input.read_bytes().splitlines(keepends=True)
    sampled_job.write(*lines[1:], completion("r0", [7, 8], max_tokens=5))
    assert f"1 answered, 0 failed, {NUM_ROWS - 1} kept" in sampled_job.run().log
    assert sampled_job.answers["r0"]["usage"]["prompt_tokens"] == 2


def test_a_longer_input_is_continued(sampled_job: Job) -> None:
    sampled_job.run()
    with sampled_job.input.open("ab") as more:
        more.write(completion("new"))
    assert f"1 answered, 0 failed, {NUM_ROWS} kept" in sampled_job.run().log
    assert len(sampled_job.answers) == NUM_ROWS + 1
