"""The one gate of every write: bytes → tree that may be stored, or every reason why not.

In:      bytes of a resource (or of a Bundle), the type the door expects
Out:     the tree
Errors:  TooMuch, Malformed   from the codec
         InvalidResource      with one issue per problem, each with its FHIRPath
         Invalid              valid, and yet nothing this server can do
Source:  FHIR R4 http.html#create (400: failed basic FHIR validation rules; 422: profiles and the server's own rules);
         subscription.html (status)
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from ehr import limits
from ehr.errors import Invalid, InvalidResource, Issue, Malformed, TooMuch
from ehr.fhir import codec, declared, references
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import shape
from ehr.fhir.validate import validate
from ehr.nearest import did_you_mean

_NAME_CHARACTERS_MAX: Final = 64


def accept(type_name: str, body: bytes) -> dict[str, Any]:
    """Read and check one resource that comes through a door for `type_name`."""
    tree = codec.loads(body)
    check(type_name, tree)
    if b"?" in body or b"\\u003" in body:
        refuse_conditional(tree)
    return tree


def refuse_conditional(alone: Mapping[str, Any]) -> None:
    """What comes by itself is stored as it says: a conditional reference in it would lead nowhere for ever.

    A Bundle that is only kept may hold some, as an example of a transaction does.
    """
    if alone.get("resourceType") == "Bundle":
        return
    why = "a conditional reference is looked up in a transaction or batch; send this in one, or name the target's id"
    issues = [
        Issue("not-supported", why, found.path.removeprefix("Resource."))
        for found in references.find(alone)
        if references.parse(found.value).kind == "conditional"
    ]
    refuse_errors(issues)


def check(type_name: str, tree: Mapping[str, Any], *, made: bool = False) -> None:
    """Refuse a tree that is not a valid resource of this type. made: here, of what is stored (RFC 5789 2.2: 422)."""
    sent = tree.get("resourceType")
    if sent != type_name:
        raise InvalidResource(f"resourceType must be {type_name}, the type that is addressed", at="resourceType")
    refuse_errors(issues(tree, type_name), made=made)


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
    refuse_unknown(bundle, "Bundle", "Bundle")
    found = bundle.get("entry", [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Malformed("Bundle.entry is a list of objects", at="Bundle.entry")
    return found


def refuse_unknown(node: Mapping[str, Any], type_path: str, at: str) -> None:
    """A name that R4 has not: what was meant by it would not be done, and nobody would know (ifNoneExists)."""
    if not node.keys() <= _names(type_path):
        name = next(name for name in node if name not in _names(type_path))
        meant = did_you_mean(name, _names(type_path))
        raise Malformed(f"unknown element of {type_path}{meant}", at=f"{at}.{name[:_NAME_CHARACTERS_MAX]}")


@cache
def _names(type_path: str) -> frozenset[str]:
    members = shape(type_path).members
    annotations = (f"_{name}" for name, member in members.items() if member.is_annotated)
    return frozenset((*members, *annotations, *(["resourceType"] if type_path in TYPE_IDS else [])))


def refuse_errors(issues: list[Issue], *, made: bool = False) -> None:
    """Raise when an issue is an error; warnings do not stop a write. What is valid and not served is no bad request."""
    codes = {issue.code for issue in issues if issue.severity in ("error", "fatal")}
    if codes:
        refusal = Invalid if made or codes == {"not-supported"} else InvalidResource
        raise refusal("the resource is not valid", issues=issues)
