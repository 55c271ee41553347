from __future__ import annotations

import numpy as np
import pytest
from blendserve.report.density_colours import colours_of, log2_density
from blendserve.report.icicle_image import UNSHARED_STRENGTH, strip_image, tree_image
from blendserve.report.length_scale import LengthScale
from report.tree_views import random_view, tree_view

LINEAR = LengthScale(max_len=10, exponent=1.0)


def colour(density: float) -> np.ndarray:
    return colours_of(log2_density(np.array(density)))


def pale(density: float) -> np.ndarray:
    return 1 - UNSHARED_STRENGTH + UNSHARED_STRENGTH * colour(density)


def test_a_small_tree_has_its_boxes_and_bars_where_they_belong() -> None:
    view = tree_view((4, [6, 4], [4.0, 4.0]), (0, [10, 0], [0.5, 1.0]))
    image = tree_image(view, LINEAR, width=4, height=10)
    assert image.shape == (10, 4, 3)
    assert image[:4, :2] == pytest.approx(np.broadcast_to(colour(4.0), (4, 2, 3)))
    assert image[4:6, 0] == pytest.approx(np.broadcast_to(pale(4.0), (2, 3)))
    assert image[:, 2] == pytest.approx(np.broadcast_to(pale(0.5), (10, 3)))
    assert image[6:, 0] == pytest.approx(1.0)
    assert image[4:, 1] == pytest.approx(1.0)
    assert image[:, 3] == pytest.approx(1.0)


def test_a_pixel_of_many_requests_has_their_mean_density_and_the_strength_of_those_that_reach_it() -> None:
    view = tree_view((0, [10, 10, 5, 5], [8.0, 2.0, 4.0, 4.0]))
    image = tree_image(view, LINEAR, width=1, height=2)
    assert image[0, 0] == pytest.approx(pale(4.0))
    assert image[1, 0] == pytest.approx(1 - UNSHARED_STRENGTH / 2 * (1 - colour(4.0)))


def test_an_infinite_density_has_the_colour_of_the_scales_end() -> None:
    image = tree_image(tree_view((0, [10], [np.inf])), LINEAR, width=1, height=1)
    assert image[0, 0] == pytest.approx(pale(64.0))


def test_the_strip_shows_each_columns_requests_from_dense_to_light() -> None:
    image = strip_image(np.array([0.5, 4.0, 1.0, 2.0]), width=2, height=2)
    assert image[:, 0] == pytest.approx(np.stack([colour(4.0), colour(0.5)]))
    assert image[:, 1] == pytest.approx(np.stack([colour(2.0), colour(1.0)]))


def test_the_strip_of_few_requests_widens_them() -> None:
    image = strip_image(np.array([4.0, 0.5]), width=5, height=1)
    assert image[0] == pytest.approx(np.stack([colour(d) for d in (4.0, 4.0, 4.0, 0.5, 0.5)]))


def test_a_million_requests_give_an_image_of_the_same_size() -> None:
    view = random_view(1_000_000)
    image = tree_image(view, LengthScale.of(view.leaf_len), width=300, height=70)
    assert image.shape == (70, 300, 3)
    assert np.isfinite(image).all()
    assert image[0, 0] == pytest.approx(colour(float(view.density[1])), abs=1e-6)


@pytest.mark.parametrize(
    ("lengths", "exponent"), [([100, 100], 1.0), ([0], 1 / 3), ([10, 10, 60], 1 / 2), ([1, 1, 90_000], 1 / 3)]
)
def test_the_length_scale_leaves_room_for_the_median_prompt(lengths: list[int], exponent: float) -> None:
    assert LengthScale.of(np.array(lengths, np.int32)).exponent == exponent


def test_ticks_run_from_zero_to_the_longest_prompt() -> None:
    assert LengthScale(899, 1.0).ticks() == [0, 100, 200, 500, 899]
    assert LengthScale(1, 1.0).ticks() == [0, 1]
    assert LengthScale(60_000, 1 / 3).ticks()[-2:] == [20_000, 60_000]
