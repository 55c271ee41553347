"""Read a job's requests and results, both in the OpenAI Batch format: count the answers and print a few of them.

    python examples/show_results.py requests.jsonl results.jsonl

Exits with 1 when a request has no answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NUM_SHOWN = 4
MAX_WIDTH = 100


def read_rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def prompt_of(request: dict[str, Any]) -> str:
    body = request["body"]
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


def answer_of(result: dict[str, Any] | None) -> str | None:
    """The first choice's text; None when the request failed or has no row."""
    if result is None or result["error"] is not None:
        return None
    choice = result["response"]["body"]["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def one_line(text: str) -> str:
    """The end of a long text: the question that comes after a shared prefix."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_WIDTH else "…" + line[-MAX_WIDTH:]


def main(requests_path: str, results_path: str) -> int:
    requests = read_rows(requests_path)
    results = {row["custom_id"]: row for row in read_rows(results_path)}
    answers = {request["custom_id"]: answer_of(results.get(request["custom_id"])) for request in requests}
    for request in requests[:: max(1, len(requests) // NUM_SHOWN)]:
        answer = answers[request["custom_id"]]
        print(f"\n{request['custom_id']}\n  asked:    {one_line(prompt_of(request))}")
        print(f"  answered: {' '.join((answer or '(nothing)').split())[:MAX_WIDTH]}")
    unanswered = [custom_id for custom_id, answer in answers.items() if not answer]
    print(f"\n{len(answers) - len(unanswered)} of {len(answers)} requests answered, all in {results_path}")
    if unanswered:
        print("no answer:", ", ".join(unanswered), file=sys.stderr)
    return 1 if unanswered else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/show_results.py REQUESTS.jsonl RESULTS.jsonl")
    sys.exit(main(sys.argv[1], sys.argv[2]))
