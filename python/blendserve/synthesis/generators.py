"""Made requests that stand in for traces that are not at hand. docs/traces.md says what each is fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from blendserve.traces.length_trace import NO_GROUP, LengthTrace

__all__ = ["GENERATORS", "Generator"]

_SYSTEM_PROMPT_LEN = 16  # one KV block, the same in front of every request of a trace of chats

_MEAN_VIDEO_TOKENS = 16_384
_FRAMES_RANGE = (16, 600)
_MEAN_FRAMES = 100.47  # of the clipped distribution that `_openvid` draws from

_NUM_SUBJECTS = 57
_NUM_TEMPLATES = 20
_TEMPLATE_LEN = 500
_TEMPLATE_SHARE = 0.2

Lengths = NDArray[np.int32]
Prompts = tuple[Lengths, Lengths, Lengths]  # prompt length, prefix group and prefix length of every request


@dataclass(frozen=True, slots=True)
class Generator:
    """prompts, outputs: draw that many of them. is_known: whether users know the output lengths beforehand."""

    prompts: Callable[[int, np.random.Generator], Prompts]
    outputs: Callable[[int, np.random.Generator], Lengths]
    is_known: bool = False

    def draw(self, name: str, count: int, rng: np.random.Generator) -> LengthTrace:
        """`count` requests of a source called `name`."""
        prompt_lens, groups, prefix_lens = self.prompts(count, rng)
        return LengthTrace(
            prompt_lens=prompt_lens,
            output_lengths=self.outputs(count, rng),
            is_known=np.full(count, self.is_known),
            prefix_group=groups,
            prefix_lens=prefix_lens,
            sources=(name,),
            source=np.zeros(count, dtype=np.int16),
        )


def _lognormal(median: float, sigma: float, low: int, high: int) -> Callable[[int, np.random.Generator], Lengths]:
    """Clipped to low .. high."""

    def draw(count: int, rng: np.random.Generator) -> Lengths:
        return np.clip(rng.lognormal(np.log(median), sigma, count), low, high).astype(np.int32)

    return draw


def _behind_system_prompt(
    draw: Callable[[int, np.random.Generator], Lengths],
) -> Callable[[int, np.random.Generator], Prompts]:
    """Prompts of the lengths that `draw` draws, all of which begin with the same few tokens."""

    def prompts(count: int, rng: np.random.Generator) -> Prompts:
        lengths = draw(count, rng)
        return lengths, np.zeros(count, dtype=np.int32), np.minimum(lengths, _SYSTEM_PROMPT_LEN)

    return prompts


def _video_prompts(count: int, rng: np.random.Generator) -> Prompts:
    lengths = rng.integers(30, 201, count, dtype=np.int32)
    return lengths, np.full(count, NO_GROUP, dtype=np.int32), np.zeros(count, dtype=np.int32)


def _video_outputs(count: int, rng: np.random.Generator) -> Lengths:
    """Frames x 256 tokens, normalised to a mean of 16 K: so in proportion to the frames."""
    frames = np.rint(_lognormal(71.2, 0.85, *_FRAMES_RANGE)(count, rng))
    return np.rint(frames * (_MEAN_VIDEO_TOKENS / _MEAN_FRAMES)).astype(np.int32)


def _exam_prompts(count: int, rng: np.random.Generator) -> Prompts:
    """A question behind the five examples of its subject. The subjects are the same for every seed."""
    places = (np.arange(_NUM_SUBJECTS) + 0.5) / _NUM_SUBJECTS
    normal = NormalDist(np.log(520), 0.6)
    examples = np.rint(np.exp([normal.inv_cdf(place) for place in places])).astype(np.int32)
    subject = rng.integers(0, _NUM_SUBJECTS, count, dtype=np.int32)
    return examples[subject] + rng.integers(30, 155, count, dtype=np.int32), subject, examples[subject]


def _one_letter(count: int, _rng: np.random.Generator) -> Lengths:
    """The letter and the end token."""
    return np.full(count, 2, dtype=np.int32)


def _templated_prompts(count: int, rng: np.random.Generator) -> Prompts:
    """A fifth begin with one of a few long templates, the others with a short system prompt."""
    own = _lognormal(100, 1.3, 1, 8000)(count, rng)
    template = rng.integers(1, _NUM_TEMPLATES + 1, count, dtype=np.int32)
    group = np.where(rng.random(count) < _TEMPLATE_SHARE, template, 0).astype(np.int32)
    prefix_lens = np.where(group > 0, _TEMPLATE_LEN, _SYSTEM_PROMPT_LEN).astype(np.int32)
    return prefix_lens + own, group, prefix_lens


GENERATORS = {
    "burstgpt": Generator(
        prompts=_behind_system_prompt(_lognormal(450, 0.9, 17, 8000)),
        outputs=_lognormal(34, 0.8, 1, 1000),
    ),
    "openvid": Generator(prompts=_video_prompts, outputs=_video_outputs, is_known=True),
    "mmlu": Generator(prompts=_exam_prompts, outputs=_one_letter),
    "azure": Generator(
        prompts=_behind_system_prompt(_lognormal(1650, 0.65, 17, 8000)),
        outputs=_lognormal(12.5, 1.22, 1, 2000),
    ),
    "sharegpt": Generator(
        prompts=_behind_system_prompt(_lognormal(36, 2.0, 17, 16_384)),
        outputs=_lognormal(280, 0.547, 1, 8192),
    ),
    "wildchat": Generator(prompts=_templated_prompts, outputs=_lognormal(148, 1.05, 1, 8192)),
}
"""By the name of the trace that each stands in for."""
