"""$meta, $meta-add, $meta-delete: the profiles, tags and security labels of a resource, and those in use.

In:      type and id; a type, or none for the whole record; the Meta whose profiles, tags and labels are added or taken
         away, the rest of it is not used
Out:     meta as it then stands
Version: what is added or taken away is a new version, for it is a new content with a new entity tag; nothing to add
         or to take away is none (docs/adr/0013)
Race:    the sets are computed from the version that is locked, so parallel additions all stand
Errors:  NotFound, Gone, Forbidden, PreconditionFailed of a read and an update; Invalid for the tag SUBSETTED
Source:  FHIR R4 resource-operation-meta.html, -meta-add, -meta-delete (identity: system and code; the URL)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ehr.access.policy import Caller
from ehr.errors import Invalid
from ehr.fhir import codec
from ehr.fhir.elements import is_subsetted
from ehr.fhir.patch import Patch
from ehr.fhir.r4 import TYPE_IDS
from ehr.store import meta as metas
from ehr.store.access_sql import require
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


async def meta_in_use(record: Record, caller: Caller, type_name: str | None) -> dict[str, Any]:
    """Of all resources of a type, or of all types, that the caller may search: each once."""

    async def read(uow: UnitOfWork) -> dict[str, Any]:
        if type_name is not None:
            require(uow.access, type_name, "s")
        types = [name for name in TYPE_IDS if type_name in (None, name) and uow.access.grants.allow(name, "s")]
        found = await metas.in_use(uow, types)
        await uow.audit.execute("meta", detail={"on": type_name or "system"})
        return found

    return await record.run(caller, read)


async def meta_add(
    uow: UnitOfWork, type_name: str, id: str, given: Mapping[str, Any], *, if_match: Versions | None = None
) -> dict[str, Any]:
    """What is not there already is added."""
    if any(map(is_subsetted, given.get("tag", ()))):
        raise Invalid("SUBSETTED says that a resource is a part of itself; none is stored as one", at="meta.tag")
    return await _changed(uow, type_name, id, _Sets(given, _with), if_match)


async def meta_delete(
    uow: UnitOfWork, type_name: str, id: str, given: Mapping[str, Any], *, if_match: Versions | None = None
) -> dict[str, Any]:
    """What is there is taken away."""
    return await _changed(uow, type_name, id, _Sets(given, _without), if_match)


async def _changed(uow: UnitOfWork, type_name: str, id: str, patch: Patch, if_match: Versions | None) -> dict[str, Any]:
    (written,) = await uow.resources.apply([Write("U", type_name, id, if_match=if_match, patch=patch)])
    assert written.version is not None, "a patch makes or keeps a version"
    return _meta_of(written.version.body)


def _meta_of(body: bytes | None) -> dict[str, Any]:
    assert body is not None, "a current version has a body"
    found: dict[str, Any] = codec.loads(body)["meta"]
    return found


@dataclass(frozen=True, slots=True)
class _Sets:
    """The patch of each set of meta: what is left of what is there and what is given."""

    given: Mapping[str, Any]
    left: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    content: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        meta = dict(tree["meta"])
        for name in _SETS:
            left = self.left(meta.get(name, ()), self.given.get(name, ()))
            if left:
                meta[name] = left
            else:
                meta.pop(name, None)
        return {**tree, "meta": meta}

    def rewritten(self, _: Mapping[str, str]) -> Self:
        return self


def _with(there: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    known = {_identity(one) for one in there}
    return [*there, *{_identity(one): one for one in given if _identity(one) not in known}.values()]


def _without(there: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    taken = set(map(_identity, given))
    return [one for one in there if _identity(one) not in taken]


def _identity(member: Any) -> tuple[Any, ...]:
    return (member.get("system"), member.get("code")) if isinstance(member, dict) else (member,)
