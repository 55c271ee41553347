from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

__version__: Final[str]

class _SupportsDLPack(Protocol):
    def __dlpack__(self) -> Any: ...

def paged_attention(
    q: _SupportsDLPack,
    kv: _SupportsDLPack,
    out: _SupportsDLPack,
    qo_indptr: npt.NDArray[np.int32],
    kv_lens: npt.NDArray[np.int32],
    block_indptr: npt.NDArray[np.int32],
    block_table: npt.NDArray[np.int32],
    scale: float,
) -> None: ...
def kv_append(
    k: _SupportsDLPack, v: _SupportsDLPack, kv: _SupportsDLPack, slot_mapping: npt.NDArray[np.int64]
) -> None: ...
def set_num_threads(num_threads: int) -> None: ...
def num_threads() -> int: ...
def set_isa(isa: str) -> None: ...
def isa() -> Literal["scalar", "avx2"]: ...
