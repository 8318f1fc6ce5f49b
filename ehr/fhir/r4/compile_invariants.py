"""HL7's R4 definitions → invariants.json beside this file.

In:      DEFINITIONS  as ehr.fhir.r4.compile
Out:     invariants.json  type or backbone path → its constraints of severity error: key, human text, FHIRPath; `at`
                          where the constraint is of an element of a datatype, or asks for the resource around it and
                          so is evaluated from there; with the SHA-256 of the sources, and what was amended or left
Source:  FHIR R4 4.0.1 StructureDefinitions, ElementDefinition.constraint (CC0)

Run:     python -m ehr.fhir.r4.compile_invariants DEFINITIONS
"""

import sys
from pathlib import Path
from typing import Any

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.r4.compile import Tree, structures, write

ELSEWHERE = {
    "ele-1": "ehr.fhir.explain: no object and no primitive is empty",
    "dom-2": "ehr.fhir.explain, of each contained resource",
    "dom-3": "ehr.fhir.explain, of each contained resource",
    "dom-4": "ehr.fhir.explain, of each contained resource",
    "dom-5": "ehr.fhir.explain, of each contained resource",
    "ref-1": "ehr.fhir.explain, of each reference",
    "txt-1": "ehr.fhir.narrative",
    "txt-2": "ehr.fhir.narrative",
}
"""Constraints that other rules of the gate hold already, with more to say about the place."""

ADDED = frozenset({"evv-1"})
"""Not of R4: the package's EvidenceVariable is of a later version."""

AMENDED = {
    "start.hasValue().not() or end.hasValue().not() or (start <= end)": (
        "start.hasValue().not() or end.hasValue().not() or iif(start > end, false, true)",
        "a day and a moment of that day have no order, which would refuse both",
    ),
    "low.empty() or high.empty() or (low <= high)": (
        "low.empty() or high.empty() or iif(low > high, false, true)",
        "units that are not known, or a bound without a value, would refuse the range",
    ),
    "lastModified.exists().not() or authoredOn.exists().not() or lastModified >= authoredOn": (
        "lastModified.exists().not() or authoredOn.exists().not() or iif(lastModified < authoredOn, false, true)",
        "a day and a moment of that day have no order, which would refuse both",
    ),
    "whenHandedOver.empty() or whenPrepared.empty() or whenHandedOver >= whenPrepared": (
        "whenHandedOver.empty() or whenPrepared.empty() or iif(whenHandedOver < whenPrepared, false, true)",
        "a day and a moment of that day have no order, which would refuse both",
    ),
    "probability is decimal implies (probability as decimal) <= 100": (
        "probability.empty() or (probability is decimal implies (probability as decimal) <= 100)",
        "a prediction need not have a probability",
    ),
    "operator = 'exists' implies (answer is Boolean)": (
        "operator = 'exists' implies (answer is boolean)",
        "Boolean is the type of FHIRPath; an answer has the type of FHIR",
    ),
}
"""Expressions that say, to the letter of FHIRPath, something other than their human text."""


def main(definitions: Path) -> None:
    sources: dict[str, str] = {}
    found: dict[str, list[Tree]] = {}
    for structure in structures(definitions, sources):
        elements = {element["path"]: element for element in structure["snapshot"]["element"]}
        for path, element in elements.items():
            for constraint in element.get("constraint", []):
                if constraint["severity"] == "error" and _is_own(constraint["key"], path):
                    owner, entry = _compiled(constraint, path, elements)
                    found.setdefault(owner, []).append(entry)
    used = {entry["expression"] for entries in found.values() for entry in entries}
    amended = [{"from": old, "to": new, "why": why} for old, (new, why) in AMENDED.items() if new in used]
    assert len(amended) == len(AMENDED), "an amended expression is gone"
    tree = {"sources": sources, "elsewhere": ELSEWHERE, "amended": amended, "invariants": found}
    write(Path(__file__).parent / "invariants.json", tree)


def _is_own(key: str, path: str) -> bool:
    """ext-1 is repeated at every element extension."""
    return key not in ELSEWHERE and key not in ADDED and (key != "ext-1" or path == "Extension")


def _compiled(constraint: Tree, path: str, elements: dict[str, Tree]) -> tuple[str, Tree]:
    expression: str = AMENDED.get(constraint["expression"], (constraint["expression"], ""))[0]
    entry: dict[str, Any] = {"key": constraint["key"], "text": constraint["human"], "expression": expression}
    root, _, below = path.partition(".")
    asks_outside = root in TYPE_IDS and ("%resource" in expression or "resolve()" in expression)
    if below and asks_outside:
        return root, {**entry, "at": below}
    if below and not _has_children(path, elements):
        owner, _, name = path.rpartition(".")
        return owner, {**entry, "at": name.removesuffix("[x]")}
    return path, entry


def _has_children(path: str, elements: dict[str, Tree]) -> bool:
    return any(other.startswith(path + ".") for other in elements)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
