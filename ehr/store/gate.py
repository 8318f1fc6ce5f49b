"""The one gate of every write: bytes → tree that may be stored, or every reason why not.

In:      bytes of a resource (or of a Bundle), the type the door expects
Out:     the tree
Errors:  TooMuch, Malformed   from the codec
         Invalid              with one issue per problem, each with its FHIRPath
Source:  FHIR R4 3.1.0.8 create ("servers SHALL … 400 or 422"), 2.1.27 validation; subscription.html (status)
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from ehr import limits
from ehr.errors import Invalid, Issue, Malformed, TooMuch
from ehr.fhir import codec, declared
from ehr.fhir.validate import validate


def accept(type_name: str, body: bytes) -> dict[str, Any]:
    """Read and check one resource that comes through a door for `type_name`."""
    tree = codec.loads(body)
    check(type_name, tree)
    return tree


def check(type_name: str, tree: Mapping[str, Any]) -> None:
    """Refuse a tree that is not a valid resource of this type."""
    sent = tree.get("resourceType")
    if sent != type_name:
        raise Invalid(f"the body must be a {type_name} (resourceType)", at="resourceType")
    refuse_errors(issues(tree, type_name))


def issues(tree: Mapping[str, Any], type_name: str) -> list[Issue]:
    """What is wrong with a resource; and with one that would oblige this server, why it could not do what it says."""
    found = validate(tree, type_name=type_name)
    return [*found, *OBLIGING[type_name](tree)] if type_name in OBLIGING and not found else found


def _undelivered(tree: Mapping[str, Any]) -> Iterator[Issue]:
    """R4 lets a client send requested and off; whoever is let request would wait for what is never sent."""
    if tree["status"] != "off":
        text = "no notifications are delivered by this server; a Subscription can be kept here only with status off"
        yield Issue("not-supported", text, "Subscription.status")


OBLIGING: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[Issue]]]] = MappingProxyType(
    {declared.TYPE: declared.issues, "Subscription": _undelivered}
)
"""Types of which more is asked than to be valid: to store one is to promise something."""


def accept_bundle(body: bytes) -> dict[str, Any]:
    """Read a Bundle for the transaction or batch door; bundles.transaction checks what is in it."""
    tree = codec.loads(body, bytes_max=limits.bundle_bytes_max)
    if tree.get("resourceType") != "Bundle":
        raise Malformed("POST to the base takes a Bundle", at="resourceType")
    if tree.get("type") not in ("transaction", "batch"):
        raise Malformed("Bundle.type must be transaction or batch", at="Bundle.type")
    if len(entries(tree)) > limits.bundle_entries_max:
        raise TooMuch(f"the Bundle has more than {limits.bundle_entries_max} entries", at="Bundle.entry")
    return tree


def entries(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bundle.entry as a list of objects, whatever was sent."""
    found = bundle.get("entry", [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Malformed("Bundle.entry is a list of objects", at="Bundle.entry")
    return found


def refuse_errors(issues: list[Issue]) -> None:
    """Raise Invalid when an issue is an error; warnings do not stop a write."""
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise Invalid("the resource is not valid", issues=issues)
