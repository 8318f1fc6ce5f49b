"""Bundles of type transaction and batch: many interactions, one answer each.

transaction   atomic. Every condition is claimed and resolved inside the transaction, then all writes are flushed
              together, whatever the order of the entries; reads come last and see the result
batch         each entry is a transaction of its own; one that fails has its OperationOutcome in its place
In:           the tree of the Bundle; uow (transaction) or record and caller (batch)
Out:          the tree of the transaction-response or batch-response, entries in the order of the request
Errors:       any EhrError, its issues naming the entry: Bundle.entry[3].resource.status
Source:       FHIR R4 3.1.0.11 batch/transaction, 3.1.0.11.2 transaction processing rules
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from ehr import limits
from ehr.access.policy import Caller
from ehr.clock import instant
from ehr.errors import EhrError, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir import codec, outcome
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.validate import validate
from ehr.store import gate
from ehr.store.access_sql import require
from ehr.store.bundle_entries import Entry, read_entries
from ehr.store.bundle_resolution import Resolution, resolve
from ehr.store.resources import Write, Written
from ehr.store.version import Version
from ehr.store.writes import Noted

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

Prefer = Literal["minimal", "representation"]
Getter = Callable[["UnitOfWork", str], Awaitable[dict[str, Any]]]
"""Answers a GET entry that is not the read of one version (a search, a history): url → resource."""
Weave = Callable[[Mapping[int, tuple[Version, dict[str, Any]]]], Mapping[int, dict[str, Any]]]
"""Place of an entry → what it would replace, locked → what is to be written there instead of what was sent."""
Also = Callable[[Sequence[Version], Sequence[Version]], Sequence[Write]]
"""Versions about to be made, and those that stand unchanged → what is written with them."""


async def transaction(
    uow: "UnitOfWork",
    bundle: Mapping[str, Any],
    *,
    prefer: Prefer = "minimal",
    get: Getter | None = None,
    entries: list[Entry] | None = None,
    weave: Weave | None = None,
    also: Also | None = None,
) -> dict[str, Any]:
    """All entries or none. entries: what checked() gave, when the door called it before the transaction began."""
    if entries is None:
        entries = checked(bundle, weaves=weave is not None)
    resolution = await resolve(uow, entries)
    if weave is not None:
        entries = _woven(uow, entries, resolution, weave)
    standing = list(resolution.existing.values())
    asked = [_write(entry, resolution) for entry in entries if _writes(entry, resolution)]
    written = await uow.resources.apply(
        asked,
        holding=resolution.holding,
        noted=_glances(uow, standing, prefer),
        also=None if also is None else lambda made, kept: also(made, [*kept, *standing]),
    )
    by_entry = {write.at: result for write, result in zip(asked, written, strict=True)}
    answers = []
    for entry in entries:
        try:
            answers.append(await _answer(uow, entry, by_entry.get(entry.at), resolution, prefer=prefer, get=get))
        except EhrError as error:
            raise _at_entry(error, entry) from error
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}


def _woven(uow: "UnitOfWork", entries: list[Entry], resolution: Resolution, weave: Weave) -> list[Entry]:
    """The entries with what each conditional update means beside what is there; checked, because they are now whole."""
    held: dict[int, tuple[Version, dict[str, Any]]] = {}
    for place, entry in enumerate(entries):
        key = (entry.type_name, resolution.writes[entry.at].id) if _is_restated(entry) else None
        before = resolution.holding.current.get(key) if key else None
        if key and before:
            text = resolution.holding.text(key, uow.record.bodies)
            held[place] = before.as_version(*key, text), resolution.holding.tree(key, uow.record.bodies)
    new = weave(held) if held else {}
    woven = [replace(entry, resource=new.get(place, entry.resource)) for place, entry in enumerate(entries)]
    _check([entry for entry in woven if _is_restated(entry)])
    return woven


def _is_restated(entry: Entry) -> bool:
    """An update by a condition."""
    return entry.method == "PUT" and entry.criteria is not None


def _glances(uow: "UnitOfWork", standing: Sequence[Version], prefer: Prefer) -> list[Noted]:
    """Conditional creates tell which resource is there: a read. With its body it is audited where it is read."""
    for version in standing:
        require(uow.access, version.type_name, "r")
    return [
        Noted("R", version.type_name, version.id, version.shard)
        for version in standing
        if version.type_name in PATIENT_TYPES and version.body is None and prefer == "minimal"
    ]


async def batch(
    record: "Record",
    caller: Caller,
    bundle: Mapping[str, Any],
    *,
    prefer: Prefer = "minimal",
    get: Getter | None = None,
) -> dict[str, Any]:
    """Each entry by itself, in the order DELETE, POST, PUT, GET of the specification."""
    if bundle.get("type") != "batch":
        raise Malformed("Bundle.type is not batch", at="Bundle.type")
    entries = gate.entries(bundle)
    if len(entries) > limits.bundle_entries_max:
        raise TooMuch(f"the Bundle has more than {limits.bundle_entries_max} entries", at="Bundle.entry")
    answers: list[dict[str, Any]] = [{}] * len(entries)
    for position in sorted(range(len(entries)), key=lambda p: _turn(entries[p])):
        answers[position] = await _alone(record, caller, entries[position], position, prefer=prefer, get=get)
    return {"resourceType": "Bundle", "type": "batch-response", "entry": answers}


async def _alone(
    record: "Record", caller: Caller, entry: dict[str, Any], position: int, *, prefer: Prefer, get: Getter | None
) -> dict[str, Any]:
    async def work(uow: "UnitOfWork") -> dict[str, Any]:
        return await transaction(uow, {"type": "transaction", "entry": [entry]}, prefer=prefer, get=get)

    try:
        answered = await record.write(caller, work)
    except EhrError as error:
        moved = [_renumber(issue, position) for issue in error.issues]
        return {"response": {"status": _status(error.http_status), "outcome": outcome.operation_outcome(moved)}}
    only: dict[str, Any] = answered["entry"][0]
    return only


_TURNS: Mapping[str, int] = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2}


def _turn(entry: Mapping[str, Any]) -> int:
    request = entry.get("request")
    method = request.get("method") if isinstance(request, dict) else None
    return _TURNS.get(method if isinstance(method, str) else "", 3)


def checked(bundle: Mapping[str, Any], *, weaves: bool = False) -> list[Entry]:
    """The entries of a transaction, when every resource in it may be stored. Pure: best done before the transaction.

    weaves  conditional updates are checked later, when they are woven with what is there
    """
    if bundle.get("type") != "transaction":
        raise Malformed("Bundle.type is not transaction", at="Bundle.type")
    raw = gate.entries(bundle)
    if len(raw) > limits.bundle_entries_max:
        raise TooMuch(f"the Bundle has more than {limits.bundle_entries_max} entries", at="Bundle.entry")
    entries = read_entries(raw)
    _check([entry for entry in entries if not (weaves and _is_restated(entry))])
    return entries


def _check(entries: Sequence[Entry]) -> None:
    issues = [
        Issue(issue.code, issue.text, _inside(entry, issue.at), issue.severity)
        for entry in entries
        if entry.resource is not None and entry.method in ("POST", "PUT")
        for issue in validate(entry.resource, type_name=entry.type_name)
    ]
    gate.refuse_errors(issues)


def _inside(entry: Entry, at: str | None) -> str:
    """A resource's FHIRPath as seen from the Bundle: Observation.status → Bundle.entry[3].resource.status."""
    path = (at or entry.type_name).removeprefix(entry.type_name)
    return f"{entry.at}.resource{path if path[:1] in ('.', '') else '.' + path}"


def _writes(entry: Entry, resolution: Resolution) -> bool:
    return entry.method in ("POST", "PUT", "DELETE") and entry.at in resolution.writes


def _write(entry: Entry, resolution: Resolution) -> Write:
    target = resolution.writes[entry.at]
    if entry.method == "DELETE":
        return Write("D", entry.type_name, target.id, if_match=entry.if_match, at=entry.at)
    assert entry.resource is not None, "entries without a resource were refused"
    tree = resolution.rewritten(entry.resource)
    action: Literal["C", "U"] = "C" if entry.method == "POST" else "U"
    return Write(action, entry.type_name, target.id, None, tree, entry.if_match, entry.at, made_id=target.made_id)


async def _answer(
    uow: "UnitOfWork",
    entry: Entry,
    written: Written | None,
    resolution: Resolution,
    *,
    prefer: Prefer,
    get: Getter | None,
) -> dict[str, Any]:
    if entry.method == "GET":
        return await _read(uow, entry, get)
    if entry.method == "DELETE":
        version = written.version if written else None
        return {"response": {"status": "204 No Content"} | ({"etag": version.etag} if version else {})}
    if written is None:  # a conditional create that found its resource
        existing = resolution.existing[entry.at]
        if prefer == "representation" and existing.body is None:
            existing = await uow.resources.read(entry.type_name, existing.id)
        return _done(existing, "200 OK", prefer)
    assert written.version is not None, "a create or update has a version"
    return _done(written.version, "201 Created" if written.created else "200 OK", prefer)


def _done(version: Version, status: str, prefer: Prefer) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if prefer == "representation" and version.body is not None:
        answer["resource"] = codec.loads(version.body, bytes_max=limits.bundle_bytes_max)
    answer["response"] = {
        "status": status,
        "location": version.location,
        "etag": version.etag,
        "lastModified": instant(version.updated),
    }
    return answer


async def _read(uow: "UnitOfWork", entry: Entry, get: Getter | None) -> dict[str, Any]:
    """A read or vread here; everything else through the door's own reader."""
    if entry.id and not entry.query:
        number = entry.version
        version = await (
            uow.resources.read(entry.type_name, entry.id)
            if number is None
            else uow.resources.vread(entry.type_name, entry.id, number)
        )
        answer = _done(version, "200 OK", "representation")
        del answer["response"]["location"]
        return answer
    if get is None:
        raise NotSupported("this GET is not served inside a Bundle", at=f"{entry.at}.request.url")
    await uow.plan("values")
    return {"resource": await get(uow, entry.url), "response": {"status": "200 OK"}}


def _at_entry(error: EhrError, entry: Entry) -> EhrError:
    """The same error, its issues naming the entry."""
    named = [
        issue
        if issue.at and issue.at.startswith("Bundle.")
        else Issue(issue.code, issue.text, entry.at, issue.severity)
        for issue in error.issues
    ]
    return type(error)(str(error), issues=named)


def _renumber(issue: Issue, position: int) -> Issue:
    at = (issue.at or "Bundle.entry[0]").replace("Bundle.entry[0]", f"Bundle.entry[{position}]", 1)
    return Issue(issue.code, issue.text, at, issue.severity)


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
