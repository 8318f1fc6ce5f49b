"""Findings → OperationOutcome.

In:      list[Issue], or an EhrError, which carries one
Out:     tree of an OperationOutcome: code, severity, text in `details` and `diagnostics`, FHIRPath in `expression`
Keeps:   an HL7 path ("PID-3.1") goes to `location`, because `expression` must be FHIRPath
Source:  FHIR R4 6.11 OperationOutcome
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from ehr.errors import EhrError, Issue

_HL7_PATH: Final = re.compile(r"[A-Z][A-Z0-9]{2}(?:\[\d+\])?-\d")


def operation_outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """At least one issue: an outcome without issues is not a valid resource, so none says that all is well."""
    listed = issues or [Issue("informational", "No issues found.", severity="information")]
    return {"resourceType": "OperationOutcome", "issue": [_entry(issue) for issue in listed]}


def of_error(error: EhrError) -> dict[str, Any]:
    return operation_outcome(error.issues)


def _entry(issue: Issue) -> dict[str, Any]:
    entry: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
    if issue.text:
        entry["details"] = {"text": issue.text}
        entry["diagnostics"] = issue.text
    if issue.at:
        entry["location" if _HL7_PATH.match(issue.at) else "expression"] = [issue.at]
    return entry
