"""Part of a resource: _elements, and _summary. What is left out is said by the tag SUBSETTED.

In:      the stored bytes; the elements wanted, or which summary
Out:     the bytes of the part: id, meta, what changes the meaning of the rest, every mandatory element, and what was
         asked for, digits as sent
Errors:  NotSupported for an element the type has not, and for both parameters at once
Why:     An element that would be empty without what the summary leaves out stays whole: FHIR has no empty elements.
Source:  FHIR R4 search.html#elements, #summary; isSummary of the definitions; CodeSystem v3-ObservationValue
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from ehr import limits
from ehr.errors import NotSupported
from ehr.fhir import codec
from ehr.fhir.elements import SUBSETTED, is_subsetted
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Member, shape

_ALWAYS: Final = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
_WHOLE_TYPES: Final = frozenset({"Extension", "Meta", "Resource"})
"""Types of which a summary shows all or nothing."""

Branch = dict[str, "Branch"]
"""Element → what of it is wanted; an empty one is wanted whole."""


@dataclass(frozen=True, slots=True)
class Subset:
    """elements: type → what is wanted of it, "" for all types. summary: true, text or data."""

    summary: str | None = None
    elements: Mapping[str, Branch] | None = None

    def of(self, type_name: str, body: bytes, *, included: bool = False) -> bytes:
        """The part of one resource; included: found beside what was searched, so that only its own elements count."""
        wanted = None if self.elements is None else self._wanted(type_name, included=included)
        if self.elements is not None and wanted is None:
            return body
        tree = codec.loads(body, bytes_max=limits.bundle_bytes_max)
        kept = self._kept(type_name, tree, wanted)
        meta: dict[str, Any] = dict(kept.get("meta") or {})
        meta["tag"] = [*(tag for tag in meta.get("tag", ()) if not is_subsetted(tag)), SUBSETTED]
        return codec.dumps({**kept, "meta": meta})

    def _wanted(self, type_name: str, *, included: bool) -> Branch | None:
        """None: nothing was said of this type."""
        assert self.elements is not None
        own, common = self.elements.get(type_name), None if included else self.elements.get("")
        return None if own is None and common is None else {**(common or {}), **(own or {})}

    def _kept(self, type_name: str, tree: Mapping[str, Any], wanted: Branch | None) -> dict[str, Any]:
        if wanted is not None:
            return _chosen(type_name, tree, wanted)
        if self.summary == "true":
            return _summarized(type_name, tree)
        if self.summary == "data":
            return {name: value for name, value in tree.items() if name != "text"}
        return {
            name: value
            for name, value in tree.items()
            if (plain := name.removeprefix("_")) in _ALWAYS or plain == "text" or plain in _mandatory(type_name)
        }


def subset_of(type_names: Sequence[str], summary: str | None, elements: Collection[str]) -> Subset | None:
    """What the two parameters ask for together; None: the whole resource. No types: any type."""
    if elements and summary not in (None, "false", "count"):
        raise NotSupported("use _elements or _summary, not both", at="_elements")
    if elements:
        return Subset(elements=_branches(type_names, elements))
    return None if summary in (None, "false", "count") else Subset(summary)


def _branches(type_names: Sequence[str], elements: Collection[str]) -> Mapping[str, Branch]:
    found: dict[str, Branch] = {}
    for path in elements:
        head, *rest = path.split(".")
        owner, parts = (head, rest) if head in TYPE_IDS else ("", [head, *rest])
        _refuse_unknown([owner] if owner else type_names, parts)
        branch = found.setdefault(owner, {})
        for part in parts:
            branch = branch.setdefault(part, {})
    return found


def _refuse_unknown(type_names: Sequence[str], parts: Sequence[str]) -> None:
    kinds = set(type_names or TYPE_IDS)
    for part in parts:
        members = [
            member for kind in kinds for name, member in shape(kind).members.items() if _base(kind, name) == part
        ]
        members += [shape(kind).members[part] for kind in kinds if part in shape(kind).members]
        if not members and part != "resourceType":
            of = f" of {type_names[0]}" if len(type_names) == 1 else ""
            raise NotSupported(f"_elements names elements{of}, as in name or name.family", at="_elements")
        kinds = {member.type for member in members if not member.is_primitive and member.type != "Resource"}


def _chosen(kind: str, node: Mapping[str, Any], wanted: Branch) -> dict[str, Any]:
    """The elements wanted of an object, with what must be there."""
    kept: dict[str, Any] = {}
    for name, value in node.items():
        plain = name.removeprefix("_")
        branch = wanted.get(plain, wanted.get(_base(kind, plain)))
        if branch is None:
            if plain in _mandatory(kind) or (kind in TYPE_IDS and plain in _ALWAYS) or plain == "modifierExtension":
                kept[name] = value
        else:
            member = shape(kind).members.get(plain)
            kept[name] = _within(member, value, partial(_chosen, wanted=branch)) if branch else value
    return kept


def _summarized(kind: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The elements that the definitions mark as summary, at every depth, and what may say that they are not so."""
    members = shape(kind).members
    kept: dict[str, Any] = {}
    for name, value in node.items():
        member = members.get(name.removeprefix("_"))
        if member is None or member.element.is_summary or member.element.min or name == "modifierExtension":
            kept[name] = _within(member, value, _summarized)
    return kept


def _within(member: Member | None, value: Any, part: Callable[[str, Mapping[str, Any]], dict[str, Any]]) -> Any:
    """A part of each value of an element; a value of which nothing would be left stays whole."""
    if member is None or member.is_primitive or member.type in _WHOLE_TYPES:
        return value
    if isinstance(value, list):
        return [part(member.type, one) or one for one in value]
    return part(member.type, value) or value


@cache
def _mandatory(type_name: str) -> frozenset[str]:
    """JSON names of the elements every object of the type must have, in each of their types."""
    return frozenset(name for element in shape(type_name).required for name in element.json_names)


@cache
def _base(type_name: str, name: str) -> str:
    """valueQuantity → value: the element a JSON name belongs to."""
    member = shape(type_name).members.get(name)
    return member.element.name if member else name
