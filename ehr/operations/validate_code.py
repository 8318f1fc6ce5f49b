"""$validate-code of a ValueSet: whether a code, or one of a concept's codings, is in it.

In:      which value set, as $expand takes it; a code with or without system, a Coding, or a CodeableConcept
Out:     tree of Parameters: result; message where it is false; display as it is known here
Errors:  Malformed  nothing to check is named, or a display without a code; those of $expand
Source:  FHIR R4 valueset-operation-validate-code.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ehr.access.policy import Caller
from ehr.errors import Malformed
from ehr.index.normalize import fold
from ehr.operations.definition import Named
from ehr.operations.expand import LANGUAGES, codes_of, displays
from ehr.store.record import Record
from terminology.expand import Codes


@dataclass(frozen=True, slots=True)
class Asked:
    """Codings as they were sent; without a system, one of any system of the value set will do."""

    codings: Sequence[Mapping[str, Any]]
    language: str | None = None


async def validate_code(record: Record, caller: Caller, named: Named, asked: Asked) -> dict[str, Any]:
    if not asked.codings:
        raise Malformed("code, coding or codeableConcept says what is to be checked", at="code")
    async with record.reading(caller) as uow:
        _, codes = await codes_of(uow, named)
        found = [(key, coding) for coding in asked.codings for key in _keys(codes, coding)]
        keys = [key for key, _ in found]
        others = [await displays(uow, keys, language) for language in sorted(LANGUAGES, reverse=True)]
        sources = (await displays(uow, keys, asked.language), codes, *others)
    if not found:
        return _told(result=False, message=f"{_named(asked.codings[0])} is not in the value set")
    for key, coding in found:
        names = _names(key, sources)
        if "display" not in coding or not names or fold(coding["display"]) in map(fold, names):
            return _told(result=True, display=names[0] if names else None)
    key, coding = found[0]
    return _told(
        result=False, message=f"the display of {_named(coding)} is another one", display=_names(key, sources)[0]
    )


def _keys(codes: Codes, coding: Mapping[str, Any]) -> list[tuple[str, str]]:
    code, system = coding.get("code"), coding.get("system")
    if not isinstance(code, str):
        return []
    if system:
        return [(system, code)] if (system, code) in codes else []
    return [key for key in codes if key[1] == code]


def _names(key: tuple[str, str], sources: Sequence[Codes]) -> list[str]:
    """What a code is called, the best first."""
    return [text for one in sources if (text := one.get(key))]


def _named(coding: Mapping[str, Any]) -> str:
    if not coding.get("code"):
        return "a text without a code"
    system, code = coding.get("system"), str(coding.get("code", ""))[:64]
    return f"{str(system)[:200]}|{code}" if system else code


def _told(*, result: bool, message: str | None = None, display: str | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "result", "valueBoolean": result}]
    parts += [{"name": "message", "valueString": message}] if message else []
    parts += [{"name": "display", "valueString": display}] if display else []
    return {"resourceType": "Parameters", "parameter": parts}
