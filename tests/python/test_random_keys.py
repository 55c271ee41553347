from __future__ import annotations

import numpy as np
import pytest
from blendserve._core import random_uniforms
from blendserve.random_keys import stream_key

MASK = 2**64 - 1


def mix64(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniform(key: int, counter: int) -> float:
    return (mix64(mix64(key) ^ counter) >> 11) / 2**53


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, 0, "request-1", 0), 0x6DAD5181135D2B36),
        ((None, 0, "request-1", 1), 0xB82CE37B75CC735F),
        ((None, 42, "Ünïcode 请求", 0), 0x8AE1188FE288F1E6),
        ((None, -1, "", 2147483647), 0x9D4A339F3A123880),
        ((0, 7, "ignored", 0), 0xECB132C3575F4BFD),
        ((-9223372036854775808, 7, "ignored", 3), 0x7D43A8537E88FC5E),
        ((9223372036854775807, 7, "ignored", 0), 0x06CA396E6A145358),
    ],
)
def test_keys_are_the_recorded_ones(arguments: tuple[int | None, int, str, int], expected: int):
    request_seed, job_seed, name, choice = arguments
    assert stream_key(request_seed=request_seed, job_seed=job_seed, name=name, choice=choice) == expected


def test_a_request_seed_makes_job_seed_and_name_irrelevant():
    keys = {stream_key(request_seed=5, job_seed=job, name=name, choice=0) for job in (0, 1) for name in ("a", "b")}
    assert len(keys) == 1


def test_without_a_request_seed_job_seed_name_and_choice_each_change_the_key():
    keys = {
        stream_key(request_seed=None, job_seed=job, name=name, choice=choice)
        for job in (0, 1, -1)
        for name in ("", "a", "b", "ab")
        for choice in range(3)
    }
    assert len(keys) == 36


def test_a_request_seed_is_no_job_seed():
    assert stream_key(request_seed=5, job_seed=0, name="", choice=0) != stream_key(
        request_seed=None, job_seed=5, name="", choice=0
    )


def test_any_name_that_json_can_hold_has_a_key():
    assert stream_key(request_seed=None, job_seed=0, name="\ud800", choice=0) < 2**64


def test_uniforms_are_the_counter_based_draws():
    keys = np.array([0, 1, MASK, 7], np.uint64)
    counters = np.array([0, 5, 2**40, 1], np.int64)
    expected = [uniform(int(key), int(counter)) for key, counter in zip(keys, counters, strict=True)]
    assert random_uniforms(keys, counters).tolist() == expected


def test_uniforms_of_nothing_are_nothing():
    drawn = random_uniforms(np.empty(0, np.uint64), np.empty(0, np.int64))
    assert drawn.shape == (0,)
    assert drawn.dtype == np.float64


def test_uniforms_take_any_memory_layout():
    keys = np.arange(10, dtype=np.uint64)
    assert random_uniforms(keys[::2], np.arange(5)).tolist() == random_uniforms(keys[::2].copy(), np.arange(5)).tolist()


@pytest.mark.parametrize(("num_keys", "counter_shape"), [(2, (3,)), (2, (2, 1)), (1, ())])
def test_shapes_that_do_not_match_are_refused(num_keys: int, counter_shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="keys and counters must be one-dimensional and of one length"):
        random_uniforms(np.zeros(num_keys, np.uint64), np.zeros(counter_shape, np.int64))


def test_keys_of_another_kind_are_refused_rather_than_cast():
    with pytest.raises(TypeError):
        random_uniforms(np.array([0.5]), np.array([0]))
    with pytest.raises(TypeError):
        random_uniforms(np.array([-1]), np.array([0]))
