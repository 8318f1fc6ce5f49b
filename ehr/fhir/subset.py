"""Part of a resource: _elements, and _summary=text or data. What is left out is said by the tag SUBSETTED.

In:      the stored bytes; the base elements wanted, or which summary
Out:     the bytes of the part: id, meta, every mandatory element, and what was asked for, digits as sent
Errors:  NotSupported for _summary=true, whose elements we hold no table of, and for an element the type has not
Source:  FHIR R4 search.html#elements, #summary; CodeSystem v3-ObservationValue
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from ehr import limits
from ehr.errors import NotSupported
from ehr.fhir import codec
from ehr.fhir.structure import shape

SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_ALWAYS: Final = frozenset({"resourceType", "id", "meta"})
_WHOLE: Final = frozenset({None, "false", "count"})


@dataclass(frozen=True, slots=True)
class Subset:
    """elements: base elements wanted. text: only the narrative. data: all but the narrative."""

    elements: frozenset[str] = frozenset()
    text: bool = False
    data: bool = False

    def of(self, type_name: str, body: bytes) -> bytes:
        """The part of one resource."""
        tree = codec.loads(body, bytes_max=limits.bundle_bytes_max)
        kept = {name: value for name, value in tree.items() if self._keeps(type_name, name.removeprefix("_"))}
        meta: dict[str, Any] = dict(kept.get("meta") or {})
        meta["tag"] = [*(tag for tag in meta.get("tag", ()) if tag.get("code") != "SUBSETTED"), SUBSETTED]
        return codec.dumps({**kept, "meta": meta})

    def _keeps(self, type_name: str, name: str) -> bool:
        if self.data:
            return name != "text"
        if name in _ALWAYS or name in _mandatory(type_name):
            return True
        return name == "text" if self.text else _base(type_name, name) in self.elements


def subset_of(type_name: str | None, summary: str | None, elements: Collection[str]) -> Subset | None:
    """What the two parameters ask for together; None: the whole resource."""
    if summary in _WHOLE and not elements:
        return None
    asked = frozenset(one.removeprefix(f"{type_name}.") for one in elements)
    if summary == "true":
        raise NotSupported("_summary=true is not served; name the elements with _elements", at="_summary")
    if type_name is not None:
        _refuse_unknown(type_name, asked)
    if asked and summary not in _WHOLE:
        raise NotSupported("use _elements or _summary, not both", at="_elements")
    if asked:
        return Subset(asked)
    if summary in _WHOLE:
        return None
    return Subset(text=summary == "text", data=summary == "data")


def _refuse_unknown(type_name: str, asked: Collection[str]) -> None:
    known = {member.element.name for member in shape(type_name).members.values()} | _ALWAYS
    if not known.issuperset(asked):
        raise NotSupported(f"_elements names base elements of {type_name}", at="_elements")


@cache
def _mandatory(type_name: str) -> frozenset[str]:
    """JSON names of the elements every resource of the type must have, in each of their types."""
    return frozenset(name for element in shape(type_name).required for name in element.json_names)


@cache
def _base(type_name: str, name: str) -> str:
    """valueQuantity → value: the element a JSON name belongs to."""
    member = shape(type_name).members.get(name)
    return member.element.name if member else name
