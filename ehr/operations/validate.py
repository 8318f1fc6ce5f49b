"""$validate: what the gate would say of a resource, without storing it.

In:      a resource, or Parameters with resource, mode and profile; the type and id of the address
Out:     issues: every problem with its FHIRPath, or none
Errors:  Malformed where the body is no JSON; NotSupported for a profile, which no gate of ours checks yet
Source:  FHIR R4 resource-operation-validate.html
"""

from collections.abc import Mapping
from typing import Any, Final

from ehr.errors import Invalid, Issue, Malformed, NotSupported
from ehr.fhir import codec
from ehr.fhir.validate import validate as validate_tree

MODES: Final = frozenset({"create", "update", "delete"})


def validate(
    type_name: str, body: bytes, *, id: str | None = None, mode: str | None = None, profile: str | None = None
) -> list[Issue]:
    """Every problem of the resource; none when the gate would take it."""
    tree = codec.loads(body)
    if tree.get("resourceType") == "Parameters" and type_name != "Parameters":
        tree, mode, profile = _unpacked(tree, mode, profile)
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


def _unpacked(
    parameters: Mapping[str, Any], mode: str | None, profile: str | None
) -> tuple[dict[str, Any], str | None, str | None]:
    """resource, mode and profile of a Parameters resource, which is itself held to the rules."""
    wrong = [issue for issue in validate_tree(parameters) if issue.severity in ("error", "fatal")]
    wrong = [issue for issue in wrong if ".resource" not in (issue.at or "")]  # what is wrong in it is the answer
    if wrong:
        raise Invalid("the Parameters are not valid", issues=wrong)
    resource: dict[str, Any] | None = None
    for part in parameters.get("parameter", []):
        match part.get("name"):
            case "resource":
                resource = part.get("resource")
            case "mode":
                mode = part.get("valueCode")
            case "profile":
                profile = part.get("valueUri") or part.get("valueCanonical")
            case name:
                raise NotSupported(
                    "the operation has resource, mode and profile", at=f"Parameters.parameter:{name}"[:64]
                )
    if resource is None:
        raise Malformed("the parameter resource is missing", at="Parameters.parameter")
    return resource, mode, profile
