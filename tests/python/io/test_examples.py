from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from batch_rows import CHAT, COMPLETIONS, read
from blendserve.io.batch_input import BatchRequest

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def rows() -> list[BatchRequest]:
    rows = read((EXAMPLES / "requests.jsonl").read_bytes())
    requests = [row for row in rows if isinstance(row, BatchRequest)]
    assert len(requests) == len(rows), "every row of the example must be valid"
    return requests


def test_the_example_file_is_what_the_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_requests", EXAMPLES / "make_requests.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "OUTPUT", tmp_path / "requests.jsonl")
    script.main()
    assert (tmp_path / "requests.jsonl").read_bytes() == (EXAMPLES / "requests.jsonl").read_bytes()


def test_half_of_the_example_shares_a_long_prefix_and_wants_short_answers(rows: list[BatchRequest]) -> None:
    short = [row for row in rows if row.custom_id.startswith("review-")]
    assert len(short) == 20
    assert all(row.url == COMPLETIONS and row.params.max_tokens == 4 for row in short)
    prefix, _, _ = str(short[0].prompt).rpartition("Review: ")
    assert all(str(row.prompt).startswith(prefix) for row in short)
    assert len(prefix.split()) > 250


def test_half_of_the_example_has_short_prompts_and_wants_long_answers(rows: list[BatchRequest]) -> None:
    long = [row for row in rows if not row.custom_id.startswith("review-")]
    assert len(long) == 20
    assert {row.url for row in long} == {CHAT, COMPLETIONS}
    assert sum(row.params.max_tokens is not None and row.params.max_tokens >= 96 for row in long) == 19


def test_the_example_shows_every_kind_of_request(rows: list[BatchRequest]) -> None:
    assert any(row.params.n == 2 and row.params.seed is not None for row in rows)
    assert {row.url for row in rows if row.params.logprobs is not None} == {CHAT, COMPLETIONS}
    assert any(row.messages is not None and row.messages[0]["role"] == "system" for row in rows)
    assert any(len(row.params.stop) > 1 for row in rows)
