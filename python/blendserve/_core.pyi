import numpy as np
from numpy.typing import NDArray

__version__: str

def random_uniforms(keys: NDArray[np.uint64], counters: NDArray[np.int64]) -> NDArray[np.float64]: ...
