"""Expressions of SearchParameters → JSON paths, read with our own compiled structure."""

import re

import pytest

from ehr.fhir.expressions import Resolver, Unreadable, of_structure

RESOLVER = Resolver(of_structure)

READ = [
    ("Patient", "token", "Patient.gender", ["gender:code"]),
    ("Patient", "string", "Patient.name.given", ["name[].given[]:string"]),
    ("Patient", "string", "Patient.name[0].family", ["name[0].family:string"]),
    ("Patient", "string", "Patient.name.first().family", ["name[0].family:string"]),
    ("Patient", "token", "Patient.telecom.where(system = 'phone')", ["telecom[]{system=phone}:ContactPoint"]),
    (
        "Patient",
        "token",
        "Patient.extension.where(url='http://x.org/a').extension.where(url='b').value.as(Coding)",
        ["extension[]{url=http://x.org/a}.extension[]{url=b}.valueCoding:Coding"],
    ),
    ("Patient", "reference", "Patient.extension('http://x.org/a').value", ["extension[]{url=http://x.org/a}."]),
    ("Observation", "date", "Observation.effective", ["effectiveDateTime:dateTime", "effectivePeriod:Period"]),
    ("Observation", "date", "(Observation.effective as Period).start", ["effectivePeriod.start:dateTime"]),
    ("Observation", "quantity", "Observation.component.value.ofType(Quantity)", ["component[].valueQuantity:Quantity"]),
    ("Observation", "number", "Observation.referenceRange.low.value", ["referenceRange[].low.value:decimal"]),
    ("Observation", "number", "Observation.component.referenceRange.low.value", ["component[].referenceRange[].low."]),
    (
        "Encounter",
        "reference",
        "Encounter.subject.where(resolve() is Patient)",
        ["subject{is Patient}:Reference"],
    ),
    ("Encounter", "token", "Encounter.class | Encounter.type", ["class:Coding", "type[]:CodeableConcept"]),
    ("Encounter", "token", "Encounter.identifier.where(value='a|b')", ["identifier[]{value=a|b}:Identifier"]),
]


@pytest.mark.parametrize(("type_name", "kind", "expression", "paths"), READ)
def test_members_casts_and_filters_become_paths(type_name: str, kind: str, expression: str, paths: list[str]) -> None:
    found = [leaf.text() for leaf in RESOLVER.leaves(type_name, expression, kind)]
    assert [text[: len(path)] for text, path in zip(found, paths, strict=False)] == paths


REFUSED = [
    ("Patient.nothing", "nothing"),
    ("Patient.name.given.count()", "count"),
    ("Patient.deceased.exists()", "exists"),
    ("Patient.name.where(use != 'old')", "use != 'old'"),
    ("Patient.name.where(use = 'old').where(text = 'b')", "second filter"),
    ("Patient.birthDate.first()", "first"),
    ("(Patient.name", "parenthesis"),
    ("Patient.name.given + 'a'", "+"),
    ("iif(Patient.active, 1, 2)", "iif"),
    ("Patient.name.", "'.'"),
]


@pytest.mark.parametrize(("expression", "said"), REFUSED)
def test_what_cannot_be_indexed_is_refused_by_its_name(expression: str, said: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(said)):
        RESOLVER.resolve("Patient", expression)
