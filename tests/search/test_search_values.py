"""Values at the edges of what their types allow: more digits than a float has, elements without a system, relative
canonical urls. Found by comparing all parameters of R4 with a model (docs/conformance.md)."""

from typing import Any

from ehr.database.engine import Database
from tests.search.store import Records

DIGITS = 0.30000000000000004
SECRECY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
KIND = "http://hl7.org/fhir/document-relationship-type"


def replaced(id: str, code: str) -> dict[str, Any]:
    related = {"code": code, "target": {"reference": "DocumentReference/d0"}}
    return {"resourceType": "DocumentReference", "id": id, "status": "current", "relatesTo": [related]}


def measured(id: str, value: float, **more: str) -> dict[str, Any]:
    quantity = {"value": value, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg", **more}
    part = {"code": {"coding": [{"code": "w"}]}, "valueQuantity": quantity}
    return {"resourceType": "Observation", "id": id, "valueQuantity": quantity, "component": [part]}


def built(id: str, *libraries: str) -> dict[str, Any]:
    needs = [{"type": "depends-on", "resource": one} for one in libraries]
    return {"resourceType": "PlanDefinition", "id": id, "status": "active", "relatedArtifact": needs}


WORLD = (
    measured("o1", DIGITS),
    measured("o2", 0.31),
    replaced("d1", "appends"),
    replaced("d2", "replaces"),
    built("p1", "Library/l1"),
    built("p2", "Library/l1|2", "http://x.vn/l1"),
    built("p3", "http://x.vn/Library/l1"),
    {"resourceType": "Composition", "id": "c", "status": "final", "confidentiality": "R"},
    {"resourceType": "Patient", "id": "a", "telecom": [{"system": "phone", "value": "024 1234"}]},
)


QUERIES = (
    ("Observation", "value-quantity", str(DIGITS), "o1"),
    ("Observation", "value-quantity", f"ne{DIGITS}", "o2"),
    ("Observation", "value-quantity", f"{DIGITS}00|http://unitsofmeasure.org|kg", "o1"),
    ("Observation", "component-code-value-quantity", f"w${DIGITS}", "o1"),
    ("Observation", "value-quantity", "0.30", "o1"),
    ("Observation", "value-quantity", "0.3", "o1 o2"),
    ("DocumentReference", "relationship", "DocumentReference/d0$appends", "d1"),
    ("DocumentReference", "relationship", "DocumentReference/d0$|appends", "d1"),
    ("DocumentReference", "relationship", f"DocumentReference/d0${KIND}|replaces", "d2"),
    ("DocumentReference", "relationship", "DocumentReference/d0$urn:other|replaces", ""),
    ("PlanDefinition", "depends-on", "Library/l1", "p1 p2"),
    ("PlanDefinition", "depends-on", r"Library/l1\|2", "p2"),
    ("PlanDefinition", "depends-on:Library", "l1", "p1 p2"),
    ("PlanDefinition", "depends-on:Measure", "l1", ""),
    ("PlanDefinition", "depends-on", "http://x.vn/l1", "p2"),
    ("Composition", "confidentiality", f"{SECRECY}|R", "c"),
    ("Composition", "confidentiality", f"{SECRECY}|N", ""),
    ("Patient", "_id", "|a", "a"),
    ("Patient", "_id", "urn:other|a", ""),
    ("Patient", "phone", "|024-1234", "a"),
    ("Patient", "phone", "urn:other|0241234", ""),
    ("Patient", "phone:not", "|0241234", ""),
)


async def test_queries_find_exactly(database: Database) -> None:
    records = Records(database)
    await records.put(*WORLD)
    found = [(*query[:3], " ".join(await records.ids(query[0], query[1:3]))) for query in QUERIES]
    assert found == list(QUERIES)


async def test_what_lies_beyond_a_number_is_found_beyond_it(database: Database) -> None:
    records = Records(database)
    named = {"below": "<", "most": "<=", "least": ">=", "above": ">"}
    await records.put(*(measured(id, 50, comparator=comparator) for id, comparator in named.items()))
    await records.put(measured("negative", 0, comparator="<"))
    for name, before, unit in (
        ("value-quantity", "", ""),
        ("value-quantity", "", "|http://unitsofmeasure.org|kg"),
        ("component-code-value-quantity", "w$", ""),
    ):
        found = {
            prefix: " ".join(sorted(await records.ids("Observation", (name, f"{before}{prefix}50{unit}"))))
            for prefix in ("gt", "ge", "le", "lt", "sa", "eb")
        }
        assert found == {
            "gt": "above",
            "ge": "above least most",
            "le": "below least most negative",
            "lt": "below negative",
            "sa": "above",
            "eb": "below negative",
        }
    assert await records.ids("Observation", ("value-quantity", "gt50000|http://unitsofmeasure.org|g")) == ["above"]
    assert await records.ids("Observation", ("value-quantity", "lt0")) == ["negative"]
