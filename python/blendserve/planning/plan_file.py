"""A plan in a file: a NumPy archive of its arrays and one JSON text for the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendserve._core import CostModel, PlanCore
from blendserve.devices import device_fields, device_of
from blendserve.errors import UserError
from blendserve.planning.report import PlanReport
from blendserve.specs import DeviceSpec, ModelSpec

__all__ = ["load", "save"]

_FORMAT = "blendserve plan 2"
_ARRAYS = ("prompt_lens", "mean_output_lens", "second_moments", "is_length_known", "rows", "lcp", "order")
_MODEL_FIELDS = (
    "name",
    "num_layers",
    "attention_width",
    "kv_width",
    "num_params",
    "head_params",
    "embedding_params",
    "num_experts",
    "experts_per_token",
    "expert_params",
    "num_heads",
    "kv_lora_rank",
    "rope_head_dim",
    "weight_bytes",
    "kv_bytes",
    "cascade_attention",
    "max_context",
    "vocab_size",
)


PlanParts = tuple[PlanCore, ModelSpec, DeviceSpec, NDArray[np.int32], PlanReport]


def save(
    path: Path,
    core: PlanCore,
    model: ModelSpec,
    device: DeviceSpec,
    max_new_tokens: NDArray[np.int32],
    report: PlanReport,
) -> None:
    header = {
        "format": _FORMAT,
        "model": {name: getattr(model, name) for name in _MODEL_FIELDS},
        "device": device_fields(device),
        "report": dataclasses.asdict(report),
    }
    arrays = {name: getattr(core, name) for name in _ARRAYS}
    try:
        with path.open("wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), max_new_tokens=max_new_tokens, **arrays)
    except OSError as error:
        raise UserError(f"plan {path} cannot be written: {error.strerror}") from error


def load(path: Path) -> PlanParts:
    """Core, model, device, max_new_tokens and report."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            arrays = {name: archive[name] for name in _ARRAYS}
            max_new_tokens = archive["max_new_tokens"]
    except OSError as error:
        raise UserError(f"plan {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # NumPy, zipfile, zlib, tokenize and json each have their own for a damaged file
        raise _not_a_plan(path) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise _not_a_plan(path)
    core, model, device, report = _restore(path, header, arrays)
    if max_new_tokens.dtype != np.int32 or max_new_tokens.shape != (core.num_requests,):
        raise UserError(f"plan {path} is damaged: max_new_tokens does not fit; make it again")
    return core, model, device, max_new_tokens, report


def _restore(
    path: Path, header: dict[str, Any], arrays: dict[str, Any]
) -> tuple[PlanCore, ModelSpec, DeviceSpec, PlanReport]:
    try:
        model = ModelSpec(**header["model"])
        device = device_of(header["device"])
        core = PlanCore.restore(CostModel(model, device), **arrays, summary=header["report"])
        saved = PlanReport(**header["report"])
        report = PlanReport.of(core.summary)
        seconds = {**report.preprocess_s, "tokenize": float(saved.preprocess_s["tokenize"])}
        return core, model, device, dataclasses.replace(report, preprocess_s=seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"plan {path} is damaged: {error}; make it again") from error


def _not_a_plan(path: Path) -> UserError:
    return UserError(f"{path} is not a plan that this version of blendserve saved; make it again")
