"""$subsumes of a CodeSystem: how one code of it stands to another.

In:      two codes, or Codings; the code system: the id of one here, or its url and version
Out:     tree of Parameters: outcome is equivalent, subsumes, subsumed-by or not-subsumed
Errors:  Malformed  two codes of one system are not named
         NotFound   the code system, or one of the codes, is not known here
         Invalid    a code system that does not tell (hierarchyMeaning grouped-by)
Source:  FHIR R4 codesystem-operation-subsumes.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr.access.policy import Caller
from ehr.errors import Invalid, Malformed, NotFound
from ehr.operations.definition import Named, definition
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes
from ehr.store.record import Record
from terminology.filters import ancestors
from terminology.resources import CodeSystem


@dataclass(frozen=True, slots=True)
class Asked:
    """a, b: Codings, which need no system where the address or system names it."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    id: str | None = None
    system: str | None = None
    version: str | None = None


async def subsumes(record: Record, caller: Caller, asked: Asked) -> dict[str, Any]:
    async with record.reading(caller) as uow:
        stored = (await definition(uow, "CodeSystem", Named(asked.id)) or {}) if asked.id is not None else {}
        system = _one(asked, "system", asked.system, stored.get("url"))
        version = _one(asked, "version", asked.version, stored.get("version"))
        if system is None:
            raise Malformed("the code system is named by system, by the Codings, or by the address", at="system")
        found = await Codes().system(Canonicals.within(uow), system, version)
    if found is None:
        raise NotFound(f"the code system {system[:200]} is not known here; load it or create it", at="system")
    outcome = _outcome(found, _code(found, asked.a, "codeA"), _code(found, asked.b, "codeB"))
    return {"resourceType": "Parameters", "parameter": [{"name": "outcome", "valueCode": outcome}]}


def _one(asked: Asked, name: str, *others: str | None) -> str | None:
    """What the Codings, the parameter and the address say, who must not contradict one another."""
    said = {asked.a.get(name), asked.b.get(name), *others} - {None}
    if len(said) > 1:
        raise Malformed(f"the two codes are of one {name}, and more than one is named", at=name)
    return next(iter(said), None)


def _code(system: CodeSystem, coding: Mapping[str, Any], at: str) -> str:
    code = coding.get("code")
    if not isinstance(code, str):
        raise Malformed("two codes are compared: codeA and codeB, or codingA and codingB", at=at)
    found = system.find(code)
    if found is None:
        raise NotFound(f"the code system has no code {code[:64]}", at=at)
    return found.code


def _outcome(system: CodeSystem, a: str, b: str) -> str:
    if a == b:
        return "equivalent"
    if system.meaning == "grouped-by":
        text = f"the codes of {system.url[:200]} are grouped (hierarchyMeaning), which tells of none what it subsumes"
        raise Invalid(text, at="system")
    if not system.subsumes:
        return "not-subsumed"
    if a in ancestors(b, system.concepts):
        return "subsumes"
    return "subsumed-by" if b in ancestors(a, system.concepts) else "not-subsumed"
