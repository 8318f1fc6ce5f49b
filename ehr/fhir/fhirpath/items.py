"""What an expression is evaluated on and gives: values that know their type and their place.

In:      a JSON value, its type, and where it lies
Out:     Item; members of an item by the name of their FHIR element, whatever its JSON name: `value` of an Observation
         is valueQuantity, and `birthDate` also has the extensions that JSON keeps in _birthDate
Source:  FHIR R4 2.9.1 using FHIRPath with resources; 2.6.2 JSON
"""

import itertools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import PRIMITIVES, shape


class Item:
    """One value.

    value    plain JSON value: str, bool, int, Decimal or float, dict. None: a primitive that has only extensions
    type     FHIR type ("HumanName", "code", "Patient.contact"), or "System.Integer" and the like for literals and
             what was computed; None for JSON that is not FHIR
    parent   the item this one is a member of; None for the root and for what was computed
    name     JSON name in parent.value (or parent.extra, for the extensions of a primitive)
    index    position in the array, None where the member is not an array
    element  name in FHIRPath
    extra    id and extensions of a primitive: what JSON keeps under `_name`
    """

    __slots__ = ("element", "extra", "index", "name", "parent", "type", "value")

    def __init__(  # noqa: PLR0917 - made a million times: names of arguments cost a fifth
        self,
        value: Any,
        type: str | None,
        parent: "Item | None" = None,
        name: str = "",
        index: int | None = None,
        element: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.value = value
        self.type = type
        self.parent = parent
        self.name = name
        self.index = index
        self.element = element
        self.extra = extra

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type!r})"

    @property
    def path(self) -> str | None:
        """Patient.name[0].given[1]; None for what was computed."""
        if self.parent is None:
            return self.element or None
        above = self.parent.path
        if above is None:
            return None
        return f"{above}.{self.element}" if self.index is None else f"{above}.{self.element}[{self.index}]"


def root_item(tree: Any, type_name: str | None) -> Item:
    """The item a path begins at."""
    named = type_name or (tree.get("resourceType") if isinstance(tree, Mapping) else None)
    return Item(tree, named if named in TYPE_IDS or type_name else _plain_type(tree), element=named or "")


def computed(value: Any, kind: str) -> Item:
    return Item(value, f"System.{kind}")


class Field(NamedTuple):
    """One JSON name of an element."""

    element: str
    name: str
    type: str
    is_primitive: bool
    is_list: bool


@cache
def fields(type_name: str) -> Mapping[str, tuple[Field, ...]] | None:
    """Element name → its JSON names; None where the type is not one of R4."""
    by_name = fields_by_name(type_name)
    if by_name is None:
        return None
    found: dict[str, tuple[Field, ...]] = {}
    for field in by_name.values():
        found[field.element] = (*found.get(field.element, ()), field)
    return found


@cache
def fields_by_name(type_name: str) -> Mapping[str, Field] | None:
    """JSON name → what it is."""
    try:
        form = shape("Element" if type_name in PRIMITIVES else type_name)
    except KeyError:
        return None
    return {
        name: Field(member.element.name, name, member.type, member.is_primitive, member.element.max is None)
        for name, member in form.members.items()
    }


def members(item: Item, element: str) -> list[Item] | None:
    """What an element of an item holds, in order; None where its type has no such element."""
    table = fields(item.type) if item.type else None
    if table is None:
        return _plain_members(item, element)
    known = table.get(element)
    if known is None:
        return None
    node = item.extra if item.type in PRIMITIVES else item.value
    found: list[Item] = []
    if not isinstance(node, dict):
        return found
    for field in known if len(known) == 1 else _present(node, known):
        found += _field_items(item, node, field)
    return found


def _present(node: Mapping[str, Any], variants: tuple[Field, ...]) -> list[Field]:
    """Of the up to 50 variants of a choice, those that are there."""
    names = {name.removeprefix("_") for name in node}
    return [field for field in variants if field.name in names]


def children(item: Item) -> Iterator[Item]:
    """Every member of an item, in the order of the JSON."""
    table = fields_by_name(item.type) if item.type else None
    node = item.extra if item.type in PRIMITIVES else item.value
    if not isinstance(node, dict):
        return
    for name in node:
        if table is None:
            yield from _plain_members(item, name) or ()
            continue
        field = table.get(name)
        if field is None and name[:1] == "_" and name[1:] not in node:
            field = table.get(name[1:])
        if field is not None:
            yield from _field_items(item, node, field)


def _field_items(parent: Item, node: Mapping[str, Any], field: Field) -> list[Item]:
    element, name, type_name, is_primitive, _ = field
    value = node.get(name)
    extra = node.get(f"_{name}") if is_primitive else None
    if value.__class__ is not list and extra.__class__ is not list:
        if value is None and extra is None:
            return []
        return [Item(value, _type_of(value, type_name), parent, name, None, element, extra)]
    if extra is None and value is not None:
        return [
            Item(one, _type_of(one, type_name), parent, name, index, element)
            for index, one in enumerate(value)
            if one is not None
        ]
    values = value if isinstance(value, list) else []
    extras = extra if isinstance(extra, list) else []
    return [
        Item(one, type_name, parent, name, index, element, more)
        for index, (one, more) in enumerate(itertools.zip_longest(values, extras))
        if one is not None or more is not None
    ]


def _type_of(value: Any, type_name: str) -> str:
    """The type of a resource is what it says of itself."""
    if type_name != "Resource":
        return type_name
    named = value.get("resourceType") if isinstance(value, Mapping) else None
    return named if named in TYPE_IDS else type_name


def _plain_members(item: Item, name: str) -> list[Item]:
    """Members of JSON that is not FHIR, by their JSON name."""
    value = item.value.get(name) if isinstance(item.value, Mapping) else None
    if value is None:
        return []
    if isinstance(value, list):
        return [Item(one, _plain_type(one), item, name, index, name) for index, one in enumerate(value)]
    return [Item(value, _plain_type(value), item, name, None, name)]


def _plain_type(value: Any) -> str | None:
    if isinstance(value, Mapping):
        named = value.get("resourceType")
        return named if isinstance(named, str) and named in TYPE_IDS else None
    return _PLAIN.get(value.__class__)


_PLAIN: Final = {
    str: "System.String",
    bool: "System.Boolean",
    int: "System.Integer",
    float: "System.Decimal",
    Decimal: "System.Decimal",
}
