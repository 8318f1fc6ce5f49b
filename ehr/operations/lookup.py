"""$lookup of a CodeSystem: what is known of one code.

In:      system and code, or a Coding; a version, a language for the display
Out:     tree of Parameters: name and version of the system, display, designations, properties
Errors:  Malformed without a code and a system; NotFound for a code that no code system here has
Source:  FHIR R4 codesystem-operation-lookup.html
"""

from collections.abc import Mapping
from typing import Any

from ehr.access.policy import Caller
from ehr.errors import Malformed, NotFound
from ehr.operations.expand import displays
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes
from ehr.store.record import Record
from terminology.codesystem import DEFAULT, Looked, looked
from terminology.codesystem import lookup as looked_up


async def lookup(
    record: Record, caller: Caller, coding: Mapping[str, Any], *, version: str | None, language: str | None
) -> dict[str, Any]:
    system, code = coding.get("system"), coding.get("code")
    if not isinstance(system, str) or not isinstance(code, str):
        raise Malformed("a code is looked up by its code and its system", at="code" if system else "system")
    async with record.reading(caller) as uow:
        found = await looked_up(uow.connection, system, code, language=language or DEFAULT, version=version)
        if found is None:
            stored = await Codes().code_system(Canonicals.within(uow), f"{system}|{version}" if version else system)
            found = None if stored is None else looked(stored, code, language=language or DEFAULT)
        shown = await displays(uow, [(system, code)], language or DEFAULT)
    display = found.display if found is not None and language is None else shown.get((system, code))
    if found is None and (version is not None or display is None):
        raise NotFound(f"no code system here has the code {code[:64]} of {system[:200]}", at="code")
    parts: list[dict[str, Any]] = [{"name": "name", "valueString": (found.title if found else "") or system}]
    if found is not None and found.version:
        parts.append({"name": "version", "valueString": found.version})
    parts.append({"name": "display", "valueString": display or code})
    return {"resourceType": "Parameters", "parameter": [*parts, *(_designations(found) + _properties(found))]}


def _designations(found: Looked | None) -> list[dict[str, Any]]:
    return [
        _part("designation", {"name": "language", "valueCode": language}, {"name": "value", "valueString": text})
        for language, text in sorted((found.designations if found else {}).items())
        if text
    ]


def _properties(found: Looked | None) -> list[dict[str, Any]]:
    if found is None:
        return []
    said: dict[str, dict[str, Any]] = {"parent": {"valueCode": found.parent}} if found.parent else {}
    for name, value in sorted(found.properties.items()):
        if isinstance(value, bool):
            said[name] = {"valueBoolean": value}
        elif isinstance(value, int):
            said[name] = {"valueInteger": value}
        elif isinstance(value, float):
            said[name] = {"valueDecimal": value}
        elif value:
            said[name] = {"valueString": str(value)}
    return [
        _part("property", {"name": "code", "valueCode": name}, {"name": "value", **one}) for name, one in said.items()
    ]


def _part(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "part": list(parts)}
