"""The one gate of every write: a resource tree → its problems.

In:      tree (numbers as int, float or Decimal); type_name: the type the caller's address asks for
Out:     list[Issue], empty when valid; every problem with its FHIRPath, no early stop
Source:  FHIR R4 4.0.1 structure, required bindings, reference targets and the invariants of ehr.fhir.invariants
"""

from collections.abc import Mapping
from typing import Any

from ehr.errors import Issue
from ehr.fhir.accept import accepts
from ehr.fhir.explain import explain


def validate(tree: Mapping[str, Any], *, type_name: str | None = None) -> list[Issue]:
    if type_name is not None and tree.get("resourceType") != type_name:
        return [Issue("invalid", f"must be {type_name}, the type that is addressed", "resourceType")]
    return [] if accepts(tree) else explain(tree)
