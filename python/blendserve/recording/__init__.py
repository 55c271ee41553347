"""What a real run did and where its time went, beside what the performance model says of it."""

from __future__ import annotations

from blendserve.recording.run_recorder import RunRecorder
from blendserve.recording.run_report import RunReport
from blendserve.recording.schedule_log import CorrectionChange, ScheduleLog, read_schedule_log
from blendserve.recording.stage_clock import StageClock

__all__ = ["CorrectionChange", "RunRecorder", "RunReport", "ScheduleLog", "StageClock", "read_schedule_log"]
