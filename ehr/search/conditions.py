"""One parameter of a query → one Condition: criteria, chains and _has, each checked against what is served.

Errors:  NotSupported, BadSearch, TooMuch with the parameter's name in `at`
Source:  FHIR R4 3.1.1.4 parameter types, 3.1.1.4.13 chaining, 3.1.1.4.14 reverse chaining, 3.1.1.5 modifiers
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ehr import limits
from ehr.errors import BadSearch, NotSupported, TooMuch, UnservedModifier
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter, Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.nearest import did_you_mean
from ehr.search import values, words
from ehr.search.served import modifiers, served
from ehr.search.terms import (
    AllOf,
    Chain,
    Condition,
    Criterion,
    DateValue,
    Has,
    Ids,
    Missing,
    Not,
    ReferenceValue,
    TokenValue,
    Updated,
    Value,
    WordValue,
)

INTERNAL: Final = frozenset({"same", "ends"})
"""Modifiers that only _filter has: the whole of a string, or its end."""
NAME_SHOWN_MAX: Final = 64
"""Characters of an unknown name that an error repeats."""


Link = Callable[[str], Condition]
"""What is asked of a resource of a type at the other end of a reference."""


def condition(
    table: Parameters,
    type_name: str,
    name: str,
    value: str,
    *,
    at: str | None = None,
    depth: int = 0,
    internal: bool = False,
) -> Condition:
    """name=value asked of a type. at: the whole parameter as the client wrote it; internal: _filter says it, which
    has modifiers and a prefix that no parameter has."""
    at = at or name
    if depth > limits.search_chain_max:
        raise TooMuch(f"more than {limits.search_chain_max} links in a chain", at=at)
    if name.startswith("_has:"):
        return _has(table, type_name, name, value, at=at, depth=depth)
    head, dot, rest = name.partition(".")
    code, _, modifier = head.partition(":")
    parameter = known(table, type_name, code, at)
    if dot:

        def link(of: str) -> Condition:
            return condition(table, of, rest, value, at=at, depth=depth + 1)

        return chain(type_name, parameter, modifier, at, link)
    if modifier == "missing":
        return _missing(type_name, parameter, value, at)
    if code == "_id":
        return _ids(modifier, value, at)
    if code == "_lastUpdated":
        _refuse_modifier(parameter, modifier, at)
        read = [values.date(text, at) for text in values.alternatives(value, at)]
        return Updated(tuple(one for one in read if isinstance(one, DateValue)))
    return _criterion(type_name, parameter, modifier, value, at, internal=internal)


def known(table: Parameters, type_name: str, code: str, at: str) -> Parameter:
    """The parameter of a type, when it is served."""
    parameter = table.of(type_name).get(code)
    if parameter is None:
        if waiting := table.waiting.get((type_name, code)) or table.waiting.get((parameters.COMMON, code)):
            raise NotSupported(f"the search parameter {code} of {type_name} {waiting}", at=at)
        of = "resources of every type" if type_name == parameters.COMMON else type_name
        meant = did_you_mean(code, (one.code for one in table.of(type_name).values() if served(one)))
        raise NotSupported(f"{of} has no search parameter {code[:NAME_SHOWN_MAX]}{meant}", at=at)
    if not served(parameter):
        raise NotSupported(f"the search parameter {code} is not served", at=at)
    return parameter


def _criterion(
    type_name: str, parameter: Parameter, modifier: str, value: str, at: str, *, internal: bool
) -> Condition:
    target = modifier if parameter.kind == "reference" and modifier in TYPE_IDS else None
    if target is not None:
        if not parameter.may_target(target):
            raise BadSearch(f"{parameter.code} does not point to {target}", at=at)
        modifier = ""
    if not (internal and modifier in INTERNAL):
        _refuse_modifier(parameter, modifier, at)
    texts = values.alternatives(value, at)
    if parameter.code == "url" and parameter.kind == "uri" and not modifier and "|" in value:
        return words.any_of([_of_version(type_name, parameter, text, at) for text in texts])
    if own := _WORDS.get(parameter.paths[0].type if parameter.paths else ""):

        def leaf(word: str) -> Condition:
            return Criterion(type_name, parameter, modifier, (WordValue(word),))

        return words.any_of([own(values.unescape(text), at, leaf) for text in texts])
    found: tuple[Value, ...]
    if reader := _OF_MODIFIER.get(modifier if parameter.kind == "token" or modifier == "identifier" else ""):
        found = tuple(reader(text, at) for text in texts)
    elif internal and parameter.kind == "date":
        found = tuple(values.date(text, at, internal=True) for text in texts)
    else:
        found = tuple(values.read(parameter, text, at, target=target) for text in texts)
    if parameter.kind == "reference" and modifier == "below":
        _refuse_version(found, at)
    if parameter.kind == "composite" and not parameter.is_one_element:
        _refuse_in_composite(found, at)
    return Criterion(type_name, parameter, modifier, found)


def _of_version(type_name: str, parameter: Parameter, text: str, at: str) -> Condition:
    """url|version names what has this url and this version (R4 3.1.1.4.9)."""
    url, *version = values.split(text, "|")
    found: list[Condition] = [Criterion(type_name, parameter, "", (values.uri(url, at),))]
    if version:
        known_version = parameters.of(type_name).get("version")
        if known_version is None or len(version) > 1:
            raise NotSupported(f"{type_name} is not searched by url|version", at=at)
        asked = TokenValue(None, values.unescape(version[0]))
        found.append(Criterion(type_name, known_version, "", (asked,)))
    return words.all_of(found)


def _identifier(text: str, at: str) -> TokenValue:
    found = values.token(text, at)
    if found.code is None:
        raise NotSupported("system| without a value is not served for :identifier", at=at)
    return found


def _concept(text: str, at: str) -> TokenValue:
    """For :above and :below."""
    found = values.token(text, at)
    if not found.system or found.code is None:
        raise BadSearch("a place in a hierarchy is system|code", at=at)
    return found


_OF_MODIFIER: Final[Mapping[str, Callable[[str, str], Value]]] = MappingProxyType(
    {
        "identifier": _identifier,
        "of-type": values.of_type,
        "text": values.string,
        "in": values.uri,
        "not-in": values.uri,
        "above": _concept,
        "below": _concept,
    }
)
"""How values are read under a modifier that changes what they are."""
_WORDS: Final[Mapping[str, Callable[[str, str, words.Leaf], Condition]]] = MappingProxyType(
    {"Narrative": words.expression, "Phonetic": words.sounding}
)


def _refuse_modifier(parameter: Parameter, modifier: str, at: str) -> None:
    if modifier and modifier not in modifiers(parameter):
        known_ = ", ".join(f":{one}" for one in sorted({*modifiers(parameter), "missing"}))
        text = f"the modifier :{modifier[:NAME_SHOWN_MAX]} is not served for {parameter.code}; these are: {known_}"
        raise UnservedModifier(text, at=at)


def _refuse_version(found: tuple[Value, ...], at: str) -> None:
    """A canonical url without its version means all versions; which begin so is in no index."""
    if any(isinstance(value, ReferenceValue) and "|" in (value.uri or "") for value in found):
        raise NotSupported("a part of a version is not served; give the version whole, without :below, or none", at=at)


def _refuse_in_composite(found: tuple[object, ...], at: str) -> None:
    for value in found:
        for part in getattr(value, "parts", ()):
            if isinstance(part, TokenValue) and part.code is None:
                raise NotSupported("system| without a code is not served inside a composite", at=at)


def _missing(type_name: str, parameter: Parameter, value: str, at: str) -> Condition:
    if value not in {"true", "false"}:
        raise BadSearch(":missing is true or false", at=at)
    if parameter.kind != "composite":
        return Missing(type_name, parameter, value == "true")
    there = _composite_there(type_name, parameter)
    return Not(there) if value == "true" else there


def _composite_there(type_name: str, parameter: Parameter) -> Condition:
    """Every component has a value in one element."""
    known_ = parameters.of(parameter.type_name)
    if parameter.union:
        return words.any_of([_composite_there(type_name, known_[code]) for code in parameter.union])
    if not parameter.is_one_element:
        return Missing(type_name, parameter, missing=False)
    return AllOf(tuple(Missing(type_name, known_[part.code], missing=False) for part in parameter.components))


def _ids(modifier: str, value: str, at: str) -> Condition:
    if modifier not in {"", "not"}:
        raise UnservedModifier(f"the modifier :{modifier[:NAME_SHOWN_MAX]} is not served for _id", at=at)
    found = [values.unescape(text.removeprefix("|")) for text in values.alternatives(value, at)]
    named = Ids(tuple(one for one in found if FHIR_ID.fullmatch(one)))
    return Not(named) if modifier else named


def chain(type_name: str, parameter: Parameter, target: str, at: str, link: Link) -> Chain:
    """Every type the reference may point to that knows the next parameter; one must."""
    _followed(parameter, at)
    if target and (target not in TYPE_IDS or not parameter.may_target(target)):
        raise BadSearch(f"{parameter.code} does not point to that type", at=at)
    if target:
        return Chain(type_name, parameter, ((target, link(target)),), True)
    links, refused = [], None
    for name in sorted(TYPE_IDS if "*" in parameter.targets else parameter.targets):
        try:
            links.append((name, link(name)))
        except NotSupported as error:
            refused = error
    if not links:
        raise refused or NotSupported(f"{parameter.code} points to no type we know", at=at)
    return Chain(type_name, parameter, tuple(links), len(links) == 1)


def _followed(parameter: Parameter, at: str) -> None:
    """Refuse what holds no reference, or canonical urls only: the index cannot tell what these name."""
    if parameter.kind != "reference" or not any(path.type in {"Reference", "Resource"} for path in parameter.paths):
        raise NotSupported(f"{parameter.code} is not a reference to follow", at=at)


def _has(table: Parameters, type_name: str, name: str, value: str, *, at: str, depth: int) -> Has:
    parts = name.split(":", 3)
    if len(parts) != 4 or parts[1] not in TYPE_IDS:
        raise BadSearch("reverse chaining is _has:Type:reference:parameter", at=at)
    _, source, code, inner = parts

    def link(of: str) -> Condition:
        return condition(table, of, inner, value, at=at, depth=depth + 1)

    return has(table, type_name, (source, code), at, link)


def has(table: Parameters, type_name: str, named: tuple[str, str], at: str, link: Link) -> Has:
    """A resource of the source type refers to this one by a parameter, and the link holds for it."""
    source, code = named
    if source not in TYPE_IDS:
        raise NotSupported("there is no such resource type", at=at)
    parameter = known(table, source, code, at)
    if parameter.kind != "reference" or (type_name != parameters.COMMON and not parameter.may_target(type_name)):
        raise NotSupported(f"{source}.{code[:NAME_SHOWN_MAX]} does not point to {type_name}", at=at)
    _followed(parameter, at)
    return Has(type_name, source, parameter, link(source))
