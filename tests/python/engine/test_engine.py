from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blendserve import LLM, RequestError, SamplingParams
from blendserve.engine import Engine, EngineRequest
from prompts import short_prompts
from tiny_models import build_llama

PROMPTS = short_prompts(10)
SETTINGS: list[dict[str, Any]] = [
    {"max_batch_tokens": 256},
    {"max_batch_tokens": 16, "block_size": 4},
    {"max_batch_tokens": 32, "block_size": 8, "kv_memory": 128 * 256},  # preempts
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


def load(model_dir: Path, **settings: Any) -> LLM:
    return LLM(model_dir, device="cpu", **{"kv_memory": "1MiB", **settings})


def requests(**params: Any) -> list[EngineRequest]:
    settings = SamplingParams(**{"max_tokens": 12, "ignore_eos": True, "logprobs": 1, **params})
    return [EngineRequest(np.array(prompt, np.int32), settings, str(i)) for i, prompt in enumerate(PROMPTS)]


def run(engine: Engine) -> dict[int, tuple[tuple[int, ...], ...]]:
    answers = {}
    while (outputs := engine.step()) is not None:
        engine.scheduler.verify()
        for output in outputs:
            assert output.index not in answers
            answers[output.index] = tuple(choice.token_ids for choice in output.outputs)
            for choice in output.outputs:
                assert choice.logprobs is not None
                assert tuple(logprob.token_id for logprob in choice.logprobs) == choice.token_ids
    return answers


def assert_idle(engine: Engine) -> None:
    engine.scheduler.verify()
    assert engine.scheduler.num_unfinished == 0
    assert engine.scheduler.num_available_blocks == engine.scheduler.num_blocks


class FailsSometimes:
    """Stands in for `Engine._run`: the steps in `failing` raise, some after the cache was written."""

    def __init__(self, run: Any, failing: set[int]) -> None:
        self.run = run
        self.failing = failing
        self.num_steps = 0

    def __call__(self, plan: Any) -> Any:
        self.num_steps += 1
        if self.num_steps in self.failing and self.num_steps % 2 == 0:
            raise RuntimeError(f"step {self.num_steps} failed")
        sampled = self.run(plan)
        if self.num_steps in self.failing:
            raise RuntimeError(f"step {self.num_steps} failed")
        return sampled


@pytest.mark.parametrize("settings", SETTINGS, ids=["one step", "chunks", "preemption"])
@pytest.mark.parametrize("params", [{"temperature": 0}, {"n": 2, "temperature": 0.8, "top_p": 0.95}])
def test_requests_of_failed_steps_are_answered_as_if_nothing_had_happened(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], params: dict[str, Any]
) -> None:
    undisturbed = load(model_dir, **settings).engine
    undisturbed.add(requests(**params))
    expected = run(undisturbed)

    engine = load(model_dir, **settings).engine
    failing = {1, 2, 5, 9, 12}
    monkeypatch.setattr(engine, "_run", FailsSometimes(engine._run, failing))
    engine.add(requests(**params))
    answers: dict[int, tuple[tuple[int, ...], ...]] = {}
    num_failures = 0
    while not answers:
        try:
            answers = run(engine)
        except RuntimeError:
            num_failures += 1
            engine.scheduler.verify()
    assert num_failures == len(failing)
    assert answers == expected
    assert_idle(engine)


def test_an_interrupt_in_a_step_is_a_failed_step(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(model_dir).engine

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    engine.add(requests(temperature=0))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    assert sorted(run(engine)) == list(range(10))
    assert_idle(engine)


def test_cancelled_requests_return_nothing_and_the_others_their_answers(model_dir: Path) -> None:
    engine = load(model_dir, max_batch_tokens=16).engine
    indices = engine.add(requests(temperature=0))
    expected = run(engine)

    again = engine.add(requests(temperature=0, n=2))
    for _ in range(4):
        engine.step()
    engine.cancel(again[1::2])
    engine.scheduler.verify()
    answers = run(engine)
    assert sorted(answers) == list(again[::2])
    for index, answer in answers.items():
        assert answer == expected[indices[index - again.start]] * 2
    engine.cancel(again)  # all finished or cancelled: nothing happens
    assert_idle(engine)


def test_requests_may_arrive_while_others_run(model_dir: Path) -> None:
    engine = load(model_dir, max_batch_tokens=32).engine
    engine.add(requests(temperature=0))
    expected = run(engine)
    answers: dict[int, tuple[tuple[int, ...], ...]] = {}
    arriving = requests(temperature=0)
    first = engine.add(arriving[:1]).start
    for request in arriving[1:]:
        for output in engine.step() or []:
            answers[output.index] = (output.outputs[0].token_ids,)
        engine.add([request])
    answers |= run(engine)
    assert [answers[first + i] for i in range(10)] == [expected[i] for i in range(10)]


def test_a_bad_request_among_good_ones_queues_none(model_dir: Path) -> None:
    engine = load(model_dir).engine
    bad = EngineRequest(np.array([], np.int32), SamplingParams(), "bad")
    with pytest.raises(RequestError, match="the prompt is empty"):
        engine.add([*requests(), bad])
    assert engine.scheduler.num_requests == 0
    assert engine.step() is None


def test_only_unfinished_requests_take_memory(model_dir: Path) -> None:
    engine = load(model_dir).engine
    engine.add(requests(stop="zzz"))
    run(engine)
    assert not engine._active
    assert not any((engine._answers._stop_checkers, engine._answers._stop_matches, engine._answers._logprobs))
    assert len(engine.scheduler.output_tokens(0)) == 0


def test_equal_seeds_give_equal_random_orders(model_dir: Path) -> None:
    def order(seed: int) -> list[int]:
        engine = load(model_dir, schedule="random", seed=seed, max_batch_requests=1).engine
        engine.add(requests(temperature=0, max_tokens=1))
        finished = []
        while (outputs := engine.step()) is not None:
            finished += [output.index for output in outputs]
        return finished

    assert order(-1) == order(-1)
    assert sorted(order(3)) == list(range(10))
    assert len({tuple(order(seed)) for seed in (-1, 3, 4)}) == 3
