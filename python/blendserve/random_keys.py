"""Which random numbers a request draws: a function of what the request is, never of when or beside whom it runs."""

from __future__ import annotations

import hashlib

__all__ = ["stream_key"]

_PERSON = b"blendserve.v1"  # separates these hashes from any other use of BLAKE2b; a new version means new answers
_SEED_TAG = b"\x00"
_NAME_TAG = b"\x01"


def stream_key(*, request_seed: int | None, job_seed: int, name: str, choice: int) -> int:
    """The 64-bit key of one choice's stream of random numbers; output position p takes draw p of it.

    A request with its own seed depends on that seed and the choice only; any other on the job's seed, its name (the
    custom_id) and the choice. The key is the first 8 bytes, little-endian, of BLAKE2b (digest size 8, personalised
    "blendserve.v1") over

        0x00, seed, choice              with request_seed
        0x01, job_seed, choice, name    without

    where integers are 8 bytes little-endian modulo 2**64 and the name is UTF-8 (lone surrogates, which JSON allows,
    as their three bytes). Part of what a job's answers depend on: it never changes within a version of the hash.
    """
    if request_seed is not None:
        content = _SEED_TAG + _eight_bytes(request_seed) + _eight_bytes(choice)
    else:
        content = _NAME_TAG + _eight_bytes(job_seed) + _eight_bytes(choice) + name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, person=_PERSON).digest(), "little")


def _eight_bytes(value: int) -> bytes:
    return (value % 2**64).to_bytes(8, "little")
