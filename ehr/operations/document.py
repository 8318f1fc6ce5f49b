"""$document: a Composition and what it refers to, as one document Bundle.

In:      id of a Composition; the FHIR base, by which an absolute reference may name what is here
Out:     tree of a Bundle of type document: the Composition first, then what it names, then what those name
Whole:   a reference of the Composition that cannot be followed here refuses the document; one to another server stays
         a reference; further away, what is not there or not for the caller is left out
Limits:  limits.document_resources_max
Errors:  NotFound, Gone, Forbidden as a read of the Composition; Invalid naming the reference; TooMuch
Source:  FHIR R4 composition-operation-document.html, documents.html
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ehr import limits
from ehr.clock import instant
from ehr.errors import Invalid, TooMuch
from ehr.fhir import codec, references
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import new_id
from ehr.store import everything as rows
from ehr.store import gate
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version

Key = tuple[str, str]

_IDENTIFIER: Final = "urn:ietf:rfc:3986"


async def document(uow: UnitOfWork, id: str, *, base_url: str) -> dict[str, Any]:
    """The document as of now."""
    composition = await uow.resources.read("Composition", id)
    gathered = {("Composition", id): composition}
    tree = _tree(composition)
    wanted = _named(tree, base_url)
    held = await _take(uow, gathered, wanted)
    for key, at in wanted.items():
        if key not in gathered:
            raise Invalid(f"the composition refers to a {key[0]} that cannot be read here", at=at)
    while held:
        held = await _take(uow, gathered, {key: "" for one in held for key in _named(_tree(one), base_url)})
    shards = {one.shard for one in gathered.values() if one.type_name in PATIENT_TYPES}
    await uow.audit.execute("document", shards=shards, detail={"resources": len(gathered)})
    return _bundle(gathered.values(), base_url, uow)


async def persisted(uow: UnitOfWork, bundle: Mapping[str, Any]) -> Version:
    """The document as a stored Bundle."""
    gate.check("Bundle", bundle, made=True)
    return await uow.resources.create("Bundle", None, bundle)


async def _take(uow: UnitOfWork, gathered: dict[Key, Version], wanted: Mapping[Key, str]) -> list[Version]:
    """What of it is new, for the caller, and there."""
    new = sorted(key for key in wanted if key not in gathered)
    if len(gathered) + len(new) > limits.document_resources_max:
        raise TooMuch(f"the document would have over {limits.document_resources_max} resources", at="Composition")
    found = await rows.many(uow, new)
    gathered |= {(one.type_name, one.id): one for one in found}
    return found


def _tree(version: Version) -> dict[str, Any]:
    assert version.body is not None, "current resources have bodies"
    return codec.loads(version.body)


def _named(tree: Mapping[str, Any], base_url: str) -> dict[Key, str]:
    """What a resource refers to here → the place of its first reference."""
    found: dict[Key, str] = {}
    for one in references.find(tree):
        parsed = references.parse(one.value)
        here = parsed.kind == "relative" or (parsed.kind == "absolute" and parsed.base == base_url)
        if here and parsed.type in TYPE_IDS and parsed.id:
            found.setdefault((parsed.type, parsed.id), one.path)
    return found


def _bundle(gathered: Iterable[Version], base_url: str, uow: UnitOfWork) -> dict[str, Any]:
    moment = instant(uow.now)
    return {
        "resourceType": "Bundle",
        "id": new_id(),
        "meta": {"lastUpdated": moment},
        "identifier": {"system": _IDENTIFIER, "value": f"urn:uuid:{new_id()}"},
        "type": "document",
        "timestamp": moment,
        "entry": [{"fullUrl": f"{base_url}/{one.reference}", "resource": _tree(one)} for one in gathered],
    }
