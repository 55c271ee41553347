"""What the scripts that run one engine have in common. Standard library only: peers have interpreters of their own.

    python engine_NAME.py JOB.json ANSWER.json

The job: `model` (a folder), `num_threads` (None: the engine's default), `settings` of the engine, which may be
missing, `repeats`, and the requests `checked` and `timed`, each with `prompts` and `max_tokens`. The answer:
`versions`, the token ids `checked` and `timed`, and `runs`, one a repeat.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stopwatch import Run

Answers = list[list[int]]


def read_job() -> dict[str, Any]:
    return json.loads(Path(sys.argv[1]).read_text())


def answer_job(
    job: dict[str, Any],
    versions: dict[str, str],
    generate: Callable[[dict[str, Any]], tuple[Answers, Run]],
    **more: Any,
) -> None:
    """`generate` answers requests with nothing cached of earlier ones, and times it."""
    checked, _ = generate(job["checked"])
    timed, runs = zip(*(generate(job["timed"]) for _ in range(job["repeats"])), strict=True)
    answer = {"versions": versions, "checked": checked, "timed": timed[-1], "runs": runs, **more}
    Path(sys.argv[2]).write_text(json.dumps(answer))
