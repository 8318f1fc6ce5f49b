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
_ahead: list[int] = []
os.register_at_fork(after_in_child=_ahead.clear)


def new_id() -> str:
    """A fresh UUIDv7 in its 36-character form, usable as a FHIR id."""
    try:
        random = _ahead.pop()
    except IndexError:
        random, *more = _drawn()
        _ahead.extend(more)
    text = f"{(time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | random:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _drawn() -> list[int]:
    """The random parts of ids to come, with version and variant."""
    drawn = os.urandom(_AHEAD * _RANDOM_BYTES)
    parts = [drawn[at : at + _RANDOM_BYTES] for at in range(0, len(drawn), _RANDOM_BYTES)]
    return [int.from_bytes(part) & ~_FIXED | _VERSION_7 for part in parts]


_FIXED: Final = 0xF << 76 | 0x3 << 62
_VERSION_7: Final = 0x7 << 76 | 0x2 << 62
