"""$validate: what the gate would say of a resource, without storing it.

In:      a resource, mode and profile; the type and id of the address
Out:     issues: every problem with its FHIRPath, or none
Errors:  NotSupported for a profile, which no gate of ours checks yet
Source:  FHIR R4 resource-operation-validate.html
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.errors import Issue, NotSupported
from ehr.fhir.validate import validate as validate_tree

MODES: Final = frozenset({"create", "update", "delete"})


def validate(
    type_name: str,
    tree: Mapping[str, Any],
    *,
    id: str | None = None,
    mode: str | None = None,
    profile: str | None = None,
) -> list[Issue]:
    """Every problem of the resource; none when the gate would take it."""
    if profile is not None:
        raise NotSupported("validation against a profile is not served", at="profile")
    if mode is not None and mode not in MODES:
        raise NotSupported("mode is create, update or delete", at="mode")
    sent = tree.get("resourceType")
    if sent != type_name:
        return [Issue("invalid", f"the resource must be a {type_name}", "resourceType")]
    issues = list(validate_tree(tree, type_name=type_name))
    if mode == "update" and "id" not in tree:
        issues.append(Issue("required", "an update has the id of its address", f"{type_name}.id"))
    elif id is not None and tree.get("id", id) != id:
        issues.append(Issue("value", "the resource has another id than the address", f"{type_name}.id"))
    return issues
