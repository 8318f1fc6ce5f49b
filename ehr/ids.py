"""Server-assigned ids: UUIDv7, so that ids of one moment lie together in every index (RFC 9562 5.7).

Why:     every answer has one: randomness is asked of the system for hundreds at once, and never shared with a fork
"""

import os
import re
import time
from typing import Final

FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""R4 datatypes, id: 1 to 64 of [A-Za-z0-9-.]."""


_RANDOM_BYTES: Final = 10
_AHEAD: Final = 256
_VERSION_7: Final = 0x7 << 76 | 0x2 << 62
_FIXED: Final = 0xF << 76 | 0x3 << 62
"""The bits of version and variant."""

_tails: list[str] = []
os.register_at_fork(after_in_child=_tails.clear)


def new_id() -> str:
    """A fresh UUIDv7 in its 36-character form, usable as a FHIR id."""
    try:
        tail = _tails.pop()
    except IndexError:
        tail, *more = _drawn()
        _tails.extend(more)
    milliseconds = f"{time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-{tail}"


def _drawn() -> list[str]:
    """What follows the time in ids to come: version, variant and randomness."""
    drawn = os.urandom(_AHEAD * _RANDOM_BYTES)
    parts = [int.from_bytes(drawn[at : at + _RANDOM_BYTES]) for at in range(0, len(drawn), _RANDOM_BYTES)]
    texts = [f"{part & ~_FIXED | _VERSION_7:020x}" for part in parts]
    return [f"{text[:4]}-{text[4:8]}-{text[8:]}" for text in texts]
