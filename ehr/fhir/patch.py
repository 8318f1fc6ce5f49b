"""A patch: read from what was sent, laid over a stored resource, and what no patch may do.

In:      a JSON Patch document, alone or as the Binary of a Bundle's entry; a FHIRPath Patch as a Parameters resource;
         the stored text and its tree
Out:     Patch; the patched text and tree, to be checked like any update. Members that did not change keep their text
Keeps:   id, resourceType, meta.versionId and meta.lastUpdated
Text:    a narrative says what the data said before. Where a patch changes data and not the text, a generated
         narrative is dropped, and one that says more than the data (additional) refuses the patch
Errors:  Malformed, NotSupported for what is no patch; Invalid, TooMuch; those of the patch itself
         (ehr.fhir.patch_json, ehr.fhir.patch_fhirpath)
Source:  FHIR R4 http.html#patch ("SHALL ensure that the narrative … is not clinically unsafe"), narrative.html
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self

from ehr import limits
from ehr.errors import Invalid, Malformed, NotSupported, TooMuch
from ehr.fhir import codec, patch_fhirpath, patch_json

JSON_PATCH: Final = "application/json-patch+json"


class Patch(Protocol):
    """A tree → a new tree, or the reason why not."""

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]: ...

    @property
    def content(self) -> Mapping[str, Any]:
        """What of it may hold references."""
        ...

    def rewritten(self, mapping: Mapping[str, str]) -> Self:
        """The same with other references (ehr.fhir.references)."""
        ...


_TELLS_NOTHING: Final = frozenset({"id", "meta", "text"})
"""Members no narrative speaks of."""


def json_patch(body: bytes) -> Patch:
    """A document of type application/json-patch+json."""
    return patch_json.read(codec.loads_list(body))


def fhirpath_patch(parameters: Mapping[str, Any]) -> Patch:
    """A Parameters resource of operations."""
    return patch_fhirpath.read(parameters)


def of_entry(resource: object) -> Patch:
    """The patch that is the resource of a Bundle's entry."""
    kind = resource.get("resourceType") if isinstance(resource, Mapping) else None
    if isinstance(resource, Mapping) and kind == "Parameters":
        return fhirpath_patch(resource)
    if not isinstance(resource, Mapping) or kind != "Binary":
        raise Malformed("the resource of a PATCH is Parameters, or a Binary that holds a JSON Patch", at="resource")
    if resource.get("contentType") != JSON_PATCH:
        raise NotSupported(f"a patch is {JSON_PATCH}", at="Binary.contentType")
    try:
        body = base64.b64decode(resource.get("data", ""), validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Malformed("the patch is base64", at="Binary.data") from error
    return json_patch(body)


def applied(text: bytes, before: Mapping[str, Any], patch: Patch) -> tuple[bytes, dict[str, Any]]:
    """What is to be written instead of a stored version."""
    after = patch(before)
    codec.refuse_deep(after)
    _refuse_identity(before, after)
    _settle_narrative(before, after)
    body = codec.with_changes(text, before, after)
    if len(body) > limits.resource_bytes_max:
        raise TooMuch(f"the patched resource has {len(body)} bytes, the limit is {limits.resource_bytes_max}")
    return body, after


def _refuse_identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    type_name = before["resourceType"]
    for name in ("resourceType", "id"):
        if after.get(name) != before[name]:
            raise Invalid(f"a patch does not change {name}", at=f"{type_name}.{name}")
    meta = after.get("meta")
    if not isinstance(meta, dict):
        return
    for name in ("versionId", "lastUpdated"):
        if meta.get(name, before["meta"][name]) != before["meta"][name]:
            raise Invalid(f"meta.{name} is set by the server", at=f"{type_name}.meta.{name}")


def _settle_narrative(before: Mapping[str, Any], after: dict[str, Any]) -> None:
    text = before.get("text")
    if text is None or codec.dumps(after.get("text")) != codec.dumps(text):
        return
    if _told(before) == _told(after):
        return
    if text.get("status") == "additional":
        why = "the narrative says more than the data (additional): change text in the same patch, or send an update"
        raise Invalid(why, at=f"{before['resourceType']}.text.status")
    del after["text"]


def _told(tree: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: codec.dumps(value) for name, value in tree.items() if name not in _TELLS_NOTHING}
