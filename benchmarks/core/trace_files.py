"""Published traces as jobs: prompts, and the output lengths that the requests turned out to have."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blendserve.models import resolve_model
from blendserve.text.tokenizer import Tokenizer
from made_prompts import Prompts, offsets_of, random_prompts
from numpy.typing import NDArray

MOONCAKE_BLOCK = 512  # tokens that one of its hash_ids stands for
NUM_SHOTS = 5

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    prompts: Prompts
    output_lengths: Lengths


def read_lengths(path: Path, max_prompt_len: int | None = None, max_output_len: int | None = None) -> Trace:
    """A CSV with the columns ContextTokens and GeneratedTokens; longer rows are clipped. The prompts share nothing."""
    with path.open(newline="") as file:
        rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
    prompt_len, output_len = np.array(rows, np.int64).T
    prompt_len, output_len = np.clip(prompt_len, 1, max_prompt_len), np.clip(output_len, 1, max_output_len)
    prompts = random_prompts(prompt_len, np.full(len(rows), -1), [], np.random.default_rng(0))
    prompts.tokens[prompts.offsets[:-1]] = np.arange(len(rows))  # or some would begin alike by chance
    return Trace(prompts, output_len)


def read_mooncake(path: Path) -> Trace:
    """JSON lines with input_length, output_length and hash_ids: equal ids are equal blocks, here of one token each."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    parts = [np.repeat(np.array(row["hash_ids"], np.int32), MOONCAKE_BLOCK)[: row["input_length"]] for row in rows]
    for row, part in zip(rows, parts, strict=True):
        assert len(part) == row["input_length"], (
            f"{len(row['hash_ids'])} blocks do not hold {row['input_length']} tokens"
        )
    return Trace(joined(parts), np.array([row["output_length"] for row in rows], np.int64))


def read_mmlu(folder: Path, model: str | None) -> Trace:
    """Every question of test/ behind the five examples of its subject in dev/; the answer is one letter."""
    tokenizer = Tokenizer.load(resolve_model(model))
    if tokenizer is None:
        raise SystemExit(f"{model} has no tokenizer")
    texts = list(five_shot_texts(folder))
    return Trace(
        joined(tokenizer.batch_encoder().encode(texts, add_special_tokens=True)), np.ones(len(texts), np.int64)
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


def joined(parts: Sequence[NDArray[np.int32]]) -> Prompts:
    return Prompts(np.concatenate(parts), offsets_of(np.array([len(part) for part in parts])))
