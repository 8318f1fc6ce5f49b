"""The identity app's door: the health book of the citizen with a national number.

Route    GET /identity/v1/citizens/{cccd}/health-book → JSON (ehr.summary.health_book)
Access   the citizen's own token, or a client (the identity app) that may read Person and Patient
Errors   404 for a number nobody has and for another person's, alike
"""

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from ehr import identity
from ehr.access.authenticate import Authenticator
from ehr.access.policy import Caller
from ehr.errors import Forbidden, NotFound
from ehr.fhir import codec
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.gather import gather, sources_of_person
from ehr.summary.health_book import health_book

PATTERN: Final = r"^[0-9]{9}$|^[0-9]{12}$"
_UNKNOWN: Final = "no record is known under this number"


def router(record: Record, authenticator: Authenticator) -> APIRouter:
    """The routes of /identity/v1."""
    routes = APIRouter(prefix="/identity/v1", tags=["identity app"])

    @routes.get(
        "/citizens/{cccd}/health-book",
        summary="The electronic health book of one citizen",
        responses={
            200: {"content": {"application/json": {}}, "description": "Groups hanhChinh, tienSu, dotKham, tomTat"},
            401: {"description": "No token, or one that is not accepted"},
            404: {"description": "No record under this number for this caller"},
        },
    )
    async def read_health_book(
        request: Request, cccd: Annotated[str, Path(pattern=PATTERN, description="12-digit CCCD or 9-digit CMND")]
    ) -> Response:
        caller = authenticator.caller(request.headers, request.client.host if request.client else None)
        body = codec.dumps(await book(record, caller, cccd))
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return routes


async def book(record: Record, caller: Caller, cccd: str) -> dict[str, Any]:
    """The health book of the person who holds a national number."""
    granted = caller.kind == "citizen" or all(caller.grants.allow(name, "r") for name in ("Person", "Patient"))

    async def read(uow: UnitOfWork) -> dict[str, Any] | None:
        person_id = await identity.by_national_id(uow.connection, cccd)
        if not granted or uow.access.person_id not in (None, person_id):
            detail = {"refused": (NotFound if granted else Forbidden).http_status}
            await uow.audit.execute("health-book", person_id=person_id, detail=detail)
            return None
        if person_id is None:
            return None
        sources = await sources_of_person(uow, person_id)
        await uow.audit.execute("health-book", shards=sources.shards, detail={})
        return health_book(await gather(uow, sources), now=uow.now)

    found = await record.run(replace(caller, purpose="PATRQT"), read)
    if not granted:
        raise Forbidden("the health book needs the right to read Person and Patient")
    if found is None:
        raise NotFound(_UNKNOWN)
    return found
