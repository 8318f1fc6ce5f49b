"""Every invariant is evaluated, and a shortcut never says other than FHIRPath."""

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import Item
from ehr.fhir.fhirpath.items import Field, fields_by_name, members
from ehr.fhir.fhirpath.operators import truth
from ehr.fhir.invariant_shortcuts import UNKNOWN
from ehr.fhir.invariants import Invariant, broken, hold, invariants
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.r4.compile_invariants import ADDED, AMENDED, ELSEWHERE

TABLE = json.loads((files("ehr.fhir.r4") / "invariants.json").read_bytes())
ALL = [(kind, invariant) for kind in TABLE["invariants"] for invariant in invariants(kind)]
ROUNDS = 40


def test_all_invariants_of_severity_error_are_there() -> None:
    keys = {invariant.key for _, invariant in ALL}
    assert len(ALL) == 201
    assert not keys & (ELSEWHERE.keys() | ADDED)
    assert TABLE["amended"] == [{"from": old, "to": new, "why": why} for old, (new, why) in AMENDED.items()]


@pytest.mark.parametrize("kind", list(TABLE["invariants"]))
def test_shortcuts_agree_with_fhirpath(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(ROUNDS):
        tree = made(kind, words(kind), chance, depth=4)
        for invariant in invariants(kind):
            quick = invariant.quick(tree, tree)
            if quick is not UNKNOWN:
                assert (quick is True) == evaluates(invariant, kind, tree), (invariant, tree)


def test_most_invariants_are_answered_without_fhirpath() -> None:
    assert len([invariant for _, invariant in ALL if invariant.quick({}, {}) is not UNKNOWN]) >= 173


def evaluates(invariant: Invariant, kind: str, tree: dict[str, Any]) -> bool:
    """By FHIRPath alone."""
    items = [Item(tree, kind)]
    for name in invariant.at:
        items = [below for item in items for below in members(item, name) or ()]
    resource = tree if kind in TYPE_IDS else None
    return all(holds(invariant, item, resource) for item in items)


def holds(invariant: Invariant, item: Item, resource: dict[str, Any] | None) -> bool:
    environment = fhirpath.Environment(resolve=lambda _: None)
    try:
        return truth(invariant.expression.evaluate(item, resource=resource, environment=environment)) is True
    except fhirpath.ExpressionError:
        return False


@dataclass(frozen=True)
class Words:
    """The texts the invariants of a type ask for, and the names of elements in them."""

    texts: list[str]
    names: set[str]


@cache
def words(kind: str) -> Words:
    text = " ".join(invariant.expression.text for invariant in invariants(kind))
    return Words(sorted(set(re.findall(r"'([^'\\]*)'", text))), set(re.findall(r"\w+", text)))


def made(kind: str, known: Words, chance: random.Random, depth: int) -> dict[str, Any]:
    """An object of a type with some of its elements, those the invariants speak of more often than others."""
    tree: dict[str, Any] = {"resourceType": kind} if kind in TYPE_IDS else {}
    for field in (fields_by_name(kind) or {}).values():
        wanted = 0.5 if field.element in known.names else 0.02
        if chance.random() > wanted or any(name.startswith(field.element) and name != field.name for name in tree):
            continue
        if field.is_primitive and chance.random() < 0.05:
            annotation = {"extension": [{"url": "u", "valueCode": "c"}]}
            tree[f"_{field.name}"] = [annotation] if field.is_list else annotation
        elif (value := made_value(field, known, chance, depth)) is not None:
            more = [made_value(field, known, chance, depth) for _ in range(chance.randrange(3))]
            tree[field.name] = [value, *[one for one in more if one is not None]] if field.is_list else value
    return tree


def made_value(field: Field, known: Words, chance: random.Random, depth: int) -> Any:
    match field.type:
        case "boolean":
            return chance.random() < 0.5
        case "integer" | "positiveInt" | "unsignedInt":
            return chance.randrange(-1, 3)
        case "decimal":
            return chance.choice([-1, 0, 1.5, 100, 101])
        case "dateTime" | "date" | "instant":
            return chance.choice(["2024", "2024-05", "2024-05-01", "2024-05-01T10:00:00+07:00", "2024-05-01T10:00:00Z"])
        case _ if field.is_primitive:
            return chance.choice([*known.texts, "x", "#a"])
        case "Resource":
            return {"resourceType": "Basic", "id": chance.choice("ab")} if depth else None
        case kind:
            return (made(kind, known, chance, depth - 1) or None) if depth else None


@pytest.mark.parametrize(
    ("kind", "tree", "at"),
    [
        ("Organization", {"name": "a", "telecom": [{"use": "work"}, {"use": "home"}]}, ("org-3", ".telecom[1]")),
        (
            "CareTeam",
            {
                "resourceType": "CareTeam",
                "participant": [
                    {"member": {"reference": "Practitioner/1"}, "onBehalfOf": {"reference": "Organization/1"}},
                    {"member": {"reference": "Patient/1"}, "onBehalfOf": {"reference": "Organization/1"}},
                ],
            },
            ("ctm-1", ".participant[1]"),
        ),
        (
            "StructureDefinition",
            {
                "resourceType": "StructureDefinition",
                "kind": "resource",
                "abstract": True,
                "type": "Patient",
                "url": "http://example.org/p",
                "differential": {"element": [{"id": "Observation", "path": "Observation"}]},
            },
            ("sdf-8a", ".differential"),
        ),
    ],
)
def test_a_broken_invariant_tells_the_element(kind: str, tree: dict[str, Any], at: tuple[str, str]) -> None:
    assert [(invariant.key, below) for invariant, below in broken(kind, tree)] == [at]
    assert not hold(kind, tree)


@pytest.mark.parametrize(
    ("start", "end", "keeps"),
    [
        ("2024-05-01", "2024-05-01T10:00:00+07:00", True),
        ("2024-05-02", "2024-05-01T10:00:00+07:00", False),
        ("2024-05", "2024-05-01", True),
        ("2024-05", "2024-04-30", False),
        ("2024-03-10T01:30:00-05:00", "2024-03-10T03:10:00-04:00", True),
        ("2024-03-10T01:30:00-04:00", "2024-03-10T01:10:00-04:00", False),
        ("2024-03-10T08:30:00Z", "2024-03-10T08:30:00.000+00:00", True),
    ],
)
def test_a_period_ends_before_it_starts_only_where_that_is_certain(start: str, end: str, *, keeps: bool) -> None:
    assert hold("Period", {"start": start, "end": end}) is keeps


@pytest.mark.parametrize(
    ("low", "high", "keeps"),
    [
        ({"value": 1, "unit": "g"}, {"value": 2, "unit": "g"}, True),
        ({"value": 3}, {"value": 2}, False),
        ({"unit": "g"}, {"value": 2}, True),
        (
            {"value": 2, "system": "http://unitsofmeasure.org", "code": "g"},
            {"value": 300, "system": "http://unitsofmeasure.org", "code": "mg"},
            False,
        ),
        ({"value": 2, "unit": "tablets"}, {"value": 1, "unit": "bottle"}, True),
    ],
)
def test_a_range_is_compared_across_units(low: dict[str, Any], high: dict[str, Any], *, keeps: bool) -> None:
    assert hold("Range", {"low": low, "high": high}) is keeps
