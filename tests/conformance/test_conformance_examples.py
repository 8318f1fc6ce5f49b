"""The official examples of R4 are accepted, but for those that break the specification themselves.

EHR_FHIR_EXAMPLES names a folder with the unpacked npm package hl7.fhir.r4.examples (its folder "package").
"""

import os
from pathlib import Path
from typing import Final

import pytest

from ehr.fhir import codec
from ehr.fhir.validate import validate

EXAMPLES: Final = os.environ.get("EHR_FHIR_EXAMPLES")

_EXTENSIONS: Final = (
    "SearchParameter-codesystem-extensions-CodeSystem-",
    "SearchParameter-valueset-extensions-ValueSet-",
)
WRONG: Final[dict[str, str]] = {
    "ActivityDefinition-blood-tubes-supply": "text.div",
    "ActivityDefinition-heart-valve-replacement": "text.div",
    "EventDefinition-example": "text.div",
    "Questionnaire-zika-virus-exposure-assessment": "text.div",
    "Bundle-dataelements": "",
    "DeviceMetric-example": "parent.reference",
    "DeviceUseStatement-example": "reasonReference[0].reference",
    "MedicationRequest-medrx0301": "dispenseRequest.performer.reference",
    "Observation-clinical-gender": "performer[0].reference",
    "ImplementationGuide-fhir": "name",
    "Questionnaire-qs1": "item[0].item[0].linkId",
    "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject": "id",
    **{f"{_EXTENSIONS[0]}{name}": "base" for name in ("author", "effective", "end", "keyword", "workflow")},
    **{f"{_EXTENSIONS[1]}{name}": "base" for name in ("author", "effective", "end", "keyword", "workflow")},
    **{f"StructureDefinition-{name}": "" for name in ("Definition", "Event", "FiveWs", "Request")},
}
"""Example → one place where it is wrong, below its type; docs/conformance.md says how."""


@pytest.mark.timeout(900)
def test_official_examples_are_accepted() -> None:
    if not EXAMPLES:
        pytest.skip("EHR_FHIR_EXAMPLES names no folder with the official examples")
    files = [file for file in sorted(Path(EXAMPLES).glob("*.json")) if file.name[0].isupper()]
    wrong: dict[str, set[str]] = {}
    for file in files:
        tree = codec.loads(file.read_bytes(), bytes_max=200_000_000)
        issues = validate(tree)
        if issues:
            wrong[file.stem] = {(issue.at or "").partition(".")[2] for issue in issues}
    assert len(files) == 5_305
    assert wrong.keys() == WRONG.keys()
    assert [name for name, at in WRONG.items() if at not in wrong[name]] == []
