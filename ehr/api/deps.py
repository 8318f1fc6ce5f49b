"""What a FastAPI route asks for: the record, and who is calling.

In:      a request of an app made by ehr.app.create_app
Out:     Record; Caller by the Authorization header; Caller by the citizen page's cookie
"""

from typing import Annotated, Final

from fastapi import Depends, Request

from ehr.access.authenticate import Authenticator
from ehr.access.policy import Caller
from ehr.access.token import NotAccepted
from ehr.api.exchange import header_map
from ehr.store.record import Record

CITIZEN_COOKIE: Final = "ehr_citizen"


def record_of(request: Request) -> Record:
    record: Record = request.app.state.record
    return record


def authenticator_of(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


async def caller_of(request: Request) -> Caller:
    """The caller of a JSON API: its bearer token, or the open access of a loopback peer. A cookie does not count."""
    peer = request.client.host if request.client else None
    return await authenticator_of(request).caller(header_map(request.scope), peer)


async def page_caller_of(request: Request) -> Caller:
    """The caller of a page: the citizen's cookie, else as a JSON API."""
    token = request.cookies.get(CITIZEN_COOKIE)
    if token is None:
        return await caller_of(request)
    caller = authenticator_of(request).of_token(token)
    if caller.kind != "citizen":
        raise NotAccepted("the cookie of a page is a citizen's")
    return caller


RecordOf = Annotated[Record, Depends(record_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
PageCallerOf = Annotated[Caller, Depends(page_caller_of)]
