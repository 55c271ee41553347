"""blendserve: offline batch inference that blends compute-heavy and memory-heavy requests.

`import blendserve` needs numpy only. The engine (`LLM`) is imported at first use and needs `blendserve[engine]`.
"""

from __future__ import annotations

from blendserve._core import __version__

__all__ = ["__version__"]
