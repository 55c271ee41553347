"""Runs a job on one engine, in a process and an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class NotRun(Exception):
    """The engine gave no answer; the message says why."""


def run_engine(engine: str, python: str, job: dict[str, Any]) -> dict[str, Any]:
    """The answer of `engine_{engine}.py`, run by the interpreter `python`.

    Raises:
        NotRun: there is no such interpreter, or the engine failed in it; what it said is on stderr.
    """
    script = Path(__file__).with_name(f"engine_{engine}.py")
    with tempfile.TemporaryDirectory() as folder:
        job_path, answer_path = Path(folder) / "job.json", Path(folder) / "answer.json"
        job_path.write_text(json.dumps(job))
        command = [python, str(script), str(job_path), str(answer_path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise NotRun(f"{python}: {error.strerror}") from error
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            last_line = (done.stderr.strip() or "without a word").splitlines()[-1]
            raise NotRun(f"it ended with {done.returncode}: {last_line}")
        answer: dict[str, Any] = json.loads(answer_path.read_text())
    return answer
