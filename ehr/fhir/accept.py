"""A resource tree → True when it is certainly valid, quickly.

In:      tree of a resource (numbers as int, float or Decimal)
Out:     True: ehr.fhir.explain would find nothing. False: it may find something, and has to be asked
Why:     nearly all that arrives is valid. The shapes of ehr.fhir.structure are turned into msgspec types, which
         read a tree in C; whatever is rare or subtle (bundles, annotated arrays) is not in them, so that such trees
         take the slow way. One rule, two readers: a test changes valid resources at random and demands that none
         of the accepted ones is explained as wrong.
Cost:    4 to 40 µs for a resource of Synthea; the types of a resource type are built when it first arrives (5 ms)
Source:  as ehr.fhir.explain
"""

import threading
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ehr.fhir.accepted_checks import GUARDED
from ehr.fhir.accepted_types import Inner, accepted_type, checked
from ehr.fhir.invariants import hold
from ehr.fhir.r4 import TYPE_IDS

_SLOW_TYPES: Final = frozenset({"Bundle", "Parameters"})
"""They hold whole resources; the slow reader hands those back to this one."""

_CONTAINED_META: Final = frozenset({"versionId", "lastUpdated", "security"})


class _Local(threading.local):
    """References to contained resources met while one tree is read: id, and the types the element allows."""

    def __init__(self) -> None:
        self.met: list[tuple[str, frozenset[str] | None]] = []


_local: Final = _Local()


def accepts(tree: Mapping[str, Any]) -> bool:
    """Whether the resource is certainly valid."""
    type_name = tree.get("resourceType")
    if type_name.__class__ is not str or type_name not in TYPE_IDS or type_name in _SLOW_TYPES:
        return False
    if "contained" in tree:
        return _accepts_containing(tree, str(type_name))
    try:
        msgspec.convert(tree, accepted_type(str(type_name), None), dec_hook=checked)
    except msgspec.ValidationError:
        return False
    return _keeps_invariants(tree, str(type_name))


def _keeps_invariants(tree: Mapping[str, Any], type_name: str) -> bool:
    """Those of the resource as a whole; those of its parts were asked while it was read."""
    return type_name in GUARDED or hold(type_name, tree)


def _accepts_containing(tree: Mapping[str, Any], type_name: str) -> bool:
    _local.met = []
    try:
        msgspec.convert(tree, accepted_type(type_name, _meet), dec_hook=_checked_inner)
    except msgspec.ValidationError:
        return False
    types = {inner["id"]: inner["resourceType"] for inner in tree["contained"]}
    if len(types) != len(tree["contained"]) or types.keys() - {id_ for id_, _ in _local.met}:
        return False
    if not all(id_ in types and (targets is None or types[id_] in targets) for id_, targets in _local.met):
        return False
    return _keeps_invariants(tree, type_name)


def _meet(id_: str, targets: frozenset[str] | None) -> None:
    _local.met.append((id_, targets))


def _checked_inner(wanted: Any, value: Any) -> Any:
    return _inner(value) if wanted is Inner else checked(wanted, value)


def _inner(value: Any) -> Inner:
    type_name = value.get("resourceType") if isinstance(value, dict) else None
    if type_name not in TYPE_IDS or type_name in _SLOW_TYPES or "contained" in value or "id" not in value:
        raise ValueError
    meta = value.get("meta")
    if isinstance(meta, dict) and not _CONTAINED_META.isdisjoint(meta):
        raise ValueError
    msgspec.convert(value, accepted_type(str(type_name), _meet), dec_hook=_checked_inner)
    if not _keeps_invariants(value, str(type_name)):
        raise ValueError
    return Inner()
