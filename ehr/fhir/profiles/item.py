"""The elements of a resource as rules see them: objects and primitives alike, each with its kind and place.

Out:     Item; items of an element by its name in a profile ("value[x]" finds valueQuantity)
Keeps:   a primitive that has only an extension is there, as in FHIRPath
Source:  FHIR R4 json.html#primitive
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Member, shape

Tree = Mapping[str, Any]

ELSEWHERE: Final[Tree] = {}
"""The value of what a reference names and is not at hand."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A resource on the way: what #id, %resource and relative references mean inside it.

    root      the resource that contains it, itself where none does
    bundle    the Bundle it is an entry of, where it is
    full_url  of that entry
    """

    resource: Tree
    root: Tree
    root_path: str
    bundle: Tree | None = None
    bundle_path: str = ""
    full_url: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One value. note: the id and extensions beside a primitive."""

    kind: str
    value: Any
    path: str
    scope: Scope
    note: Tree | None = None

    @property
    def is_object(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_elsewhere(self) -> bool:
        return self.value is ELSEWHERE


def root_item(tree: Tree) -> Item:
    kind = str(tree["resourceType"])
    return Item(kind, tree, kind, Scope(tree, tree, kind))


def nested(tree: Tree, above: Item) -> Item:
    """A resource that was found from an item, seen from its place: what it contains is its own."""
    scope = above.scope
    if tree is scope.resource:
        return Item(str(tree.get("resourceType")), tree, above.path, scope)
    inner = Scope(tree, tree, above.path, scope.bundle, scope.bundle_path, scope.full_url)
    return Item(str(tree.get("resourceType")), tree, above.path, inner)


def items_of(item: Item, name: str) -> list[Item]:
    """The values of one element of an item, in order."""
    node = item.value if item.is_object else item.note
    if not node:
        return []
    found: list[Item] = []
    kind = item.kind if item.is_object else "Element"
    form = shape(kind)
    member = form.members.get(name)
    if member is not None and not member.element.is_choice:
        _collect(item, node, name, member, found)
    else:
        for json_name, member in form.members.items():
            if member.element.path_name == name:
                _collect(item, node, json_name, member, found)
    return found


def resources_in(item: Item) -> Iterator[Item]:
    """The resources inside a resource: contained, entries of a Bundle, parts of Parameters."""
    for below in items_of(item, "contained"):
        yield from (below, *resources_in(below))
    holders = _HOLDERS.get(item.kind, ())
    for holder in holders:
        for part in items_of(item, holder):
            yield from resources_in(part)
    for name in _HELD if "." in item.kind else ():
        for below in items_of(item, name):
            if below.is_object and below.kind in TYPE_IDS:
                yield from (below, *resources_in(below))


_HOLDERS: Final = {
    "Bundle": ("entry",),
    "Bundle.entry": ("response",),
    "Parameters": ("parameter",),
    "Parameters.parameter": ("part",),
}
_HELD: Final = ("resource", "outcome")


def _collect(item: Item, node: Tree, name: str, member: Member, found: list[Item]) -> None:
    value = node.get(name)
    note = node.get(f"_{name}") if member.is_primitive else None
    if value is None and note is None:
        return
    path = f"{item.path}.{member.element.name}"
    if member.element.max is not None:
        found.append(_item(item, member, value, note, path))
        return
    values, notes = _listed(value), _listed(note)
    for position in range(max(len(values), len(notes))):
        one = values[position] if position < len(values) else None
        beside = notes[position] if position < len(notes) else None
        if one is not None or beside:
            found.append(_item(item, member, one, beside, f"{path}[{position}]"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _item(above: Item, member: Member, value: Any, note: Any, path: str) -> Item:
    if member.type != "Resource" or not isinstance(value, Mapping):
        return Item(member.type, value, path, above.scope, note if isinstance(note, Mapping) else None)
    kind = value.get("resourceType")
    scope = above.scope
    if member.element.name == "contained":
        inner = Scope(value, scope.root, scope.root_path, scope.bundle, scope.bundle_path, scope.full_url)
    elif scope.resource.get("resourceType") == "Bundle":
        bundle_path = above.path.rsplit(".entry", 1)[0]
        inner = Scope(value, value, path, scope.resource, bundle_path, above.value.get("fullUrl"))
    else:
        inner = Scope(value, value, path)
    return Item(str(kind) if kind in TYPE_IDS else "Resource", value, path, inner)
