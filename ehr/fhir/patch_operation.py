"""The Parameters of a FHIRPath Patch → its operations.

Out:     Operation, each with the place in the Parameters that says it
Errors:  Malformed  not a FHIRPath Patch; names the part: Parameters.parameter[2].part
         TooMuch    more operations than a resource can need
Source:  FHIR R4 fhirpatch.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ehr import limits
from ehr.errors import Invalid, Malformed, NotSupported, TooMuch
from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import Item
from ehr.fhir.structure import PRIMITIVES

_NEEDS: Final = {
    "add": ("path", "name", "value"),
    "insert": ("path", "value", "index"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}
_KINDS: Final = {"type": "Code", "path": "String", "name": "String"}
_PLACES: Final = ("index", "source", "destination")
_LAST_NAME: Final = re.compile(r"([A-Za-z]+)(?:\[\d+\])?\s*$")


@dataclass(frozen=True, slots=True)
class Value:
    """kind: the type as value[x] says it ("Quantity", "String"), "part" for an element without a type of its own, or
    "resource"."""

    kind: str
    json: Any

    @property
    def is_primitive(self) -> bool:
        return self.kind[0].lower() + self.kind[1:] in PRIMITIVES


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; at is where the Parameters have it."""

    at: str
    type: str
    path: str
    name: str = ""
    value: Value | None = None
    index: int = 0
    source: int = 0
    destination: int = 0

    @property
    def element(self) -> str:
        """The name of the element that gets the value, as far as the path says it."""
        found = _LAST_NAME.search(self.path)
        return self.name or (found[1] if found else "")

    def refused(self, reason: str, item: Item | None = None) -> Invalid:
        return Invalid(f"{self.type}: {reason}", at=(item.path if item else None) or self.at)


def operations_of(parameters: Mapping[str, Any]) -> tuple[Operation, ...]:
    """All of them, checked for form."""
    listed = parameters.get("parameter", [])
    if parameters.get("resourceType") != "Parameters" or not isinstance(listed, list):
        text = "a FHIRPath Patch is a Parameters resource; a JSON Patch is sent as application/json-patch+json"
        raise Malformed(text, at="resourceType")
    if len(listed) > limits.patch_operations_max:
        raise TooMuch(f"a patch has at most {limits.patch_operations_max} operations", at="Parameters.parameter")
    return tuple(_operation(f"Parameters.parameter[{n}]", one) for n, one in enumerate(listed))


def _operation(at: str, parameter: Any) -> Operation:
    if not isinstance(parameter, dict) or parameter.get("name") != "operation":
        raise Malformed("every parameter of a FHIRPath Patch is an operation", at=f"{at}.name")
    parts = _parts(f"{at}.part", parameter.get("part", []))
    kind = _scalar(at, parts, "type")
    if kind not in _NEEDS:
        raise Malformed(f"type is one of {', '.join(_NEEDS)}", at=f"{at}.part")
    for needed in _NEEDS[kind]:
        if needed not in parts:
            raise Malformed(f"{kind} has a {needed}", at=f"{at}.part")
    texts = {name: _scalar(at, parts, name) for name in ("path", "name") if name in parts}
    places = {name: _scalar(at, parts, name) for name in _PLACES if name in parts}
    try:
        fhirpath.compile(texts["path"])
    except Invalid as error:
        raise Malformed(str(error), at=f"{at}.part") from error
    return Operation(at, kind, **texts, **places, value=parts.get("value"))


def _parts(at: str, listed: Any) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for part in named(at, listed):
        name = part["name"]
        if name not in ("type", "path", "name", "value", *_PLACES) or name in found:
            raise Malformed("an operation has type, path, name, value, index, source and destination, each once", at=at)
        found[name] = value_of(at, part)
    return found


def named(at: str, listed: Any) -> list[dict[str, Any]]:
    """Parts, each with its name."""
    if not isinstance(listed, list):
        raise Malformed("a list of parts is wanted", at=at)
    for part in listed:
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise Malformed("a part has a name", at=at)
    return listed


def value_of(at: str, part: Mapping[str, Any]) -> Value:
    """The one value of a part."""
    held = [name for name in part if name not in ("name", "id", "extension")]
    if any(name.startswith("_") for name in held):
        raise NotSupported("extensions of a primitive are added by an operation of their own", at=at)
    if len(held) != 1 or not (held[0].startswith("value") or held[0] in ("part", "resource")):
        raise Malformed("a part has one value", at=at)
    return Value(held[0].removeprefix("value"), part[held[0]])


def _scalar(at: str, parts: Mapping[str, Value], name: str) -> Any:
    value = parts.get(name)
    wanted = _KINDS.get(name, "Integer")
    is_one = value is not None and value.kind == wanted and isinstance(value.json, int if wanted == "Integer" else str)
    if value is None or not is_one or isinstance(value.json, bool):
        raise Malformed(f"{name} is a value{wanted}", at=f"{at}.part")
    return value.json
