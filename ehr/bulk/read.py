"""The text of a line, or of one element in it → its tree, by the rules of ehr.fhir.codec, in a third of the time.

Rules:   no key twice, no U+0000, no nesting over the limit
Cost:    the codec's careful reader takes 20 µs a resource; here orjson reads and writes it again (3 µs). Text that
         comes out as it went in has no key twice, and is as canonical as bulk exports are. Where only digits or space
         differ (13.50), keys are counted in both (2 µs). The careful reader gets what could break one of its rules
"""

from typing import Any, Final

import msgspec
import orjson

from ehr import limits
from ehr.fhir import codec

_NEAR_DEPTH: Final = b"\n" + b"  " * limits.json_depth_max
"""Where orjson indents by two, this comes before members at the depth limit; a string holds no bare newline."""


def read(content: bytes) -> dict[str, Any]:
    """The tree of one resource."""
    found = quick(content)
    if found is None or found[0].__class__ is not dict or is_deep(found[0], content):
        return careful(content)
    tree: dict[str, Any] = found[0]
    return tree


def careful(content: bytes) -> dict[str, Any]:
    """The same by the codec; numbers with a fraction are Decimal."""
    return codec.loads(content, bytes_max=limits.ndjson_line_bytes_max)


def quick(content: bytes) -> tuple[Any, bool, bool] | None:
    """Any JSON value; whether its text is compact, which is without needless space and escape; and whether canonical.

    Canonical is compact, needed escapes included, and no digit too many. None where one of the rules might be broken;
    the nesting is left to ask (is_deep).
    """
    try:
        value = orjson.loads(content)
        written = orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    escapes = b"\\" in content
    if escapes and codec.SPELLED.search(content):
        return None
    if written == content:
        return value, True, True
    compact = msgspec.json.format(content, indent=-1)
    if compact.count(b'":') != written.count(b'":'):  # each ends a key: of one that came twice, the tree has one less
        return None
    return value, not escapes and compact == content, False


def is_deep(tree: Any, content: bytes) -> bool:
    """Whether an object is nested deeper than the limit."""
    if content.count(b"{") + content.count(b"[") <= limits.json_depth_max:
        return False
    return _NEAR_DEPTH in orjson.dumps(tree, option=orjson.OPT_INDENT_2)
