"""$meta, $meta-add, $meta-delete: the profiles, tags and security labels of a resource.

In:      type and id; the Meta whose profiles, tags and labels are added or taken away, the rest of it is not used
Out:     meta as it then stands
Version: what is added or taken away is a new version, for it is a new content with a new entity tag; nothing to add
         or to take away is none (docs/adr/0013)
Race:    the sets are computed from the version that is locked, so parallel additions all stand
Errors:  NotFound, Gone, Forbidden, PreconditionFailed of a read and an update; Invalid for the tag SUBSETTED
Source:  FHIR R4 resource-operation-meta.html, -meta-add, -meta-delete (identity: system and code; the URL)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ehr.access.policy import Caller
from ehr.errors import Invalid
from ehr.fhir import codec
from ehr.fhir.elements import is_subsetted
from ehr.fhir.patch import Patch
from ehr.store.preconditions import Versions
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork

_SETS: Final = ("profile", "security", "tag")


async def meta(record: Record, caller: Caller, type_name: str, id: str, version: int | None = None) -> dict[str, Any]:
    """Of the current version, or of an earlier one."""
    async with record.reading(caller) as uow:
        read = uow.resources.read(type_name, id) if version is None else uow.resources.vread(type_name, id, version)
        return _meta_of((await read).body)


async def meta_add(
    uow: UnitOfWork, type_name: str, id: str, given: Mapping[str, Any], *, if_match: Versions | None = None
) -> dict[str, Any]:
    """What is not there already is added."""
    if any(map(is_subsetted, given.get("tag", ()))):
        raise Invalid("SUBSETTED says that a resource is a part of itself; none is stored as one", at="meta.tag")
    return await _changed(uow, type_name, id, _Added(given), if_match)


async def meta_delete(
    uow: UnitOfWork, type_name: str, id: str, given: Mapping[str, Any], *, if_match: Versions | None = None
) -> dict[str, Any]:
    """What is there is taken away."""
    return await _changed(uow, type_name, id, _Taken(given), if_match)


async def _changed(uow: UnitOfWork, type_name: str, id: str, patch: Patch, if_match: Versions | None) -> dict[str, Any]:
    (written,) = await uow.resources.apply([Write("U", type_name, id, if_match=if_match, patch=patch)])
    assert written.version is not None, "a patch makes or keeps a version"
    return _meta_of(written.version.body)


def _meta_of(body: bytes | None) -> dict[str, Any]:
    assert body is not None, "a current version has a body"
    found: dict[str, Any] = codec.loads(body)["meta"]
    return found


@dataclass(frozen=True, slots=True)
class _Added:
    """The patch that adds what is not there."""

    given: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        meta = dict(tree["meta"])
        for name in _SETS:
            known = {_identity(one): one for one in meta.get(name, ())}
            new = {_identity(one): one for one in self.given.get(name, ()) if _identity(one) not in known}
            meta |= {name: [*meta.get(name, ()), *new.values()]} if new else {}
        return {**tree, "meta": meta}

    def rewritten(self, _: Mapping[str, str]) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class _Taken:
    """The patch that takes away what is there."""

    given: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        meta = dict(tree["meta"])
        for name in _SETS:
            taken = set(map(_identity, self.given.get(name, ())))
            kept = [one for one in meta.pop(name, ()) if _identity(one) not in taken]
            meta |= {name: kept} if kept else {}
        return {**tree, "meta": meta}

    def rewritten(self, _: Mapping[str, str]) -> Self:
        return self


def _identity(member: Any) -> tuple[Any, ...]:
    return (member.get("system"), member.get("code")) if isinstance(member, dict) else (member,)
