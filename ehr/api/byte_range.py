"""Range: the part of a file that a client still lacks, so that a download that broke off goes on where it did.

In:      Range and If-Range, the validators of the file as it stands, its length
Out:     the bytes that are wanted, none where the file has none of them; None: all of it
Keeps:   what cannot be read, other units and several ranges are passed over: all is sent, as RFC 9110 lets us
Source:  RFC 9110 13.1.5 (If-Range), 14.1.2 (byte ranges), 14.2 (Range)
"""

import re
from collections.abc import Mapping
from typing import Final

_ONE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE | re.ASCII)


def part_wanted(headers: Mapping[str, str], *, etag: str, modified: str, length: int) -> range | None:
    """The part, where the file is still the one of which the client has the rest."""
    asked = _ONE.fullmatch(headers.get("range", ""))
    if asked is None or headers.get("if-range", etag).strip() not in (etag, modified):
        return None
    first, last = asked.groups()
    if first:
        part = range(int(first), min(int(last) + 1, length) if last else length)
        return None if last and int(last) < int(first) else part
    return range(max(0, length - int(last)), length) if last else None
