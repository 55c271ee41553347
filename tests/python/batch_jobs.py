"""Jobs of `blendserve run` on tiny models: an input file, the command, the rows it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendserve.cli.main import app
from typer.testing import CliRunner

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def line(custom_id: str, body: dict[str, Any], *, url: str = COMPLETIONS, **fields: Any) -> bytes:
    row = {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **fields}
    return json.dumps(row).encode() + b"\n"


def completion(custom_id: str, prompt: Any = "How many tokens?", **fields: Any) -> bytes:
    return line(custom_id, {"prompt": prompt, "max_tokens": 4, "temperature": 0, **fields})


def chat(custom_id: str, content: str = "How many tokens?", **fields: Any) -> bytes:
    messages = [{"role": "user", "content": content}]
    return line(custom_id, {"messages": messages, "max_tokens": 4, "temperature": 0, **fields}, url=CHAT)


def parse_rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of a results file; every one of its lines must be whole."""
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(row) for row in content.splitlines()]


def answers(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Custom id -> response body without the time, of rows that must all be answers to different requests."""
    bodies = {}
    for row in rows:
        assert row["error"] is None, row
        assert row["custom_id"] not in bodies
        bodies[row["custom_id"]] = {key: value for key, value in row["response"]["body"].items() if key != "created"}
    return bodies


@dataclass(frozen=True)
class Ended:
    """How a command ended. `log` is what it wrote to stderr, `out` to stdout."""

    code: int
    out: bytes
    log: str


def invoke(*arguments: object, stdin: bytes = b"") -> Ended:
    """Run the command inside this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)
    return Ended(result.exit_code, result.stdout_bytes, result.stderr)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own; its output is piped unless `options` say otherwise."""
    command = [sys.executable, "-m", "blendserve", *(str(argument) for argument in arguments)]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}, **options)


def wait(process: subprocess.Popen[bytes]) -> Ended:
    out, log = process.communicate(timeout=60)
    return Ended(process.returncode, out or b"", (log or b"").decode())


class Job:
    """Input, output and model of one job; each run of it is a run of the command."""

    def __init__(self, folder: Path, model_dir: Path) -> None:
        self.input = folder / "requests.jsonl"
        self.output = folder / "results.jsonl"
        self.model_dir = model_dir

    def write(self, *lines: bytes) -> None:
        self.input.write_bytes(b"".join(lines))

    def arguments(self, *options: object) -> list[object]:
        return ["run", "-i", self.input, "-o", self.output, "--model", self.model_dir, *options]

    def run(self, *options: object, code: int = 0) -> Ended:
        """Run it in this process; `code` is the exit code that is expected."""
        ended = invoke(*self.arguments(*options))
        assert ended.code == code, ended.log
        return ended

    @property
    def rows(self) -> list[dict[str, Any]]:
        return parse_rows(self.output.read_bytes())

    @property
    def answers(self) -> dict[str, dict[str, Any]]:
        return answers(self.rows)

    @property
    def errors(self) -> dict[str | None, dict[str, str]]:
        """Custom id -> error, of the rows that have one."""
        return {row["custom_id"]: row["error"] for row in self.rows if row["error"] is not None}
