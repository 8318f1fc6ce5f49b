"""A query → SearchRequest. Pure; nothing is ignored unless the caller asked for lenient handling.

In:      a type (None: several), decoded (name, value) pairs, a compartment where the address names one, and the FHIR
         base, by which an absolute reference may name what is here
Out:     SearchRequest
Errors:  NotSupported  a parameter, modifier or type that is not served (at: the parameter)
         BadSearch     a value that cannot mean anything
         TooMuch       over a limit of ehr.limits
Source:  FHIR R4 3.1.1 search; 3.1.1.1.2 handling of unknown parameters (Prefer: handling)
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from ehr import limits
from ehr.errors import BadSearch, NotSupported, TooMuch, UnservedModifier
from ehr.fhir import parameters
from ehr.fhir.compartments import COMPARTMENTS, PATIENT_TYPES, members
from ehr.fhir.parameters import Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.nearest import did_you_mean
from ehr.search import anyone, coded, served, values, words
from ehr.search.conditions import condition
from ehr.search.filter import filtered
from ehr.search.served import SUPPORTED
from ehr.search.terms import (
    Compartment,
    Condition,
    Criterion,
    Has,
    Ids,
    Include,
    InList,
    PerType,
    Rows,
    SearchRequest,
    SortKey,
    WordValue,
    rebuilt,
)

__all__ = ["CURSOR", "SUPPORTED", "SearchRequest", "parse", "understood"]

CURSOR: Final = "_cursor"
"""The parameter of next and previous links that says where a page begins."""

PERSON: Final = "Person"
OF_HTTP: Final = frozenset({"_format", "_pretty"})
_CONTAINED: Final[Mapping[str, Rows]] = MappingProxyType({"false": "own", "true": "contained", "both": "both"})
_ONCE: Final = frozenset({"_sort", "_count", "_total", "_summary", "_contained", "_containedType", CURSOR})
SUMMARIES: Final = frozenset({"true", "text", "data", "count", "false"})


def parse(
    type_name: str | None,
    query: Sequence[tuple[str, str]],
    *,
    strict: bool = True,
    compartment: tuple[str, str] | None = None,
    known: Parameters = parameters.R4,
    base: str | None = None,
) -> SearchRequest:
    if type_name is not None and type_name not in TYPE_IDS:
        raise NotSupported("there is no such resource type", at=type_name)
    if len(query) > limits.search_parameters_max:
        raise TooMuch(f"more than {limits.search_parameters_max} parameters")
    types = (type_name,) if type_name else ()
    request = SearchRequest(type_name, types, count=limits.page_count_default, known=known)
    if compartment is not None:
        request.compartment = _compartment(request, Compartment(*compartment))
    ordered = sorted(query, key=lambda pair: pair[0] != "_type")  # the types decide what the others may say
    for name, value in ordered:
        _take(request, name, value, strict=strict)
    if base is not None:
        request.conditions = [_at_home(one, base) for one in request.conditions]
    request.served = [pair for pair in query if pair in request.served]
    request.sort = request.sort or coded.order_of(request)
    if request.summary == "count":
        request.count = 0
    if request.count == 0 and request.total == "none":
        request.total = "accurate"
    return request


def _at_home(condition: Condition, base: str) -> Condition:
    if not isinstance(condition, Criterion):
        return rebuilt(condition, lambda inner: _at_home(inner, base))
    return replace(condition, values=tuple(values.at_home(condition.parameter, one, base) for one in condition.values))


def understood(
    type_name: str | None,
    query: Sequence[tuple[str, str]],
    *,
    strict: bool = True,
    compartment: tuple[str, str] | None = None,
    known: Parameters = parameters.R4,
    base: str | None = None,
) -> SearchRequest:
    """parse, once for a query that is asked again and again; nobody changes what comes of it."""
    characters, names_base = 0, False
    for name, value in query:  # each time, so no generator
        characters += len(name) + len(value)
        names_base = names_base or (base is not None and base in value)
    base = base if names_base else None
    if characters > limits.search_kept_characters_max:
        return parse(type_name, query, strict=strict, compartment=compartment, known=known, base=base)
    named = anyone.named(type_name, query) if compartment is None and base is None else None
    if named is not None and CURSOR not in dict(query):
        at, id = named
        of_anyone = _kept_of_anyone(type_name, anyone.without(query, at, id), at, strict, known)
        if of_anyone is not None:
            return of_anyone.of(id)
    return _kept(type_name, tuple(query), strict, compartment, known, base=base)


@lru_cache(limits.searches_kept_max)
def _kept_of_anyone(
    type_name: str | None, query: anyone.Query, at: int, strict: bool, known: Parameters
) -> anyone.Anyone | None:
    sampled = anyone.with_sample(query, at)
    return anyone.anyone(parse(type_name, sampled, strict=strict, known=known), sampled[at])


@lru_cache(limits.searches_kept_max)
def _kept(
    type_name: str | None,
    query: tuple[tuple[str, str], ...],
    strict: bool,
    compartment: tuple[str, str] | None,
    known: Parameters,
    *,
    base: str | None,
) -> SearchRequest:
    return parse(type_name, query, strict=strict, compartment=compartment, known=known, base=base)


def _take(request: SearchRequest, name: str, value: str, *, strict: bool) -> None:
    try:
        if not value.strip():
            raise BadSearch("the parameter has no value", at=name)
        head = name.partition(":")[0]
        reader = _SHAPE.get(head)
        if name in OF_HTTP:
            return
        if reader is not None:
            if head in _ONCE:
                _only_one(request, head, name)
            reader(request, name, value)
        else:
            request.conditions.append(_condition(request, name, value))
        request.served.append((name, value))
    except (NotSupported, BadSearch) as error:
        understood = isinstance(error, BadSearch) and value.strip()
        if strict or understood or name == "_query" or isinstance(error, UnservedModifier):
            raise  # without a _query it would be another search
        request.ignored += [
            type(issue)(issue.code, f"ignored: {issue.text}", name, "warning") for issue in error.issues
        ]


def _only_one(request: SearchRequest, head: str, name: str) -> None:
    """Of two answers to one question neither is the one that was meant."""
    if name != head or any(known == name for known, _ in request.served):
        raise BadSearch(f"{head} is given once, without a modifier", at=name)


def _condition(request: SearchRequest, name: str, value: str) -> Condition:
    """Of several types that _type names every one must have the parameter."""
    code = re.split("[.:]", name, maxsplit=1)[0]
    if request.of != parameters.COMMON or not request.named or code == "_has" or code in parameters.of(request.of):
        return condition(request.known, request.of, name, value)
    return PerType(tuple((of, condition(request.known, of, name, value)) for of in request.types))


def _compartment(request: SearchRequest, compartment: Compartment) -> Compartment:
    name = compartment.name
    if name != PERSON and name not in COMPARTMENTS:
        raise NotSupported("there is no such compartment", at=name)
    if not FHIR_ID.fullmatch(compartment.id):
        raise BadSearch("this is not an id", at=name)
    inside = PATIENT_TYPES if name == PERSON else frozenset(members(name)) | {name}
    if request.type_name is None:
        request.types = tuple(sorted(inside))
    elif request.type_name not in inside:
        raise NotSupported(f"{request.type_name} is not in the {name} compartment", at=request.type_name)
    return compartment


def _type(request: SearchRequest, name: str, value: str) -> None:
    wanted = values.alternatives(value, name)
    unknown = [one for one in wanted if one not in TYPE_IDS]
    if unknown or name != "_type":
        raise NotSupported("there is no such resource type", at=name)
    if request.type_name is not None:
        if wanted != [request.type_name]:
            raise BadSearch("the address names another type", at=name)
        return
    if request.types and not set(wanted) <= set(request.types):
        raise NotSupported("a type is not in this compartment", at=name)
    request.types, request.named = tuple(dict.fromkeys(wanted)), True


def _sort(request: SearchRequest, name: str, value: str) -> None:
    known = request.known.of(request.of)
    for text in values.alternatives(value, name):
        code = text.removeprefix("-")
        if waiting := request.known.waiting.get((request.of, code)):
            raise NotSupported(f"the search parameter {code} {waiting}", at=name)
        parameter = known.get(code)
        if parameter is None or not served.sortable(parameter):
            meant = did_you_mean(code, (one.code for one in known.values() if served.sortable(one)))
            raise NotSupported(f"sorting by {code[:64]} is not served{meant}", at=name)
        request.sort.append(SortKey(parameter, "desc" if text.startswith("-") else "asc"))


def _count(request: SearchRequest, name: str, value: str) -> None:
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise BadSearch("_count is a whole number, 0 or more", at=name)
    request.count = min(int(value), limits.page_count_max)


def _total(request: SearchRequest, name: str, value: str) -> None:
    if value not in {"none", "estimate", "accurate"}:
        raise BadSearch("_total is none, estimate or accurate", at=name)
    request.total = value  # type: ignore[assignment]  # one of the three


def _summary(request: SearchRequest, name: str, value: str) -> None:
    if value not in SUMMARIES:
        raise BadSearch("_summary is true, text, data, count or false", at=name)
    request.summary = value


def _elements(request: SearchRequest, name: str, value: str) -> None:
    request.elements += tuple(values.alternatives(value, name))


def _contained(request: SearchRequest, name: str, value: str) -> None:
    if value not in _CONTAINED:
        raise BadSearch("_contained is false, true or both", at=name)
    request.contained = _CONTAINED[value]


def _contained_type(request: SearchRequest, name: str, value: str) -> None:
    if value not in {"container", "contained"}:
        raise BadSearch("_containedType is container or contained", at=name)
    request.contained_type = value  # type: ignore[assignment]  # one of the two


def _query(_: SearchRequest, name: str, value: str) -> None:
    text = f"there is no named query {value[:64]} here: no OperationDefinition of kind query is served"
    raise NotSupported(text, at=name)


def _filter(request: SearchRequest, name: str, value: str) -> None:
    if name != "_filter":
        raise UnservedModifier("_filter has no modifiers", at=name)
    if request.of != parameters.COMMON or not request.named:
        request.conditions.append(filtered(request.known, request.of, value, name))
    else:
        request.conditions.append(
            PerType(tuple((of, filtered(request.known, of, value, name)) for of in request.types))
        )


def _content(request: SearchRequest, name: str, value: str) -> None:
    """Kept apart: no index answers it (ehr.search.read)."""
    if name != "_content":
        raise UnservedModifier("_content has no modifiers", at=name)
    parameter = request.known.of(parameters.COMMON)["_content"]

    def leaf(word: str) -> Condition:
        return Criterion(parameters.COMMON, parameter, "", (WordValue(word),))

    texts = [values.unescape(text) for text in values.alternatives(value, name)]
    request.content.append(words.any_of([words.expression(text, name, leaf) for text in texts]))


def _list(request: SearchRequest, name: str, value: str) -> None:
    """Members of a List: what its entries refer to."""
    if name != "_list":
        raise UnservedModifier("_list has no modifiers", at=name)
    found = [values.unescape(text).removeprefix("List/") for text in values.alternatives(value, name)]
    for one in found:
        if one.startswith("$"):
            raise NotSupported(f"the functional list {one[:64]} is not served; name a List by its id", at=name)
        if not FHIR_ID.fullmatch(one):
            raise BadSearch("a list is named by its id", at=name)
    item = parameters.of("List")["item"]
    has = Has(request.of, "List", item, Ids(tuple(found)))
    request.conditions.append(InList(tuple(found), has))


def _cursor(request: SearchRequest, _: str, value: str) -> None:
    request.cursor = value


def _include(request: SearchRequest, name: str, value: str) -> None:
    head, _, modifier = name.partition(":")
    if modifier not in {"", "iterate"}:
        raise NotSupported(f"the modifier :{modifier[:64]} is not served", at=name)
    reverse = head == "_revinclude"
    for text in values.alternatives(value, name):
        request.includes.append(_one_include(request, name, text, reverse=reverse, iterate=bool(modifier)))


def _one_include(request: SearchRequest, name: str, text: str, *, reverse: bool, iterate: bool) -> Include:
    parts = text.split(":")
    if text == "*" or (len(parts) == 2 and parts[1] == "*"):
        source = parts[0] if len(parts) == 2 else ("*" if reverse else request.type_name or "*")
        if source != "*" and source not in TYPE_IDS:
            raise NotSupported("there is no such resource type", at=name)
        return Include(reverse, source, None, None, iterate)
    if len(parts) not in {2, 3} or parts[0] not in TYPE_IDS:
        raise BadSearch("an include is Type:parameter, Type:parameter:Target or *", at=name)
    parameter = request.known.of(parts[0]).get(parts[1])
    if parameter is None or parameter.kind != "reference":
        references = (one.code for one in request.known.of(parts[0]).values() if one.kind == "reference")
        meant = did_you_mean(parts[1], references)
        raise NotSupported(f"{parts[0]} has no reference parameter {parts[1][:64]}{meant}", at=name)
    if not served.included(parameter, reverse=reverse):
        raise NotSupported(f"{parts[0]}:{parts[1]} holds no references that {name} follows", at=name)
    target = parts[2] if len(parts) == 3 and parts[2] else None
    if target is not None and (target not in TYPE_IDS or not parameter.may_target(target)):
        raise BadSearch(f"{parts[0]}:{parts[1]} does not point to that type", at=name)
    return Include(reverse, parts[0], parameter, target, iterate)


_SHAPE: Final[Mapping[str, Callable[[SearchRequest, str, str], None]]] = MappingProxyType(
    {
        "_type": _type,
        "_sort": _sort,
        "_count": _count,
        "_total": _total,
        "_summary": _summary,
        "_elements": _elements,
        "_contained": _contained,
        "_include": _include,
        "_revinclude": _include,
        "_content": _content,
        "_filter": _filter,
        "_list": _list,
        "_containedType": _contained_type,
        "_query": _query,
        CURSOR: _cursor,
    }
)
