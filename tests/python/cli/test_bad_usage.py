"""What stops a job before its first answer: exit code 2 and one message that says what to change."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from batch_jobs import Job, completion, invoke
from tiny_models import build_llama, edit_json


@pytest.fixture
def good_job(job: Job) -> Job:
    job.write(completion("a"), completion("b"))
    return job


def refused(job: Job, *options: object) -> str:
    """The message of a run that ends with 2."""
    log = job.run(*options, code=2).log
    assert "Traceback" not in log
    (message,) = re.findall(r"^error: (.*)\n\Z", log, re.MULTILINE)
    return str(message)


def test_an_empty_input(job: Job) -> None:
    job.write()
    assert "has no requests: it is empty or all its lines are blank; give one JSON object a line" in refused(job)
    assert not job.output.exists()


def test_an_input_of_blank_lines(job: Job) -> None:
    job.write(b"\n  \n\t\r\n")
    assert f"input {job.input} has no requests" in refused(job)


def test_a_missing_input(job: Job) -> None:
    assert refused(job) == f'input {job.input} does not exist; check the path, or give "-" for standard input'


def test_a_directory_as_input(job: Job, tmp_path: Path) -> None:
    job.input = tmp_path
    assert refused(job) == f"input {tmp_path} is a directory; give a JSONL file"


def test_an_output_in_a_missing_folder(good_job: Job, tmp_path: Path) -> None:
    good_job.output = tmp_path / "gone" / "out.jsonl"
    message = refused(good_job)
    assert message == (
        f"output {good_job.output} cannot be written: folder {tmp_path / 'gone'} does not exist; create it first"
    )


def test_an_output_below_a_file(good_job: Job) -> None:
    good_job.output = good_job.input / "out.jsonl"
    assert f"output {good_job.output} cannot be written: {good_job.input} is not a folder" in refused(good_job)


def test_a_directory_as_output(good_job: Job, tmp_path: Path) -> None:
    good_job.output = tmp_path
    assert refused(good_job) == f"output {tmp_path} is a directory; give a file in it"


def test_the_input_as_output(good_job: Job, tmp_path: Path) -> None:
    before = good_job.input.read_bytes()
    good_job.output = tmp_path / "link"
    good_job.output.symlink_to(good_job.input)
    assert refused(good_job, "--no-resume") == f"output {good_job.output} is the input file; give another path"
    assert good_job.input.read_bytes() == before


def test_a_full_device_as_output(good_job: Job) -> None:
    good_job.output = Path("/dev/full")
    message = refused(good_job)
    assert message == (
        "output /dev/full cannot be written: No space left on device; make room or give another path; "
        "run again to resume"
    )


def test_an_output_that_is_no_results_file_stays_as_it_is(good_job: Job) -> None:
    good_job.output.write_bytes(b"my diary\n")
    assert (
        "line 1: this is not a result row, so the file is left as it is; give another output path, or --no-resume"
        in (refused(good_job))
    )
    assert good_job.output.read_bytes() == b"my diary\n"


def test_the_results_of_another_input_stay_as_they_are(good_job: Job) -> None:
    good_job.run()
    before = good_job.output.read_bytes()
    good_job.write(completion("c"))
    assert 'custom_id "a" is not in the input; give another output path, or --no-resume' in refused(good_job)
    assert good_job.output.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--schedule", "lifo", "schedule is 'lifo'; it must be one of blend, paper, dfs"),
        ("--schedule", "", "schedule is ''; it must be one of blend, paper, dfs"),
        ("--dtype", "int8", "dtype is 'int8'; it must be one of auto, float32, bfloat16, float16"),
        ("--device", "tpu", "device is 'tpu'; it must be one of auto, cpu, cuda"),
        ("--max-batch-tokens", "0", "max_batch_tokens is 0; it must be a positive integer"),
        ("--max-batch-tokens", "-4", "max_batch_tokens is -4; it must be a positive integer"),
        ("--max-batch-requests", "0", "max_batch_requests is 0; it must be a positive integer"),
        ("--kv-memory", "12xyz", 'size "12xyz" is not understood; write bytes or a number with a unit, such as 4GiB'),
        ("--kv-memory", "", 'size "" is not understood; write bytes or a number with a unit, such as 4GiB'),
        ("--kv-memory", "0", "size 0 must be a positive number of bytes, or a string such as 4GiB"),
        ("--kv-memory", "100", "kv_memory 100 is less than one block of 16 tokens, which takes"),
        ("--model", "gpt-9", "there is no model folder 'gpt-9': models are not downloaded; give an existing folder"),
    ],
)
def test_a_bad_option_value_says_what_is_allowed(good_job: Job, option: str, value: str, message: str) -> None:
    assert refused(good_job, option, value).startswith(message)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-batch-tokens", "many"), ("--seed", "x"), ("--seed", ""), ("--max-batch-requests", "1.5")],
)
def test_an_option_that_is_no_number_is_named(good_job: Job, option: str, value: str) -> None:
    log = good_job.run(option, value, code=2).log
    assert re.search(f"Invalid value for '{option}': .*valid integer", log)


def test_more_requests_than_tokens_in_a_step(good_job: Job) -> None:
    assert "raise max_batch_tokens or lower max_batch_requests" in refused(
        good_job, "--max-batch-tokens", 4, "--max-batch-requests", 8
    )


def test_a_gpu_where_there_is_none(good_job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(good_job, "--device", "cuda") == (
        'device is "cuda", but no NVIDIA GPU is usable here; choose --device cpu'
    )


def test_half_precision_without_a_gpu(good_job: Job) -> None:
    assert refused(good_job, "--device", "cpu", "--dtype", "float16") == (
        'dtype "float16" runs on a GPU only; choose float32 or bfloat16'
    )


def test_a_kv_cache_larger_than_any_memory(good_job: Job) -> None:
    message = refused(good_job, "--kv-memory", "1000TiB")
    assert "kv_memory 1000TiB" in message
    assert "give less" in message


def test_an_unknown_option_is_named_with_the_nearest(good_job: Job) -> None:
    log = good_job.run("--max-batch-token", 4, code=2).log
    assert "No such option: --max-batch-token" in log
    assert "--max-batch-tokens" in log


@pytest.mark.parametrize("missing", ["-i", "-o"])
def test_input_and_output_are_required(missing: str) -> None:
    given = {"-i": "in.jsonl", "-o": "out.jsonl"}
    del given[missing]
    ended = invoke("run", *(part for option in given.items() for part in option))
    assert ended.code == 2
    assert f"Missing option '{missing}'" in ended.log


class TestModelFolder:
    """Each builds a folder, breaks it, and is told what is wrong with it."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return build_llama(tmp_path / "model", with_tokenizer=True)

    @pytest.fixture
    def message(self, good_job: Job, folder: Path) -> Callable[[], str]:
        def run() -> str:
            good_job.model_dir = folder
            return refused(good_job)

        return run

    def test_a_file_instead_of_a_folder(self, good_job: Job) -> None:
        good_job.model_dir = good_job.input
        assert "is a file; a folder in the Hugging Face format or a .gguf is expected" in refused(good_job)

    def test_no_config(self, message: Callable[[], str], folder: Path) -> None:
        (folder / "config.json").unlink()
        assert message() == f"{folder} has no config.json: a folder in the Hugging Face format is expected"

    def test_a_config_that_is_no_json(self, message: Callable[[], str], folder: Path) -> None:
        (folder / "config.json").write_text("{")
        assert message().startswith(f"{folder / 'config.json'}")

    def test_an_unsupported_architecture(self, message: Callable[[], str], folder: Path) -> None:
        edit_json(folder / "config.json", lambda config: config.update(architectures=["GPT2LMHeadModel"]))
        assert "config.json: architecture GPT2LMHeadModel is not supported, only LlamaForCausalLM, Mistral" in message()

    def test_no_weights(self, message: Callable[[], str], folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        assert message() == (f"{folder} has no weights: model.safetensors or model.safetensors.index.json is expected")

    @pytest.mark.parametrize("kept", [0, 4, 2_000, 100_000])
    def test_truncated_weights(self, message: Callable[[], str], folder: Path, kept: int) -> None:
        os.truncate(folder / "model.safetensors", kept)
        assert f"{folder / 'model.safetensors'} is not a whole safetensors file" in message()

    def test_weights_of_another_model(self, message: Callable[[], str], folder: Path) -> None:
        edit_json(folder / "config.json", lambda config: config.update(intermediate_size=200))
        assert re.search(r"tensor '.*' has shape \[160, 64\], but config.json asks for \[200, 64\]", message())

    def test_a_broken_tokenizer(self, message: Callable[[], str], folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")
        assert message().startswith(f"the tokenizer of {folder} cannot be loaded: ")


class TestMetricsPath:
    """The metrics file is checked before any work is done."""

    @staticmethod
    def refused_before_work(job: Job, path: object) -> str:
        message = refused(job, "--metrics", path)
        assert not job.output.exists()
        return message

    def test_in_a_missing_folder(self, good_job: Job, tmp_path: Path) -> None:
        path = tmp_path / "gone" / "metrics.json"
        assert self.refused_before_work(good_job, path) == (
            f"metrics {path} cannot be written: folder {path.parent} does not exist; create it first"
        )

    def test_a_directory(self, good_job: Job, tmp_path: Path) -> None:
        assert self.refused_before_work(good_job, tmp_path) == f"metrics {tmp_path} is a directory; give a file in it"

    def test_the_input(self, good_job: Job) -> None:
        before = good_job.input.read_bytes()
        assert self.refused_before_work(good_job, good_job.input) == (
            f"metrics {good_job.input} is the input file; give another path"
        )
        assert good_job.input.read_bytes() == before

    def test_the_output_which_is_not_there_yet(self, good_job: Job) -> None:
        assert self.refused_before_work(good_job, good_job.output) == (
            f"metrics {good_job.output} is the output file; give another path"
        )

    def test_a_full_device_costs_no_answer(self, good_job: Job) -> None:
        ended = good_job.run("--metrics", "/dev/full", code=2)
        assert "error: metrics /dev/full cannot be written: No space left on device" in ended.log
        assert set(good_job.answers) == {"a", "b"}


def test_the_options_are_checked_before_the_engine_is_imported(tmp_path: Path) -> None:
    """Importing torch takes seconds: a mistyped option is answered at once."""
    code = (
        "import sys; from blendserve.cli.main import app\n"
        "try: app(['run', '-i', 'a', '-o', 'b', '--schedule', 'lifo'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout == "2 False\n"
