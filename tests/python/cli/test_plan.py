"""`blendserve plan` around the planner: what it is given, and what is written of what it finds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_jobs import Ended, chat, completion, invoke
from blendserve.text.tokenizer import Tokenizer
from fake_planner import REPORT, FakePlanner

DEFAULT_HARDWARE = "h100-sxm-80gb"


@pytest.fixture(autouse=True)
def planner(monkeypatch: pytest.MonkeyPatch) -> FakePlanner:
    planner = FakePlanner()
    monkeypatch.setattr("blendserve.plan_job.job.plan", planner)
    return planner


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def run(*arguments: object, code: int = 0, stdin: bytes = b"") -> Ended:
    ended = invoke("plan", *arguments, stdin=stdin)
    assert ended.code == code, ended.log
    return ended


def figures_of(tmp_path: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    run(*arguments, "--json", tmp_path / "plan.json", code=code)
    figures: dict[str, Any] = json.loads((tmp_path / "plan.json").read_text())
    return figures


def test_the_planner_gets_prompts_lengths_and_limits(requests: Path, model_dir: Path, planner: FakePlanner) -> None:
    requests.write_bytes(
        completion("text", "fox", max_tokens=9)
        + chat("chat", ignore_eos=True)
        + completion("ids", [7, 8], n=2, temperature=1, expected_output_tokens=3)
    )
    run("-i", requests, "--model", model_dir, "--mean-output", 80, "--split-budget", 0.05)
    tokenizer = Tokenizer.load(model_dir)
    assert tokenizer is not None
    (call,) = planner.calls
    message = {"role": "user", "content": "How many tokens?"}
    assert call["rows"] == [tokenizer.encode("fox"), tokenizer.encode_chat([message], {}), [7, 8], [7, 8]]
    assert call["output_lengths"] == [-1, 4, 3, 3]
    assert call["max_output_lengths"].tolist() == [9, 4, 4, 4]
    assert (call["prior_output_len"], call["split_budget"]) == (80, 0.05)
    assert (call["model"].name, call["device"].name) == (model_dir.name, DEFAULT_HARDWARE)


def test_the_json_has_the_report_and_what_it_holds_for(requests: Path, model_dir: Path, tmp_path: Path) -> None:
    requests.write_bytes(completion("a", [1, 2]) + completion("b", [1], n=2, temperature=1) + b"bad\n")
    figures = figures_of(tmp_path, "-i", requests, "--model", model_dir, "--tp", 2, "--price-per-hour", 40, code=1)
    assert figures["preprocess_s"].pop("tokenize") > 0
    assert figures == {
        **REPORT,
        "num_requests": 3,
        "prompt_tokens": 4,
        "unique_prompt_tokens": 2,
        "preprocess_s": {"build": 0.1, "estimate": 0.2, "sort": 0.3, "split": 0.4},
        "num_rows": 3,
        "num_failed": 1,
        "lengths_source": "default",
        "length_sources": {"default": 3},
        "mean_output": 256,
        "predicted_hours": 0.05,
        "price_per_hour": 40,
        "predicted_cost": 2,
        "model": str(model_dir),
        "tokenizer": str(model_dir),
        "kv_bytes": 2,
        "hardware": DEFAULT_HARDWARE,
        "tp": 2,
        "split_budget": 0.01,
    }


def test_a_narrower_kv_cache_is_planned_for(requests: Path, tmp_path: Path, planner: FakePlanner) -> None:
    requests.write_bytes(completion("ids", [7, 8]))
    arguments = ["-i", requests, "--model", "llama-3.1-8b", "--kv-dtype", "fp8_e4m3"]
    assert figures_of(tmp_path, *arguments)["kv_bytes"] == 1
    (call,) = planner.calls
    assert (call["model"].weight_bytes, call["model"].kv_bytes) == (2, 1)


def test_the_table_shows_the_figures(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2000, 3), dtype=np.int32))
    table = run("-i", tmp_path / "rows.npy", "--model", "llama-3.1-8b", "--price-per-hour", 40).out.decode()
    lines = [line.rstrip() for line in table.splitlines()]
    assert lines[:-1] == [
        "model           llama-3.1-8b",
        "hardware        h100-sxm-80gb, 1 device",
        "requests        2,000 from 2,000 rows",
        "prompt tokens   6,000, of them unique 3,000",
        "output lengths  2,000 unknown, taken as 256 or max_tokens",
        "prefix sharing  49.0% in the planned order, 50.0% at best (1 splits)",
        "density         1.3: compute-bound (the memory would wait)",
        "compute         2.2 min",
        "memory          100 s of reading the KV cache",
        "ideal           2.2 min, both at once and perfectly overlapped",
        "practical       3.0 min, the best that overlapping reaches, weights read in every step",
        "cost            2.00 at 40 per hour",
    ]
    assert re.fullmatch(
        r"preprocessing   tokenize [\d.]+, build 0\.10, estimate 0\.20, sort 0\.30, split 0\.40 s",
        lines[-1],
    )


def test_the_order_lists_each_row_at_its_first_choice(requests: Path, tmp_path: Path) -> None:
    rows = [completion("a", [1]), b" \n", b"bad\n", completion("b", [2], n=3, temperature=1), completion("c", [3])]
    requests.write_bytes(b"".join(rows))
    run("-i", requests, "--order", tmp_path / "order.txt", code=1)
    assert (tmp_path / "order.txt").read_text() == "3\n2\n0\n"
    run("-i", requests, "--order", tmp_path / "order.npy", code=1)
    order = np.load(tmp_path / "order.npy")
    assert (order.tolist(), order.dtype) == ([3, 2, 0], np.int64)


def test_the_reordered_file_has_every_line_byte_for_byte(requests: Path, tmp_path: Path) -> None:
    rows = [completion("a", [1]).replace(b"\n", b"  \r\n"), b"bad\n", completion("b", [2]), completion("a", [3])]
    requests.write_bytes(b"\xef\xbb\xbf" + rows[0] + b"\n" + rows[1] + rows[2] + rows[3] + completion("d", [4])[:-1])
    run("-i", requests, "--emit", tmp_path / "reordered.jsonl", code=1)
    assert (tmp_path / "reordered.jsonl").read_bytes() == b"".join(
        [completion("d", [4]), rows[2], rows[0], rows[1], rows[3]]
    )


def test_standard_input_is_reordered_too(tmp_path: Path) -> None:
    first, second = completion("a", [1]), completion("b", [2])
    run("-i", "-", "--emit", tmp_path / "reordered.jsonl", stdin=first + second)
    assert (tmp_path / "reordered.jsonl").read_bytes() == second + first


def test_the_plan_is_saved_and_the_picture_drawn(
    requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("blendserve.cli.plan_outputs._draw", lambda path, *_: drawn.append(path))
    requests.write_bytes(completion("a", [1]))
    run("-i", requests, "--save", tmp_path / "plan.npz", "--plot", tmp_path / "tree.png")
    assert (tmp_path / "plan.npz").read_bytes() == b"a plan"
    assert drawn == [str(tmp_path / "tree.png")]


def test_a_model_by_name_is_tokenized_for_by_the_default_model_and_it_is_said(
    requests: Path, default_model_dir: Path, planner: FakePlanner
) -> None:
    requests.write_bytes(completion("a", "The quick brown fox"))
    shown = run("-i", requests, "--model", "llama-3.1-8b").out.decode()
    assert "llama-3.1-8b, tokenizer of smollm2-135m-instruct" in shown
    tokenizer = Tokenizer.load(default_model_dir)
    assert tokenizer is not None
    assert planner.calls[0]["rows"] == [tokenizer.encode("The quick brown fox")]


def test_a_tokenizer_can_be_named(requests: Path, model_dir: Path, planner: FakePlanner) -> None:
    requests.write_bytes(completion("a", "fox"))
    shown = run("-i", requests, "--model", "llama-3.1-8b", "--tokenizer", model_dir).out.decode()
    assert f"llama-3.1-8b, tokenizer of {model_dir}" in re.sub(r"\n *", "", shown)
    tokenizer = Tokenizer.load(model_dir)
    assert tokenizer is not None
    assert planner.calls[0]["rows"] == [tokenizer.encode("fox")]


def test_bad_rows_are_named_and_the_others_planned(requests: Path, planner: FakePlanner) -> None:
    requests.write_bytes(b"bad\n" * 7 + completion("a", [1]))
    log = run("-i", requests, code=1).log
    assert len(re.findall(r"^line \d: not valid JSON", log, re.MULTILINE)) == 5
    assert "... and 2 more rows that cannot be planned" in log
    assert planner.calls[0]["rows"] == [[1]]


def test_token_ids_beyond_the_vocabulary_are_failed_rows(requests: Path, tmp_path: Path, planner: FakePlanner) -> None:
    requests.write_bytes(completion("a", [1, 128_256]) + completion("b", [128_255]))
    rows = np.array([[1, 2], [128_256, 3], [3, 128_255], [200_000, 128_256]], dtype=np.int32)
    np.save(tmp_path / "rows.npy", rows)
    beyond = "in prompt is out of range; this model's vocabulary has ids 0 to 128255"
    ended = run("-i", requests, "--model", "llama-3.1-8b", code=1)
    assert f"line 1: token id 128256 {beyond}" in ended.log
    ended = run("-i", tmp_path / "rows.npy", "--model", "llama-3.1-8b", "--order", tmp_path / "order.txt", code=1)
    assert [line for line in ended.log.splitlines() if beyond in line] == [
        f"row 2: token id 128256 {beyond}",
        f"row 4: token id 200000 {beyond}",
    ]
    assert "2 from 2 rows, 2 rows failed" in ended.out.decode()
    assert [call["rows"] for call in planner.calls] == [[[128_255]], [[1, 2], [3, 128_255]]]
    assert sorted((tmp_path / "order.txt").read_text().split()) == ["0", "2"]


def test_text_is_planned_for_a_model_with_fewer_tokens_than_the_tokenizer(requests: Path, planner: FakePlanner) -> None:
    requests.write_bytes(completion("a", "Antidisestablishmentarianism, heuristically speaking."))
    run("-i", requests, "--model", "mistral-7b")  # 32,000 ids, without a tokenizer of its own
    assert max(planner.calls[0]["rows"][0]) >= 32_000


def test_a_file_of_token_ids_needs_neither_torch_nor_a_tokenizer(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2, 3), dtype=np.int32))
    code = (
        "import sys, blendserve.plan_job.job as job\n"
        "from fake_planner import FakePlanner\n"
        "job.plan = FakePlanner()\n"
        "from blendserve.cli.main import app\n"
        f"try: app(['plan', '-i', {str(tmp_path / 'rows.npy')!r}, '--model', 'llama-3.1-8b'])\n"
        "except SystemExit as end: print(end.code, sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert ended.stdout.splitlines()[-1] == "0 []"


def test_a_file_of_texts_leaves_torch_out_and_says_nothing_of_it(requests: Path, model_dir: Path) -> None:
    requests.write_bytes(completion("a", "fox") + chat("b"))
    code = (
        "import sys, blendserve.plan_job.job as job\n"
        "from fake_planner import FakePlanner\n"
        "job.plan = FakePlanner()\n"
        "from blendserve.cli.main import app\n"
        f"try: app(['plan', '-i', {str(requests)!r}, '--model', {str(model_dir)!r}])\n"
        "except SystemExit as end: print(end.code, sys.modules.get('torch'))"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert ended.stdout.splitlines()[-1] == "0 None"
    assert ended.stderr.splitlines() == ["tokenizing ...", "planning ...", "writing ..."]


class TestBadUsage:
    """Exit code 2 and one message, before any work."""

    @pytest.fixture(autouse=True)
    def input_rows(self, requests: Path) -> None:
        requests.write_bytes(completion("a", [1]))

    def refused(self, *arguments: object) -> str:
        log = run(*arguments, code=2).log
        (message,) = re.findall(r"^error: (.*)\n\Z", log, re.MULTILINE)
        return str(message)

    @pytest.mark.parametrize("option", ["--order", "--emit", "--json", "--plot", "--save"])
    def test_an_output_is_checked_before_the_work(
        self, requests: Path, tmp_path: Path, planner: FakePlanner, option: str
    ) -> None:
        path = tmp_path / "gone" / "file.png"
        assert self.refused("-i", requests, option, path) == (
            f"{option[2:]} {path} cannot be written: folder {tmp_path / 'gone'} does not exist; create it first"
        )
        assert self.refused("-i", requests, option, requests) == f"{option[2:]} {requests} is the input file; " + (
            "give another path"
        )
        assert planner.calls == []

    def test_two_outputs_are_not_the_same(self, requests: Path, tmp_path: Path) -> None:
        path = tmp_path / "out"
        assert self.refused("-i", requests, "--order", path, "--json", path) == (
            f"json {path} is the order file; give another path"
        )

    def test_a_picture_of_an_unknown_kind(self, requests: Path, tmp_path: Path) -> None:
        path = tmp_path / "tree.txt"
        assert self.refused("-i", requests, "--plot", path) == f"plot {path} must end in .png, .svg, .pdf"

    def test_token_ids_have_no_lines_to_reorder(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.npy"
        assert self.refused("-i", path, "--emit", tmp_path / "out.jsonl") == (
            f"--emit reorders lines, and {path} has none; take --order and index its rows with it"
        )

    def test_an_unknown_model_and_device_are_named_with_the_known_ones(self, requests: Path) -> None:
        message = self.refused("-i", requests, "--model", "gpt-9")
        assert message.startswith('--model gpt-9 is no folder; no model is named "gpt-9"; use one of llama-3.1-8b, ')
        message = self.refused("-i", requests, "--hardware", "abacus")
        assert message.startswith('hardware abacus: no device is named "abacus"; use one of a100-sxm-80gb, ')
        assert "there is no model folder 'gone'" in self.refused("-i", requests, "--tokenizer", "gone")

    @pytest.mark.parametrize(("option", "value"), [("--mean-output", 0), ("--price-per-hour", "-1")])
    def test_an_amount_must_be_positive(self, requests: Path, option: str, value: object) -> None:
        assert self.refused("-i", requests, option, value) == f"{option} is {value}; it must be a positive number"

    def test_a_file_without_a_good_row(self, requests: Path) -> None:
        requests.write_bytes(b"bad\n")
        assert f"error: none of the 1 rows of {requests} can be planned" in run("-i", requests, code=2).log

    def test_an_input_that_cannot_be_read(self, tmp_path: Path) -> None:
        assert "gone.jsonl does not exist" in self.refused("-i", tmp_path / "gone.jsonl")
        assert "gone.npy does not exist" in self.refused("-i", tmp_path / "gone.npy")
