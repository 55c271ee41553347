"""What the documents tell a reader to type works."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from blendserve import SamplingParams
from blendserve.batch.progress import JobSummary
from blendserve.io.body_fields import CHAT_URL, COMPLETIONS_URL, SUPPORTED
from blendserve.simulation import SimulatedRun, WorkloadFigures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell_commands() -> list[list[str]]:
    lines = [line for block in code_blocks("bash") for line in block.splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ, COLUMNS="200", NO_COLOR="1", TERM="dumb")
    command = [sys.executable, "-m", "blendserve", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


COMMANDS = ["run", "plan", "simulate", "synthesize", "profile", "env"]


@pytest.fixture(scope="module", params=COMMANDS)
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def options(command: str) -> set[str]:
    """The options that `blendserve COMMAND --help` lists."""
    shown = command_line(command, "--help")
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.stdout))


def test_every_fenced_block_is_of_a_language_that_is_tested() -> None:
    fences = re.findall(r"^```(.*)$", README, re.MULTILINE)
    assert set(fences[::2]) == {"bash", "python"}
    assert set(fences[1::2]) == {""}


def test_the_two_set_up_commands_are_make_demo_and_make_test() -> None:
    assert [words for words in shell_commands() if words[0] == "make"] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^ {4}|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named
    assert named - MAKE_TARGETS == set()


def test_every_shell_command_is_make_or_a_command_of_blendserve() -> None:
    for words in shell_commands():
        program = Path(words[0]).name
        assert program == "make" or (program == "blendserve" and words[1] in COMMANDS)


def test_every_command_is_shown_with_options_it_has(command: str, options: set[str]) -> None:
    shown = [words for words in shell_commands() if Path(words[0]).name == "blendserve" and words[1] == command]
    assert shown
    for words in shown:
        assert {word for word in words if word.startswith("-")} <= options


def test_the_inputs_that_shell_commands_name_exist() -> None:
    for words in shell_commands():
        if "-i" in words:
            assert (ROOT / words[words.index("-i") + 1]).is_file()


def test_the_table_of_options_and_the_command_line_agree(command: str, options: set[str]) -> None:
    table = re.search(rf"^\| option of `blendserve {command}`.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert table is not None
    listed = set(re.findall(r"(?<=`)--?[a-z][a-z-]*", table[0]))
    assert options - {"--help", "--input", "--output"} == listed


def test_the_table_of_body_fields_has_every_field_that_is_read() -> None:
    table = re.search(r"^\| field of `body`.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert table is not None
    first_column = " ".join(line.split("|")[1] for line in table[0].splitlines()[2:] if line)
    listed = re.findall(r"`(\w+)`", first_column)
    assert sorted(listed) == sorted(SUPPORTED[CHAT_URL] | SUPPORTED[COMPLETIONS_URL])
    assert {field.name for field in dataclasses.fields(SamplingParams)} - set(listed) == {"prompt_logprobs"}


def test_the_extras_that_the_readme_installs_exist() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = {extra for names in re.findall(r"\.\[([\w,]+)\]", README) for extra in names.split(",")}
    assert extras
    assert all(re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extra in extras)


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/metrics.md",
        "docs/performance_model.md",
        "docs/planner.md",
        "docs/simulator.md",
        "docs/traces.md",
    ],
)
def test_relative_links_lead_to_files(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_architecture_page_has_a_line_for_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([\w/]+)`", rows))
    csrc, package = ROOT / "csrc", ROOT / "python" / "blendserve"
    folders = {path.parent.relative_to(csrc).as_posix() for path in csrc.rglob("*.h")}
    modules = {path.name.removesuffix(".py") for path in package.iterdir() if not path.name.startswith("_")}
    assert (folders | modules - {"py.typed"}) - named == set()


def test_the_metrics_page_defines_every_figure_of_the_summary() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    defined = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    assert {field.name for field in dataclasses.fields(JobSummary)} - {"report"} - defined == set()


def test_the_metrics_page_defines_every_figure_of_a_simulation() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    section = page[page.index("## Simulated runs") :]
    figures = {field.name for cls in (WorkloadFigures, SimulatedRun) for field in dataclasses.fields(cls)}
    assert figures - {"timeline"} - set(re.findall(r"`(\w+)`", section)) == set()


def run_example(example: str, folder: Path) -> list[str]:
    run = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_the_python_example_of_the_engine_answers_with_the_default_model(tmp_path: Path) -> None:
    first, second = run_example(code_blocks("python")[0], tmp_path)
    assert "Paris" in first
    assert "4" in second


def test_the_python_example_of_submissions_answers_all_of_them(tmp_path: Path) -> None:
    *questions, urgent = run_example(code_blocks("python")[1], tmp_path)
    assert sorted(line[0] for line in questions) == ["0", "1"]
    assert urgent in {"length True", "stop True"}


def test_the_python_example_of_the_planner_schedules_every_request(tmp_path: Path) -> None:
    plan, end = run_example(code_blocks("python")[2], tmp_path)
    assert re.fullmatch(r"\[\d \d \d\] density [\d.]+, 30% shared", plan)
    assert end.startswith("3 finished in ")
