"""Resources in which every element that a search parameter names has a value, each value another one.

Made from ehr.fhir.structure, which the index does not read. `turn` says which type a choice or a reference has, so that
some resources show all of them. They are not valid: codes and cardinalities are nobody's.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

from ehr.fhir.fhirpath.items import Field, fields
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import shape

DEPTH_MAX: Final = 7
QUANTITIES: Final = ("Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity", "MoneyQuantity")
TEXTS: Final = ("string", "markdown", "code", "id")
URLS: Final = ("uri", "url", "canonical", "oid", "uuid")
NUMBERS: Final = ("integer", "positiveInt", "unsignedInt", "decimal")
DAYS: Final = ("date", "dateTime")
ADDRESS: Final = ("country", "postalCode", "state")
RELATED: Final = ("composed-of", "depends-on", "derived-from", "predecessor", "successor")


class Filler:
    def __init__(self, expressions: Iterable[str]) -> None:
        self.words = set(re.findall(r"\w+", " ".join(expressions)))
        self.count = 0
        self.turn = 0

    def resource(self, type_name: str, turn: int) -> dict[str, Any]:
        self.turn = turn
        return {"resourceType": type_name, **self._object(type_name, 0), "id": f"r{turn}"}

    def _object(self, type_name: str, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for element, variants in (fields(type_name) or {}).items():
            if element in self.words and element not in {"contained", "id"}:
                # a choice that expressions narrow down has only types they name
                named = [one for one in variants if one.type in self.words] or variants
                field = named[self.turn % len(named)]
                values = [one for one in self._values(field, type_name, depth + 1) if one not in ({}, None)]
                if values:
                    made[field.name] = values if field.is_list else values[0]
        return made

    def _values(self, field: Field, owner: str, depth: int) -> Iterable[Any]:
        if field.type == "Reference":
            element = next(one.element for one in shape(owner).members.values() if one.element.name == field.element)
            types = (element.targets or frozenset()) & TYPE_IDS.keys() or {"Organization", "Patient"}
            targets = sorted(types, key=lambda one: (one not in self.words, one))
            first = self.turn % len(targets)
            return [{"reference": f"{name}/x{self._next()}"} for name in targets[first:] + targets[:first]]
        if field.type == "RelatedArtifact":
            return [{"type": name, "resource": _url(self._next())} for name in RELATED]
        return [self._value(field.type, depth), self._value(field.type, depth)]

    def _value(self, type_name: str, depth: int) -> Any:
        if maker := _MAKERS.get(type_name):
            return maker(self._next())
        return self._object(type_name, depth) if depth <= DEPTH_MAX else None

    def _next(self) -> int:
        self.count += 1
        return self.count


def _text(n: int) -> str:
    return f"Thử {n:05} a"


def _url(n: int) -> str:
    return f"http://example.org/{n:05}"


def _day(n: int) -> str:
    return (date(1800, 1, 1) + timedelta(days=2 * n)).isoformat()


def _coding(n: int) -> dict[str, Any]:
    return {"system": f"urn:s{n}", "code": f"c{n}"}


def _quantity(n: int) -> dict[str, Any]:
    return {"value": n, "system": "http://unitsofmeasure.org", "code": "mg", "unit": "mg"}


_MAKERS: Final[Mapping[str, Callable[[int], Any]]] = {
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(URLS, _url),
    **dict.fromkeys(DAYS, _day),
    **dict.fromkeys(NUMBERS, int),
    **dict.fromkeys(QUANTITIES, _quantity),
    "boolean": lambda n: n % 2 == 0,
    "instant": lambda n: f"{_day(n)}T10:00:00Z",
    "Coding": _coding,
    "CodeableConcept": lambda n: {"coding": [_coding(n), {"code": f"d{n}"}], "text": _text(n)},
    "Identifier": lambda n: {"system": f"urn:s{n}", "value": f"i{n}"},
    "ContactPoint": lambda n: {"system": ("phone", "email")[n % 2], "value": f"0{n:06}"},
    "HumanName": lambda n: {"family": _text(n), "given": [f"G{n}"]},
    "Address": lambda n: {"use": f"u{n}", "city": _text(n), **{name: f"{name} {n:05}" for name in ADDRESS}},
    "Period": lambda n: {"start": _day(n), "end": _day(n)},
    "Timing": lambda n: {"event": [_day(n)]},
    "Money": lambda n: {"value": n, "currency": "VND"},
    "Range": lambda n: {"low": _quantity(n)},
    "Resource": lambda n: {"resourceType": ("Composition", "MessageHeader")[n // 2 % 2], "id": f"x{n}"},
}
