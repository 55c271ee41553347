"""`blendserve synthesize`: the file it writes, the table it shows, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from batch_jobs import invoke
from blendserve.traces import read_trace


def refused(*arguments: object) -> str:
    ended = invoke("synthesize", *arguments)
    assert ended.code == 2, ended.log
    (message,) = re.findall(r"^error: (.*)\n\Z", ended.log, re.MULTILINE)
    return str(message)


def test_the_papers_mix_is_written_and_shown(tmp_path: Path) -> None:
    out = tmp_path / "w.arrow"
    ended = invoke("synthesize", "--density", 1.4, "--sharing", 0.35, "--requests", 2000, "--seed", 1, "-o", out)
    assert ended.code == 0, ended.log
    lines = [line.split() for line in ended.out.decode().splitlines()]
    assert [line[0] for line in lines if line] == [
        *("source", "burstgpt", "openvid", "mmlu", "all"),
        *("model", "density", "sharing"),
    ]
    trace = read_trace(str(out))
    assert (trace.num_requests, trace.sources) == (2000, ("burstgpt", "openvid", "mmlu"))
    assert lines[4] == ["all", "2,000", f"{trace.num_prompt_tokens:,}", f"{trace.num_output_tokens:,}", str(out)]
    shown = ended.out.decode()
    assert "model    llama-3.1-8b on a100-sxm-80gb\n" in shown
    assert re.search(r"^density  1\.\d+ \(asked for: 1\.4\)$", shown, re.MULTILINE)
    assert re.search(
        r"^sharing  0\.3\d+ of the compute \(asked for: 0\.35\), 0\.\d+ of the prompt tokens$", shown, re.MULTILINE
    )


def test_files_and_generators_are_mixed_and_dropped_rows_shown(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("ContextTokens,GeneratedTokens\n1000,10\n0,3\n")
    out = tmp_path / "w.parquet"
    ended = invoke("synthesize", "--mix", f"code=azure:{trace}", "--mix", "openvid", "--requests", 100, "-o", out)
    assert ended.code == 0, ended.log
    shown = ended.out.decode()
    assert re.search(rf"^code .* azure:{trace}, without 1 rows that are no requests$", shown, re.MULTILINE)
    assert re.search(r"^density  [\d.]+$", shown, re.MULTILINE)
    assert read_trace(str(out)).sources == ("code", "openvid")


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert invoke("synthesize", "--density", 1, "--requests", 500, "-o", tmp_path / name).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_cache_of_half_the_bytes_doubles_the_density(tmp_path: Path) -> None:
    densities = []
    for kv_dtype in ("auto", "fp8_e4m3"):
        ended = invoke("synthesize", "--requests", 500, "--kv-dtype", kv_dtype, "-o", tmp_path / kv_dtype)
        (density,) = re.findall(r"^density  ([\d.]+)$", ended.out.decode(), re.MULTILINE)
        densities.append(float(density))
    assert densities[1] == pytest.approx(2 * densities[0], rel=0.01)


def test_what_cannot_be_is_refused_with_the_remedy(tmp_path: Path) -> None:
    out = tmp_path / "w.arrow"
    trace = tmp_path / "t.csv"
    trace.write_text("prompt_len,output_len\n1000,10\n")
    assert refused("--density", 500, "--requests", 100, "-o", out).startswith(
        "density 500 cannot be reached: these sources reach 0.0"
    )
    assert refused("--requests", 100, "-o", "-").startswith("output - is not possible")
    gone = tmp_path / "gone" / "w.arrow"
    assert refused("--requests", 100, "-o", gone).startswith(f"output {gone} cannot be written: folder ")
    assert refused("--mix", f"a=lengths:{trace}", "--requests", 9, "-o", trace) == (
        f"output {trace} is the trace lengths:{trace} file; give another path"
    )
    assert refused("--model", "gpt-9", "--requests", 9, "-o", out).startswith("--model gpt-9 is no folder; ")
    assert refused("--hardware", "abacus", "--requests", 9, "-o", out).startswith("hardware abacus: ")
    assert "kv_dtype is 'int4'" in refused("--kv-dtype", "int4", "--requests", 9, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize("missing", ["-o", "--requests"])
def test_an_option_that_is_needed_is_named(tmp_path: Path, missing: str) -> None:
    options = {"-o": tmp_path / "w", "--requests": 10}
    del options[missing]
    ended = invoke("synthesize", *(word for option in options.items() for word in option))
    assert ended.code == 2
    assert f"Missing option '{missing}'" in ended.log or "Missing option" in ended.log
