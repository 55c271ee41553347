"""The self-check of `blendserve run`: warnings on stderr, errors before the first answer, and the way around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from batch_jobs import Job, chat, completion
from blendserve.models.packed_decoder import PackedDecoder
from tiny_models import CHAT_TEMPLATE, build_llama, build_tokenizer


def job_with_template(folder: Path, template: str) -> Job:
    model_dir = build_llama(folder / "model", max_positions=256, eos_token_id=None)
    build_tokenizer(model_dir, chat_template=template)
    return Job(folder, model_dir)


def test_a_warning_is_shown_and_the_job_goes_on(tmp_path: Path) -> None:
    job = job_with_template(tmp_path, CHAT_TEMPLATE.replace("<|end|>", "<|im_end|>"))
    job.write(chat("a"))
    warning = "warning: the chat template writes <|im_end|>, which the tokenizer has no token for"
    assert warning in job.run().log
    assert len(job.answers) == 1
    assert warning not in job.run("--no-resume", "--no-self-check").log


def test_a_template_matters_to_chats_only(tmp_path: Path) -> None:
    job = job_with_template(tmp_path, "{% for m in messages %}{{ m.text }}{% endfor %}")
    job.write(completion("a"))
    job.run()
    job.write(completion("a"), chat("b"))
    ended = job.run("--no-resume", code=2)
    assert "error: self-check: the model's chat template leaves the user's message out" in ended.log


def test_wrong_logits_stop_the_job_before_its_first_answer(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = PackedDecoder.forward

    def wrong(self: PackedDecoder, *args: torch.Tensor) -> torch.Tensor:
        return forward(self, *args) * 2  # type: ignore[arg-type]

    monkeypatch.setattr(PackedDecoder, "forward", wrong)
    job.write(completion("a"))
    ended = job.run(code=2)
    assert "error: self-check: the logits of native_cpu are off by 1 of their size" in ended.log
    assert job.rows == []
    job.run("--no-self-check")
    assert len(job.answers) == 1


def test_the_metrics_have_its_time(job: Job, tmp_path: Path) -> None:
    job.write(completion("a"))
    metrics = tmp_path / "metrics.json"
    job.run("--metrics", metrics)
    assert json.loads(metrics.read_text())["stage_s"]["checking"] > 0
    job.run("--no-resume", "--no-self-check", "--metrics", metrics)
    assert "checking" not in json.loads(metrics.read_text())["stage_s"]
