"""CompartmentDefinition → who belongs to whom.

Out:     patient_of(tree)         the source Patient a resource belongs to: its shard
         members(name)            type → parameter codes that place it in a compartment
         shard_params(type_name)  reference parameters whose value, when a Patient, is always that source Patient
Order:   "patient", "subject" and "beneficiary" first, then as the definition lists them; first Patient found wins
Why no Group: a list of patients is nobody's own; placed with its first member it would show him the others
Why Binary:   R4 has it in no compartment, but says that access to it follows securityContext (docs/adr/0087)
Source:  FHIR R4 2.1.34 compartments; ehr/fhir/r4/compartments.json (made by compile_search.py)
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from ehr.fhir import parameters
from ehr.fhir.parameters import ElementPath, Step, walk

_ITSELF: Final = "{def}"
"""Stands for the resource that a compartment is of, where the definitions list parameters."""

_DEFINED: Final[Mapping[str, Mapping[str, list[str]]]] = {
    compartment: {name: [code for code in codes if code != _ITSELF] for name, codes in types.items()}
    for compartment, types in json.loads((Path(__file__).parent / "r4" / "compartments.json").read_bytes())[
        "compartments"
    ].items()
}

COMPARTMENTS: Final = frozenset(_DEFINED)
"""Patient, Encounter, Practitioner, Device, RelatedPerson."""

PATIENT_TYPES: Final = frozenset(_DEFINED["Patient"]) - {"Group"} | {"Patient", "Binary"}
"""Types whose rows belong to a source Patient, when they name one."""

_OF_BINARY: Final = (ElementPath((Step("securityContext"),), "Reference"),)

_PATIENT: Final = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")


def members(compartment: str) -> Mapping[str, list[str]]:
    """Type → codes of the parameters that place a resource of that type in the compartment."""
    return _DEFINED[compartment]


def patient_of(tree: Mapping[str, Any]) -> str | None:
    """Id of the source Patient a resource belongs to, or None; a Patient belongs to itself."""
    type_name = tree.get("resourceType")
    if type_name not in PATIENT_TYPES:
        return None
    if type_name == "Patient":
        own = tree.get("id")
        return own if isinstance(own, str) else None
    member = _member(type_name)
    if member is not None:  # "Patient/x" in subject or patient: nearly every clinical resource
        value = tree.get(member)
        if value.__class__ is dict:
            text = value.get("reference")
            if text.__class__ is str and text.startswith("Patient/") and text.count("/") == 1:
                return str(text[8:])
    for path in _paths(type_name):
        for value in walk(tree, path.steps):
            text = value.get("reference") if isinstance(value, Mapping) else None
            if isinstance(text, str) and (found := _PATIENT.fullmatch(text)):
                return found[1]
    return None


@cache
def _member(type_name: str) -> str | None:
    """The member that is the first path, where it is one step to a single value."""
    paths = _paths(type_name)
    return paths[0].steps[0].name if paths and len(paths[0].steps) == 1 and not paths[0].steps[0].many else None


@cache
def _paths(type_name: str) -> tuple[ElementPath, ...]:
    if type_name == "Binary":
        return _OF_BINARY
    codes = sorted(_DEFINED["Patient"].get(type_name, ()), key=_first) if type_name in PATIENT_TYPES else []
    known = parameters.of(type_name) if codes else {}
    found = [path for code in codes for path in known[code].paths if path.type == "Reference"]
    return tuple(dict.fromkeys(found))


def _first(code: str) -> int:
    return {"patient": 0, "subject": 1, "beneficiary": 2}.get(code, 3)


@cache
def shard_params(type_name: str) -> frozenset[str]:
    """Codes of references that, when they name a Patient, name the one patient_of gives.

    True of a single-valued element that patient_of reads first: a search by it may demand the patient's shard.
    """
    paths = _paths(type_name)
    if not paths or any(step.many for step in paths[0].steps):
        return frozenset()
    first = paths[0].steps
    return frozenset(
        code
        for code, parameter in parameters.of(type_name).items()
        if parameter.kind == "reference" and parameter.paths and all(path.steps == first for path in parameter.paths)
    )
