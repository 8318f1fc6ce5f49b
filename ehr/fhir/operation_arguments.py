"""What a request says to an operation → arguments, held to the definition in this one place.

In:      Operation; the query; the tree of the body: a Parameters resource, or the one resource the operation takes
Out:     Arguments: name → values; what its definition does not know is `beyond`, for the caller to refuse or to use
Errors:  Malformed        a value that is not of the parameter's type, too many values, one that is missing
         NotSupported     a parameter that the definition does not have, or that a query cannot hold
         InvalidResource  Parameters that are no valid resource
Source:  FHIR R4 operations.html#executing, parameters.html
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ehr.errors import InvalidResource, Malformed, NotSupported
from ehr.fhir.operation import TOKENS, Operation, Parameter
from ehr.fhir.primitives import problem
from ehr.fhir.structure import PRIMITIVES
from ehr.fhir.validate import validate

_BASES: Final = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("canonical", "oid", "url", "uuid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
}
"""Primitive type → the type it specializes (datatypes.html#primitive)."""

_INTEGERS: Final = frozenset({"integer", "positiveInt", "unsignedInt"})
_RESOURCES: Final = frozenset({"Resource", "DomainResource"})


@dataclass(slots=True)
class Arguments:
    """Values as FHIR JSON has them; a parameter with parts has Arguments."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    beyond: list[tuple[str, str]] = field(default_factory=list)

    def one(self, name: str) -> Any:
        """The value of a parameter that may be given once; None where it was not."""
        return next(iter(self.values.get(name, ())), None)

    def many(self, name: str) -> Sequence[Any]:
        return self.values.get(name, ())

    def as_query(self) -> list[tuple[str, str]]:
        """The simple values as a query says them, for the links of an answer that has pages."""
        return [(name, _text(value)) for name, values in self.values.items() for value in values]

    def listed(self, name: str) -> list[str]:
        """The values of a parameter each of which may hold several, between commas."""
        return [one for value in self.many(name) for one in str(value).split(",") if one]


def arguments_of(
    operation: Operation, query: Sequence[tuple[str, str]], body: Mapping[str, Any] | None = None
) -> Arguments:
    """Everything the request says, from its query and its body."""
    found = Arguments()
    known = {one.name: one for one in operation.parameters}
    for name, text in query:
        parameter = known.get(name)
        if parameter is None:
            found.beyond.append((name, text))
        elif text:
            found.values.setdefault(name, []).append(_of_text(parameter, text))
    content = operation.content
    if body is not None and content is not None and body.get("resourceType") != "Parameters":
        found.values.setdefault(content.name, []).append(body)
    elif body is not None:
        _take_parameters(found, known, body)
    _count(found, operation.parameters, "Parameters.parameter")
    return found


def _take_parameters(found: Arguments, known: Mapping[str, Parameter], body: Mapping[str, Any]) -> None:
    if body.get("resourceType") != "Parameters":
        raise Malformed("the operation takes a Parameters resource", at="resourceType")
    wrong = [issue for issue in validate(body) if issue.severity in ("error", "fatal")]
    wrong = [
        issue for issue in wrong if ".resource" not in (issue.at or "")
    ]  # what is wrong in it is for the operation
    if wrong:
        raise InvalidResource("the Parameters are not valid", issues=wrong)
    _take_parts(found, known, body.get("parameter", ()), "Parameters.parameter")


def _take_parts(
    found: Arguments, known: Mapping[str, Parameter], parts: Sequence[Mapping[str, Any]], above: str
) -> None:
    for place, part in enumerate(parts):
        at = f"{above}[{place}]"
        parameter = known.get(part["name"])
        if parameter is None:
            listed = ", ".join(known) or "none"
            raise NotSupported(f"the operation has no such parameter; it has: {listed}", at=f"{at}.name")
        found.values.setdefault(parameter.name, []).append(_of_part(parameter, part, at))


def _of_part(parameter: Parameter, part: Mapping[str, Any], at: str) -> Any:
    if parameter.parts:
        inner = Arguments()
        _take_parts(inner, {one.name: one for one in parameter.parts}, part.get("part", ()), f"{at}.part")
        _count(inner, parameter.parts, f"{at}.part")
        return inner
    if "resource" in part:
        return _resource(parameter, part["resource"], at)
    given = next(_valued(part), None)
    if given is None:
        raise Malformed(f"{parameter.name} has a value of type {parameter.type}", at=at)
    suffix, value = given
    kind = suffix if suffix in (parameter.type, *TOKENS) else suffix[0].lower() + suffix[1:]
    if not _is_a(kind, parameter.type):
        raise Malformed(f"{parameter.name} has a value of type {parameter.type}", at=f"{at}.value{suffix}")
    if kind in PRIMITIVES:
        _refuse_wrong(parameter, value, f"{at}.value{suffix}")
    return _as_concept(parameter, kind, value)


def _valued(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name.removeprefix("value"), value) for name, value in part.items() if name.startswith("value"))


def _is_a(kind: str, wanted: str) -> bool:
    """Whether a value of this type will do: of the same family, as a string is for a code."""
    return _BASES.get(kind, kind) == _BASES.get(wanted, wanted) or {kind, wanted} == TOKENS


def _as_concept(parameter: Parameter, kind: str, value: Any) -> Any:
    if kind == parameter.type or kind not in TOKENS:
        return value
    if kind == "Coding":
        return {"coding": [value]}
    return next(iter(value.get("coding", ())), {})


def _resource(parameter: Parameter, resource: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    if parameter.type not in _RESOURCES and resource.get("resourceType") != parameter.type:
        raise Malformed(f"{parameter.name} is a {parameter.type}", at=f"{at}.resource")
    return resource


def _of_text(parameter: Parameter, text: str) -> Any:
    """The value of a query's text, as JSON would have it."""
    name, kind = parameter.name, parameter.type
    if kind in TOKENS:
        system, bar, code = text.rpartition("|")
        coding = {"system": system, "code": code} if bar and system else {"code": code}
        return coding if kind == "Coding" else {"coding": [coding]}
    if kind not in PRIMITIVES:
        raise NotSupported(f"{name} is a {kind or 'group'}: send it in a Parameters resource with POST", at=name)
    text = text.replace(" ", "+") if kind in ("instant", "dateTime") else text
    value = _json_value(kind, text)
    _refuse_wrong(parameter, value, name)
    return value


def _refuse_wrong(parameter: Parameter, value: Any, at: str) -> None:
    wrong = problem(parameter.type, value)
    if wrong:
        raise Malformed(f"{parameter.name} {wrong}", at=at)


def _json_value(kind: str, text: str) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind in _INTEGERS:
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else text
    if kind == "decimal":
        try:
            return Decimal(text)
        except InvalidOperation:
            return text
    return text


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(found: Arguments, parameters: Sequence[Parameter], at: str) -> None:
    for one in parameters:
        number = len(found.many(one.name))
        if number < one.min:
            raise Malformed(f"the parameter {one.name} is missing", at=one.name if at == "Parameters.parameter" else at)
        if one.max is not None and number > one.max:
            raise Malformed(f"{one.name} may be given {'once' if one.max == 1 else one.max}", at=one.name)
