"""Where a tree holds a control character, which no string of FHIR may.

In:      a tree whose text holds the escape of one, or a backslash before what looks like it
Errors:  Malformed, at the element (FHIRPath): XML cannot write it, and PostgreSQL has no U+0000 in text (error 22021)
Source:  FHIR R4 2.24.0.1 string ("SHOULD NOT contain Unicode character points below 32, except …"), XML 1.0 Char
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.errors import Malformed
from ehr.fhir.primitives import CONTROL
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import has_shape, shape

_NAME_CHARACTERS_MAX: Final = 64


def refuse_controls(value: object, path: str = "", kind: str = "Resource") -> None:
    """kind: the type of an object at this path; "" where R4 knows none."""
    match value:
        case str() if found := CONTROL.search(value):
            raise Malformed(f"a control character (U+{ord(found[0]):04X}) in a string", at=path or None)
        case dict():
            _refuse_in_object(value, path, kind)
        case list():
            for position, item in enumerate(value):
                refuse_controls(item, f"{path}[{position}]", kind)
        case _:
            pass


def _refuse_in_object(tree: Mapping[str, Any], path: str, kind: str) -> None:
    if kind == "Resource":
        named = tree.get("resourceType")
        kind = named if isinstance(named, str) and named in TYPE_IDS else ""
        path = path or kind
    members = shape(kind).members if kind and has_shape(kind) else {}
    for name, value in tree.items():
        if CONTROL.search(name):
            refuse_controls(name, path)
        member = members.get(name) or members.get(name.removeprefix("_"))
        below = member.element.name if member is not None else name[:_NAME_CHARACTERS_MAX]
        below_kind = "" if member is None else "Element" if name.startswith("_") else member.type
        refuse_controls(value, f"{path}.{below}" if path else below, below_kind)
