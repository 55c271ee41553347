"""Two kinds of requests in one job: exams, of prompts that share much and have short answers, and long reasoning."""

from __future__ import annotations

import numpy as np
from mixed_requests import GreedyRequests

SUBJECT_LEN = 400  # tokens of a subject's worked examples, in front of each of its questions
QUESTION_LENS = (40, 100)
EXAM_OUTPUT_LEN = 2

REASONING_PROMPT_LENS = (20, 150)
MEDIAN_REASONING_LEN, REASONING_SIGMA, MAX_REASONING_LEN = 160, 0.8, 1000  # lognormal, as of R1 on a tenth of its scale


def exam_requests(num_subjects: int, num_questions: int, num_reasoning: int, vocab_size: int) -> GreedyRequests:
    """In random order, as they come from people. `num_questions` are of each subject."""
    rng = np.random.default_rng(0)

    def tokens(count: int) -> list[int]:
        return rng.integers(0, vocab_size, count).tolist()

    requests = []
    for _ in range(num_subjects):
        examples = tokens(SUBJECT_LEN)
        for _ in range(num_questions):
            requests.append((examples + tokens(int(rng.integers(*QUESTION_LENS))), EXAM_OUTPUT_LEN))
    outputs = rng.lognormal(np.log(MEDIAN_REASONING_LEN), REASONING_SIGMA, num_reasoning)
    for output_len in np.clip(outputs, 1, MAX_REASONING_LEN).astype(int).tolist():
        requests.append((tokens(int(rng.integers(*REASONING_PROMPT_LENS))), output_len))
    order = rng.permutation(len(requests)).tolist()
    return GreedyRequests([requests[i][0] for i in order], [requests[i][1] for i in order])
