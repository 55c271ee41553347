from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_rows import chat_row, output, read, read_request
from blendserve.errors import UserError
from blendserve.io.batch_input import BatchRequest, RowError, row_ids
from blendserve.io.batch_output import error_row, success_row
from blendserve.io.choice_logprobs import TokenSpelling
from blendserve.io.result_writer import ResultWriter
from blendserve.outputs import CompletionOutput
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def answer(request: BatchRequest, text: str = "Hello") -> bytes:
    result = output(CompletionOutput(0, text, (1,), "length"))
    return success_row(request, result, created=0, model="m", spelling=TokenSpelling(None, None))


def requests(*names: str, **fields: object) -> list[BatchRequest]:
    return [read_request(chat_row(name, **fields)) for name in names]


def failure(name: str) -> bytes:
    (row,) = read(chat_row(name, n=0))
    assert isinstance(row, RowError)
    return error_row(row)


def write_rows(path: Path, *rows: bytes, resume: bool = False) -> None:
    with ResultWriter(str(path), resume=resume) as writer:
        for row in rows:
            writer.write(row)


def test_rows_stand_in_the_file_in_the_order_they_came(tmp_path: Path) -> None:
    a, b = requests("a", "b")
    write_rows(tmp_path / "out", answer(b), failure("c"), answer(a))
    assert (tmp_path / "out").read_bytes() == answer(b) + failure("c") + answer(a)


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    (a,) = requests("a")
    with ResultWriter(str(tmp_path / "out"), resume=False) as writer:
        writer.write(answer(a))
        assert (tmp_path / "out").read_bytes() == answer(a)


def test_without_resume_an_existing_file_is_replaced_when_the_job_starts(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"anything")
    writer = ResultWriter(str(path), resume=False)
    assert path.read_bytes() == b"anything"
    with writer:
        assert path.read_bytes() == b""
        assert writer.num_completed == 0


def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (a,) = requests("a")
    with ResultWriter("-", resume=True) as writer:
        writer.write(answer(a))
        assert not writer.is_completed(a)
    assert capfdbinary.readouterr().out == answer(a)
    assert not sys.stdout.closed


def test_resume_starts_a_new_file(tmp_path: Path) -> None:
    (a,) = requests("a")
    write_rows(tmp_path / "out", answer(a), resume=True)
    assert (tmp_path / "out").read_bytes() == answer(a)


def test_resume_keeps_answers_and_drops_errors_and_the_half_row(tmp_path: Path) -> None:
    a, b, c, d = requests("a", "b", "c", "d")
    path = tmp_path / "out"
    path.write_bytes(answer(a) + failure("b") + answer(c) + answer(d)[:-1])
    path.chmod(0o640)
    with ResultWriter(str(path), resume=True, job=row_ids([a, b, c, d])) as writer:
        assert path.read_bytes() == answer(a) + answer(c)
        assert writer.num_completed == 2
        assert [writer.is_completed(request) for request in (a, b, c, d)] == [True, False, True, False]
        writer.write(answer(b) + answer(d))
    assert path.read_bytes() == answer(a) + answer(c) + answer(b) + answer(d)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_resume_leaves_a_file_without_anything_to_drop_as_it_is(tmp_path: Path) -> None:
    a, b = requests("a", "b")
    path = tmp_path / "out"
    path.write_bytes(answer(a) + answer(b))
    before = path.stat()
    with ResultWriter(str(path), resume=True) as writer:
        assert writer.num_completed == 2
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_resume_rewrites_the_file_behind_a_link(tmp_path: Path) -> None:
    (a,) = requests("a")
    (tmp_path / "real").write_bytes(answer(a) + failure("b"))
    (tmp_path / "out").symlink_to("real")
    write_rows(tmp_path / "out", resume=True)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real").read_bytes() == answer(a)


def test_a_changed_row_is_done_again_and_its_old_answer_set_aside(tmp_path: Path) -> None:
    old, same = requests("a", "b")
    (new,) = requests("a", max_tokens=5)
    path = tmp_path / "out"
    path.write_bytes(answer(old) + answer(same))
    with ResultWriter(str(path), resume=True, job=row_ids([new, same])) as writer:
        assert [writer.is_completed(request) for request in (new, same)] == [False, True]
        assert writer.num_outdated == 1
        writer.write(answer(new))
    assert path.read_bytes() == answer(same) + answer(new)
    assert (tmp_path / "out.outdated").read_bytes() == answer(old)
    with ResultWriter(str(path), resume=True, job=row_ids([old, same])) as writer:
        assert writer.num_outdated == 1
    assert path.read_bytes() == answer(same)
    assert (tmp_path / "out.outdated").read_bytes() == answer(old) + answer(new)


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_that_another_run_writes_is_refused_and_left_alone(tmp_path: Path, resume: bool) -> None:
    a, b = requests("a", "b")
    path = tmp_path / "out"
    path.write_bytes(failure("b"))  # so that resuming replaces the file
    with ResultWriter(str(path), resume=True) as writer:
        writer.write(answer(a))
        with (
            pytest.raises(UserError, match=r"out is being written by another run; wait for it to end, or give another"),
            ResultWriter(str(path), resume=resume),
        ):
            pass
        writer.write(answer(b))
    assert path.read_bytes() == answer(a) + answer(b)
    write_rows(path, failure("c"), resume=resume)
    assert path.read_bytes().endswith(failure("c"))


def test_a_repeated_answer_is_kept_once(tmp_path: Path) -> None:
    (a,) = requests("a")
    path = tmp_path / "out"
    path.write_bytes(answer(a, "first") + answer(a, "second"))
    write_rows(path, resume=True)
    assert path.read_bytes() == answer(a, "first")


def test_a_row_that_was_cut_off_in_the_middle_of_the_file_is_dropped(tmp_path: Path) -> None:
    a, b, c = requests("a", "b", "c")
    path = tmp_path / "out"
    path.write_bytes(answer(a) + answer(b)[:40] + answer(b) + answer(c))
    with ResultWriter(str(path), resume=True) as writer:
        assert [writer.is_completed(request) for request in (a, b, c)] == [True, False, True]
    assert path.read_bytes() == answer(a) + answer(c)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"my diary\n", 1),
        (b"my diary", 1),
        (b'{"id": "batch_req_1"}\n', 1),
        (b"[1, 2]\n", 1),
        (b"\n", 1),
        (b"\xff\xfe\x00", 1),
    ],
)
@pytest.mark.parametrize("after_an_answer", [False, True])
def test_a_file_of_something_else_is_never_touched(
    tmp_path: Path, content: bytes, line: int, after_an_answer: bool
) -> None:
    if after_an_answer:
        content, line = answer(requests("a")[0]) + content, line + 1
    path = tmp_path / "out"
    path.write_bytes(content)
    message = rf"output .*out, line {line}: this is not a result row.*give another output path, or --no-resume"
    with pytest.raises(UserError, match=message), ResultWriter(str(path), resume=True):
        pass
    assert path.read_bytes() == content


def test_the_results_of_another_input_are_never_touched(tmp_path: Path) -> None:
    a, b = requests("a", "b")
    path = tmp_path / "out"
    path.write_bytes(failure("b") + answer(a))
    message = 'line 2: custom_id "a" is not in the input; give another output path, or --no-resume'
    with pytest.raises(UserError, match=message), ResultWriter(str(path), resume=True, job=row_ids([b])):
        pass
    assert path.read_bytes() == failure("b") + answer(a)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(cut=st.integers(0, 2000))
def test_after_a_crash_at_any_byte_the_job_is_completed(tmp_path: Path, cut: int) -> None:
    job = requests("a", "b", "c")
    whole = b"".join(answer(request) for request in job)
    path = tmp_path / "out"
    path.write_bytes(whole[:cut])
    with ResultWriter(str(path), resume=True, job=row_ids(job)) as writer:
        assert writer.num_completed == whole[:cut].count(b"\n")
        for request in job:
            if not writer.is_completed(request):
                writer.write(answer(request))
    assert path.read_bytes() == whole


def test_a_killed_process_leaves_whole_rows_and_at_most_one_half(tmp_path: Path) -> None:
    path = tmp_path / "out"
    program = """
        import sys
        from blendserve.io.result_writer import ResultWriter
        row = b'{"id":"batch_req_0","text":"' + b"x" * 100_000 + b'"}' + b"\\n"
        with ResultWriter(sys.argv[1], resume=False) as writer:
            print("started", flush=True)
            while True:
                writer.write(row)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while path.stat().st_size < 1_000_000:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    *rows, rest = path.read_bytes().split(b"\n")
    assert len(rows) >= 9
    assert all(len(json.loads(row)["text"]) == 100_000 for row in rows)
    assert len(rest) < len(rows[0])


def test_a_full_device_is_a_user_error_that_says_what_to_do() -> None:
    (a,) = requests("a")
    with (
        pytest.raises(UserError, match=r"output /dev/full cannot be written: No space left.*run again to resume"),
        ResultWriter("/dev/full", resume=True) as writer,
    ):
        writer.write(answer(a))


def test_a_reader_that_has_gone_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = requests("a")
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as raw:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=raw))
        with (
            pytest.raises(UserError, match=r"^standard output cannot be written: Broken pipe; give a file"),
            ResultWriter("-", resume=True) as writer,
        ):
            writer.write(answer(a))


def test_an_output_that_cannot_be_opened_is_a_user_error(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"output .*gone/out cannot be written: No such file"),
        ResultWriter(str(tmp_path / "gone" / "out"), resume=True),
    ):
        pass


def test_an_error_of_the_job_passes_through_and_the_rows_stay(tmp_path: Path) -> None:
    (a,) = requests("a")
    writer = ResultWriter(str(tmp_path / "out"), resume=True)

    def job() -> None:
        with writer:
            writer.write(answer(a))
            raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        job()
    assert (tmp_path / "out").read_bytes() == answer(a)


def test_a_failed_rewrite_leaves_the_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = requests("a")
    path = tmp_path / "out"
    path.write_bytes(answer(a) + failure("b"))

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left on device"), ResultWriter(str(path), resume=True):
        pass
    assert path.read_bytes() == answer(a) + failure("b")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
