"""$expand and $validate-code of value sets, $lookup, $subsumes and $translate of codes over HTTP.

Access:  whoever may read or search the type; a ValueSet of this record is read as any resource is
Source:  FHIR R4 terminology-service.html
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ehr.api.answer import Answer, tree_answer
from ehr.api.exchange import Exchange
from ehr.errors import Forbidden, Malformed
from ehr.fhir.operation_arguments import Arguments
from ehr.operations import subsumes as subsumption
from ehr.operations import translate as translating
from ehr.operations.definition import Named, canonical
from ehr.operations.expand import Part, expand
from ehr.operations.lookup import lookup
from ehr.operations.validate_code import Asked, validate_code, validate_code_of_system
from ehr.store.codes import Versions
from terminology.translate import Wanted


async def expand_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """ValueSet/$expand, ValueSet/[id]/$expand."""
    _require(exchange)
    designations = arguments.many("designation")
    part = Part(
        filter=arguments.one("filter"),
        offset=arguments.one("offset") or 0,
        count=arguments.one("count"),
        language=arguments.one("displayLanguage"),
        designations=designations if designations or arguments.one("includeDesignations") else None,
        active_only=arguments.one("activeOnly") or False,
        for_ui=not arguments.one("excludeNotForUI"),
        nested=arguments.one("excludeNested") is False,
        with_definition=arguments.one("includeDefinition") or False,
        without=arguments.many("exclude-system"),
        versions=Versions(*(_versions(arguments, f"{one}system-version") for one in ("", "force-", "check-"))),
        told=list(_told(arguments)),
    )
    return tree_answer(await expand(exchange.record, exchange.caller, _value_set(exchange, arguments), part))


def _versions(arguments: Arguments, name: str) -> dict[str, str]:
    found = {}
    for one in arguments.many(name):
        system, _, version = one.partition("|")
        if not (system and version):
            raise Malformed(f"{name} is the url of a code system, a bar, and its version", at=name)
        found[system] = version
    return found


_PARAMETERS: Final = {
    "filter": "valueString",
    "offset": "valueInteger",
    "count": "valueInteger",
    "includeDesignations": "valueBoolean",
    "designation": "valueString",
    "includeDefinition": "valueBoolean",
    "activeOnly": "valueBoolean",
    "excludeNested": "valueBoolean",
    "excludeNotForUI": "valueBoolean",
    "displayLanguage": "valueCode",
    "exclude-system": "valueUri",
    "system-version": "valueUri",
    "check-system-version": "valueUri",
    "force-system-version": "valueUri",
}
"""What an expansion depends on, and says of itself (valueset.html, expansion.parameter)."""


def _told(arguments: Arguments) -> Iterator[dict[str, Any]]:
    for name, value_x in _PARAMETERS.items():
        yield from ({"name": name, value_x: value} for value in arguments.many(name))


async def validate_code_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """ValueSet/$validate-code, ValueSet/[id]/$validate-code."""
    _require(exchange)
    asked = _asked(arguments, arguments.one("systemVersion"))
    found = await validate_code(exchange.record, exchange.caller, _value_set(exchange, arguments), asked)
    return tree_answer(found)


async def validate_code_of_system_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """CodeSystem/$validate-code, CodeSystem/[id]/$validate-code."""
    _require(exchange)
    named = Named(exchange.path.get("id"), arguments.one("url"), arguments.one("codeSystem"))
    asked = _asked(arguments, arguments.one("version"))
    return tree_answer(await validate_code_of_system(exchange.record, exchange.caller, named, asked))


def _asked(arguments: Arguments, version: str | None) -> Asked:
    language, abstract = arguments.one("displayLanguage"), arguments.one("abstract") or False
    return Asked(_codings(arguments), language, abstract=abstract, version=version)


async def lookup_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """CodeSystem/$lookup."""
    _require(exchange)
    codings = _codings(arguments)
    found = await lookup(
        exchange.record,
        exchange.caller,
        codings[0] if codings else {},
        version=arguments.one("version") or (codings[0].get("version") if codings else None),
        language=arguments.one("displayLanguage"),
        properties=arguments.many("property"),
    )
    return tree_answer(found)


async def subsumes_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """CodeSystem/$subsumes, CodeSystem/[id]/$subsumes."""
    _require(exchange)
    a, b = (_compared(arguments, one) for one in "AB")
    named = (exchange.path.get("id"), _uri(arguments.one("system"), "system"), arguments.one("version"))
    return tree_answer(await subsumption.subsumes(exchange.record, exchange.caller, subsumption.Asked(a, b, *named)))


async def translate_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """ConceptMap/$translate, ConceptMap/[id]/$translate."""
    _require(exchange)
    url = canonical(arguments.one("url"), arguments.one("conceptMapVersion"), "conceptMapVersion")
    target = _uri(arguments.one("targetsystem"), "targetsystem")
    asked = translating.Asked(
        Named(exchange.path.get("id"), url, arguments.one("conceptMap")),
        _codings(arguments),
        Wanted(target, arguments.one("reverse") or False, frozenset(_known(arguments))),
        *(_at_home(exchange, arguments.one(name)) for name in ("source", "target")),
    )
    return tree_answer(await translating.translate(exchange.record, exchange.caller, asked))


def _known(arguments: Arguments) -> Iterator[tuple[str, str | None, str]]:
    """A text is the code of no system."""
    for one in arguments.many("dependency"):
        element, concept = one.one("element"), one.one("concept") or {}
        if element is None:
            raise Malformed("a dependency names its element", at="dependency")
        yield from (
            (element, coding.get("system"), coding["code"]) for coding in concept.get("coding", ()) if "code" in coding
        )
        if "text" in concept:
            yield element, None, concept["text"]


def _at_home(exchange: Exchange, location: str | None) -> str | None:
    """A ValueSet of this server, by its address, is one by its id."""
    return None if location is None else location.removeprefix(f"{exchange.base}/")


def _compared(arguments: Arguments, which: str) -> Mapping[str, Any]:
    code, coding = arguments.one(f"code{which}"), arguments.one(f"coding{which}")
    if code is not None and coding is not None:
        raise Malformed(f"code{which} and coding{which} exclude one another", at=f"coding{which}")
    if coding is not None:
        _uri(coding.get("system"), f"coding{which}")
    return coding if coding is not None else {} if code is None else {"code": code}


def _require(exchange: Exchange) -> None:
    if not any(exchange.caller.grants.allow(exchange.type_name, action) for action in ("r", "s")):
        raise Forbidden(f"the token grants nothing on {exchange.type_name}")


def _value_set(exchange: Exchange, arguments: Arguments) -> Named:
    url = canonical(arguments.one("url"), arguments.one("valueSetVersion"), "valueSetVersion")
    return Named(exchange.path.get("id"), url, arguments.one("valueSet"))


def _codings(arguments: Arguments) -> list[Mapping[str, Any]]:
    """code with system and display, or coding, or codeableConcept: one of them. A text alone is one without a code."""
    given = {name: one for name in ("code", "coding", "codeableConcept") if (one := arguments.one(name)) is not None}
    if len(given) > 1:
        raise Malformed("code, coding and codeableConcept exclude one another", at=list(given)[1])
    if "code" not in given and (arguments.one("system") or arguments.one("display")):
        raise Malformed("system and display are given with code", at="code")
    if "code" in given:
        beside = {name: one for name in ("system", "version", "display") if (one := arguments.one(name)) is not None}
        _uri(beside.get("system"), "system")
        return [{"code": given["code"], **beside}]
    concept = given.get("codeableConcept")
    codings = [given["coding"]] if "coding" in given else [] if concept is None else concept.get("coding") or [concept]
    for one in codings:
        _uri(one.get("system"), next(iter(given)))
    return codings


def _uri(system: str | None, at: str) -> str | None:
    """What names a code system: a uri, and not a canonical."""
    if system is not None and "|" in system:
        raise Malformed("a code system is named by its uri; its version goes into version, not behind a bar", at=at)
    return system
