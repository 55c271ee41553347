"""From a StepPlan to tokens: the model's forward pass over the paged KV cache, and sampling."""

from __future__ import annotations

from blendserve.runner.logit_edits import LogitEdits
from blendserve.runner.model_runner import ModelRunner
from blendserve.runner.prompt_scores import PromptScores
from blendserve.runner.sampler import SampledTokens, Sampler
from blendserve.runner.sampling_table import SamplingTable

__all__ = ["LogitEdits", "ModelRunner", "PromptScores", "SampledTokens", "Sampler", "SamplingTable"]
