"""batch: many interactions in one request, each by itself.

Order:   DELETE, POST, PUT and PATCH, then reads; entries do not rest on each other, and a reference to what another
         one creates is refused
Writes:  each is a transaction of its own
Out:     the tree of the batch-response, entries in the order of the request; one that fails has its OperationOutcome
         in its place
Source:  FHIR R4 http.html#transaction, 3.1.0.11.1 batch processing rules
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import EhrError, Invalid, Issue, Malformed, TooMuch
from ehr.fhir import outcome, references
from ehr.store import bundles, gate
from ehr.store.bundle_entries import READS, placed, refuse_unknown
from ehr.store.bundles import Prefer
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

Denied = Callable[[Mapping[str, Any], EhrError], Awaitable[None]]
"""Is told of an entry that was refused, for its audit row."""

Serve = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Answers an entry that reads or executes an operation, as the door would answer its request alone."""

_ALONE: Final = "Bundle.entry[0]"
"""The place of an entry that is asked by itself."""

_TURNS: Final[Mapping[str, int]] = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2}


async def batch(
    record: Record,
    caller: Caller,
    bundle: Mapping[str, Any],
    *,
    serve: Serve,
    denied: Denied,
    prefer: Prefer = "minimal",
) -> dict[str, Any]:
    """Every entry's answer."""
    if bundle.get("type") != "batch":
        raise Malformed("Bundle.type is not batch", at="Bundle.type")
    entries = gate.entries(bundle)
    if len(entries) > limits.bundle_entries_max:
        raise TooMuch(f"the Bundle has more than {limits.bundle_entries_max} entries", at="Bundle.entry")
    created = {entry["fullUrl"]: place for place, entry in enumerate(entries) if _creates(entry)}
    answers: list[dict[str, Any]] = [{}] * len(entries)
    for place in sorted(range(len(entries)), key=lambda p: _turn(entries[p])):
        entry = entries[place]
        try:
            _refuse_dependence(entry, place, created)
            if _is_served(entry):
                refuse_unknown(_ALONE, entry)
                answers[place] = await serve(entry)
            else:
                answers[place] = await _written(record, caller, entry, prefer)
        except EhrError as error:
            await denied(_request(entry), error)
            issues = placed(error, _ALONE).issues
            told = outcome.operation_outcome([_of_place(issue, place) for issue in issues])
            answers[place] = {"response": {"status": _status(error.http_status), "outcome": told}}
    return {"resourceType": "Bundle", "type": "batch-response", **({"entry": answers} if answers else {})}


async def _written(record: Record, caller: Caller, entry: Mapping[str, Any], prefer: Prefer) -> dict[str, Any]:
    async def work(uow: UnitOfWork) -> dict[str, Any]:
        return await bundles.transaction(uow, {"type": "transaction", "entry": [entry]}, prefer=prefer)

    answered = await record.write(caller, work)
    only: dict[str, Any] = answered["entry"][0]
    return only


def _request(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    request = entry.get("request")
    return request if isinstance(request, dict) else {}


def _method(entry: Mapping[str, Any]) -> str:
    method = _request(entry).get("method")
    return method if isinstance(method, str) else ""


def _turn(entry: Mapping[str, Any]) -> int:
    return _TURNS.get(_method(entry), 3)


def _is_served(entry: Mapping[str, Any]) -> bool:
    """A read, or an operation: "Patient/1/$everything"."""
    url = _request(entry).get("url")
    if not isinstance(url, str) or not url:
        return False
    method = _method(entry)
    return method in READS or (method == "POST" and "/$" in f"/{url.partition('?')[0]}")


def _creates(entry: Mapping[str, Any]) -> bool:
    return _method(entry) == "POST" and isinstance(entry.get("fullUrl"), str)


def _refuse_dependence(entry: Mapping[str, Any], place: int, created: Mapping[str, int]) -> None:
    resource = entry.get("resource")
    named: Sequence[str] = references.outward(resource) if created and isinstance(resource, dict) else ()
    for text in named:
        if created.get(text, place) != place:
            why = f"refers to what entry {created[text]} creates: entries of a batch stand alone; send a transaction"
            raise Invalid(why, at=f"{_ALONE}.resource")


def _of_place(issue: Issue, place: int) -> Issue:
    """An issue of an entry that was alone, as one of its place in the Bundle."""
    at = (issue.at or _ALONE).replace(_ALONE, f"Bundle.entry[{place}]", 1)
    return Issue(issue.code, issue.text, at, issue.severity)


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
