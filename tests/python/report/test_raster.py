from __future__ import annotations

import numpy as np
import pytest
from blendserve.report.raster import rasterise
from hypothesis import given
from hypothesis import strategies as st


def test_a_rectangle_on_pixel_borders_covers_whole_pixels_with_its_value() -> None:
    one = np.array([1.0])
    coverage, mean = rasterise(one, one * 3, one * 0, one * 2, one * 7, width=4, height=3)
    assert coverage.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert mean.tolist() == [[0, 7, 7, 0], [0, 7, 7, 0], [0, 0, 0, 0]]


def test_rectangles_inside_one_pixel_count_by_their_area() -> None:
    left, right = np.array([0.0, 0.5]), np.array([0.5, 0.75])
    top, bottom = np.array([0.0, 0.0]), np.array([1.0, 0.5])
    coverage, mean = rasterise(left, right, top, bottom, np.array([2.0, -1.0]), width=1, height=1)
    assert coverage == pytest.approx(0.5 + 0.125)
    assert mean == pytest.approx((0.5 * 2.0 - 0.125) / 0.625)


@given(seed=st.integers(0, 10**6), num_bars=st.integers(1, 40), width=st.integers(1, 9), height=st.integers(1, 9))
def test_the_image_equals_one_that_is_measured_pixel_by_pixel(
    seed: int, num_bars: int, width: int, height: int
) -> None:
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, width, num_bars + 1)
    left, right = edges[:-1], edges[1:]
    top = rng.uniform(0, height, num_bars)
    bottom = np.minimum(height, top + rng.uniform(0, height, num_bars))
    value = rng.normal(size=num_bars)
    coverage, mean = rasterise(left, right, top, bottom, value, width=width, height=height)
    for row in range(height):
        for column in range(width):
            across = np.clip(np.minimum(right, column + 1) - np.maximum(left, column), 0, 1)
            down = np.clip(np.minimum(bottom, row + 1) - np.maximum(top, row), 0, 1)
            area = across * down
            assert coverage[row, column] == pytest.approx(area.sum(), abs=2e-6)
            if area.sum() > 1e-3:
                assert mean[row, column] == pytest.approx((area @ value) / area.sum(), abs=1e-6)
