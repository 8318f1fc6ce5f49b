"""The types of FHIR and of FHIRPath itself, and which of them is a kind of which.

In:      a type specifier of an expression ("Patient", "FHIR.code", "System.Integer", "Integer")
Out:     whether an item is of the type; the kind of System value a FHIR primitive stands for
Source:  FHIR R4 2.9.1 (implicit conversion of primitives), FHIRPath 2.0.0 section 6.3 types
"""

from functools import cache
from typing import Final

from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item
from ehr.fhir.fhirpath.parser import Node
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import PRIMITIVES, has_shape

SYSTEM: Final = frozenset({"Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"})

KINDS: Final = {
    **dict.fromkeys(PRIMITIVES, "String"),
    **dict.fromkeys(("integer", "unsignedInt", "positiveInt"), "Integer"),
    "boolean": "Boolean",
    "decimal": "Decimal",
    "date": "Date",
    "dateTime": "DateTime",
    "instant": "DateTime",
    "time": "Time",
    **{f"System.{kind}": kind for kind in SYSTEM},
}
"""Type → the System type its values are calculated with."""

_BASES: Final = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("canonical", "oid", "url", "uuid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
    **dict.fromkeys(("Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity"), "Quantity"),
    **dict.fromkeys(("Dosage", "ElementDefinition", "Timing"), "BackboneElement"),
    **dict.fromkeys(("Binary", "Bundle", "Parameters", "DomainResource"), "Resource"),
    "BackboneElement": "Element",
    "Resource": "",
    "Element": "",
}
_ABSTRACT: Final = frozenset({"Resource", "DomainResource", "Element", "BackboneElement"})


def base(type_name: str) -> str:
    """The type this one is a kind of; "" at the top."""
    if type_name in _BASES:
        return _BASES[type_name]
    if type_name in TYPE_IDS:
        return "DomainResource"
    return "BackboneElement" if "." in type_name else "Element"


@cache
def lineage(type_name: str) -> tuple[str, ...]:
    """The type and all it is a kind of."""
    if not type_name or type_name.startswith("System."):
        return (type_name,)
    return (type_name, *lineage(base(type_name))) if base(type_name) else (type_name,)


def kind_of(item: Item) -> str | None:
    """The System type an item's value is calculated with; None where it has none, as a HumanName has not."""
    if item.value is None or item.type is None:
        return None
    kind = KINDS.get(item.type)
    if kind is None and "Quantity" in lineage(item.type):
        return "Quantity" if item.value.get("value") is not None else None
    return kind


def specified(node: Node) -> str:
    """The type a specifier names: "Patient", "System.Integer"; "Quantity" alone means either kind of it."""
    if node.kind == "name":
        if node.text in PRIMITIVES or node.text in _ABSTRACT or has_shape(node.text):
            return node.text
        if node.text in SYSTEM:
            return f"System.{node.text}"
    elif node.kind == "." and all(part.kind == "name" for part in node.parts):
        space, name = node.parts[0].text, node.parts[1].text
        if space == "System":
            return f"System.{name}"
        if space == "FHIR" and (name in PRIMITIVES or name in _ABSTRACT or has_shape(name)):
            return name
    raise ExpressionError(f"FHIRPath: {_shown(node)} is not a type of FHIR R4 or System")


def _shown(node: Node) -> str:
    return ".".join(part.text[:40] for part in node.parts) if node.kind == "." else repr(node.text[:40])


def is_of(item: Item, wanted: str) -> bool:
    """Whether an item is of a type or of a kind of it."""
    if item.type is None:
        return False
    if wanted == "Quantity" and item.type == "System.Quantity":
        return True
    return wanted in lineage(item.type)


def is_exactly(item: Item, wanted: str) -> bool:
    """As ofType and as see it: a code is no string to them, while an Age is a Quantity."""
    return item.type == wanted if wanted in PRIMITIVES else is_of(item, wanted)
