"""Transactions: many interactions, all of them or none, one answer each.

Order:   every condition is claimed and resolved inside the transaction, then all writes are flushed together, whatever
         the order of the entries: no two of them mean the same resource, so the specification's order of DELETE, POST,
         PUT and PATCH cannot be told from any other; reads come last and see the result
In:      the tree of the Bundle; uow
Out:     the tree of the transaction-response, entries in the order of the request
Errors:  any EhrError, its issues naming the entry: Bundle.entry[3].resource.status
Source:  FHIR R4 3.1.0.11.2 transaction processing rules
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ehr import limits
from ehr.aside import Turns
from ehr.clock import instant
from ehr.errors import EhrError, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir import codec, outcome
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.store import gate
from ehr.store.access_sql import require
from ehr.store.bundle_entries import READS, Entry, placed, read_entries
from ehr.store.bundle_resolution import Resolution, resolve
from ehr.store.preconditions import refuse_unmet
from ehr.store.resources import Write, Written
from ehr.store.version import Version
from ehr.store.writes import Noted

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Prefer = Literal["minimal", "representation", "OperationOutcome"]
Getter = Callable[["UnitOfWork", str], Awaitable[dict[str, Any]]]
"""Answers a read that is not that of one version (a search, a history): url → resource."""
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
    turns, writing = Turns(), [entry for entry in entries if _writes(entry, resolution)]
    asked = await turns.each(lambda entry: _write(entry, resolution), writing)
    written = await uow.resources.apply(
        asked,
        holding=resolution.holding,
        noted=_glances(uow, standing, resolution, prefer),
        also=None if also is None else lambda made, kept: also(made, [*kept, *standing]),
    )
    by_entry = {write.at: result for write, result in zip(asked, written, strict=True)}
    answers = []
    for entry in entries:
        try:
            answers.append(await _answer(uow, entry, by_entry.get(entry.at), resolution, prefer=prefer, get=get))
        except EhrError as error:
            raise placed(error, entry.at) from error
        await turns.take()
    return {"resourceType": "Bundle", "type": "transaction-response", **({"entry": answers} if answers else {})}


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
    woven = [entry.with_resource(new[place]) if place in new else entry for place, entry in enumerate(entries)]
    _check([entry for entry in woven if _is_restated(entry)])
    return woven


def _is_restated(entry: Entry) -> bool:
    """An update by a condition."""
    return entry.method == "PUT" and entry.criteria is not None


def _glances(uow: "UnitOfWork", standing: Sequence[Version], resolution: Resolution, prefer: Prefer) -> list[Noted]:
    """Conditional creates tell which resource is there: a read. With its body it is audited where it is read."""
    for version in standing:
        require(uow.access, version.type_name, "r")
    return [
        Noted("R", version.type_name, version.id, version.shard)
        for version in standing
        if version.type_name in PATIENT_TYPES
        and version.body is None
        and (prefer != "representation" or (version.type_name, version.id) in resolution.holding.current)
    ]


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
        for issue in gate.issues(entry.resource, entry.type_name)
    ]
    gate.refuse_errors(issues)


def _inside(entry: Entry, at: str | None) -> str:
    """A resource's FHIRPath as seen from the Bundle: Observation.status → Bundle.entry[3].resource.status."""
    path = (at or entry.type_name).removeprefix(entry.type_name)
    return f"{entry.at}.resource{path if path[:1] in ('.', '') else '.' + path}"


def _writes(entry: Entry, resolution: Resolution) -> bool:
    return entry.method not in READS and entry.at in resolution.writes


def _write(entry: Entry, resolution: Resolution) -> Write:
    target = resolution.writes[entry.at]
    if entry.method == "DELETE":
        return Write("D", entry.type_name, target.id, if_match=entry.if_match, at=entry.at)
    if entry.patch is not None:
        patch = entry.patch.rewritten(resolution.mapping_of(entry))
        return Write("U", entry.type_name, target.id, if_match=entry.if_match, at=entry.at, patch=patch)
    assert entry.resource is not None, "entries without a resource were refused"
    return Write(
        "C" if entry.method == "POST" else "U",
        entry.type_name,
        target.id,
        None,
        resolution.rewritten(entry, entry.resource),
        entry.if_match,
        entry.at,
        made_id=target.made_id,
        if_none=entry.if_none,
    )


async def _answer(
    uow: "UnitOfWork",
    entry: Entry,
    written: Written | None,
    resolution: Resolution,
    *,
    prefer: Prefer,
    get: Getter | None,
) -> dict[str, Any]:
    if entry.method in READS:
        return await _read(uow, entry, get)
    if entry.method == "DELETE":
        version = written.version if written else None
        return {"response": {"status": "204 No Content"} | (_validators(version) if version else {})}
    if written is None:  # a conditional create that found its resource
        existing = resolution.existing[entry.at]
        if prefer == "representation" and existing.body is None:
            held = _held(uow, existing, resolution)
            existing = held or await uow.resources.read(entry.type_name, existing.id)
        return _done(existing, "200 OK", prefer)
    assert written.version is not None, "a create or update has a version"
    return _done(written.version, "201 Created" if written.created else "200 OK", prefer)


def _held(uow: "UnitOfWork", found: Version, resolution: Resolution) -> Version | None:
    """What a conditional create found, as it was before another entry wrote it: creates come before updates."""
    key = found.type_name, found.id
    before = resolution.holding.current.get(key)
    if before is None:
        return None
    return before.as_version(*key, resolution.holding.text(key, uow.record.bodies))


def _done(version: Version, status: str, prefer: Prefer) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if prefer == "representation" and version.body is not None:
        answer["resource"] = codec.loads(version.body, bytes_max=limits.bundle_bytes_max)
    answer["response"] = {"status": status, "location": version.location, **_validators(version)}
    if prefer == "OperationOutcome":
        said = "created" if status.startswith("201") else "stored"
        answer["response"]["outcome"] = outcome.operation_outcome([Issue("informational", said, None, "information")])
    return answer


def _validators(version: Version) -> dict[str, str]:
    return {"etag": version.etag, "lastModified": instant(version.updated)}


async def _read(uow: "UnitOfWork", entry: Entry, get: Getter | None) -> dict[str, Any]:
    """A read or vread here; everything else through the door's own reader."""
    if entry.id and not entry.query:
        number = entry.version
        version = await (
            uow.resources.read(entry.type_name, entry.id)
            if number is None
            else uow.resources.vread(entry.type_name, entry.id, number)
        )
        assert version.body is not None, "a read finds a resource that is not deleted"
        refuse_unmet(entry.type_name, version.version, entry.if_match, only_new=False, at=entry.at)
        if _not_modified(entry, version):
            return {"response": {"status": "304 Not Modified", **_validators(version)}}
        found, response = codec.loads(version.body, bytes_max=limits.bundle_bytes_max), _validators(version)
    else:
        if get is None:
            raise NotSupported("this GET is not served inside a Bundle", at=f"{entry.at}.request.url")
        await uow.plan("values")
        found, response = await get(uow, entry.url), {}
    answer: dict[str, Any] = {"response": {"status": "200 OK", **response}}
    return answer if entry.method == "HEAD" else {"resource": found, **answer}


def _not_modified(entry: Entry, version: Version) -> bool:
    """Whether a conditional read brings nothing; ifNoneMatch decides where both are given (RFC 9110 13.2.2)."""
    if entry.unless:
        return bool(entry.unless & {"*", str(version.version)})
    return entry.since is not None and version.updated <= entry.since
