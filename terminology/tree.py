"""The parts of a FHIR JSON resource that every reader of this room takes.

Errors:  Unreadable  a part is missing or of another shape, with its FHIRPath
Source:  FHIR R4 json.html
"""

from collections.abc import Iterator, Mapping
from typing import Any

from terminology.errors import Unreadable

Tree = Mapping[str, Any]


def each(tree: Tree, name: str, at: str) -> Iterator[tuple[str, Tree]]:
    """The objects of a list, each with its place."""
    listed = tree.get(name, [])
    if not isinstance(listed, list):
        raise Unreadable(f"{name} must be an array", at=f"{at}.{name}")
    for position, one in enumerate(listed):
        here = f"{at}.{name}[{position}]"
        if not isinstance(one, dict):
            raise Unreadable("must be an object", at=here)
        yield here, one


def text(tree: Tree, name: str, at: str) -> str:
    value = tree.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{name} is required", at=f"{at}.{name}")
    return value


def title(tree: Tree) -> str:
    return str(tree.get("title") or tree.get("name") or "")
