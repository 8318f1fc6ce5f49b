"""One resource tree → every problem of it, each with its FHIRPath: `Observation.value` for valueQuantity,
`Patient.birthDate.extension[0]` for what JSON keeps in _birthDate.

In:      tree of a resource
Out:     list[Issue]; empty when the resource is valid R4
Keeps:   goes on after a problem, so that a sender sees all of them at once; says nothing of values, which may
         name a patient
Source:  FHIR R4 2.6.2 JSON, 2.24 datatypes, 2.3 references, 4.1.5 binding strengths, 2.1.0.6 contained resources
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ehr.errors import Issue
from ehr.fhir import references
from ehr.fhir.accept import accepts
from ehr.fhir.invariants import broken
from ehr.fhir.primitives import problem
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Element, Member, code_list, codes, shape
from ehr.nearest import did_you_mean

_NAME_CHARACTERS_MAX: Final = 64
_CODES_SHOWN_MAX: Final = 12
_BARE: Final = "ele-1: must have a value or children beside its id"


def explain(tree: Mapping[str, Any]) -> list[Issue]:
    type_name = tree.get("resourceType")
    if not isinstance(type_name, str) or type_name not in TYPE_IDS:
        return [
            Issue("structure", "resourceType must be a resource type of FHIR R4 that is not abstract", "resourceType")
        ]
    walk = _Walk(tree)
    walk.resource(tree, type_name, type_name)
    return walk.issues


class _Walk:
    """The walk through one resource and what is contained in it; entries of a Bundle get walks of their own."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.issues: list[Issue] = []
        self.contained: dict[str, str] = _contained_types(root)

    def say(self, code: str, text: str, at: str) -> None:
        self.issues.append(Issue(code, text, at))

    def resource(self, tree: Mapping[str, Any], type_name: str, path: str, *, is_contained: bool = False) -> None:
        self.object(tree, type_name, path, is_resource=True)
        if is_contained:
            self._contained_rules(tree, path)
        elif "contained" in tree:
            self._unreferenced(tree, path)
            self._same_ids(tree, path)

    def object(self, node: Mapping[str, Any], kind: str, path: str, *, is_resource: bool = False) -> None:
        """An object of a resource type, datatype or backbone."""
        before = len(self.issues)
        if not node:
            self.say("structure", "must not be an empty object; leave the element out instead", path)
            return
        if node.keys() == {"id"} and kind != "Element":
            self.say("invariant", _BARE, path)
        form = shape(kind)
        for name, value in node.items():
            if name == "resourceType" and is_resource:
                continue
            member = form.members.get(name)
            if member is not None:
                self.member(member, value, f"{path}.{member.element.name}", node.get(f"_{name}"))
            elif name.startswith("_") and (base := form.members.get(name[1:])) is not None and base.is_annotated:
                self._annotations(base, value, f"{path}.{base.element.name}", node.get(name[1:]))
            else:
                text = f"unknown element of {kind}{did_you_mean(name, form.members)}"
                self.say("structure", text, f"{path}.{name[:_NAME_CHARACTERS_MAX]}")
        self._presence(node, kind, path)
        if len(self.issues) == before:
            for invariant, below in broken(kind, node):
                self.say("invariant", f"{invariant.key}: {invariant.text}", path + below)

    def _presence(self, node: Mapping[str, Any], kind: str, path: str) -> None:
        form = shape(kind)
        for element in form.required:
            if not any(name in node or f"_{name}" in node for name in element.json_names):
                self.say("required", f"{element.path_name} is required", f"{path}.{element.name}")
        for element in form.choices:
            present = [name for name in element.json_names if name in node or f"_{name}" in node]
            if len(present) > 1:
                self.say("structure", f"only one of {', '.join(present)} may be there", f"{path}.{element.name}")

    def member(self, member: Member, value: Any, path: str, annotations: Any) -> None:
        if value is None:
            self.say("structure", "null is not a value; leave the element out instead", path)
        elif member.element.max is None:
            self._many(member, value, path, annotations)
        elif isinstance(value, list):
            self.say("structure", "must be one value, not an array", path)
        else:
            self.one(member, value, path)

    def _many(self, member: Member, value: Any, path: str, annotations: Any) -> None:
        if not isinstance(value, list):
            self.say("structure", "must be an array", path)
        elif not value:
            self.say("structure", "must not be an empty array; leave the element out instead", path)
        else:
            for position, item in enumerate(value):
                at = f"{path}[{position}]"
                if item is not None:
                    self.one(member, item, at)
                elif not _item(annotations, position):
                    self.say("structure", "null is not a value", at)

    def one(self, member: Member, value: Any, path: str) -> None:
        if member.is_primitive:
            found = problem(member.type, value)
            if found:
                self.say("value", found, path)
            elif member.element.value_set and member.type in ("code", "uri", "string"):
                self._code(member.element.value_set, value, path)
        elif not isinstance(value, Mapping):
            self.say("structure", f"must be a JSON object ({member.type})", path)
        elif member.type == "Resource":
            self._inner(member.element, value, path)
        else:
            self.object(value, member.type, path)
            self._special(member, value, path)

    def _special(self, member: Member, value: Mapping[str, Any], path: str) -> None:
        if member.type in ("Reference", "canonical"):
            self._reference(member.element, value, path)
        elif member.element.value_set and member.type == "CodeableConcept":
            self._concept(member.element.value_set, value, path)
        elif member.element.value_set and member.type == "Coding":
            self._coding(member.element.value_set, value, path)

    def _inner(self, element: Element, value: Mapping[str, Any], path: str) -> None:
        type_name = value.get("resourceType")
        if not isinstance(type_name, str) or type_name not in TYPE_IDS:
            self.say("structure", "must be a resource type of FHIR R4 that is not abstract", f"{path}.resourceType")
        elif element.name == "contained":
            self.resource(value, type_name, path, is_contained=True)
        elif not accepts(value):
            walk = _Walk(value)
            walk.resource(value, type_name, path)
            self.issues += walk.issues

    def _annotations(self, member: Member, value: Any, path: str, beside: Any) -> None:
        """_birthDate and the like: id and extensions of a primitive."""
        if member.element.max is not None:
            self._annotation(value, path, beside)
        elif not isinstance(value, list) or not value:
            self.say("structure", "must be an array that is not empty", path)
        else:
            if isinstance(beside, list) and len(beside) != len(value):
                self.say("structure", "must have as many items as the array it belongs to, null where nothing", path)
            for position, item in enumerate(value):
                if item is not None:
                    self._annotation(item, f"{path}[{position}]", _item(beside, position))
                elif not isinstance(beside, list):
                    self.say("structure", "null is not a value", f"{path}[{position}]")

    def _annotation(self, value: Any, path: str, beside: Any) -> None:
        if isinstance(value, Mapping):
            self.object(value, "Element", path)
            if value.keys() == {"id"} and beside is None:
                self.say("invariant", _BARE, path)
        else:
            self.say("structure", "must be a JSON object with id or extension", path)

    def _code(self, value_set: str, value: Any, path: str) -> None:
        listed = code_list(value_set)
        if listed is not None and value not in listed:
            self.say("code-invalid", f"must be {_one_of(listed, value_set)}", path)

    def _coding(self, value_set: str, coding: Mapping[str, Any], path: str) -> None:
        if not _is_bound(value_set, coding):
            self.say("code-invalid", f"must be {_one_of(code_list(value_set) or (), value_set)}", path)

    def _concept(self, value_set: str, concept: Mapping[str, Any], path: str) -> None:
        found = [coding for coding in _mappings(concept.get("coding")) if _is_bound(value_set, coding)]
        if codes(value_set) is not None and not found:
            self.say("code-invalid", f"one coding must be {_one_of(code_list(value_set) or (), value_set)}", path)

    def _reference(self, element: Element, value: Mapping[str, Any], path: str) -> None:
        text = value.get("reference")
        named = value.get("type")
        if isinstance(named, str) and element.targets and named in TYPE_IDS and named not in element.targets:
            self.say("value", f"must refer to {_list(element.targets)}", f"{path}.type")
        if not isinstance(text, str) or not text:
            return
        found = references.parse(text)
        target = found.type
        if found.kind == "contained":
            target = self.contained.get(found.id or "")
            if target is None and found.id:
                self.say("invariant", "ref-1: no contained resource has this id", f"{path}.reference")
        elif found.kind == "other" and ":" not in text:
            self.say("value", "must be Type/id, a URL, urn:uuid:…, or #id of a contained resource", f"{path}.reference")
        if target and element.targets and target not in element.targets:
            self.say("value", f"must refer to {_list(element.targets)}", f"{path}.reference")

    def _contained_rules(self, tree: Mapping[str, Any], path: str) -> None:
        meta = tree.get("meta")
        if "contained" in tree:
            self.say("invariant", "dom-2: a contained resource contains no resources", f"{path}.contained")
        if isinstance(meta, Mapping) and ("versionId" in meta or "lastUpdated" in meta):
            self.say("invariant", "dom-4: a contained resource has no version of its own", f"{path}.meta")
        if isinstance(meta, Mapping) and "security" in meta:
            self.say("invariant", "dom-5: a contained resource has no security label", f"{path}.meta.security")
        if "id" not in tree:
            self.say("invariant", "dom-3: a contained resource has an id that something refers to", f"{path}.id")

    def _unreferenced(self, tree: Mapping[str, Any], path: str) -> None:
        """dom-3: referred to from somewhere in the resource, or itself refers to the resource that contains it."""
        texts = _local_references(tree)
        for position, inner in enumerate(_mappings(tree.get("contained"))):
            if (
                isinstance(inner.get("id"), str)
                and f"#{inner['id']}" not in texts
                and "#" not in _local_references(inner)
            ):
                self.say(
                    "invariant", "dom-3: nothing refers to this contained resource", f"{path}.contained[{position}]"
                )

    def _same_ids(self, tree: Mapping[str, Any], path: str) -> None:
        """What "#a" means is said once (references.html#contained: ids unique within the resource)."""
        seen: set[str] = set()
        for position, inner in enumerate(_mappings(tree.get("contained"))):
            if isinstance(id_ := inner.get("id"), str):
                if id_ in seen:
                    self.say("value", "another contained resource has this id", f"{path}.contained[{position}].id")
                seen.add(id_)


def _contained_types(tree: Mapping[str, Any]) -> dict[str, str]:
    """Id → type; a type that does not exist is told of where it stands, not at each reference."""
    return {
        inner["id"]: type_name if (type_name := str(inner.get("resourceType"))) in TYPE_IDS else ""
        for inner in _mappings(tree.get("contained"))
        if isinstance(inner.get("id"), str)
    }


def _local_references(node: Any) -> set[str]:
    """Every text of the tree that begins with #: of references, canonicals and uris."""
    match node:
        case str() if node.startswith("#"):
            return {node}
        case dict():
            return {text for value in node.values() for text in _local_references(value)}
        case list():
            return {text for value in node for text in _local_references(value)}
        case _:
            return set()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _item(values: Any, position: int) -> Any:
    return values[position] if isinstance(values, list) and position < len(values) else None


def _is_bound(value_set: str, coding: Mapping[str, Any]) -> bool:
    systems = codes(value_set)
    return systems is None or str(coding.get("code")) in systems.get(str(coding.get("system")), ())


def _one_of(listed: Sequence[str], value_set: str) -> str:
    if 0 < len(listed) <= _CODES_SHOWN_MAX:
        return f"one of {', '.join(listed)}"
    return f"a code of {value_set}"


def _list(targets: frozenset[str]) -> str:
    return ", ".join(sorted(targets))
