"""`blendserve plan` with the planner itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pyarrow as pa
import pytest
from batch_jobs import Ended, chat, completion, invoke
from pyarrow import parquet

FIELDS = {
    "num_requests", "prompt_tokens", "unique_prompt_tokens", "sharing_ratio_optimal", "sharing_ratio_planned",
    "density", "num_nodes", "num_splits", "t_comp_s", "t_mem_s", "ideal_s", "practical_s", "preprocess_s",
}  # fmt: skip

NUM_ROWS = 40


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Half of the rows share a system prompt and have short answers, half are short and have long ones."""
    path = tmp_path / "requests.jsonl"
    shared = list(range(10, 200))
    rows = [completion(f"s{i}", [*shared, i], expected_output_tokens=2, max_tokens=None) for i in range(NUM_ROWS // 2)]
    rows += [completion(f"l{i}", [300 + i], ignore_eos=True, max_tokens=4000) for i in range(NUM_ROWS // 2)]
    path.write_bytes(b"".join(rows))
    return path


def run(*arguments: object, code: int = 0) -> Ended:
    ended = invoke("plan", "--model", "llama-3.1-8b", *arguments)
    assert ended.code == code, ended.log
    return ended


def test_every_output_of_one_plan(requests: Path, tmp_path: Path) -> None:
    outputs = {name: tmp_path / name for name in ("order.npy", "emit.jsonl", "plan.json", "plan.npz")}
    options = zip(("--order", "--emit", "--json", "--save"), outputs.values(), strict=True)
    run("-i", requests, "--price-per-hour", 3, *(part for option in options for part in option))
    order = np.load(outputs["order.npy"])
    assert sorted(order) == list(range(NUM_ROWS))
    lines = requests.read_bytes().splitlines(keepends=True)
    assert outputs["emit.jsonl"].read_bytes() == b"".join(lines[row] for row in order)
    figures: dict[str, Any] = json.loads(outputs["plan.json"].read_text())
    assert figures.keys() >= FIELDS
    assert figures["preprocess_s"].keys() >= {"tokenize", "build", "estimate", "sort", "split"}
    assert figures["prompt_tokens"] == 20 * 191 + 20
    assert figures["unique_prompt_tokens"] == 190 + 20 + 20
    assert figures["length_sources"] == {"hint": 20, "forced": 20}
    assert figures["predicted_cost"] == pytest.approx(figures["practical_s"] / 1200)
    plan = bs.Plan.load(outputs["plan.npz"])
    assert plan.order.tolist() == order.tolist()
    assert plan.report.practical_s == figures["practical_s"]


def test_a_parquet_file_has_the_plan_of_the_same_rows_as_json_lines(requests: Path, tmp_path: Path) -> None:
    bodies = [json.loads(line)["body"] for line in requests.read_text().splitlines()]
    lengths = [body.get("expected_output_tokens") or body["max_tokens"] for body in bodies]
    columns = {"tokens": [body["prompt"] for body in bodies], "output_len": lengths}
    parquet.write_table(pa.table(columns), tmp_path / "prompts.parquet")
    for name in (requests.name, "prompts.parquet"):
        run("-i", tmp_path / name, "--order", tmp_path / f"{name}.order", "--json", tmp_path / f"{name}.json")
    assert (tmp_path / "prompts.parquet.order").read_text() == (tmp_path / f"{requests.name}.order").read_text()
    ours, theirs = (json.loads((tmp_path / f"{name}.json").read_text()) for name in (requests.name, "prompts.parquet"))
    assert ours["density"] == theirs["density"]
    assert theirs["tokenizer"] is None


def test_mean_output_moves_the_density(requests: Path, tmp_path: Path) -> None:
    requests.write_bytes(b"".join(chat(f"c{i}", max_tokens=None) for i in range(5)))
    densities = []
    for mean in (10, 10_000):
        run("-i", requests, "--mean-output", mean, "--json", tmp_path / "plan.json")
        densities.append(json.loads((tmp_path / "plan.json").read_text())["density"])
    assert densities[0] > 1 > densities[1]


def test_a_model_that_does_not_fit_the_device_is_bad_usage(requests: Path) -> None:
    log = run("-i", requests, "--model", "deepseek-v3", code=2).log
    assert log.splitlines()[-1].startswith("error: deepseek-v3 needs 1342 GB for its weights")


def test_a_hint_is_for_its_own_row_alone_and_no_limit(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        chat("hint", expected_output_tokens=1000, max_tokens=None)
        + chat("none", max_tokens=None)
        + chat("limit", max_tokens=7)
    )
    run("-i", path, "--mean-output", 30, "--save", tmp_path / "plan.npz")
    plan = bs.Plan.load(tmp_path / "plan.npz")
    assert plan.expected_output_lengths.tolist() == [1000, 30, 7]
    assert plan.max_new_tokens[:2].min() > 100_000  # the context's room
    assert plan.max_new_tokens[2] == 7


def test_no_answer_is_longer_than_the_models_context(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(completion("a", [1, 2, 3], ignore_eos=True, max_tokens=10**9))
    run("-i", path, "--save", tmp_path / "plan.npz")
    assert bs.Plan.load(tmp_path / "plan.npz").expected_output_lengths.tolist() == [131_072 - 3]


@pytest.mark.parametrize("option", ["--json", "--order", "--emit", "--save"])
def test_standard_output_is_taken_by_the_table(requests: Path, option: str) -> None:
    assert "standard output has the table; give a file" in run("-i", requests, option, "-", code=2).log
