"""References to what is here, written with its whole address → Type/id, as the rest of the record writes them.

In:      the body of a write, and the FHIR base
Out:     the same bytes where nothing in it begins with the base; else JSON with these references relative
Keeps:   references that name an entry of their Bundle by its fullUrl; every Bundle that is stored as such
Why:     relative and absolute references that resolve to the same match the same searches; and whose record a resource
         is in must not depend on how its client spells the patient
Source:  FHIR R4 3.1.1.4.12 reference, references.html#literal, bundle.html#references
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ehr import limits
from ehr.errors import EhrError
from ehr.fhir import codec, references


def resource_at_home(body: bytes, base: str) -> bytes:
    tree = _read(body, base)
    if tree is None or tree.get("resourceType") == "Bundle" or not _made_relative(tree, base, frozenset()):
        return body
    return codec.dumps(tree)


def bundle_at_home(body: bytes, base: str) -> bytes:
    """Of a batch or transaction."""
    tree = _read(body, base)
    entries = tree.get("entry") if tree is not None else None
    if tree is None or not isinstance(entries, list):
        return body
    sent = [one for one in entries if isinstance(one, dict)]
    named = frozenset(str(one["fullUrl"]) for one in sent if "fullUrl" in one and not _stays(one, base))
    resources = [one["resource"] for one in sent if isinstance(one.get("resource"), dict)]
    changed = [_made_relative(one, base, named) for one in resources]
    return codec.dumps(tree) if any(changed) else body


def _stays(entry: Mapping[str, Any], base: str) -> bool:
    """It is written where its fullUrl says."""
    request = entry.get("request")
    return isinstance(request, dict) and entry["fullUrl"] == f"{base}/{request.get('url')}"


def _read(body: bytes, base: str) -> dict[str, Any] | None:
    if urlsplit(base).netloc.encode() not in body:
        return None
    try:
        tree = codec.loads(body, bytes_max=limits.bundle_bytes_max)
    except EhrError:
        return None  # whoever accepts it says what is wrong
    return tree if isinstance(tree, dict) else None


def _made_relative(tree: Mapping[str, Any], base: str, named: frozenset[str]) -> bool:
    here = [one for one in references.find(tree) if one.value not in named and references.parse(one.value).base == base]
    for one in here:
        one.container["reference"] = one.value[len(base) + 1 :]
    return bool(here)
