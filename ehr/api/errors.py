"""The edge of the HTTP side: whatever escapes a route becomes an answer, and nothing about it leaks.

In:      EhrError from any route; Starlette's own 404 and 405; errors of a database that is away; any other exception
Out:     an OperationOutcome under /fhir, else {"status", "issues"}; a bug is 500 without details, and a log line
"""

from http import HTTPStatus
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ehr.api.answer import Answer, error_answer, outcome_answer
from ehr.errors import EhrError, Invalid, Issue, MethodNotAllowed, NotFound
from ehr.store import faults

BUG: Final = Issue("exception", "an internal error; it was logged under the X-Request-Id of this answer")


def install(app: FastAPI) -> None:
    """Register the handlers of errors that routes raise."""
    app.add_exception_handler(EhrError, _ehr_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _request_validation)


def escaped_answer(path: str, error: Exception) -> Answer:
    """The answer to an exception that no route foresaw: the database is away, or it is a bug."""
    refusal = faults.refused(error)
    if refusal is not None:
        return answer_of(path, refusal)
    if is_fhir(path):
        return outcome_answer(500, [BUG])
    return _plain(500, [BUG])


def answer_of(path: str, error: EhrError) -> Answer:
    """The answer to a refusal, in the format of the part of the site it belongs to."""
    answer = error_answer(error)
    if is_fhir(path):
        return answer
    kept = [header for header in answer.headers if header[0] != b"content-type"]
    return _plain(error.http_status, error.issues, kept)


def is_fhir(path: str) -> bool:
    return path == "/fhir" or path.startswith("/fhir/")


def _plain(status: int, issues: list[Issue], headers: list[tuple[bytes, bytes]] | None = None) -> Answer:
    listed = [{"code": issue.code, "text": issue.text, "at": issue.at} for issue in issues]
    body = orjson.dumps({"status": status, "issues": listed})
    return Answer(status, body, [(b"content-type", b"application/json"), *(headers or [])])


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


async def _ehr_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EhrError)
    return _response(answer_of(request.url.path, error))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return _response(answer_of(path, NotFound("there is nothing at this address")))
    if error.status_code == 405:
        response = _response(answer_of(path, MethodNotAllowed("this address has no such method")))
        response.headers.update(error.headers or {})
        return response
    text = HTTPStatus(error.status_code).phrase
    return _response(_plain(error.status_code, [Issue("processing", text)]))


async def _request_validation(request: Request, error: Exception) -> Response:
    """FastAPI's list of what is wrong, without the values that were sent."""
    assert isinstance(error, RequestValidationError)
    issues = [Issue("structure", str(one["msg"]), ".".join(map(str, one["loc"]))) for one in error.errors()]
    return _response(answer_of(request.url.path, Invalid("the request is not valid", issues=issues)))
