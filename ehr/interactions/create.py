"""create: a new resource under an id of the server's choice.

Keeps:   an id in the body is not used (http.html#create: "if an id is provided, the server SHALL ignore it")
Source:  FHIR R4 http.html#create
"""

from collections.abc import Mapping
from typing import Any

from ehr.store.unit_of_work import UnitOfWork
from ehr.store.version import Version


async def create(uow: UnitOfWork, type_name: str, body: bytes, tree: Mapping[str, Any]) -> Version:
    """The first version."""
    return await uow.resources.create(type_name, body, tree)
