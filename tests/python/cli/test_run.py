"""What a job writes when all goes well: rows in the published format, figures, and nothing else."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from batch_jobs import Ended, Job, answers, chat, completion, invoke, line, parse_rows, start, wait
from blendserve.text.tokenizer import Tokenizer
from tiny_models import BOS_ID

ROOT = Path(__file__).parents[3]
METRICS = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))


def assert_published_format(row: dict[str, Any], *, is_chat: bool) -> None:
    """Checks fields and types of an answer's row against the Batch format."""
    assert row.keys() == {"id", "custom_id", "response", "error"}
    assert re.fullmatch(r"batch_req_[0-9a-f]{24}", row["id"])
    assert row["error"] is None
    assert row["response"].keys() == {"status_code", "request_id", "body"}
    assert row["response"]["status_code"] == 200
    assert row["response"]["request_id"].startswith("req_")
    body = row["response"]["body"]
    assert body.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert body["id"].startswith("chatcmpl-" if is_chat else "cmpl-")
    assert body["object"] == ("chat.completion" if is_chat else "text_completion")
    assert 1_600_000_000 < body["created"] < 10_000_000_000
    for index, choice in enumerate(body["choices"]):
        assert choice.keys() == {"index", "logprobs", "finish_reason", "message" if is_chat else "text"}
        assert choice["index"] == index
        assert choice["finish_reason"] in ("stop", "length")
        if is_chat:
            assert choice["message"].keys() == {"role", "content", "refusal"}
            assert choice["message"]["role"] == "assistant"
        assert isinstance(choice["message"]["content"] if is_chat else choice["text"], str)
    usage = body["usage"]
    assert usage.keys() == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"].keys() == {"cached_tokens"}


def choices(job: Job, custom_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job.answers[custom_id]["choices"]
    return found


def test_chat_and_completion_rows_are_in_the_published_format(job: Job) -> None:
    job.write(chat("chat", n=2, temperature=1), completion("text", "Hi"), completion("ids", [5, 6, 7]))
    job.run()
    for row in job.rows:
        assert_published_format(row, is_chat=row["custom_id"] == "chat")


def test_the_model_is_echoed_or_else_the_folder_named(job: Job) -> None:
    job.write(completion("named", model="gpt-4o-mini"), completion("unnamed"))
    job.run()
    assert job.answers["named"]["model"] == "gpt-4o-mini"
    assert job.answers["unnamed"]["model"] == job.model_dir.name


def test_the_current_folder_as_model_is_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    name = job.model_dir.name
    monkeypatch.chdir(job.model_dir)
    job.model_dir = Path()
    job.write(completion("a"))
    job.run()
    assert job.answers["a"]["model"] == name


def test_the_default_model_is_known_by_its_name(default_model_dir: Path, job: Job) -> None:
    assert default_model_dir.is_dir()
    job.write(completion("a", max_tokens=1))
    job.model_dir = Path("smollm2-135m-instruct")
    job.run()
    assert job.answers["a"]["model"] == "smollm2-135m-instruct"


def test_usage_counts_the_prompt_once_and_all_choices(job: Job) -> None:
    job.write(completion("a", [5] * 10, n=3, max_tokens=7, temperature=1))
    job.run()
    usage = job.answers["a"]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 21, 31)


def test_usage_shows_what_came_from_the_cache(job: Job) -> None:
    shared = list(range(10, 50))
    job.write(*(completion(f"r{i}", [*shared, 100 + i]) for i in range(5)))
    job.run()
    cached = sorted(body["usage"]["prompt_tokens_details"]["cached_tokens"] for body in job.answers.values())
    assert cached == [0, 32, 32, 32, 32]  # two whole blocks of 16 tokens


def test_choices_differ_and_each_has_its_own_randomness(job: Job) -> None:
    job.write(chat("a", n=4, temperature=1.5, seed=3, max_tokens=8))
    job.run()
    assert len({choice["message"]["content"] for choice in choices(job, "a")}) == 4


def test_greedy_choices_are_the_same(job: Job) -> None:
    job.write(completion("a", n=2))
    job.run()
    first, second = choices(job, "a")
    assert first["text"] == second["text"]


def test_an_answer_ends_at_its_limit_or_at_a_stop(job: Job) -> None:
    job.write(completion("length", [5, 6, 7], max_tokens=12, logprobs=0))
    job.run()
    (whole,) = choices(job, "length")
    assert whole["finish_reason"] == "length"
    stop = whole["text"][3:5]
    job.write(completion("stop", [5, 6, 7], max_tokens=12, stop=[stop, "never there"]))
    job.run("--no-resume")
    (stopped,) = choices(job, "stop")
    assert stopped["finish_reason"] == "stop"
    assert stopped["text"] == whole["text"][: whole["text"].index(stop)]


def test_an_answer_without_a_limit_fills_the_context(job: Job) -> None:
    job.write(line("a", {"messages": [{"role": "user", "content": "Hi"}]}, url="/v1/chat/completions"))
    job.run()
    assert job.answers["a"]["usage"]["total_tokens"] == 256
    assert choices(job, "a")[0]["finish_reason"] == "length"


def test_log_probs_of_a_chat(job: Job) -> None:
    job.write(chat("a", logprobs=True, top_logprobs=3), chat("b"))
    job.run()
    (choice,) = choices(job, "a")
    entries = choice["logprobs"]["content"]
    assert len(entries) == 4
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode(errors="replace") == choice["message"]["content"]
    for entry in entries:
        assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        top = entry["top_logprobs"]
        assert [alternative.keys() for alternative in top] == [{"token", "logprob", "bytes"}] * 3
        assert [a["logprob"] for a in top] == sorted((a["logprob"] for a in top), reverse=True)
        assert (entry["token"], entry["logprob"]) == (top[0]["token"], top[0]["logprob"])  # a greedy answer
        assert sum(math.exp(a["logprob"]) for a in top) <= 1.0 + 1e-6
    assert choices(job, "b")[0]["logprobs"] is None


def test_log_probs_of_a_completion(job: Job) -> None:
    job.write(completion("a", logprobs=2), completion("b"))
    job.run()
    (choice,) = choices(job, "a")
    shown = choice["logprobs"]
    assert shown.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert {len(values) for values in shown.values()} == {4}
    for token, logprob, top in zip(shown["tokens"], shown["token_logprobs"], shown["top_logprobs"], strict=True):
        assert top[token] == logprob == max(top.values())
    assert shown["text_offset"][0] == 0
    assert choices(job, "b")[0]["logprobs"] is None


def test_a_plain_prompt_gets_the_tokenizers_first_token_and_token_ids_do_not(job: Job) -> None:
    job.write(completion("text", "fox"), completion("ids", [BOS_ID]))
    job.run()
    tokenizer = Tokenizer.load(job.model_dir)
    assert tokenizer is not None
    assert job.answers["text"]["usage"]["prompt_tokens"] == len(tokenizer.encode("fox"))
    assert tokenizer.encode("fox")[0] == BOS_ID
    assert job.answers["ids"]["usage"]["prompt_tokens"] == 1


def test_template_variables_reach_the_template(job: Job) -> None:
    job.write(chat("plain"), chat("moody", chat_template_kwargs={"mood": "sunny"}))
    job.run()
    plain, moody = (job.answers[name]["usage"]["prompt_tokens"] for name in ("plain", "moody"))
    assert moody > plain


def test_fields_without_effect_are_accepted(job: Job) -> None:
    extra = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "flex", "stream": False, "tools": []}
    job.write(chat("a"), chat("b", **extra, response_format={"type": "text"}, stop=None))
    job.run()
    assert choices(job, "a") == choices(job, "b")


@pytest.mark.parametrize(
    "options",
    [
        ["--schedule", "fcfs"],
        ["--schedule", "random"],
        ["--max-batch-tokens", "8"],
        ["--max-batch-requests", "1"],
        ["--kv-memory", "40KB"],  # 9 blocks: requests wait for each other
    ],
)
def test_the_answers_are_the_same_in_any_order_and_batch(job: Job, options: list[str]) -> None:
    prompts = [[5, 6, 7, *range(10, 10 + 9 * i)] for i in range(8)]
    job.write(*(completion(f"r{i}", prompt, max_tokens=6, temperature=1) for i, prompt in enumerate(prompts)))
    job.run()
    expected = {name: body["choices"] for name, body in job.answers.items()}
    job.run(*options, "--no-resume")
    assert {name: body["choices"] for name, body in job.answers.items()} == expected


def test_the_seed_of_the_job_changes_sampled_answers_only(job: Job) -> None:
    job.write(completion("greedy"), completion("own", temperature=1, seed=1), completion("sampled", temperature=1))
    job.run()
    before = {name: choices(job, name) for name in job.answers}
    job.run("--seed", -(2**70) - 1, "--no-resume")
    changed = {name for name in before if choices(job, name) != before[name]}
    assert changed == {"sampled"}


def test_standard_input_and_output(job: Job) -> None:
    rows = completion("a") + b"\n" + chat("b") + completion("bad", n=0)
    with job.input.open("w+b") as stdin:
        stdin.write(rows)
        stdin.seek(0)
        ended = wait(start("run", "-i", "-", "-o", "-", "--model", job.model_dir, stdin=stdin))
    assert ended.code == 1
    written = parse_rows(ended.out)
    assert {row["custom_id"] for row in written} == {"a", "b", "bad"}
    assert "2 answered, 1 failed" in ended.log
    assert re.search(r"^results +stdout$", ended.log, re.MULTILINE)


def test_standard_streams_in_process(job: Job) -> None:
    ended = invoke("run", "-i", "-", "-o", "-", "--model", job.model_dir, stdin=completion("a") + completion("b"))
    assert ended.code == 0
    assert set(answers(parse_rows(ended.out))) == {"a", "b"}


@pytest.fixture
def measured(job: Job, tmp_path: Path) -> tuple[Job, dict[str, Any], Ended]:
    shared = list(range(10, 60))
    good = (completion(f"r{i}", [*shared, i], max_tokens=3 + i) for i in range(6))
    job.write(*good, completion("bad", n=0))
    ended = job.run("--metrics", tmp_path / "metrics.json", code=1)
    return job, json.loads((tmp_path / "metrics.json").read_text()), ended


def test_the_metrics_agree_with_the_rows(measured: tuple[Job, dict[str, Any], Ended]) -> None:
    job, metrics, _ = measured
    usages = [row["response"]["body"]["usage"] for row in job.rows if row["error"] is None]
    assert (metrics["num_rows"], metrics["num_answered"], metrics["num_failed"], metrics["num_kept"]) == (7, 6, 1, 0)
    assert metrics["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in usages) == 6 * 51
    assert metrics["output_tokens"] == sum(usage["completion_tokens"] for usage in usages) == 33
    assert metrics["cached_tokens"] == sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages) == 240
    assert metrics["joined_tokens"] == 240  # all rows start in the same step
    assert metrics["sharing_ratio"] == 240 / 306
    assert metrics["preemptions"] == metrics["recomputed_tokens"] == 0
    assert metrics["steps"] == 8  # the longest answer
    assert metrics["throughput_tok_s"] == pytest.approx((306 + 33) / metrics["run_s"])


def test_every_metric_has_its_formula_in_the_documents(measured: tuple[Job, dict[str, Any], Ended]) -> None:
    _, metrics, _ = measured
    assert set(metrics) - METRICS == set()


def test_the_summary_shows_the_figures(measured: tuple[Job, dict[str, Any], Ended]) -> None:
    job, _, ended = measured
    summary = ended.log[ended.log.index("rows ") :]
    assert re.fullmatch(
        r"rows           6 answered, 1 failed\n"
        r"prompt tokens  306, 78\.4% of them from the prefix cache\n"
        r"prefix cache   240 tokens shared while being computed, 0 blocks evicted, 3 blocks that nobody waits for\n"
        r"output tokens  33\n"
        r"throughput     [\d,]+ tokens/s \(input and output\)\n"
        r"time           \d+\.\d s in 8 steps, after \d+\.\d s of set-up; \d+\.\d s of planning\n"
        r"preemptions    0, 0 tokens computed again\n"
        rf"results        {re.escape(str(job.output))}\n",
        summary,
    ), summary


def test_an_output_path_with_brackets_is_shown_as_it_is(job: Job, tmp_path: Path) -> None:
    job.output = tmp_path / "[red]results[1].jsonl"
    job.write(completion("a"))
    assert f"results        {job.output}\n" in job.run().log


def test_bfloat16_runs(job: Job) -> None:
    job.write(completion("a"))
    job.run("--dtype", "bfloat16")
    assert job.answers["a"]["usage"]["completion_tokens"] == 4


def test_an_output_may_be_a_device(job: Job) -> None:
    job.write(completion("a"))
    job.output = Path("/dev/null")
    assert "1 answered, 0 failed" in job.run().log
