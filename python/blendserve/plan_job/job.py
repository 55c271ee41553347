"""Planning a job: from its input file to its prompts and their plan."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from blendserve._core import CostModel
from blendserve.errors import UserError
from blendserve.io.token_files import is_token_file
from blendserve.models import resolve_model
from blendserve.plan_job.models import PlannedModel
from blendserve.plan_job.output_lengths import DEFAULT_OUTPUT_LEN, UNLIMITED
from blendserve.plan_job.prompts import JobPrompts
from blendserve.plan_job.read_tokens import read_tokens
from blendserve.planning import Plan, plan
from blendserve.specs import DeviceSpec

if TYPE_CHECKING:
    from blendserve.plan_job.read_batch import ReadProgress

__all__ = ["PlanJob", "PlanObserver", "PlannedJob"]


class PlanObserver(Protocol):
    """Is told how planning goes."""

    def phase(self, description: str) -> None: ...

    def reading(self, progress: ReadProgress) -> None: ...


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """`plan` is None if all rows are bad. `tokenize_s`: wall time of reading and tokenizing, which overlap."""

    prompts: JobPrompts
    plan: Plan | None
    tokenize_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob:
    """What to plan: an input file ("-" is stdin), and the model and device it is to run on.

    mean_output: output tokens of a request whose row tells none; None is `DEFAULT_OUTPUT_LEN`.
    split_budget: the share of prefix sharing that may be given up for a better blend.
    """

    input: str
    model: PlannedModel
    device: DeviceSpec
    mean_output: float | None
    split_budget: float

    def run(self, source: Path, observer: PlanObserver) -> PlannedJob:
        """`source` is a file with the bytes of the input.

        No answer is taken to be longer than the model's context has room for. Raises `UserError` for an input that
        holds no rows, or a setting that cannot be used.
        """
        self._check_fit()
        started = time.monotonic()
        observer.phase("tokenizing")
        prompts = self._read(source, observer)
        tokenize_s = time.monotonic() - started
        observer.phase("planning")
        return PlannedJob(prompts, self._plan(prompts) if len(prompts.request_rows) else None, tokenize_s)

    def _read(self, source: Path, observer: PlanObserver) -> JobPrompts:
        if is_token_file(self.input):
            return read_tokens(self.input, mean_output=self.mean_output, vocab_size=self.model.spec.vocab_size)
        tokenizer_dir = resolve_model(self.model.tokenizer_name)
        try:
            from blendserve.plan_job.read_batch import read_batch
            from blendserve.text.tokenizer import Tokenizer
        except ModuleNotFoundError as error:
            raise UserError(f"tokenizing needs {error.name}: pip install 'blendserve[engine]'") from None
        return read_batch(
            source,
            self.input,
            Tokenizer.load(tokenizer_dir),
            context_len=self.model.spec.max_context,
            vocab_size=self.model.spec.vocab_size,
            mean_output=self.mean_output,
            on_progress=observer.reading,
        )

    def _check_fit(self) -> None:
        """Raises `UserError` where the model leaves the device no room for a KV cache."""
        try:
            CostModel(self.model.spec, self.device).kv_capacity_tokens()
        except ValueError as error:
            raise UserError(str(error)) from error

    def _plan(self, prompts: JobPrompts) -> Plan:
        limits = prompts.max_output_lengths
        lengths = prompts.output_lengths
        if self.model.spec.max_context is not None:
            room = np.maximum(self.model.spec.max_context - np.diff(prompts.offsets), 1)
            limits, lengths = np.minimum(limits, room), np.minimum(lengths, room)
        is_limited = limits < UNLIMITED
        try:
            return plan(
                prompts.tokens,
                prompts.offsets,
                lengths,
                model=self.model.spec,
                device=self.device,
                prior_output_len=self.mean_output or DEFAULT_OUTPUT_LEN,
                evidence_weights=np.zeros(len(limits)),  # a row's length says nothing about other rows
                max_output_lengths=limits if np.any(is_limited) else None,
                max_new_tokens=np.where(is_limited, limits, 0),  # a hint is no limit
                split_budget=self.split_budget,
            )
        except ValueError as error:  # such as a model that does not fit the device
            raise UserError(str(error)) from error
