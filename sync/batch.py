"""Dossiers that wait → a sealed file per facility → the gateway: open → sealed → sent.

State    open      dossiers were assigned to it; nothing is written yet
         sealed    its bytes and their SHA-256 are stored and never change; a resend is byte for byte the same
         sent      the gateway has it and gave a transaction number; a Claim stands in the record for each dossier
         answered, reconciled   see sync.answers and sync.reconcile
Each step is one transaction that first locks the batch and looks at its state: a crash at any point resumes, and
two workers do a step once. A crash between the gateway's answer and our note of it sends the same bytes again;
the insurer replaces by MA_LK.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import zstandard
from lxml import etree

from ehr import limits
from ehr.clock import day_of
from ehr.errors import Issue
from ehr.store import gate
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork
from sync.claim import Parties, claim
from sync.compose import compose
from sync.dossier import Dossier, Withheld
from sync.extract import CALLER
from sync.gateway import Gateway, Taken
from sync.opened import opened
from sync.read import claimant_of, episode_of
from sync.render import envelope, hoso, hoso_sha256

_COMPRESSOR_LEVEL: Final = 3
ASKED: Final = "asked-for"
"""error_code of a dossier that waits because somebody asked for it (sync.resend): it goes, changed or not."""
_WAITING: Final = """
SELECT id, facility_id FROM sync_dossier WHERE state = 'pending' AND batch_id IS NULL
ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_OPEN: Final = "INSERT INTO sync_batch (facility_id) VALUES ($1) RETURNING id"
_ASSIGN: Final = "UPDATE sync_dossier SET state = 'batched', batch_id = $2 WHERE id = ANY($1::bigint[])"
_RELEASE: Final = "UPDATE sync_dossier SET state = 'pending', batch_id = NULL WHERE id = ANY($1::bigint[])"
_LOCK: Final = """
SELECT b.id, b.facility_id, b.state, b.body, b.sha256, f.code, f.organization_id
FROM sync_batch b JOIN facility f ON f.id = b.facility_id WHERE b.id = $1 FOR UPDATE OF b
"""
_LOOK: Final = _LOCK.replace(" FOR UPDATE OF b", "")
_DOSSIERS: Final = """
SELECT id, ma_lk, encounter_id, attempt, error_code FROM sync_dossier WHERE batch_id = $1 ORDER BY ma_lk, id
"""
_SENT_BEFORE: Final = """
SELECT hoso_sha256, claim_id FROM sync_dossier
WHERE facility_id = $1 AND ma_lk = $2 AND attempt < $3 AND hoso_sha256 IS NOT NULL ORDER BY attempt DESC LIMIT 1
"""
_WITHHOLD: Final = """
UPDATE sync_dossier SET state = 'withheld', batch_id = NULL, error_code = $2, error_text = $3, t_tongchi_bv = $4,
  t_bhtt = 0 WHERE id = $1
"""
_PRICE: Final = """
UPDATE sync_dossier SET encounter_version = $2, t_tongchi_bv = $3, t_bhtt = $4, hoso_sha256 = $5, error_code = NULL
WHERE id = $1
"""
_DROP: Final = "DELETE FROM sync_dossier WHERE id = $1"
_DROP_BATCH: Final = "DELETE FROM sync_batch WHERE id = $1"
_SEAL: Final = """
UPDATE sync_batch SET state = 'sealed', sealed = $2, sha256 = $3, body = $4, dossier_count = $5, t_bhtt = $6
WHERE id = $1
"""
_SENT: Final = """
UPDATE sync_batch SET state = 'sent', sent = $2, ma_giao_dich = $3, attempts = attempts + 1 WHERE id = $1
"""
_TRIED: Final = "UPDATE sync_batch SET attempts = attempts + 1 WHERE id = $1 AND state = 'sealed'"
_CLAIMED: Final = "UPDATE sync_dossier SET claim_id = $2 WHERE id = $1"


class Tampered(Exception):
    """A sealed body is not what its hash says: a fault of storage or of us, never to be sent."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch as it will travel."""

    id: int
    facility_id: int
    facility_code: str
    body: bytes


async def open_batches(record: Record) -> list[int]:
    """Assign dossiers that wait to new batches, each of one facility; the batches' ids."""

    async def work(uow: UnitOfWork) -> list[int]:
        rows = await uow.connection.fetch(_WAITING, limits.claim_file_dossiers_max * 20)
        batches: list[int] = []
        of: dict[int, list[int]] = {}
        for row in rows:
            of.setdefault(row["facility_id"], []).append(row["id"])
        most = limits.claim_file_dossiers_max
        for facility_id, ids in of.items():
            for first in range(0, len(ids), most):
                batch_id = await uow.connection.fetchval(_OPEN, facility_id)
                await uow.connection.execute(_ASSIGN, ids[first : first + most], batch_id)
                batches.append(batch_id)
        return batches

    return await record.run(CALLER, work)


async def locked(uow: UnitOfWork, batch_id: int) -> Any:
    """A batch with its facility, for this transaction alone; None where it is gone."""
    return await uow.connection.fetchrow(_LOCK, batch_id)


async def seal(record: Record, batch_id: int) -> bool:
    """Write the file of an open batch. False where it was not open, or nothing was left to send and it is gone."""

    async def work(uow: UnitOfWork) -> bool:
        batch = await locked(uow, batch_id)
        if batch is None or batch["state"] != "open":
            return False
        chosen, shards = await _compose_all(uow, batch)
        if not chosen:
            await uow.connection.execute(_DROP_BATCH, batch_id)
            return False
        body = envelope(batch["code"], day_of(uow.now), [element for _, element in chosen])
        claimed = sum((dossier.totals.bhtt for dossier, _ in chosen), Decimal(0))
        await uow.connection.execute(
            _SEAL,
            batch_id,
            uow.now,
            hashlib.sha256(body).digest(),
            zstandard.ZstdCompressor(level=_COMPRESSOR_LEVEL).compress(body),
            len(chosen),
            claimed,
        )
        await uow.audit.execute("claim-to-insurer", shards=shards, detail={"batch": batch_id, "tables": "XML1-XML5"})
        return True

    return await record.run(CALLER, work)


async def _compose_all(uow: UnitOfWork, batch: Any) -> tuple[list[tuple[Dossier, etree._Element]], list[int]]:
    """Compose every dossier of the batch from the record as it is now; set aside what cannot or need not be sent."""
    chosen: list[tuple[Dossier, etree._Element]] = []
    shards: list[int] = []
    size = 0
    for row in await uow.connection.fetch(_DOSSIERS, batch["id"]):
        found = await episode_of(uow, row["encounter_id"])
        if found is None or (found.facility_id, found.episode.ma_lk) != (batch["facility_id"], row["ma_lk"]):
            text = "the encounter is no finished, insured episode of this MA_LK any more"
            await _withhold(uow, row, Withheld(row["ma_lk"], (Issue("not-found", text),)))
            continue
        composed = compose(found.episode)
        if isinstance(composed, Withheld):
            await _withhold(uow, row, composed)
            continue
        element = hoso(composed)
        sha256 = hoso_sha256(element)
        if await _was_sent(uow, batch["facility_id"], row, sha256):
            await uow.connection.execute(_DROP, row["id"])
            continue
        weight = sum(len(text) for text in element.itertext())
        if chosen and size + weight > limits.claim_file_bytes_max:
            await uow.connection.execute(_RELEASE, [row["id"]])
            continue
        size += weight
        totals = composed.totals
        await uow.connection.execute(_PRICE, row["id"], composed.encounter_version, totals.bv, totals.bhtt, sha256)
        chosen.append((composed, element))
        shards.append(found.shard)
    return chosen, shards


async def _was_sent(uow: UnitOfWork, facility_id: int, row: Any, sha256: bytes) -> bool:
    """Whether the last attempt before this one said the same."""
    if row["attempt"] == 1 or row["error_code"] == ASKED:
        return False
    before = await uow.connection.fetchrow(_SENT_BEFORE, facility_id, row["ma_lk"], row["attempt"])
    return before is not None and before["hoso_sha256"] == sha256


async def _withhold(uow: UnitOfWork, row: Any, withheld: Withheld) -> None:
    text = "; ".join(f"{issue.at}: {issue.text}" if issue.at else issue.text for issue in withheld.issues)
    if row["attempt"] > 1:
        text += "; the insurer still holds the last attempt: correct this one, or withdraw that one on its portal"
    await uow.connection.execute(_WITHHOLD, row["id"], withheld.issues[0].code, text, withheld.t_tongchi_bv)


async def sealed(record: Record, batch_id: int) -> Sealed | None:
    """A sealed batch that was not sent yet, its bytes checked against their hash."""
    async with record.reading(CALLER) as uow:
        row = await uow.connection.fetchrow(_LOOK, batch_id)
    if row is None or row["state"] != "sealed":
        return None
    body = unpacked(row["body"], row["sha256"])
    return Sealed(row["id"], row["facility_id"], row["code"], body)


def unpacked(frame: bytes, sha256: bytes) -> bytes:
    """The bytes of a sealed file; Tampered where they are not the sealed ones."""
    body = zstandard.ZstdDecompressor().decompress(frame)
    if hashlib.sha256(body).digest() != sha256:
        raise Tampered("a sealed file differs from its hash")
    return body


async def send(record: Record, gateway: Gateway, batch_id: int) -> Taken | None:
    """Send a sealed batch and note that it was; None where it was not sealed (any more).

    Raises what the gateway raises; the batch stays sealed and the try is counted.
    """
    batch = await sealed(record, batch_id)
    if batch is None:
        return None
    try:
        taken = await gateway.send(batch.facility_code, batch.body)
    except Exception:
        await record.run(CALLER, lambda uow: uow.connection.execute(_TRIED, batch_id))
        raise
    await note_sent(record, batch_id, taken)
    return taken


async def note_sent(record: Record, batch_id: int, taken: Taken) -> None:
    """The gateway has the batch: state sent, and one Claim a dossier, in one transaction."""

    async def work(uow: UnitOfWork) -> None:
        batch = await locked(uow, batch_id)
        if batch is None or batch["state"] != "sealed":
            return
        await write_claims(uow, batch)
        await uow.connection.execute(_SENT, batch_id, uow.now, taken.transaction)

    await record.run(CALLER, work)


async def write_claims(uow: UnitOfWork, batch: Any) -> None:
    """A Claim for each dossier of a sealed batch, from its bytes."""
    contents = {one.ma_lk: one for one in opened(unpacked(batch["body"], batch["sha256"]))}
    claimed: list[int] = []
    writes: list[Write] = []
    for row in await uow.connection.fetch(_DOSSIERS, batch["id"]):
        content = contents[row["ma_lk"]]
        about = await claimant_of(uow, row["encounter_id"], content.summary["MA_THE_BHYT"].split(";")[0])
        if about is None:
            continue  # the encounter or the card was deleted after sealing: a Claim could refer to nobody
        parties = Parties(*about, row["encounter_id"], batch["organization_id"] or "", batch["code"])
        prior_id: str | None = None
        if row["attempt"] > 1:
            before = await uow.connection.fetchrow(_SENT_BEFORE, batch["facility_id"], row["ma_lk"], row["attempt"])
            prior_id = before["claim_id"] if before is not None else None
        tree = claim(content, parties, attempt=row["attempt"], prior_id=prior_id, created=uow.now)
        gate.check("Claim", tree)
        writes.append(Write("C", "Claim", tree=tree))
        claimed.append(row["id"])
    for dossier_id, written in zip(claimed, await uow.resources.apply(writes), strict=True):
        assert written.version is not None, "a create makes a version"
        await uow.connection.execute(_CLAIMED, dossier_id, written.version.id)
