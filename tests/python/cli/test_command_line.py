"""Help, version, and how the command is started."""

from __future__ import annotations

import re

import blendserve
import pytest
from batch_jobs import invoke, start, wait

OPTIONS = {
    "--input", "--output", "--model", "--schedule", "--device", "--hardware", "--dtype", "--weight-dtype",
    "--attention", "--max-batch-tokens", "--max-batch-requests",
    "--kv-memory", "--kv-dtype", "--seed", "--stop-runaways", "--async-scheduling", "--no-async-scheduling",
    "--deterministic-schedule", "--schedule-log", "--replay-schedule",
    "--resume", "--no-resume", "--window", "--self-check", "--no-self-check", "--metrics", "--report", "--help",
}  # fmt: skip

PLAN_OPTIONS = {
    "--input", "--model", "--tokenizer", "--hardware", "--tp", "--mean-output", "--price-per-hour", "--order", "--emit",
    "--json", "--plot", "--save", "--split-budget", "--kv-dtype", "--help",
}  # fmt: skip

SIMULATE_OPTIONS = {
    "--trace", "--model", "--hardware", "--tp", "--schedule", "--execution", "--lengths", "--sample-rate",
    "--mean-output", "--dp", "--seed", "--max-batch-tokens", "--kv-memory", "--kv-dtype", "--count-scheduling",
    "--json", "--report", "--help",
}  # fmt: skip

SYNTHESIZE_OPTIONS = {
    "--output", "--mix", "--density", "--sharing", "--requests", "--seed", "--model", "--hardware", "--tp",
    "--kv-dtype", "--help",
}  # fmt: skip

PROFILE_OPTIONS = {"--output", "--model", "--device", "--dtype", "--weight-dtype", "--kv-dtype", "--help"}


def test_the_version_is_the_packages() -> None:
    ended = invoke("--version")
    assert (ended.code, ended.out.decode()) == (0, f"{blendserve.__version__}\n")


def test_help_lists_the_commands() -> None:
    ended = invoke("--help")
    assert ended.code == 0
    assert "Offline batch inference: a file of requests in, every answer out." in ended.out.decode()
    assert re.search(r"^ *run +Answer every request of a file in the OpenAI Batch format\.$", ended.out.decode(), re.M)


def test_no_arguments_show_the_help_and_are_bad_usage() -> None:
    ended = invoke()
    assert ended.code == 2
    assert "Usage: blendserve [OPTIONS] COMMAND" in ended.out.decode() + ended.log


def test_the_help_of_run_lists_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("run", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == OPTIONS


def test_the_help_of_plan_lists_every_option_and_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("plan", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == PLAN_OPTIONS
    assert "h100-sxm-80gb" in ended.out.decode()


def test_the_help_of_simulate_lists_every_option_and_the_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("simulate", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == SIMULATE_OPTIONS
    assert "blend, paper, dfs, random, fcfs" in ended.out.decode()


def test_the_help_of_synthesize_lists_every_option_and_the_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("synthesize", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == SYNTHESIZE_OPTIONS
    assert "wildchat" in ended.out.decode()


def test_the_help_of_profile_lists_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("profile", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == PROFILE_OPTIONS


def test_the_help_of_env_lists_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    ended = invoke("env", "--help")
    assert ended.code == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ended.out.decode())) == {"--json", "--help"}


def test_an_unknown_command_is_named() -> None:
    ended = invoke("ruin")
    assert ended.code == 2
    assert "No such command 'ruin'" in ended.log


def test_the_module_is_the_command() -> None:
    ended = wait(start("--version"))
    assert (ended.code, ended.out.decode()) == (0, f"{blendserve.__version__}\n")
