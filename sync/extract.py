"""The change feed → dossiers that wait to be sent.

In:      changes of the types a claim is made of; the reader's own cursor moves in the same transaction
Out:     rows of sync_dossier in state pending: one a (facility, MA_LK); a change after sending is a new attempt
Also:    an episode that was claimed and is withdrawn (cancelled, opened again, deleted, insured no more) gets an
         attempt too; it is withheld at sealing, where the operator sees that the insurer still holds the last one
Why:     only which episodes are touched is decided here. Whether they can be sent, and whether anything in them
         changed at all, is decided when a batch is sealed, from the record as it is then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ehr import limits
from ehr.access.policy import Caller
from ehr.fhir.elements import identifier_of, target_of
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.vietnam import EPISODE_LINK
from ehr.store.changes import Change, load_cursor, read_changes, save_cursor
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync.episode import card_of
from sync.read import tree_of

READER: Final = "sync"
CALLER: Final = Caller.system("insurance claim", purpose="HPAYMT")

_OF_ENCOUNTER: Final = (
    "ChargeItem",
    "Observation",
    "MedicationRequest",
    "MedicationDispense",
    "MedicationAdministration",
    "ServiceRequest",
    "Procedure",
    "DiagnosticReport",
    "ClinicalImpression",
    "Condition",
)
_OF_PATIENT: Final = ("Patient", "Coverage")
TYPES: Final = ("Encounter", *_OF_ENCOUNTER, *_OF_PATIENT)

_ALONE: Final = "SELECT pg_advisory_xact_lock(hashtext('sync.extract'))"
"""One extractor at a time: the cursor has no row to lock before its first page."""

_BODIES: Final = "SELECT r.body FROM unnest($2::text[]) AS w(id) JOIN resource r ON r.type_id = $1 AND r.id = w.id"
_BEFORE: Final = """
SELECT h.body FROM unnest($2::text[], $3::int[]) AS w(id, version)
JOIN resource_history h ON h.type_id = $1 AND h.id = w.id AND h.version = w.version - 1 AND h.body IS NOT NULL
"""
"""What an updated one said before: a charge that was moved to another stay is no longer that of the first."""
_ENCOUNTERS: Final = """
SELECT r.id, r.version, r.source, r.shard, r.body FROM unnest($2::text[]) AS w(id)
JOIN resource r ON r.type_id = $1 AND r.id = w.id AND r.source > 0
UNION
SELECT r.id, r.version, r.source, r.shard, r.body FROM resource r
WHERE r.type_id = $1 AND r.shard = ANY($3::bigint[]) AND r.source > 0
"""
_CLAIMED: Final = """
SELECT encounter_id, encounter_version, facility_id, ma_lk FROM (
  SELECT DISTINCT ON (facility_id, ma_lk) encounter_id, encounter_version, facility_id, ma_lk FROM sync_dossier
  WHERE (facility_id, ma_lk) IN (SELECT facility_id, ma_lk FROM sync_dossier WHERE encounter_id = ANY($1::text[]))
  ORDER BY facility_id, ma_lk, attempt DESC
) last WHERE encounter_id = ANY($1::text[])
"""
_COVERED: Final = "SELECT DISTINCT shard FROM resource WHERE type_id = $1 AND shard = ANY($2::bigint[])"
_COVERAGES: Final = "SELECT shard, body FROM resource WHERE type_id = $1 AND shard = ANY($2::bigint[])"
_AS_SEALED: Final = """
SELECT b.id FROM sync_batch b WHERE b.state = 'open' AND b.id IN (
  SELECT d.batch_id FROM sync_dossier d JOIN unnest($1::int[], $2::text[]) AS w(facility_id, ma_lk)
    USING (facility_id, ma_lk))
ORDER BY b.id FOR SHARE
"""
"""Waits for those who seal one of these batches now, who may have read the record before the change; one that is
sealed after this reads the change."""
_LAST: Final = """
SELECT d.id, d.facility_id, d.ma_lk, d.attempt, d.state, b.state AS batch_state
FROM sync_dossier d JOIN unnest($1::int[], $2::text[]) AS w(facility_id, ma_lk) USING (facility_id, ma_lk)
LEFT JOIN sync_batch b ON b.id = d.batch_id
ORDER BY d.facility_id, d.ma_lk, d.attempt FOR UPDATE OF d
"""
_INSERT: Final = """
INSERT INTO sync_dossier (ma_lk, facility_id, encounter_id, encounter_version, attempt) VALUES ($1, $2, $3, $4, $5)
"""
_AGAIN: Final = """
UPDATE sync_dossier SET state = 'pending', encounter_id = $2, encounter_version = $3, error_code = NULL,
  error_text = NULL WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Touched:
    """What a page of changes may have altered.

    encounters  ids named by the changes
    patients    shards whose person or card changed: only what the insurer has not accepted is looked at again
    erased      shards that lost a resource: everything in them is looked at again
    deleted     ids of encounters that are gone
    """

    encounters: frozenset[str]
    patients: frozenset[int]
    erased: frozenset[int]
    deleted: frozenset[str]


async def extract(record: Record, *, page: int = limits.claim_page_changes_max) -> int:
    """Take one page of the feed; the number of changes read, 0 when there is nothing new."""

    async def work(uow: UnitOfWork) -> int:
        await uow.connection.execute(_ALONE)
        position = await load_cursor(uow.connection, READER)
        changes = await read_changes(uow.connection, position, page, TYPES)
        if not changes:
            return 0
        touched = await _touched(uow, await _of_covered(uow, changes))
        await _register(uow, await _candidates(uow, touched))
        await save_cursor(uow.connection, READER, changes[-1].position)
        return len(changes)

    return await record.run(CALLER, work)


async def _of_covered(uow: UnitOfWork, changes: Sequence[Change]) -> list[Change]:
    """Only changes of patients who have or lost a Coverage: a large import of others costs one statement a page."""
    shards = sorted({change.shard for change in changes})
    rows = await uow.connection.fetch(_COVERED, TYPE_IDS["Coverage"], shards)
    covered = {row["shard"] for row in rows}
    covered |= {change.shard for change in changes if change.type_name == "Coverage" and change.op == "D"}
    return [change for change in changes if change.shard in covered]


async def _touched(uow: UnitOfWork, changes: Sequence[Change]) -> Touched:
    encounters = {change.id for change in changes if change.type_name == "Encounter" and change.op != "D"}
    for type_name in _OF_ENCOUNTER:
        written = [change for change in changes if change.type_name == type_name and change.op != "D"]
        if not written:
            continue
        type_id, updated = TYPE_IDS[type_name], [change for change in written if change.version > 1]
        rows = list(await uow.connection.fetch(_BODIES, type_id, sorted({change.id for change in written})))
        if updated:
            before = [change.id for change in updated], [change.version for change in updated]
            rows += await uow.connection.fetch(_BEFORE, type_id, *before)
        for row in rows:
            tree = tree_of(uow, row["body"])
            of = target_of(tree.get("encounter") or tree.get("context"))
            if of.startswith("Encounter/"):
                encounters.add(of.removeprefix("Encounter/"))
    return Touched(
        frozenset(encounters),
        frozenset(change.shard for change in changes if change.type_name in _OF_PATIENT),
        frozenset(change.shard for change in changes if change.op == "D"),
        frozenset(change.id for change in changes if change.op == "D" and change.type_name == "Encounter"),
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encounter. named: a change named it, not only its patient. finished: it is insured and may be claimed; one
    that is not (any more) matters where it was claimed before."""

    id: str
    version: int
    facility_id: int
    ma_lk: str
    named: bool
    finished: bool


async def _candidates(uow: UnitOfWork, touched: Touched) -> list[Candidate]:
    shards = sorted(touched.patients | touched.erased)
    rows = await uow.connection.fetch(_ENCOUNTERS, TYPE_IDS["Encounter"], sorted(touched.encounters), shards)
    insured = await _insured(uow, {row["shard"] for row in rows})
    found = [
        Candidate(row["encounter_id"], row["encounter_version"], row["facility_id"], row["ma_lk"], True, False)
        for row in (await uow.connection.fetch(_CLAIMED, sorted(touched.deleted)) if touched.deleted else ())
    ]
    for row in rows:
        tree = tree_of(uow, row["body"])
        ma_lk = identifier_of(tree, EPISODE_LINK)
        if ma_lk:
            is_insured = row["shard"] in insured
            named = row["id"] in touched.encounters or row["shard"] in touched.erased or not is_insured
            finished = is_insured and tree.get("status") == "finished"
            found.append(Candidate(row["id"], row["version"], row["source"], ma_lk, named, finished))
    return found


async def _insured(uow: UnitOfWork, shards: Iterable[int]) -> set[int]:
    """The shards whose patient has a BHYT card."""
    rows = await uow.connection.fetch(_COVERAGES, TYPE_IDS["Coverage"], sorted(shards))
    return {row["shard"] for row in rows if card_of(tree_of(uow, row["body"]))}


async def _register(uow: UnitOfWork, found: Sequence[Candidate]) -> None:
    """Make each wait to be sent, unless it waits already or nothing that was accepted is touched."""
    numbers = [one.facility_id for one in found], [one.ma_lk for one in found]
    await uow.connection.execute(_AS_SEALED, *numbers)
    rows = await uow.connection.fetch(_LAST, *numbers)
    last = {(row["facility_id"], row["ma_lk"]): row for row in rows}
    for one in {(one.facility_id, one.ma_lk): one for one in found}.values():
        row = last.get((one.facility_id, one.ma_lk))
        if row is None:
            if one.finished:
                await uow.connection.execute(_INSERT, one.ma_lk, one.facility_id, one.id, one.version, 1)
        elif row["state"] in {"pending", "withheld"}:
            await uow.connection.execute(_AGAIN, row["id"], one.id, one.version)
        elif _is_new_attempt(one, row):
            await uow.connection.execute(_INSERT, one.ma_lk, one.facility_id, one.id, one.version, row["attempt"] + 1)


def _is_new_attempt(one: Candidate, row: Any) -> bool:
    """Whether something that was put in a file must be looked at again."""
    if row["state"] == "batched" and row["batch_state"] == "open":
        return False  # it is read anew when the batch is sealed
    if not one.finished:
        return one.named and row["state"] != "rejected"  # withdrawn, but the insurer has it
    return one.named or row["state"] == "rejected"
