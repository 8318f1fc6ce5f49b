"""$lookup of a CodeSystem: what is known of one code.

In:      system and code, or a Coding; a version, a language for the display, the properties wanted
Out:     tree of Parameters: name and version of the system, display, designations, properties
Errors:  Malformed without a code and a system; NotFound for a code that no code system here has
Keeps:   without property, all there is; parent and child with the display of the code they name
Source:  FHIR R4 codesystem-operation-lookup.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ehr.access.policy import Caller
from ehr.errors import Malformed, NotFound
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Codes
from ehr.store.record import Record
from terminology import codesystem
from terminology.codesystem import DEFAULT, Found, Known
from terminology.resources import Value

_LANGUAGE: Final = "lang."
_EVERYTHING: Final = "*"


async def lookup(
    record: Record,
    caller: Caller,
    coding: Mapping[str, Any],
    *,
    version: str | None,
    language: str | None,
    properties: Sequence[str],
) -> dict[str, Any]:
    system, code = coding.get("system"), coding.get("code")
    if not isinstance(system, str) or not isinstance(code, str):
        raise Malformed("a code is looked up by its code and its system", at="code" if system else "system")
    codes, wants = Codes(), _Wants(properties)
    async with record.reading(caller) as uow:
        stored = Canonicals.within(uow)
        each = await codes.find_each(stored, [(system, code)], {system: version} if version else {})
        found = each.get((system, code)) or await codes.find(stored, system, code, version)
        if found is None or found.concept is None:
            raise NotFound(f"no code system here has the code {code[:64]} of {system[:200]}", at="code")
        below = await _children(uow.connection, found) if wants.of("child") else []
        above = list(found.concept.parents) if wants.of("parent") else []
        names = await codes.find_each(
            stored, [(system, one) for one in (*above, *below)], {system: found.system.version}
        )
    parts: list[dict[str, Any]] = [{"name": "name", "valueString": found.system.title or system}]
    if found.system.version:
        parts.append({"name": "version", "valueString": found.system.version})
    shown = found.concept.display if language is None else found.name(language)
    parts.append({"name": "display", "valueString": shown or found.name(DEFAULT) or found.concept.code})
    parts += _designations(found, wants)
    parts += _properties(found, wants, {"parent": above, "child": below}, names, language)
    return {"resourceType": "Parameters", "parameter": parts}


class _Wants:
    """Which properties were asked for; where none was, all."""

    def __init__(self, properties: Sequence[str]) -> None:
        self._all = not properties or _EVERYTHING in properties
        self._named = frozenset(properties)
        self.languages = frozenset(one.removeprefix(_LANGUAGE) for one in properties if one.startswith(_LANGUAGE))

    def of(self, name: str) -> bool:
        return self._all or name in self._named


async def _children(connection: Any, found: Found) -> list[str]:
    """A code system that is stored comes with its concepts; a loaded one is asked."""
    assert found.concept is not None, "it was found"
    code, concepts = found.concept.code, found.system.concepts
    if concepts:
        return [one.code for one in concepts.values() if code in one.parents]
    return await codesystem.children(connection, found.system, code)


def _designations(found: Found, wants: _Wants) -> Iterator[dict[str, Any]]:
    for one in found.told():
        if wants.of("designation") or one.get("language") in wants.languages:
            parts = [{"name": "language", "valueCode": one["language"]}] if "language" in one else []
            parts += [{"name": "use", "valueCoding": one["use"]}] if "use" in one else []
            yield {"name": "designation", "part": [*parts, {"name": "value", "valueString": one["value"]}]}


def _properties(
    found: Found, wants: _Wants, related: Mapping[str, Sequence[str]], names: Known, language: str | None
) -> Iterator[dict[str, Any]]:
    concept = found.concept
    assert concept is not None, "it was found"
    if concept.definition and wants.of("definition"):
        yield _property("definition", {"valueString": concept.definition})
    for name, codes in related.items():
        for code in codes:
            known = names.get((found.system.url, code))
            yield _property(name, {"valueCode": code}, known.name(language) if known else "")
    status = {"inactive": not concept.active, "notSelectable": not concept.selectable}
    for name, is_so in status.items():
        if is_so and name not in concept.properties and wants.of(name):
            yield _property(name, {"valueBoolean": True})
    for name, values in sorted(concept.properties.items()):
        if wants.of(name) and name not in related:
            yield from (_property(name, value) for value in values)


def _property(name: str, value: Value, description: str = "") -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "code", "valueCode": name}, {"name": "value", **value}]
    parts += [{"name": "description", "valueString": description}] if description else []
    return {"name": "property", "part": parts}
