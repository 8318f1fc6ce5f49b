"""Functions that FHIR adds, and those that ask for types, the time, or the world outside the resource.

Errors:  ExpressionError  the environment has no answer to what is asked
Source:  FHIR R4 2.9.1.5 additional functions; FHIRPath 2.0.0 sections 5.9 utility functions, 6.3 types
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ehr.clock import instant
from ehr.fhir.fhirpath.compiler import Arguments, function
from ehr.fhir.fhirpath.context import Context, Items
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item, computed, members, root_item
from ehr.fhir.fhirpath.operators import said, text_of
from ehr.fhir.fhirpath.type_names import kind_of
from ehr.fhir.narrative import narrative_problem
from ehr.fhir.structure import PRIMITIVES


@function("extension", 1)
def _extension(context: Context, items: Items, arguments: Arguments) -> Items:
    url = text_of(arguments[0].value(context), "extension()")
    found = [below for item in items for below in members(item, "extension") or ()]
    context.spend(len(found) + 1)
    return [extension for extension in found if extension.value.get("url") == url]


@function("hasValue")
def _has_value(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(len(items) == 1 and _is_value(items[0]))


def _is_value(item: Item) -> bool:
    is_primitive = item.type in PRIMITIVES or (item.type or "").startswith("System.")
    return item.value is not None and is_primitive


@function("getValue")
def _get_value(_context: Context, items: Items, _arguments: Arguments) -> Items:
    if len(items) != 1 or not _is_value(items[0]):
        return []
    kind = kind_of(items[0])
    return [computed(items[0].value, kind)] if kind else []


@function("htmlChecks")
def _html_checks(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return said(all(isinstance(item.value, str) and narrative_problem(item.value) is None for item in items))


_Asked = TypeVar("_Asked")


def _asked(found: _Asked | None, name: str) -> _Asked:
    if found is None:
        raise ExpressionError(f"FHIRPath: {name}() has nobody to ask here")
    return found


@function("resolve")
def _resolve(context: Context, items: Items, _arguments: Arguments) -> Items:
    """Of References, canonicals and uris; what is contained in the resource, or in its Bundle, needs nobody."""
    found: Items = []
    context.spend(len(items))
    for item in items:
        text = item.value.get("reference") if isinstance(item.value, dict) else item.value
        if not isinstance(text, str) or not text:
            continue
        inside = _contained(context, text) if text.startswith("#") else None
        if inside is not None:
            found.append(inside)
        elif not text.startswith("#"):
            tree = _asked(context.environment.resolve, "resolve")(text)
            found += [] if tree is None else [root_item(tree, None)]
    return found


def _contained(context: Context, text: str) -> Item | None:
    if text == "#":
        return context.root
    for item in members(context.root, "contained") or ():
        if item.value.get("id") == text[1:]:
            return item
    return None


def _answers(name: str, ask: Callable[[Context, Item, Items], bool | None]) -> None:
    """A question about each single item and one argument."""

    def answer(context: Context, items: Items, arguments: Arguments) -> Items:
        if len(items) != 1:
            return []
        return said(ask(context, items[0], arguments[0].value(context)))

    function(name, 1)(answer)


def _member_of(context: Context, item: Item, argument: Items) -> bool | None:
    value_set = text_of(argument, "memberOf()")
    if value_set is None:
        return None
    return _asked(context.environment.member_of, "memberOf")(item.value, item.type or "", value_set)


def _conforms_to(context: Context, item: Item, argument: Items) -> bool | None:
    profile = text_of(argument, "conformsTo()")
    if profile is None or not isinstance(item.value, dict):
        return None
    return _asked(context.environment.conforms_to, "conformsTo")(item.value, profile)


def _subsumes(context: Context, item: Item, argument: Items) -> bool | None:
    return _asked(context.environment.subsumes, "subsumes")(item.value, _only(argument))


def _subsumed_by(context: Context, item: Item, argument: Items) -> bool | None:
    return _asked(context.environment.subsumes, "subsumedBy")(_only(argument), item.value)


def _only(items: Items) -> Any:
    return items[0].value if len(items) == 1 else None


_answers("memberOf", _member_of)
_answers("conformsTo", _conforms_to)
_answers("subsumes", _subsumes)
_answers("subsumedBy", _subsumed_by)


@function("trace", 1, 2)
def _trace(_context: Context, items: Items, _arguments: Arguments) -> Items:
    """Gives its input. What it would write to a log may be of a patient, and is not written."""
    return items


@function("now")
def _now(context: Context, _items: Items, _arguments: Arguments) -> Items:
    return [computed(instant(context.moment()), "DateTime")]


@function("today")
def _today(context: Context, _items: Items, _arguments: Arguments) -> Items:
    return [computed(instant(context.moment())[:10], "Date")]


@function("timeOfDay")
def _time_of_day(context: Context, _items: Items, _arguments: Arguments) -> Items:
    return [computed(instant(context.moment())[11:-1], "Time")]


@function("type")
def _type(_context: Context, items: Items, _arguments: Arguments) -> Items:
    return [Item(_type_info(item.type or "Any"), None) for item in items]


def _type_info(name: str) -> dict[str, str]:
    space, _, system = name.partition(".")
    if space == "System":
        return {"namespace": "System", "name": system}
    return {"namespace": "FHIR", "name": "BackboneElement" if system else name}
