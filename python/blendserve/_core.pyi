"""The C++ core of blendserve."""

__version__: str
