"""The one door for what facilities send: keep the bytes, then apply what they mean, then answer.

keep      the message as received, durable by its own commit, before anything else is done with it
submit    its resources, a Provenance to facility and message, the ledger's state and the answer: one transaction
refuse    the sender must change it; fail: ours to try again. Both keep every issue for the operators
held      what the record has of a facility's own, for a message that restates or replaces it
Once:     the same facility, control id and content is the same message: nothing changes, the same answer is given.
          The same control id with other content is a message of its own, flagged, never dropped as a duplicate
Source:   `promises` P1, P2, C33; HL7 v2.5.1 2.9.2 (enhanced mode: accept means kept)
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import zstandard

from ehr import limits
from ehr.access.policy import Caller
from ehr.aside import LARGE_ENTRIES, aside, is_large
from ehr.clock import Clock, instant
from ehr.database.connection import Row
from ehr.errors import Forbidden, Issue, TooMuch
from ehr.fhir import codec
from ehr.fhir.vietnam import FACILITY_CODE
from ehr.ids import new_id
from ehr.store import bundles, criteria
from ehr.store.bundles import Weave
from ehr.store.resources import Write
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

CONTROL_ID_SYSTEM: Final = "urn:city-ehr:message-control-id"
LEDGER_SYSTEM: Final = "urn:city-ehr:intake-message"
KEEPER: Final = "intake"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sent a message and how. facility_id 0: not known; the message is kept all the same, and refused."""

    facility_id: int
    facility_code: str
    channel: str
    kind: str
    control_id: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the ledger knows of a message. duplicate: it was there before; answer: what was answered then."""

    message_id: int
    source: Source
    received: datetime
    duplicate: bool
    state: str
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The current version of a resource that a facility sent."""

    type_name: str
    id: str
    version: int
    tree: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FacilityRow:
    """A registered facility."""

    id: int
    code: str
    name: str
    feed: str
    active: bool
    organization_id: str | None
    location_id: str | None


Weaver = Callable[[Mapping[int, Held]], Mapping[int, dict[str, Any]]]
"""Place of an entry → what the record holds of it, locked → the resource to be written there."""

_KEEP: Final = """
WITH kept AS (
    INSERT INTO intake_message (facility_id, channel, kind, control_id, sha256, received, issues, body)
    VALUES ($1, $2, $3, $4, $5, $6,
            CASE WHEN EXISTS (SELECT 1 FROM intake_message o WHERE o.facility_id = $1 AND o.control_id = $4
                              AND o.sha256 <> $5) THEN $7::text::jsonb END, $8)
    ON CONFLICT (facility_id, control_id, sha256) DO NOTHING
    RETURNING id, received, state, answer
)
SELECT id, received, state, answer, false AS duplicate FROM kept
"""
_KNOWN: Final = """
SELECT id, received, state, answer, true AS duplicate FROM intake_message
WHERE facility_id = $1 AND control_id = $2 AND sha256 = $3
"""
_STATE: Final = "SELECT state, answer FROM intake_message WHERE id = $1"
_FINISH: Final = """
UPDATE intake_message SET state = $2, finished = $3, attempts = attempts + 1, answer = coalesce($4, answer),
    issues = CASE WHEN $5::text IS NULL THEN issues ELSE coalesce(issues, '[]'::jsonb) || $5::text::jsonb END
WHERE id = $1 AND state <> 'applied'
"""
_UNFINISHED: Final = """
SELECT m.id, m.facility_id, coalesce(f.code, '') AS code, m.channel, m.kind, m.control_id, m.received, m.state,
       m.answer, m.body
FROM intake_message m LEFT JOIN facility f ON f.id = m.facility_id
WHERE m.state IN ('received', 'failed') AND m.received < now() - $1 * interval '1 second' AND m.attempts < $2
  AND m.id > $4 ORDER BY m.id LIMIT $3
"""
_NEWEST: Final = """
SELECT id, sha256 FROM intake_message WHERE id = ANY($1::bigint[]) AND channel = $2 AND state = 'applied'
ORDER BY id DESC LIMIT 1
"""
_FACILITY: Final = "SELECT id, code, name, feed, active, organization_id, location_id FROM facility WHERE code = $1"
_FACILITY_BY_ID: Final = "SELECT id, code, name, feed, active, organization_id, location_id FROM facility WHERE id = $1"

_NOTHING: Final[Mapping[str, Any]] = {"resourceType": "Bundle", "type": "transaction-response"}
REUSED: Final = Issue("duplicate", "control id reused: another message of this facility had it", "MSH-10", "warning")
UNFINISHED_MAX: Final = 500
ATTEMPTS_MAX: Final = 20
FACILITY_REMEMBERED_S: Final = 60.0


class _AppliedAlready(Exception):
    """Another delivery of the message was applied first: this transaction leaves nothing."""


class Intake:
    def __init__(self, record: "Record") -> None:
        self._record = record
        self._facilities: dict[str | int, tuple[FacilityRow, float]] = {}

    async def keep(self, raw: bytes, source: Source) -> Receipt:
        """Make a message durable. Returns after the commit."""
        sha256, packed = await aside(is_large(raw), _kept, raw)
        key = (source.facility_id, source.control_id, sha256)
        async with self._record.reading(Caller.system(KEEPER)) as uow:  # one statement is one transaction
            row = await uow.connection.fetchrow(
                _KEEP,
                source.facility_id,
                source.channel,
                source.kind,
                source.control_id,
                sha256,
                uow.now,
                _REUSED,
                packed,
            ) or await uow.connection.fetchrow(_KNOWN, *key)
        assert row is not None, "a message that conflicts is there"
        return Receipt(row["id"], source, row["received"], row["duplicate"], row["state"], row["answer"])

    async def submit(
        self,
        bundle: Mapping[str, Any],
        receipt: Receipt,
        *,
        answer: Callable[[dict[str, Any]], bytes] | bytes,
        weave: Weaver | None = None,
    ) -> dict[str, Any]:
        """Apply a message's transaction Bundle. A message that is applied already changes nothing: no entry.

        weave  what conditional updates mean beside what is there, asked while nobody else can change it
        """
        facility = await self.facility_of(receipt.source.facility_id)
        caller = Caller.of_facility(receipt.source.facility_id, receipt.source.facility_code)
        if receipt.state == "applied":
            return dict(_NOTHING)
        count = len(bundle.get("entry", ()))
        entries = await aside(count > LARGE_ENTRIES, bundles.checked, bundle, weaves=weave is not None)
        woven = _as_held(weave) if weave is not None else None

        async def work(uow: "UnitOfWork") -> dict[str, Any]:
            def also(made: Sequence[Version], standing: Sequence[Version]) -> Sequence[Write]:
                return _provenance(uow, facility, receipt, made, standing)

            response = await bundles.transaction(uow, bundle, entries=entries, weave=woven, also=also)
            reply = answer if isinstance(answer, bytes) else answer(response)
            done = await uow.connection.execute(_FINISH, receipt.message_id, "applied", uow.now, reply, None)
            if done != "UPDATE 1":
                raise _AppliedAlready
            return response

        try:
            return await self._record.write(caller, work)
        except _AppliedAlready:
            return dict(_NOTHING)

    async def refuse(self, receipt: Receipt, issues: Sequence[Issue], answer: bytes) -> None:
        """The sender must change the message; this answer stands for its duplicates too."""
        await self._finish(receipt, "refused", answer, issues)

    async def fail(self, receipt: Receipt, issues: Sequence[Issue]) -> None:
        """Not the sender's fault: the recovery sweep tries again."""
        await self._finish(receipt, "failed", None, issues)

    async def unfinished(
        self, older_than_s: float, *, attempts_max: int = ATTEMPTS_MAX, after: int = 0
    ) -> list[tuple[Receipt, bytes]]:
        """Messages that were kept and neither applied nor refused, in the order they came, with their bytes.

        attempts_max  those that failed as often are left to an operator
        after         the id of the last message seen, for the next page
        """
        async with self._record.reading(Caller.system("intake recovery")) as uow:
            rows = await uow.connection.fetch(_UNFINISHED, older_than_s, attempts_max, UNFINISHED_MAX, after)
        return [(_receipt(row), zstandard.decompress(row["body"])) for row in rows]

    async def answer_of(self, receipt: Receipt) -> tuple[str, bytes | None]:
        """State and answer of a message now."""
        async with self._record.reading(Caller.system(KEEPER)) as uow:
            row = await uow.connection.fetchrow(_STATE, receipt.message_id)
        assert row is not None, "a receipt names a row of the ledger"
        return row["state"], row["answer"]

    async def held(self, facility: FacilityRow, asked: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Held]:
        """Each (type, search criteria) that means exactly one of the facility's own resources, with that one."""
        caller = Caller.of_facility(facility.id, facility.code)
        meant = {one: criteria.parse(*one) for one in asked}
        async with self._record.reading(caller) as uow:
            found = await criteria.matches_many(uow, caller, caller.access, list(meant.values()))
            return {
                one: await _current(uow, one[0], found[its][0]) for one, its in meant.items() if len(found[its]) == 1
            }

    async def held_with(self, facility: FacilityRow, type_name: str, parameter: str, value: str) -> list[Held]:
        """Every one of the facility's own resources of a type that a search parameter finds."""
        caller = Caller.of_facility(facility.id, facility.code)
        count_max = limits.episode_resources_max
        matcher = self._record.matcher
        assert matcher is not None, "an opened record has its search"
        async with self._record.reading(caller) as uow:
            ids = await matcher(
                uow.connection,
                type_name,
                [(parameter, value)],
                caller.access,
                source=facility.id,
                limit=count_max + 1,
            )
            if len(ids) > count_max:
                raise TooMuch(f"more than {count_max} resources of one type belong together", at=type_name)
            return [await _current(uow, type_name, id) for id in ids]

    async def newest(self, facility: FacilityRow, visit: Held, channel: str) -> tuple[int, bytes] | None:
        """The last message of a channel that wrote a visit: its id, and the SHA-256 of what was sent."""
        made = await self.held_with(facility, "Provenance", "target", f"Encounter/{visit.id}")
        ids = [int(number) for one in made if (number := _ledger_number(one.tree))]
        async with self._record.reading(Caller.system(KEEPER)) as uow:
            row = await uow.connection.fetchrow(_NEWEST, ids, channel)
        return (row["id"], row["sha256"]) if row else None

    @property
    def clock(self) -> Clock:
        return self._record.clock

    async def facility(self, code: str) -> FacilityRow | None:
        """The facility of a code; None when it is not registered. Found ones are remembered for a minute."""
        return await self._facility(code, _FACILITY)

    async def facility_of(self, facility_id: int) -> FacilityRow:
        """The facility a message or a token stands for, which must be registered and active."""
        found = await self._facility(facility_id, _FACILITY_BY_ID) if facility_id else None
        if found is None or not found.active:
            raise Forbidden("the sender is not a registered facility")
        return found

    async def _facility(self, key: str | int, statement: str) -> FacilityRow | None:
        now_s = self._record.clock.monotonic_s()
        known = self._facilities.get(key)
        if known is not None and now_s < known[1]:
            return known[0]
        async with self._record.reading(Caller.system(KEEPER)) as uow:
            row = await uow.connection.fetchrow(statement, key)
        if row is None:
            return None
        found = FacilityRow(**dict(row))
        for name in (found.code, found.id):
            self._facilities[name] = found, now_s + FACILITY_REMEMBERED_S
        return found

    async def _finish(self, receipt: Receipt, state: str, answer: bytes | None, issues: Sequence[Issue]) -> None:
        async with self._record.unit_of_work(Caller.system(KEEPER)) as uow:
            await uow.connection.execute(_FINISH, receipt.message_id, state, uow.now, answer, _issues_json(issues))


def _kept(raw: bytes) -> tuple[bytes, bytes]:
    """Digest and frame."""
    return hashlib.sha256(raw).digest(), zstandard.compress(raw, 1)


def _provenance(
    uow: "UnitOfWork",
    facility: FacilityRow,
    receipt: Receipt,
    made: Sequence[Version],
    standing: Sequence[Version],
) -> Sequence[Write]:
    """Which message of which facility made these versions. A Patient is named even where it did not change:
    so the Provenance lies with the patient. So is the visit of a claim file, by which its last file is found."""
    always = ("Patient", "Encounter") if receipt.source.channel == "claim_xml" else ("Patient",)
    targets = [{"reference": version.location} for version in (*made, *(v for v in standing if v.type_name in always))]
    if not targets:
        return ()
    source = receipt.source
    who: dict[str, Any] = {"identifier": {"system": FACILITY_CODE, "value": facility.code}}
    if facility.organization_id:
        who["reference"] = f"Organization/{facility.organization_id}"
    id = new_id()
    tree = {
        "resourceType": "Provenance",
        "id": id,
        "target": targets,
        "recorded": instant(uow.now),
        "agent": [{"who": who}],
        "entity": [
            {"role": "source", "what": {"identifier": {"system": CONTROL_ID_SYSTEM, "value": source.control_id}}},
            {"role": "source", "what": {"identifier": {"system": LEDGER_SYSTEM, "value": str(receipt.message_id)}}},
        ],
    }
    return (Write("C", "Provenance", id, None, tree, made_id=True),)


def _ledger_number(provenance: Mapping[str, Any]) -> str | None:
    named = (entity["what"].get("identifier", {}) for entity in provenance.get("entity", ()))
    return next((each["value"] for each in named if each.get("system") == LEDGER_SYSTEM), None)


def _as_held(weave: Weaver) -> Weave:
    def woven(standing: Mapping[int, tuple[Version, dict[str, Any]]]) -> Mapping[int, dict[str, Any]]:
        return weave({place: Held(v.type_name, v.id, v.version, tree) for place, (v, tree) in standing.items()})

    return woven


async def _current(uow: "UnitOfWork", type_name: str, id: str) -> Held:
    version = await uow.resources.read(type_name, id)
    assert version.body is not None, "a current version has a body"
    return Held(type_name, id, version.version, codec.loads(version.body))


def _receipt(row: Row) -> Receipt:
    source = Source(row["facility_id"], row["code"], row["channel"], row["kind"], row["control_id"])
    return Receipt(row["id"], source, row["received"], False, row["state"], row["answer"])


def _issues_json(issues: Sequence[Issue]) -> str:
    return orjson.dumps([{"code": i.code, "text": i.text, "at": i.at, "severity": i.severity} for i in issues]).decode()


_REUSED: Final = _issues_json([REUSED])
