"""A plan goes to a file and comes back; other files and other prompts are refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import UserError
from blendserve.devices import device_fields
from blendserve.planning import plan_file
from planning.jobs import TARGETS, MixedJob, plan_of
from planning.naive_trie import arrays_of

JOB = MixedJob.random(40)


def saved(path: Path, **changes: Any) -> Path:
    """A file of JOB's plan with some of its parts changed; None removes one."""
    JOB.plan().save(path)
    with np.load(path) as archive:
        parts = {**archive, **changes}
    with path.open("wb") as file:
        np.savez(file, **{name: part for name, part in parts.items() if part is not None})
    return path


def header_of(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return dict(json.loads(str(archive["header"])))


@pytest.mark.parametrize(("model", "device"), TARGETS, ids=["llama", "toy", "cascade"])
def test_a_plan_comes_back_as_it_was(tmp_path: Path, model: Any, device: Any) -> None:
    lengths = [length if row % 3 else -1 for row, length in enumerate(JOB.lengths)]
    plan = plan_of(JOB.prompts, lengths, model=model, device=device, max_output_lengths=[500] * 40)
    plan.save(tmp_path / "plan.npz")
    for prompts in ((), arrays_of(JOB.prompts)):
        again = bs.Plan.load(tmp_path / "plan.npz", *prompts)
        assert (again.report, again.model, again.device) == (plan.report, plan.model, plan.device)
        assert again.density == plan.density
        for name in ("order", "max_new_tokens", "expected_output_lengths"):
            np.testing.assert_array_equal(getattr(again, name), getattr(plan, name))
        assert not again.order.flags.writeable
        assert not again.max_new_tokens.flags.writeable
        for view in ("planned", "built")[: 1 + len(prompts) // 2]:
            assert contents(again, view) == contents(plan, view)
        for shard, other in zip(again.shards(3), plan.shards(3), strict=True):
            assert shard.rows.tolist() == other.rows.tolist()
            assert (shard.compute_s, shard.lost_tokens) == (other.compute_s, other.lost_tokens)


def contents(plan: bs.Plan, layout: str) -> tuple[list[Any], list[Any]]:
    """Leaves, and nodes whatever their numbers."""
    view = plan.tree_view(layout)
    leaves = zip(view.rows.tolist(), view.leaf_len.tolist(), view.shared_len.tolist(), view.leaf_density, strict=True)
    nodes = zip(view.begin.tolist(), view.end.tolist(), view.depth.tolist(), strict=True)
    return list(leaves), sorted(nodes)


def test_a_plan_without_its_prompts_has_no_built_tree(tmp_path: Path) -> None:
    plan = bs.Plan.load(saved(tmp_path / "plan.npz"))
    assert plan.tree is None
    with pytest.raises(UserError, match=r"a loaded plan has no built tree; pass tokens and offsets to Plan.load"):
        plan.tree_view("built")


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "plan.npz")
    longer = [[*JOB.prompts[0], 1], *JOB.prompts[1:]]
    shuffled = [[(7 * i + row) % 97 for i in range(len(prompt))] for row, prompt in enumerate(JOB.prompts)]
    for prompts in (longer, JOB.prompts[1:], [], shuffled):
        with pytest.raises(UserError, match=r"the prompts are not those that .*plan.npz was made from"):
            bs.Plan.load(path, *arrays_of(prompts))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": np.zeros(40, np.int32)}, "order must name each of the 40 requests once"),
        ({"rows": np.arange(1, 41, dtype=np.int32)}, "rows must name each of the 40 requests once"),
        ({"rows": np.arange(39, dtype=np.int32)}, "rows must name each of the 40 requests once"),
        ({"lcp": np.full(40, 10**6, np.int32)}, "lcp must have the common prefix length"),
        ({"lcp": np.zeros(39, np.int32)}, "lcp must have the common prefix length"),
        ({"lcp": np.zeros(40, np.int64)}, "lcp has dtype int64; it must be int32"),
        ({"prompt_lens": np.zeros((8, 5), np.int32)}, "prompt_lens must be one-dimensional"),
        ({"prompt_lens": np.full(40, -1, np.int32)}, "request 0 has prompt length -1"),
        ({"mean_output_lens": np.full(40, np.nan)}, "request 0 has .* expected output length nan"),
        ({"mean_output_lens": np.full(40, 1e19)}, "request 0 has .* expected output length 1000"),
        ({"mean_output_lens": np.ones(39)}, "prompt_lens, mean_output_lens, second_moments and is_length_known differ"),
        ({"second_moments": np.full(40, np.inf)}, "request 0 has .* second moment inf"),
        ({"max_new_tokens": np.ones(39, np.int32)}, "max_new_tokens does not fit"),
        ({"max_new_tokens": np.ones(40, np.int64)}, "max_new_tokens does not fit"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "plan.npz", **changes)
    with pytest.raises(UserError, match=f"plan.npz is damaged: .*{message}"):
        bs.Plan.load(path)


@pytest.mark.parametrize("part", ["order", "header", "max_new_tokens"])
def test_a_file_that_lacks_a_part_is_no_plan(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match="is not a plan that this version of blendserve saved; make it again"):
        bs.Plan.load(saved(tmp_path / "plan.npz", **{part: None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "blendserve plan 0"}, "is not a plan that this version"),
        ({"model": None}, "is damaged"),
        ({"model": {"name": "x"}}, "is damaged"),
        ({"device": []}, "is damaged"),
        ({"report": {}}, "the saved plan has no prompt_tokens"),
        ({"report": 3}, "is damaged"),
    ],
)
def test_a_header_that_says_too_little_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "plan.npz")
    header = {**header_of(path), **change}
    with pytest.raises(UserError, match=message):
        bs.Plan.load(saved(path, header=np.array(json.dumps(header))))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("split_stop", "later", 'split_stop is "later"'),
        ("prompt_tokens", "many", "is damaged"),
        ("preprocess_s", 1, "is damaged"),
        ("preprocess_s", {}, "the saved plan has no build"),
        ("more", 1, "is damaged"),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    path = saved(tmp_path / "plan.npz")
    header = header_of(path)
    header["report"][field] = value
    with pytest.raises(UserError, match=message):
        bs.Plan.load(saved(path, header=np.array(json.dumps(header))))


def test_files_that_are_no_archives_are_no_plans(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(3))
    (tmp_path / "text.npz").write_text("no plan")
    (tmp_path / "empty.npz").touch()
    for name in ("array.npy", "text.npz", "empty.npz"):
        with pytest.raises(UserError, match=f"{name} is not a plan that this version of blendserve saved"):
            bs.Plan.load(tmp_path / name)


def test_paths_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plan .*nothing.npz cannot be read: No such file"):
        bs.Plan.load(tmp_path / "nothing.npz")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        bs.Plan.load(tmp_path)
    with pytest.raises(UserError, match="cannot be written: No such file or directory"):
        JOB.plan().save(tmp_path / "no" / "plan.npz")


def test_a_file_with_any_byte_changed_or_its_end_cut_off_is_refused_or_the_same(tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    plan = plan_of([[1, 2], [1, 3], [4]], [3, 90, 5])
    plan.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    num_refused = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged if position % 2 else content[:position])
        try:
            again = bs.Plan.load(path)
        except UserError:
            num_refused += 1
            continue
        assert again.order.tolist() == plan.order.tolist()
        assert again.report == plan.report
    assert num_refused > len(content) / 3 * 0.7


def test_a_file_keeps_every_property_of_model_and_device() -> None:
    derived = {"active_params", "layer_params", "is_moe", "is_mla"}
    device_names = device_fields(bs.DeviceSpec.named("a100-sxm-80gb"))
    for cls, fields in ((bs.ModelSpec, plan_file._MODEL_FIELDS), (bs.DeviceSpec, device_names)):
        properties = {name for name, value in inspect.getmembers(cls) if isinstance(value, property)}
        assert properties - derived == set(fields)
