"""Schedule logs: what is written is what is read, and what is none is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from blendserve import UserError
from blendserve._core import TimeCorrection
from blendserve.recording import CorrectionChange, ScheduleLog, read_schedule_log

SETTINGS = {"seed": 3, "hardware": {"name": "cpu", "curve": [(1.0, 2.0)]}}
CHANGES = [CorrectionChange(256, TimeCorrection(2 ** (1 / 16), 0.5)), CorrectionChange(1024, TimeCorrection(1.0, 0.1))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "schedule.jsonl"
    log = ScheduleLog(path, SETTINGS)
    for change in CHANGES:
        log.add(change)
    return path


def test_changes_come_back_to_the_last_bit(path: Path) -> None:
    assert read_schedule_log(path, SETTINGS) == CHANGES


def test_a_log_is_whole_after_every_change(tmp_path: Path) -> None:
    log = ScheduleLog(tmp_path / "log", SETTINGS)
    assert read_schedule_log(tmp_path / "log", SETTINGS) == []
    log.add(CHANGES[0])
    assert read_schedule_log(tmp_path / "log", SETTINGS) == CHANGES[:1]


def test_a_log_of_other_settings_is_refused(path: Path) -> None:
    with pytest.raises(
        UserError, match=r"schedule\.jsonl is of a run with another seed: 3, not 4; a schedule is repla"
    ):
        read_schedule_log(path, {**SETTINGS, "seed": 4})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("seven", "line 4 is no JSON object"),
        ("[1, 2, 3]", "line 4 is no JSON object"),
        ('{"after_steps": 7, "compute": 1}', "line 4 is no change of a correction: 'memory'"),
        ('{"after_steps": 7, "compute": 1, "memory": 0}', "line 4 is no change of a correction: memory is 0"),
        (
            '{"after_steps": null, "compute": 1, "memory": 1}',
            "line 4 has after_steps None, which must be an integer",
        ),
        ('{"after_steps": 256.5, "compute": 1, "memory": 1}', "line 4 has after_steps 256.5, which must be an integer"),
    ],
)
def test_a_line_that_is_no_change_is_named(path: Path, line: str, complaint: str) -> None:
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=complaint):
        read_schedule_log(path, SETTINGS)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file or directory; `run --schedule-log` writes one"):
        read_schedule_log(tmp_path / "none", SETTINGS)
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="empty is empty; `run --schedule-log` writes one"):
        read_schedule_log(tmp_path / "empty", SETTINGS)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(UserError, match="bytes cannot be read: 'utf-8' codec"):
        read_schedule_log(tmp_path / "bytes", SETTINGS)


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        ScheduleLog(tmp_path / "none" / "log", SETTINGS)
