"""HL7's R4 OperationDefinitions → the files of ehr/fhir/operation_definitions that are HL7's.

In:      EXAMPLES  folder of the npm package hl7.fhir.r4.examples, unpacked
Out:     one file a definition: without narrative, and with affectsState, which HL7's leave unsaid
Source:  FHIR R4 4.0.1 OperationDefinitions (CC0)

Run:     python -m ehr.fhir.r4.compile_operations EXAMPLES
"""

import json
import sys
from pathlib import Path

AFFECTS_STATE = {
    "CodeSystem-subsumes": False,
    "ConceptMap-translate": False,
    "Encounter-everything": False,
    "Observation-lastn": False,
    "Patient-everything": False,
    "Resource-meta-add": True,
    "Resource-meta-delete": True,
    "Resource-validate": False,
}
"""The definitions we serve as they are → whether the operation changes what is stored."""

DEFINITIONS = Path(__file__).parents[1] / "operation_definitions"


def main(examples: Path) -> None:
    for id, affects_state in AFFECTS_STATE.items():
        tree = json.loads((examples / f"OperationDefinition-{id}.json").read_text(encoding="utf-8"))
        for unserved in ("text", "meta"):
            tree.pop(unserved, None)
        stated = {}
        for name, value in tree.items():
            if name == "code":
                stated["affectsState"] = affects_state
            stated[name] = value
        text = json.dumps(stated, ensure_ascii=False, indent=2)
        (DEFINITIONS / f"{id}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
