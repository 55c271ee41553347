"""The shares of a mix, and what it cannot reach."""

from __future__ import annotations

import numpy as np
import pytest
from blendserve.synthesis.costs import Sums
from blendserve.synthesis.fractions import Line, solve_fractions, unreachable
from hypothesis import assume, given
from hypothesis import strategies as st

NOTHING = Sums(0.0, 0.0, 0.0)
CHAT, VIDEO, EXAM = Sums(10.0, 10.0, 1.0), Sums(1.0, 1.0, 20.0), Sums(10.0, 2.0, 1.0)
POSITIVE = st.floats(0.01, 100.0)


def mixed(fractions: np.ndarray, slopes: list[Sums]) -> Sums:
    return sum((slope * float(share) for slope, share in zip(slopes, fractions, strict=True)), start=NOTHING)


def solve(slopes: list[Sums], density: float | None, sharing: float | None) -> np.ndarray | None:
    return solve_fractions([Line(NOTHING, slope) for slope in slopes], 100, density, sharing)


def test_three_sources_meet_density_and_sharing() -> None:
    fractions = solve([CHAT, VIDEO, EXAM], 1.4, 0.35)
    assert fractions is not None
    assert fractions.sum() == pytest.approx(1.0)
    total = mixed(fractions, [CHAT, VIDEO, EXAM])
    assert (total.density, total.sharing) == (pytest.approx(1.4), pytest.approx(0.35))


def test_what_targets_leave_open_is_as_equal_as_it_can_be() -> None:
    assert solve([CHAT, VIDEO], None, None) == pytest.approx([0.5, 0.5])
    assert solve([CHAT, CHAT, VIDEO], 10.0, None) == pytest.approx([0.5, 0.5, 0.0])
    fractions = solve([CHAT, CHAT, VIDEO], 1.0, None)
    assert fractions is not None
    assert fractions[0] == pytest.approx(fractions[1])


def test_what_a_source_costs_once_is_taken_into_account() -> None:
    lines = [Line(Sums(0.0, 80.0, 0.0), EXAM), Line(NOTHING, CHAT)]
    fractions = solve_fractions(lines, 100, None, 0.4)
    assert fractions is not None
    total = mixed(fractions, [EXAM, CHAT]) * 100 + Sums(0.0, 80.0, 0.0)
    assert total.sharing == pytest.approx(0.4)


@given(st.lists(st.tuples(POSITIVE, st.floats(0.0, 0.9), POSITIVE), min_size=1, max_size=5), st.data())
def test_any_target_of_a_mix_that_exists_is_met(sources: list[tuple[float, float, float]], data: st.DataObject) -> None:
    slopes = [Sums(compute, compute * (1 - shared), memory) for compute, shared, memory in sources]
    weights = np.array(data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(slopes), max_size=len(slopes))))
    assume(weights.sum() > 0.1)
    wanted = mixed(weights / weights.sum(), slopes)
    fractions = solve(slopes, wanted.density, wanted.sharing)
    assert fractions is not None
    assert fractions.min() >= 0
    found = mixed(fractions, slopes)
    assert (found.density, found.sharing) == (
        pytest.approx(wanted.density, rel=1e-4),
        pytest.approx(wanted.sharing, abs=1e-4),
    )


def test_what_cannot_be_reached_is_said_with_what_can() -> None:
    names, sums = ["chat", "video", "exam"], [CHAT, VIDEO, EXAM]
    assert solve(sums, 1.0, 0.9) is None
    assert str(unreachable(names, sums, 1.0, 0.9)) == (
        "sharing 0.9 cannot be reached: these sources reach 0 to 0.8 (density and sharing: chat has 10 and 0, "
        "video has 0.05 and 0, exam has 2 and 0.8); ask for another, for more requests, or add a source"
    )
    assert solve(sums, 20.0, None) is None
    assert "density 20 cannot be reached: these sources reach 0.05 to 10 (" in str(unreachable(names, sums, 20.0, None))
    assert solve(sums, 9.0, 0.4) is None
    assert "density 9 cannot be reached with sharing 0.4: these sources reach 0.0597 to 6 (" in str(
        unreachable(names, sums, 9.0, 0.4)
    )
    assert "sharing 0.9 cannot be reached" in str(unreachable(names, sums, None, 0.9))
