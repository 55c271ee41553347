"""Published traces as jobs: prompts, and the output lengths that the requests turned out to have."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from blendserve.models import resolve_model
from blendserve.text.tokenizer import Tokenizer
from blendserve.traces import Trace
from blendserve.traces.csv_lengths import read_csv
from blendserve.traces.ragged import offsets_of

NUM_SHOTS = 5


def read_lengths(path: Path, max_prompt_len: int | None = None, max_output_len: int | None = None) -> Trace:
    """A CSV with the columns ContextTokens and GeneratedTokens; longer rows are clipped."""
    lengths = read_csv(str(path), "azure", path.stem)
    return dataclasses.replace(
        lengths,
        prompt_lens=np.clip(lengths.prompt_lens, 1, max_prompt_len),
        output_lengths=np.clip(lengths.output_lengths, 1, max_output_len),
    ).with_tokens()


def read_mmlu(folder: Path, model: str | None) -> Trace:
    """Every question of test/ behind the five examples of its subject in dev/; the answer is one letter."""
    tokenizer = Tokenizer.load(resolve_model(model))
    if tokenizer is None:
        raise SystemExit(f"{model} has no tokenizer")
    texts = list(five_shot_texts(folder))
    prompts = tokenizer.batch_encoder().encode(texts, add_special_tokens=True)
    return Trace(
        tokens=np.concatenate(prompts),
        offsets=offsets_of(np.array([len(prompt) for prompt in prompts])),
        output_lengths=np.ones(len(texts), np.int32),
        is_known=np.zeros(len(texts), np.bool_),
        sources=("mmlu",),
        source=np.zeros(len(texts), np.int16),
    )


def five_shot_texts(folder: Path) -> Iterator[str]:
    """As the evaluation that came with MMLU asks, but for its double space before the subject."""
    for test in sorted((folder / "test").glob("*_test.csv")):
        subject = test.stem.removesuffix("_test")
        shots = read_questions(folder / "dev" / f"{subject}_dev.csv")[:NUM_SHOTS]
        header = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        prefix = header + "".join(f"{asked(row)} {'ABCD'[int(row[5])]}\n\n" for row in shots)
        yield from (prefix + asked(row) for row in read_questions(test))


def read_questions(path: Path) -> list[list[str]]:
    """Rows of question, four choices and the number of the right one."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def asked(row: Sequence[str]) -> str:
    choices = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", row[1:5], strict=True))
    return f"{row[0]}{choices}\nAnswer:"
