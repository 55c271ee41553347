"""The main job: a file of requests in, every answer out."""

from __future__ import annotations

from blendserve.batch.job import BatchJob
from blendserve.batch.progress import JobObserver, JobProgress, JobSummary

__all__ = ["BatchJob", "JobObserver", "JobProgress", "JobSummary"]
