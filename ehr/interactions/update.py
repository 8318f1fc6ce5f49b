"""update: the next version of a resource, or the first one under an id the client chose.

Errors:  Malformed where the body's id is missing or another; Invalid from the gate; PreconditionFailed by If-Match
         or If-None-Match
Source:  FHIR R4 http.html#update, #upsert
"""

from collections.abc import Mapping
from typing import Any

from ehr.errors import Malformed
from ehr.store import gate
from ehr.store.preconditions import Versions
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version


def accepted(type_name: str, id: str, body: bytes) -> dict[str, Any]:
    """The body as a valid resource that says the id it is put under."""
    tree = gate.accept(type_name, body)
    if "id" not in tree:
        raise Malformed("an update's body has the id of its address", at=f"{type_name}.id")
    if tree["id"] != id:
        raise Malformed("the body has another id than the address", at=f"{type_name}.id")
    return tree


async def update(
    uow: UnitOfWork,
    type_name: str,
    id: str,
    body: bytes,
    tree: Mapping[str, Any],
    *,
    if_match: Versions | None = None,
    if_none: bool = False,
) -> tuple[Version, bool]:
    """The version that now stands, and whether it is the first; if_none: it must be."""
    return await uow.resources.update(type_name, id, body, tree, if_match=if_match, if_none=if_none)
