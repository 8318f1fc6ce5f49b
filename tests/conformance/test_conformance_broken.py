"""broken.ndjson: each resource is refused at the place, or places, it names, and nowhere else; valid.ndjson: none is.

Every line of broken.ndjson is one resource: the rule it breaks, why in a word (with the key of an invariant first), the
FHIRPath of what is wrong, and the resource. All but its mistake is of valid.ndjson. docs/conformance.md counts how many
of them others catch.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ehr.fhir import codec, fhirpath
from ehr.fhir.accept import accepts
from ehr.fhir.validate import validate

HERE = Path(__file__).parent
BROKEN: list[dict[str, Any]] = [json.loads(line) for line in (HERE / "broken.ndjson").read_bytes().splitlines()]
VALID: list[dict[str, Any]] = [json.loads(line) for line in (HERE / "valid.ndjson").read_bytes().splitlines()]


def read(tree: dict[str, Any]) -> dict[str, Any]:
    return codec.loads(codec.dumps(tree))


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case['rule']}, {case['why']}, {case['at'][0]}")
def test_a_broken_resource_is_refused_where_it_is_broken(case: dict[str, Any]) -> None:
    tree = read(case["resource"])
    issues = validate(tree)
    assert {issue.at for issue in issues} == set(case["at"])
    assert not accepts(tree)
    key = re.match(r"[a-z]+-\d+[a-z]?(?=: )", case["why"])
    assert key is None or any(issue.text.startswith(f"{key[0]}: ") for issue in issues)


@pytest.mark.parametrize("tree", VALID, ids=lambda tree: tree["resourceType"])
def test_what_they_are_made_of_is_valid(tree: dict[str, Any]) -> None:
    assert validate(read(tree)) == []


def test_the_table_is_large_and_varied() -> None:
    assert len({json.dumps(case["resource"], sort_keys=True) for case in BROKEN}) == len(BROKEN) == 369
    assert len({case["resource"].get("resourceType") for case in BROKEN if "resourceType" in case["resource"]}) > 50
    assert len({case["rule"] for case in BROKEN}) == 17


def test_every_place_is_fhirpath() -> None:
    for case in BROKEN:
        for at in case["at"]:
            fhirpath.compile(at)
