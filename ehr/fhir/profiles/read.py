"""A StructureDefinition → the rules it adds to R4.

In:      tree of a StructureDefinition of a resource or datatype; base: the profile its baseDefinition names
Out:     Profile, its rules a tree that has only what R4 does not say already
Errors:  Unusable   a logical model, another FHIR version's element, a snapshot that is not there and cannot be made
Why:     a snapshot, where there is one, is what its author publishes and stands alone; without one the rules of the
         base are taken and those of the differential laid over them, which is the same walk that makes a snapshot
Source:  FHIR R4 structuredefinition.html, elementdefinition.html#path and #id, profiling.html
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

from ehr.fhir.profiles.core import core_type, is_type
from ehr.fhir.profiles.element import lay, places
from ehr.fhir.profiles.rule import Context, Profile, Rule, Unusable
from ehr.fhir.profiles.trim import trimmed

Tree = Mapping[str, Any]

_VERSION: Final = "4.0"


def base_of(tree: Tree) -> str | None:
    """The canonical URL of the profile that has to be compiled first; None where R4's own type is the base."""
    base = tree.get("baseDefinition")
    if _elements(tree, "snapshot") or not isinstance(base, str) or core_type(base):
        return None
    return base


def read(tree: Tree, base: Profile | None = None) -> Profile:
    """Compile; base must be given where base_of names one."""
    type_name = _type_of(tree)
    snapshot, differential = _elements(tree, "snapshot"), _elements(tree, "differential")
    if base is not None and base.type != type_name:
        raise Unusable(f"it is of {type_name}, and its base of {base.type}")
    root = Rule(type_name) if base is None else deepcopy(base.root)
    try:
        for place in places(snapshot or differential, type_name):
            lay(root, place)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"an element of it cannot be read: {type(error).__name__}: {error}") from error
    return Profile(
        url=str(tree.get("url")),
        version=str(tree.get("version", "")),
        type=type_name,
        root=trimmed(root, type_name),
        contexts=tuple(Context(one["type"], one["expression"]) for one in tree.get("context", [])),
        context_invariants=tuple(tree.get("contextInvariant", [])),
        is_modifier=_is_modifier(snapshot or differential, type_name),
    )


def _type_of(tree: Tree) -> str:
    type_name, version = tree.get("type"), str(tree.get("fhirVersion", _VERSION))
    if not version.startswith(_VERSION):
        raise Unusable(f"it is of FHIR {version}, and this is R4")
    if tree.get("kind") == "logical" or not isinstance(type_name, str) or not is_type(type_name):
        raise Unusable("it is no profile of an R4 resource or datatype")
    if not _elements(tree, "snapshot") and not isinstance(tree.get("baseDefinition"), str):
        raise Unusable("it has neither a snapshot nor a base")
    return type_name


def _elements(tree: Tree, view: str) -> Sequence[Tree]:
    return tree.get(view, {}).get("element", []) if isinstance(tree.get(view), Mapping) else []


def _is_modifier(elements: Sequence[Tree], type_name: str) -> bool:
    return any(one.get("path") == type_name and one.get("isModifier") is True for one in elements)
