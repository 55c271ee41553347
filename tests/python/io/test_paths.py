from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from blendserve.errors import UserError
from blendserve.io.paths import check_paths, input_file, open_input


def test_the_input_is_opened_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"one\n")
    with open_input(str(path)) as source:
        assert source.readline(10) == b"one\n"
    assert source.closed


def test_a_dash_is_standard_input_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"one\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    with open_input("-") as source:
        assert source.readline(10) == b"one\n"
    assert not source.closed


def test_an_input_that_is_read_twice_is_the_file_or_a_copy_of_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"one\n")
    with input_file(str(path)) as file:
        assert file == path
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"two\n")))
    with input_file("-") as file:
        assert [file.read_bytes(), file.read_bytes()] == [b"two\n"] * 2
    assert not file.exists()


def test_a_pipe_is_copied_as_standard_input_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(b"one\n",))
    writer.start()
    with input_file(str(pipe)) as file:
        assert [file.read_bytes(), file.read_bytes()] == [b"one\n"] * 2
    writer.join()


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"input .*gone\.jsonl does not exist"),
        open_input(str(tmp_path / "gone.jsonl")),
    ):
        pass


def test_a_directory_as_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory; give a JSONL file"), open_input(str(tmp_path)):
        pass


def test_an_unreadable_input_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"input .*loop cannot be read: "), open_input(str(tmp_path / "loop")):
        pass


def test_an_error_of_the_caller_is_not_taken_for_one_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.touch()
    with pytest.raises(FileNotFoundError, match=r"^mine$"), open_input(str(path)):
        raise FileNotFoundError("mine")


def test_a_new_output_and_an_existing_one_are_accepted_and_not_touched(tmp_path: Path) -> None:
    existing = tmp_path / "old.jsonl"
    existing.write_bytes(b"old")
    check_paths("-", str(existing))
    check_paths("in.jsonl", str(tmp_path / "new.jsonl"))
    assert existing.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.jsonl"]


def test_streams_are_accepted() -> None:
    check_paths("-", "-")
    check_paths("/dev/null", "/dev/null")


def test_an_output_in_the_working_directory_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_paths("in.jsonl", "out.jsonl")


def test_an_output_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory; give a file in it"):
        check_paths("-", str(tmp_path))


def test_the_file_that_standard_input_comes_from_is_refused_as_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jsonl"
    path.touch()
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UserError, match=r"in\.jsonl is the input file; give another path"):
            check_paths("-", str(path))
        check_paths("-", str(tmp_path / "out.jsonl"))


def test_an_output_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*missing does not exist; create it first"):
        check_paths("-", str(tmp_path / "missing" / "out.jsonl"))


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"/file is not a folder; give another path"):
        check_paths("-", str(tmp_path / "file" / "out.jsonl"))


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_without_write_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    path = tmp_path / "out.jsonl"
    if exists:
        path.touch()
    locked = path if exists else tmp_path
    monkeypatch.setattr(os, "access", lambda asked, mode: not (Path(asked) == locked and mode == os.W_OK))
    with pytest.raises(UserError, match="permission denied; give another path"):
        check_paths("-", str(path))


def test_the_input_as_output_is_refused_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.touch()
    alias = tmp_path / "alias.jsonl"
    alias.symlink_to(path)
    for output in (path, alias, tmp_path / "." / "in.jsonl"):
        with pytest.raises(UserError, match="is the input file; give another path"):
            check_paths(str(path), str(output))


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress], ids=["gzip", "xz", "bzip2"])
def test_a_compressed_input_is_refused_with_what_unpacks_it(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(compress(b"{}"))
    with (
        pytest.raises(UserError, match=r"in.jsonl.gz is compressed; .* `(gzip|xz|bzip2) -dc` of it"),
        input_file(str(path)),
    ):
        pass
