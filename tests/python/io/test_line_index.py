from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from blendserve.io import line_index
from blendserve.io.line_index import LineIndex
from blendserve.io.lines import read_lines


def lines_of(path: Path, content: bytes) -> list[bytes]:
    path.write_bytes(content)
    with LineIndex.open(path) as lines:
        return [lines[number] for number in range(1, len(lines) + 1)]


def test_lines_come_byte_for_byte(tmp_path: Path) -> None:
    content = b"one\r\n\n  two \nthree\n"
    assert lines_of(tmp_path / "f", content) == [b"one\r\n", b"\n", b"  two \n", b"three\n"]


def test_a_missing_line_end_is_added_and_a_byte_order_mark_left_out(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "f", b"\xef\xbb\xbfone\ntwo") == [b"one\n", b"two\n"]
    assert lines_of(tmp_path / "f", b"one") == [b"one\n"]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 100])
def test_the_numbers_are_those_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    monkeypatch.setattr(line_index, "_CHUNK_BYTES", chunk_bytes)
    content = b"\n a\nbb\n\n\nccc  \n  \nd"
    lines = lines_of(tmp_path / "f", content)
    for line in read_lines(BytesIO(content)):
        assert lines[line.number - 1].strip() == line.content
