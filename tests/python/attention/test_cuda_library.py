import ctypes
from pathlib import Path

import pytest
from blendserve.attention import cuda_library
from blendserve.attention.cuda_library import (
    AttentionBatch,
    CudaLibrary,
    DecodeBatch,
    DecodePlanSummary,
    FlashInferPlan,
    FlashInferPrefillParams,
    KvAppendParams,
    PagedAttentionParams,
    PagedDecodeParams,
)
from blendserve.errors import UserError


def test_a_missing_library_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.so.*make cuda.*BLENDSERVE_CUDA_LIB"):
        CudaLibrary(tmp_path / "nowhere.so")


def test_the_environment_names_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLENDSERVE_CUDA_LIB", str(tmp_path / "built_elsewhere.so"))
    cuda_library.load_cuda_library.cache_clear()
    with pytest.raises(UserError, match=r"built_elsewhere\.so"):
        cuda_library.load_cuda_library()


@pytest.mark.parametrize(
    ("structure", "name"),
    [
        (DecodeBatch, "blendserve_decode_batch"),
        (DecodePlanSummary, "blendserve_decode_plan_summary"),
        (PagedDecodeParams, "blendserve_paged_decode_params"),
        (KvAppendParams, "blendserve_kv_append_params"),
        (AttentionBatch, "blendserve_attention_batch"),
        (PagedAttentionParams, "blendserve_paged_attention_params"),
        (FlashInferPlan, "blendserve_flashinfer_plan"),
        (FlashInferPrefillParams, "blendserve_flashinfer_prefill_params"),
    ],
)
def test_a_structure_has_the_fields_of_its_c_struct_in_order(structure: type[ctypes.Structure], name: str) -> None:
    header = Path(__file__).parents[3] / "csrc/kernels/cuda/blendserve_cuda.h"
    body = header.read_text().split(f"struct {name} {{")[1].split("};")[0]
    declared = [line.split(";")[0].split() for line in body.splitlines() if ";" in line]
    sizes = {"int64_t": 8, "int32_t": 4, "float": 4, "blendserve_flashinfer_plan": ctypes.sizeof(FlashInferPlan)}
    expected = [(words[-1], sizes.get(words[-2], 8)) for words in declared]
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == expected
