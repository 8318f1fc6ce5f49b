"""The elements an invariant names → how to read them from the JSON itself.

In:      syntax tree of a path, type of the object it begins at
Out:     Path; None for what is not a plain path of members
Source:  FHIRPath 2.0.0 5.1 path selection; FHIR R4 json.html (`_name` beside a primitive, the types of a choice)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ehr.fhir.fhirpath.items import Field, fields
from ehr.fhir.fhirpath.parser import Node
from ehr.fhir.structure import PRIMITIVES

Tree = Mapping[str, Any]
Answer = Any
"""True, False, None for empty, or UNKNOWN (ehr.fhir.invariant_shortcuts)."""

Shortcut = Callable[[Tree, Tree], Answer]
"""Asked of an object and the resource around it."""
Values = Callable[[Tree, Tree], list[Any]]
"""What an element holds; None for a primitive that has extensions only."""


class Path(NamedTuple):
    """Where values are read, and the one type they have; None where they may have several."""

    values: Values
    type: str | None
    exists: Shortcut


def path_of(node: Node, kind: str) -> Path | None:
    """a.b.c, or %resource.a where the object is a part of a resource: members only, each of one type but the last."""
    names: list[str] = []
    while node.kind == ".":
        if node.parts[1].kind != "name":
            return None
        names.insert(0, node.parts[1].text)
        node = node.parts[0]
    if node.kind == "%" and node.text == "resource":
        return _of_resource(members(names, kind.partition(".")[0]))
    if node.kind != "name":
        return None
    names.insert(0, node.text)
    return members(names[1:] if names[0] == kind else names, kind)


def _of_resource(path: Path | None) -> Path | None:
    """Read from the resource around the object."""
    if path is None:
        return None
    values, exists = path.values, path.exists
    return Path(lambda _tree, root: values(root, root), path.type, lambda _tree, root: exists(root, root))


def members(names: Sequence[str], kind: str) -> Path | None:
    """The elements at these names below an object of this type."""
    found: Path | None = None
    for name in names:
        variants = (fields(kind) or {}).get(name)
        if variants is None or (found is not None and (found.type is None or found.type in PRIMITIVES)):
            return None
        step = _step(variants)
        found = step if found is None else _after(found, step)
        kind = found.type or ""
    return found


def _step(variants: tuple[Field, ...]) -> Path:
    if len(variants) > 1:
        names = frozenset(name for field in variants for name in (field.name, f"_{field.name}"))
        return Path(
            lambda tree, _root: [tree.get(name) for name in {found.removeprefix("_") for found in names & tree.keys()}],
            None,
            lambda tree, _root: not names.isdisjoint(tree),
        )
    name, extra = variants[0].name, f"_{variants[0].name}"
    read = _list if variants[0].is_list else _one
    type_name = None if variants[0].type == "Resource" else variants[0].type
    return Path(read(name, extra), type_name, lambda tree, _root: name in tree or extra in tree)


def _one(name: str, extra: str) -> Values:
    def one(tree: Tree, _root: Tree) -> list[Any]:
        value = tree.get(name)
        return [value] if value is not None or extra in tree else []

    return one


def _list(name: str, extra: str) -> Values:
    def many(tree: Tree, _root: Tree) -> list[Any]:
        values: list[Any] = tree.get(name, [])
        return [None] * len(tree[extra]) if not values and extra in tree else values

    return many


def _after(first: Path, then: Path) -> Path:
    def values(tree: Tree, root: Tree) -> list[Any]:
        return [value for below in first.values(tree, root) for value in then.values(below, root)]

    def exists(tree: Tree, root: Tree) -> Answer:
        return any(then.exists(below, root) for below in first.values(tree, root))

    return Path(values, then.type, exists)
