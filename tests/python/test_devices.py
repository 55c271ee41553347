"""Device files, and what is said of those that are no good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blendserve import DeviceSpec, ModelSpec, UserError, _core
from blendserve.devices import device_fields, device_of, element_bytes, named_device, read_device, with_tp

SHEET: dict[str, Any] = {
    "flops_4_byte": 1e12,
    "flops_2_byte": 1e12,
    "flops_1_byte": 1e12,
    "bandwidth": 1e11,
    "memory_bytes": 64e9,
}
RATES: dict[str, Any] = {
    "element_bytes": 4,
    "layers": [[1, 1e10], [128, 2e11]],
    "head": [[1, 3e11]],
    "prefill_attention_flops": 2e11,
    "decode_attention_bandwidth": 2e10,
}


def write(path: Path, fields: Any) -> Path:
    path.write_text(json.dumps(fields))
    return path


def test_a_device_file_holds_the_fields_of_a_device(tmp_path: Path) -> None:
    device = named_device(str(write(tmp_path / "mine.json", SHEET | {"beta": 0.25})), 2)
    assert (device.name, device.beta, device.tp, device.measured) == ("mine", 0.25, 2, None)
    assert element_bytes(device) == 2


def test_measured_rates_survive_the_file(tmp_path: Path) -> None:
    device = device_of(SHEET | {"name": "mine", "measured": RATES | {"step_s": 1e-3}})
    assert device.measured is not None
    assert (device.measured.layers, device.measured.step_s) == ([(1, 1e10), (128, 2e11)], 1e-3)
    assert element_bytes(device) == 4
    assert read_device(write(tmp_path / "again.json", device_fields(device))) == device
    assert with_tp(device, 4).measured == device.measured


def test_a_named_device_is_its_data_sheet() -> None:
    assert named_device("l4-24gb", 2) == DeviceSpec.named("l4-24gb", tp=2)
    with pytest.raises(UserError, match='hardware abacus: no device is named "abacus"'):
        named_device("abacus")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"flops": 1}, "flops is no field of a device; the fields are name, flops_4_byte, "),
        ({"bandwidth": "fast"}, "bandwidth is 'fast'; it must be a number"),
        ({"bandwidth": -1}, "bandwidth is -1; it must be a positive finite number"),
        ({"tp": 1.5}, "tp is 1.5; it must be an integer"),
        ({"tp": True}, "tp is True; it must be an integer"),
        ({"name": 7}, "name is 7; it must be a text"),
        ({"measured": 7}, "measured is 7; it must be an object with element_bytes, "),
        ({"measured": {"element_bytes": 4}}, "measured.layers is missing; give it, or measure the device with `blend"),
        ({"measured": RATES | {"speed": 1}}, "measured.speed is no field of a device; the fields are element_bytes, "),
        ({"measured": RATES | {"head": [1, 2]}}, "measured.head is [1, 2]; it must be a list of [rows, FLOP/s]"),
        ({"measured": RATES | {"head": []}}, "head is empty; it must be a list of [rows, FLOP/s] with at least one"),
        ({"measured": RATES | {"layers": [[2, 1], [1, 1]]}}, "layers rows is 1; it must be more than those of the poi"),
    ],
)
def test_a_bad_field_is_named_with_its_remedy(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = write(tmp_path / "bad.json", SHEET | change)
    with pytest.raises(UserError) as error:
        read_device(path)
    assert str(error.value).startswith(f"device file {path}: {complaint}")


def test_a_file_that_is_no_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json cannot be read: No such file.*; `blendserve profile` makes one"):
        read_device(tmp_path / "gone.json")
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(UserError, match=r"torn\.json is no JSON.*; `blendserve profile` makes one"):
        read_device(tmp_path / "torn.json")
    with pytest.raises(UserError, match=r"list\.json holds no JSON object"):
        read_device(write(tmp_path / "list.json", []))
    with pytest.raises(UserError, match="bandwidth is missing"):
        read_device(write(tmp_path / "part.json", {name: SHEET[name] for name in SHEET if name != "bandwidth"}))


def test_generated_tokens_alone_are_charged_the_head() -> None:
    model = ModelSpec.named("smollm2-135m-instruct", weight_bytes=4)
    measured = _core.CostModel(model, device_of(SHEET | {"name": "mine", "measured": RATES}))
    assert measured.t_tok == pytest.approx(2 * (134.5e6 - 49152 * 576) / 2e11)
    assert measured.t_head == pytest.approx(2 * 49152 * 576 / 3e11)
    assert measured.decode_compute_s(10) == pytest.approx(10 * (measured.t_tok + measured.t_head))
    assert measured.segment_compute_s(0, 10) == pytest.approx(10 * measured.t_tok + 100 * measured.t_attn)
    assert _core.CostModel(model, device_of(SHEET | {"name": "sheet"})).t_head == 0
