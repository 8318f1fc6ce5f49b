"""R4's own types, as profiles name them: a canonical URL → a type, and which types are which.

Source:  FHIR R4 4.0.1 StructureDefinitions; datatypes.html#quantity (SimpleQuantity, MoneyQuantity)
"""

from typing import Any, Final

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import PRIMITIVES, shape

CORE: Final = "http://hl7.org/fhir/StructureDefinition/"
"""Canonical URLs of R4's own types begin with it."""

_NO_DOMAIN: Final = frozenset({"Binary", "Bundle", "Parameters"})

BUILT_IN: Final[dict[str, dict[str, Any]]] = {
    CORE + name: {
        "resourceType": "StructureDefinition",
        "url": CORE + name,
        "name": name,
        "type": "Quantity",
        "kind": "complex-type",
        "derivation": "constraint",
        "baseDefinition": CORE + "Quantity",
        "differential": {"element": elements},
    }
    for name, elements in (
        ("SimpleQuantity", [{"path": "Quantity.comparator", "max": "0"}]),
        ("MoneyQuantity", []),
    )
}
"""The two profiles that R4's own elements name; what MoneyQuantity asks is in its datatype's invariants."""


def core_type(canonical: str) -> str | None:
    """The R4 type that a canonical URL is of, whatever its version; None where it is of none."""
    url = canonical.partition("|")[0]
    name = url.removeprefix(CORE)
    return name if url.startswith(CORE) and is_type(name) else None


def is_type(name: str) -> bool:
    """A type of R4, abstract or not; no backbone."""
    try:
        shape(name)
    except KeyError:
        return False
    return "." not in name


def is_a(kind: str, type_name: str) -> bool:
    """Whether an element or resource of this kind is of the type. A code is no string here: elements name types.

    The two interfaces of R5 are in contexts of extensions that R4 shares with it.
    """
    match type_name:
        case "Resource":
            return kind in TYPE_IDS or kind == "Resource"
        case "DomainResource":
            return kind in TYPE_IDS and kind not in _NO_DOMAIN
        case "CanonicalResource" | "MetadataResource":
            return kind in TYPE_IDS and {"url", "status"} <= shape(kind).members.keys()
        case "BackboneElement":
            return "." in kind
        case "Element":
            return kind not in TYPE_IDS
        case _:
            return kind == type_name


def is_primitive(kind: str) -> bool:
    return kind in PRIMITIVES
