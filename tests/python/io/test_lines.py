from __future__ import annotations

from io import BytesIO

import pytest
from blendserve.io import lines
from blendserve.io.lines import read_lines


def contents(source: bytes) -> list[tuple[int, bytes | None]]:
    return [(line.number, line.content) for line in read_lines(BytesIO(source))]


def test_line_numbers_count_blank_lines() -> None:
    assert contents(b"\n  \nfirst\n\t\r\nsecond\n") == [(3, b"first"), (5, b"second")]


def test_windows_line_ends_and_a_missing_last_line_end_are_accepted() -> None:
    assert contents(b"first\r\nsecond") == [(1, b"first"), (2, b"second")]


def test_a_byte_order_mark_is_dropped_on_the_first_line_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert contents(mark + b"first\n" + mark + b"second\n") == [(1, b"first"), (2, mark + b"second")]


def test_a_line_of_only_a_byte_order_mark_is_blank() -> None:
    assert contents(b"\xef\xbb\xbf\n") == []


def test_the_row_id_depends_on_the_content_alone() -> None:
    one, other = read_lines(BytesIO(b"same\n  same\r\n"))
    assert one.row_id == other.row_id
    (changed,) = read_lines(BytesIO(b"some\n"))
    assert changed.row_id != one.row_id
    prefix, _, digest = one.row_id.rpartition("_")
    assert prefix == "batch_req"
    assert len(bytes.fromhex(digest)) == 12


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 8)
    monkeypatch.setattr(lines, "_SKIP_BYTES", 4)


@pytest.mark.usefixtures("short_limit")
def test_a_line_of_exactly_the_limit_is_read_and_one_more_byte_is_not() -> None:
    assert contents(b"12345678\n123456789\nnext\n") == [(1, b"12345678"), (2, None), (3, b"next")]
    assert contents(b"123456789") == [(1, None)]


@pytest.mark.usefixtures("short_limit")
def test_a_blank_line_over_the_limit_is_still_blank() -> None:
    assert contents(b" " * 100 + b"\nnext\n") == [(2, b"next")]
    assert contents(b" " * 100 + b"x\nnext\n") == [(1, None), (2, b"next")]


@pytest.mark.usefixtures("short_limit")
def test_long_lines_with_the_same_start_have_different_row_ids() -> None:
    first, second = read_lines(BytesIO(b"12345678901\n12345678902\n"))
    assert first.row_id != second.row_id


class CountingSource(BytesIO):
    """Remembers the most bytes asked for at once."""

    largest_read = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        self.largest_read = max(self.largest_read, size)
        return super().readline(size)


def test_a_line_of_50_mb_is_never_held_whole_and_the_next_line_is_read() -> None:
    source = CountingSource(b"x" * 50_000_000 + b"\nnext\n")
    first, second = read_lines(source)
    assert (first.number, first.content) == (1, None)
    assert (second.number, second.content) == (2, b"next")
    assert source.largest_read == lines.MAX_LINE_BYTES + 1 == 32 * 1024 * 1024 + 1
