"""$validate-code: whether a code, or one of a concept's codings, is in a ValueSet; or is one of a CodeSystem.

In:      which value set or code system; a code with or without system, a Coding, or a CodeableConcept; what is valid
Out:     tree of Parameters: result; message where it is false, and where what is valid is no longer to be used; display
Errors:  Malformed  nothing to check is named, or a display without a code
         NotFound   no such value set or code system here
         Invalid    a value set of which what is known here does not tell
Source:  FHIR R4 valueset-operation-validate-code.html, codesystem-operation-validate-code.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ehr.access.policy import Caller
from ehr.errors import Malformed, NotFound
from ehr.index.normalize import fold
from ehr.operations.definition import Named, definition, read
from ehr.operations.value_set import contains, contents, names_in
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes, Versions, by_form
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from terminology.codesystem import Found
from terminology.resources import CodeSystem

Coding = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """Codings as they were sent. abstract: a heading will do. version: of the code system."""

    codings: Sequence[Coding]
    language: str | None = None
    abstract: bool = False
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """display: the best there is; message: why not, or what else is to be said."""

    result: bool
    message: str | None = None
    display: str | None = None


async def validate_code(record: Record, caller: Caller, named: Named, asked: Asked) -> dict[str, Any]:
    """In a ValueSet. Without a system, a code of any system of it will do."""
    _require(asked)
    named.require("valueSet")
    async with record.reading(caller) as uow:
        judged = [await _in_value_set(uow, named, asked, coding) for coding in asked.codings]
    return _told(judged)


async def validate_code_of_system(record: Record, caller: Caller, named: Named, asked: Asked) -> dict[str, Any]:
    """Of a CodeSystem."""
    _require(asked)
    async with record.reading(caller) as uow:
        system = await _sent_or_stored(uow, named)
        judged = [await _of_system(uow, system, named.url, asked, coding) for coding in asked.codings]
    return _told(judged)


def _require(asked: Asked) -> None:
    if not asked.codings:
        raise Malformed("code, coding or codeableConcept says what is to be checked", at="code")


# -- value sets ------------------------------------------------------------------------------------------------


async def _in_value_set(uow: UnitOfWork, named: Named, asked: Asked, coding: Coding) -> Judged:
    code = coding.get("code")
    if not isinstance(code, str):
        return Judged(False, f"{_named(coding)} is not in the value set")
    codes, stored = Codes(), Canonicals.within(uow)
    version = coding.get("version") or asked.version
    system = coding.get("system") or (by_form(named.url) if named.url is not None else None)
    if system:
        found = await codes.find(stored, system, code, version)
        if found is not None and found.concept is not None:
            code = found.concept.code
        names = await names_in(uow, named, system, code)
        is_in = await contains(uow, codes, named, (system, code), version)
        if is_in is None or (is_in and found is None and names is None):  # its expansion tells, or why it cannot
            versions = Versions({system: version} if version else {})
            is_in = (system, code) in (await contents(uow, codes, named, versions)).codes
    else:
        systems = [one for one, other in (await contents(uow, codes, named)).codes if other == code]
        is_in, system = bool(systems), next(iter(systems), "")
        found = await codes.find(stored, system, code, version) if is_in else None
        names = await names_in(uow, named, system, code)
    if not is_in:
        return Judged(False, f"{_named(coding)} is not in the value set")
    return _judge(coding, found, asked, names or [])


# -- code systems ----------------------------------------------------------------------------------------------


async def _sent_or_stored(uow: UnitOfWork, named: Named) -> CodeSystem | None:
    """None: it is named by its url, or by the codings."""
    if named.ways > 1:
        named.require("codeSystem")
    if named.id is None and named.tree is None:
        return None
    tree = await definition(uow, "CodeSystem", named)
    assert tree is not None, "an id that is not here is refused"
    return cast("CodeSystem", read(tree))


async def _of_system(
    uow: UnitOfWork, system: CodeSystem | None, url: str | None, asked: Asked, coding: Coding
) -> Judged:
    canonical = system.url if system is not None else url or coding.get("system")
    if canonical is None:
        raise Malformed("the code system is named by url, by the address, by the coding, or as codeSystem", at="url")
    name, _, version = canonical.partition("|")
    code, said = coding.get("code"), coding.get("system")
    if not isinstance(code, str) or said not in {None, name}:
        return Judged(False, f"{_named(coding)} is no code of {name[:200]}")
    wanted = version or coding.get("version") or asked.version
    if system is not None:
        if wanted not in {None, system.version}:
            return Judged(False, f"the code system is of version {system.version or '(none)'}, not {wanted[:64]}")
        found: Found | None = Found(system, system.find(code))
    else:
        found = await Codes().find(Canonicals.within(uow), name, code, wanted)
    if found is None:
        named = f"{name}|{wanted}" if wanted else name
        raise NotFound(f"the code system {named[:200]} is not known here; load it or create it", at="url")
    if found.concept is None:
        part = "" if found.system.is_whole else f", of which a {found.system.content} is here"
        return Judged(False, f"{_named(coding)} is no code of {name[:200]}{part}")
    return _judge(coding, found, asked, [])


# -- what is said of a code ------------------------------------------------------------------------------------


def _judge(coding: Coding, found: Found | None, asked: Asked, names: Sequence[str]) -> Judged:
    concept = None if found is None else found.concept
    if found is None or concept is None:
        known = [name for name in names if name]
    else:
        known = [found.name(asked.language), *names, concept.display, *(one.value for one in concept.designations)]
        known = [name for name in known if name]
    display = known[0] if known else None
    if "display" in coding and known and fold(coding["display"]) not in map(fold, known):
        return Judged(False, f"the display of {_named(coding)} is another one", display)
    if concept is not None and not (concept.selectable or asked.abstract):
        return Judged(False, f"{_named(coding)} is a heading, and no code to be used (abstract)", display)
    hint = (
        f"{_named(coding)} is no longer to be used (inactive)" if concept is not None and not concept.active else None
    )
    return Judged(True, hint, display)


def _named(coding: Coding) -> str:
    if not coding.get("code"):
        return "a text without a code"
    system, code = coding.get("system"), str(coding.get("code", ""))[:64]
    return f"{str(system)[:200]}|{code}" if system else code


def _told(judged: Sequence[Judged]) -> dict[str, Any]:
    """One that is valid is enough; else what is wrong with the first that is known at all."""
    best = next((one for one in judged if one.result), None) or next((one for one in judged if one.display), judged[0])
    parts: list[dict[str, Any]] = [{"name": "result", "valueBoolean": best.result}]
    parts += [{"name": "message", "valueString": best.message}] if best.message else []
    parts += [{"name": "display", "valueString": best.display}] if best.display else []
    return {"resourceType": "Parameters", "parameter": parts}
