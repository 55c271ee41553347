"""The answers that are checked before anything is timed. Raises AssertionError with what is wrong."""

from __future__ import annotations

from typing import Any

import blendserve as bs
import numpy as np
from made_prompts import Prompts

NUM_SAMPLED = 1000
SAMPLED_TOKENS = 2_000_000  # at most, so that long prompts do not take minutes


def check_plan(prompts: Prompts, plan: bs.Plan) -> dict[str, Any]:
    """The order is a permutation, the tree is sound, and it counts the tokens as a naive trie does on a sample."""
    order = np.asarray(plan.order)
    assert len(order) == len(prompts), f"{len(order)} of {len(prompts)} requests are in the order"
    seen = np.zeros(len(prompts), np.bool_)
    seen[order] = True
    assert seen.all(), f"{np.count_nonzero(~seen)} requests are missing in the order"
    tree = bs.PrefixTree.build(prompts.tokens, prompts.offsets)
    tree.verify()
    assert (tree.num_requests, tree.num_prompt_tokens) == (len(prompts), len(prompts.tokens))
    assert plan.report.unique_prompt_tokens == tree.num_unique_tokens
    return {"order": "permutation", "tree": "verified", "sharing_ratio": tree.sharing_ratio, **check_sample(prompts)}


def check_sample(prompts: Prompts) -> dict[str, int]:
    mean_len = max(1, len(prompts.tokens) // len(prompts))
    count = max(1, min(len(prompts), NUM_SAMPLED, SAMPLED_TOKENS // mean_len))
    sample = prompts.of(np.random.default_rng(0).choice(len(prompts), count, replace=False))
    got = bs.PrefixTree.build(sample.tokens, sample.offsets).num_unique_tokens
    expected = naive_unique_tokens(sample)
    assert got == expected, f"{got} unique tokens in a sample of {count} requests, a naive trie has {expected}"
    return {"sampled_requests": count, "sampled_unique_tokens": got}


def naive_unique_tokens(prompts: Prompts) -> int:
    """The nodes of a trie with one token a node."""
    root: dict[int, Any] = {}
    num_nodes = 0
    for begin, end in zip(prompts.offsets[:-1], prompts.offsets[1:], strict=True):
        node = root
        for token in prompts.tokens[begin:end].tolist():
            child = node.get(token)
            if child is None:
                child = node[token] = {}
                num_nodes += 1
            node = child
    return num_nodes
