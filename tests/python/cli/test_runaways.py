"""Answers that repeat themselves: the body field, the option, and where they are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_jobs import Job, completion

LOOP = {"logit_bias": {"40": 100}, "max_tokens": 200}  # the token 40 for ever


def ending(job: Job, name: str) -> tuple[int, str]:
    body = job.answers[name]
    return body["usage"]["completion_tokens"], body["choices"][0]["finish_reason"]


@pytest.mark.parametrize("schedule", ["dfs", "blend"])
def test_a_row_may_ask_for_it(job: Job, tmp_path: Path, schedule: str) -> None:
    job.write(
        completion("asks", max_repeated_tokens=12, **LOOP),
        completion("does not", **LOOP),
        completion("chats", max_repeated_tokens=20, n=2, **LOOP),
        completion("bad", max_repeated_tokens=1),
    )
    metrics = tmp_path / "metrics.json"
    ended = job.run("--schedule", schedule, "--metrics", metrics, code=1)
    rows = {row["custom_id"]: row for row in job.rows}
    choices = {name: row["response"]["body"]["choices"] for name, row in rows.items() if row["response"]}
    assert [choice["finish_reason"] for choice in choices["asks"]] == ["repetition"]
    assert [choice["finish_reason"] for choice in choices["does not"]] == ["length"]
    assert [choice["finish_reason"] for choice in choices["chats"]] == ["repetition"] * 2
    assert rows["asks"]["response"]["body"]["usage"]["completion_tokens"] == 12
    assert "body.max_repeated_tokens is 1; it must be at least 2, or 0 for never" in rows["bad"]["error"]["message"]
    assert json.loads(metrics.read_text())["runaways"] == 3
    assert ", 3 answers ended as they repeated themselves\n" in ended.log


def test_the_option_is_for_rows_that_do_not_say(job: Job) -> None:
    row = completion("a", [40] * 3, logit_bias={"40": 100}, max_tokens=250)
    job.write(row, completion("b", max_repeated_tokens=10, **LOOP), completion("c", max_repeated_tokens=0, **LOOP))
    job.run("--stop-runaways")
    assert ending(job, "a") == (250, "length")  # the rule asks for 256
    assert ending(job, "b") == (10, "repetition")
    assert ending(job, "c") == (200, "length")


def test_answers_of_a_run_without_the_option_are_redone(job: Job) -> None:
    job.write(completion("a", **LOOP))
    job.run()
    assert "1 answered, 0 failed\n" in job.run("--stop-runaways").log
    assert "0 answered, 0 failed, 1 kept" in job.run("--stop-runaways").log
