"""Server-assigned ids: UUIDv7, so that ids of one moment lie together in every index (RFC 9562 5.7)."""

import os
import re
import time
from typing import Final

FHIR_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""R4 datatypes, id: 1 to 64 of [A-Za-z0-9-.]."""


def new_id() -> str:
    """A fresh UUIDv7 in its 36-character form, usable as a FHIR id."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
