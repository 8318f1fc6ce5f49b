"""One round of the insurance synchronisation: extract, batch, seal, send, ask for answers, reconcile.

In:      the record, settings, a clock; `ehr sync run` and the Celery task call run_sync again and again
Out:     Round: what was done and what stands in the way
Bounds:  pages of the feed, batches sent and asked for are limited a round; whatever is left is next round's work
Order:   files of one facility are sent in the order they were sealed, because a later file replaces an earlier one:
         when one cannot be sent, the facility's later ones wait; and by one worker at a time, because a second one's
         copy of the earlier file could come last. A worker that dies lets its facilities go with its connection
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import structlog

from ehr import limits
from ehr.errors import EhrError
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync import accounts, answers, batch
from sync.extract import CALLER, extract
from sync.gateway import Gateway, GatewayRefused
from sync.reconcile import reconcile

_log = structlog.get_logger(__name__)

FACILITIES_AT_ONCE: Final = 4
_ACCOUNT_REFUSED: Final = frozenset({"401", "403", "501"})
"""The file is not at fault: an operator must look at the account."""

_OPEN: Final = "SELECT id FROM sync_batch WHERE state = 'open' ORDER BY id LIMIT $1"
_SEALED: Final = """
SELECT b.id, f.code FROM sync_batch b JOIN facility f ON f.id = b.facility_id
WHERE b.state = 'sealed' ORDER BY row_number() OVER (PARTITION BY b.facility_id ORDER BY b.id), b.id LIMIT $1
"""
"""The first file of every facility before the second of any: one that is stuck holds up nobody else."""
_SENT: Final = """
SELECT b.id, b.facility_id, b.ma_giao_dich, f.code FROM sync_batch b JOIN facility f ON f.id = b.facility_id
WHERE b.state = 'sent' ORDER BY b.attempts, b.id LIMIT $1
"""
_MINE: Final = """
SELECT code FROM unnest($1::text[]) AS code WHERE pg_try_advisory_lock(hashtext('sync.send'), hashtext(code))
"""
_NOT_MINE: Final = "SELECT pg_advisory_unlock(hashtext('sync.send'), hashtext(code)) FROM unnest($1::text[]) AS code"
_ASKED: Final = "UPDATE sync_batch SET attempts = attempts + 1 WHERE id = $1 AND state = 'sent'"


@dataclass(slots=True)
class Round:
    """What one call of run_sync did. problems holds no patient data: facility codes, batch numbers, gateway words."""

    changes: int = 0
    batches: int = 0
    sealed: int = 0
    sent: int = 0
    refused: int = 0
    answered: int = 0
    quarantined: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not (self.changes or self.batches or self.sealed or self.sent or self.refused or self.answered)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


async def run_sync(record: Record, settings: Settings) -> Round:
    """One bounded round. May be killed anywhere, and run by several workers at once."""
    done = Round()
    await _collect(record, done)
    async with httpx.AsyncClient() as http:
        gateway = Gateway(http, settings.insurer_url, accounts.load(settings.insurer_accounts_file), record.clock)
        await _send(record, gateway, done)
        await _ask(record, gateway, done)
    done.problems += await reconcile(record, limit=limits.claim_round_files_max)
    return done


async def _collect(record: Record, done: Round) -> None:
    """From the feed to sealed files."""
    for _ in range(limits.claim_round_pages_max):
        read = await extract(record)
        done.changes += read
        if not read:
            break
    done.batches = len(await batch.open_batches(record))
    for row in await _rows(record, _OPEN):
        try:
            done.sealed += await batch.seal(record, row["id"])
        except Exception as error:  # noqa: BLE001 - the edge: one bad batch must not stop the city's others
            _log.exception("seal_failed", batch_id=row["id"])
            done.problems.append(f"batch {row['id']} cannot be sealed: {type(error).__name__}")


async def _send(record: Record, gateway: Gateway, done: Round) -> None:
    """Facilities side by side, the files of each in order; those that another worker sends are left to it."""
    of: dict[str, list[int]] = {}
    for row in await _rows(record, _SEALED):
        of.setdefault(row["code"], []).append(row["id"])
    at_once = asyncio.Semaphore(FACILITIES_AT_ONCE)

    async def send_all(code: str, ids: Sequence[int]) -> None:
        async with at_once:
            for batch_id in ids:
                if not await _send_one(record, gateway, done, code, batch_id):
                    return

    if not of:
        return
    async with record.database.acquire() as connection:
        mine = [row["code"] for row in await connection.fetch(_MINE, list(of))]
        try:
            await asyncio.gather(*(send_all(code, of[code]) for code in mine))
        finally:
            await connection.execute(_NOT_MINE, mine)


async def _send_one(record: Record, gateway: Gateway, done: Round, code: str, batch_id: int) -> bool:
    """True where the facility's next file may follow."""
    try:
        if await batch.send(record, gateway, batch_id) is not None:
            done.sent += 1
    except GatewayRefused as error:
        done.problems.append(f"{code}: batch {batch_id}: {error}")
        if error.code in _ACCOUNT_REFUSED:
            return False
        await answers.refuse_whole(record, batch_id, error.code, str(error))
        done.refused += 1
    except EhrError as error:
        done.problems.append(f"{code}: batch {batch_id}: {error}")
        return False
    except Exception as error:  # noqa: BLE001 - the edge: one bad file must not stop the city's others
        _log.exception("send_failed", batch_id=batch_id)
        done.problems.append(f"{code}: batch {batch_id} cannot be sent: {type(error).__name__}")
        return False
    return True


async def _ask(record: Record, gateway: Gateway, done: Round) -> None:
    """Ask for the answers of files the gateway has."""
    for row in await _rows(record, _SENT):
        try:
            answer = await gateway.standing(row["code"], row["ma_giao_dich"])
            outcome = await answers.apply(record, answer, facility_id=row["facility_id"])
        except EhrError as error:
            done.problems.append(f"{row['code']}: batch {row['id']}: {error}")
            continue
        except Exception as error:  # noqa: BLE001 - the edge: one bad answer must not stop the city's others
            _log.exception("answer_failed", batch_id=row["id"])
            done.problems.append(f"{row['code']}: the answer to batch {row['id']} failed: {type(error).__name__}")
            await _note_asked(record, row["id"])
            continue
        if outcome != "applied":
            await _note_asked(record, row["id"])
        if outcome == "applied":
            done.answered += 1
        elif outcome == "quarantined":
            done.quarantined += 1
            done.problems.append(f"{row['code']}: the answer to batch {row['id']} is in quarantine")


async def _note_asked(record: Record, batch_id: int) -> None:
    """Whose answer did not come, or could not be taken, is asked for after the others next time."""

    async def work(uow: UnitOfWork) -> None:
        await uow.connection.execute(_ASKED, batch_id)

    await record.run(CALLER, work)


async def _rows(record: Record, sql: str) -> list[Any]:
    async with record.reading(CALLER) as uow:
        return list(await uow.connection.fetch(sql, limits.claim_round_files_max))
