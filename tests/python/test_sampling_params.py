from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from blendserve.errors import UserError
from blendserve.sampling_params import SamplingParams


def test_defaults_are_the_published_ones():
    params = SamplingParams()
    assert dataclasses.asdict(params) == {
        "n": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logit_bias": (),
        "seed": None,
        "max_tokens": 16,
        "min_tokens": 0,
        "stop": (),
        "stop_token_ids": (),
        "ignore_eos": False,
        "max_repeated_tokens": None,
        "logprobs": None,
        "prompt_logprobs": None,
    }


def test_stop_may_be_a_string_a_list_or_a_tuple_and_is_kept_as_a_tuple():
    assert SamplingParams(stop="END").stop == ("END",)
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")
    assert SamplingParams(stop=("a", "b")).stop == ("a", "b")
    assert SamplingParams(stop_token_ids=[2, 0]).stop_token_ids == (2, 0)


def test_numpy_numbers_become_plain_ones():
    params = SamplingParams(n=np.int64(2), temperature=np.float32(0.5), top_k=np.int32(3), top_p=1)
    assert params == SamplingParams(n=2, temperature=0.5, top_k=3, top_p=1.0)
    assert [type(value) for value in (params.n, params.temperature, params.top_k, params.top_p)] == [
        int,
        float,
        int,
        float,
    ]


def test_the_ends_of_every_range_are_allowed():
    SamplingParams(n=2**31 - 1, temperature=0, top_p=1, top_k=2**31 - 1, seed=-(2**63), max_tokens=1, logprobs=0)
    SamplingParams(min_p=0, frequency_penalty=-2, presence_penalty=-2, repetition_penalty=1e-30, min_tokens=16)
    SamplingParams(min_p=1, frequency_penalty=2, presence_penalty=2, repetition_penalty=1e30, min_tokens=0)
    SamplingParams(max_tokens=None, min_tokens=2**31 - 1, logit_bias={0: -100, 2**31 - 1: 100})
    SamplingParams(n=1, temperature=1e30, top_p=1e-30, top_k=0, seed=2**63 - 1, max_tokens=None, logprobs=None)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("n", 0, "an integer from 1 to 2147483647"),
        ("n", True, "an integer from 1 to 2147483647"),
        ("n", 1.0, "an integer from 1 to 2147483647"),
        ("n", None, "an integer from 1 to 2147483647"),
        ("temperature", -0.1, "a finite number, 0 or more (0 is greedy)"),
        ("temperature", math.nan, "a finite number, 0 or more (0 is greedy)"),
        ("temperature", math.inf, "a finite number, 0 or more (0 is greedy)"),
        ("temperature", "1", "a finite number, 0 or more (0 is greedy)"),
        ("temperature", True, "a finite number, 0 or more (0 is greedy)"),
        ("top_p", 0, "a number more than 0 and at most 1 (1 is off)"),
        ("top_p", 1.01, "a number more than 0 and at most 1 (1 is off)"),
        ("top_p", math.nan, "a number more than 0 and at most 1 (1 is off)"),
        ("top_p", None, "a number more than 0 and at most 1 (1 is off)"),
        ("top_k", -1, "an integer from 0 to 2147483647"),
        ("top_k", 2**31, "an integer from 0 to 2147483647"),
        ("seed", 2**63, "an integer from -9223372036854775808 to 9223372036854775807"),
        ("seed", 0.0, "an integer from -9223372036854775808 to 9223372036854775807"),
        ("min_p", -0.1, "a number from 0 to 1"),
        ("min_p", math.nan, "a number from 0 to 1"),
        ("repetition_penalty", 0, "a finite number more than 0 (1 is off)"),
        ("repetition_penalty", math.inf, "a finite number more than 0 (1 is off)"),
        ("frequency_penalty", 2.1, "a number from -2 to 2"),
        ("presence_penalty", True, "a number from -2 to 2"),
        ("logit_bias", [(5, 1.0)], "a dict of token ids and numbers"),
        ("logit_bias", {5}, "a dict of token ids and numbers"),
        ("min_tokens", -1, "an integer from 0 to 2147483647"),
        ("min_tokens", 17, "at most max_tokens, which is 16"),
        ("prompt_logprobs", -1, "an integer from 0 to 100"),
        ("prompt_logprobs", 101, "an integer from 0 to 100"),
        ("max_tokens", 0, "at least 1, or give prompt_logprobs to have the prompt alone scored"),
        ("max_tokens", "16", "an integer from 0 to 2147483647"),
        ("stop", "", "a string or a list of strings, none of them empty"),
        ("stop", 7, "a string or a list of strings, none of them empty"),
        ("stop", None, "a string or a list of strings, none of them empty"),
        ("stop_token_ids", 7, "a list of token ids"),
        ("stop_token_ids", "7", "a list of token ids"),
        ("ignore_eos", 1, "True or False"),
        ("logprobs", -1, "an integer from 0 to 2147483647"),
        ("logprobs", True, "an integer from 0 to 2147483647"),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_range(field: str, value: Any, allowed: str):
    with pytest.raises(UserError) as error:
        SamplingParams(**{field: value})
    assert str(error.value) == f"{field} is {value!r}; it must be {allowed}"


def test_a_bad_stop_token_id_is_named_by_its_place():
    with pytest.raises(UserError, match=r"^stop_token_ids\[1\] is -5; it must be an integer from 0 to 2147483647$"):
        SamplingParams(stop_token_ids=[3, -5])


@pytest.mark.parametrize("value", ["", 1, None])
def test_a_bad_stop_string_is_named(value: object) -> None:
    with pytest.raises(UserError) as caught:
        SamplingParams(stop=["a", value])  # type: ignore[list-item]
    assert str(caught.value) == f"stop[1] is {value!r}; it must be a string, and not empty"


@pytest.mark.parametrize("value", [1, -1, True, 2.0])
def test_a_repetition_has_at_least_two_tokens(value: object) -> None:
    with pytest.raises(UserError, match="max_repeated_tokens is"):
        SamplingParams(max_repeated_tokens=value)  # type: ignore[arg-type]
    assert [SamplingParams(max_repeated_tokens=limit).max_repeated_tokens for limit in (None, 0, 2)] == [None, 0, 2]


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({-1: 1}, "a token id in logit_bias is -1; it must be an integer from 0 to 2147483647"),
        ({"5": 1}, "a token id in logit_bias is '5'; it must be an integer from 0 to 2147483647"),
        ({5: 100.5}, "logit_bias[5] is 100.5; it must be a number from -100 to 100"),
        ({5: None}, "logit_bias[5] is None; it must be a number from -100 to 100"),
    ],
)
def test_a_bad_bias_is_named_by_its_token(bias: Any, message: str):
    with pytest.raises(UserError) as error:
        SamplingParams(logit_bias=bias)
    assert str(error.value) == message


def test_a_bias_is_kept_in_order_of_id_however_it_is_written():
    params = SamplingParams(logit_bias={np.int64(9): np.float32(1), 2: -1})
    assert params.logit_bias == ((2, -1.0), (9, 1.0))
    assert dataclasses.replace(params, n=2).logit_bias == params.logit_bias
    assert hash(params) == hash(SamplingParams(logit_bias={2: -1, 9: 1}))


def test_a_prompt_alone_may_be_scored():
    assert SamplingParams(max_tokens=0, prompt_logprobs=0).max_tokens == 0


def test_params_are_frozen_and_hashable():
    params = SamplingParams(stop=["a"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.n = 2
    assert {params: 1}[SamplingParams(stop="a")] == 1


def test_greedy_is_temperature_zero_or_top_k_one():
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(temperature=0.7, top_k=1).greedy
    assert not SamplingParams(temperature=0.7).greedy
