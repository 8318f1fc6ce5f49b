"""Dossiers that the insurer refused, or our own check withheld → sent once more, because somebody asks for it.

In:      which: of a facility, an episode (MA_LK), a code of the refusal; what is not said does not narrow
Out:     how many wait to be sent again
Why:     a refused dossier is sent again by itself when something in it changes. Where the insurer mended its own list
         or its gateway, nothing changes here, and the same bytes must go as a new attempt; a withheld one is composed
         and checked anew.
"""

from dataclasses import dataclass
from typing import Any, Final

from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync.batch import ASKED
from sync.extract import CALLER

_WHICH: Final = """
SELECT d.id, d.facility_id, d.ma_lk, d.encounter_id, d.encounter_version, d.attempt, d.state
FROM sync_dossier d JOIN facility f ON f.id = d.facility_id
WHERE d.state IN ('rejected', 'withheld') AND ($1::text IS NULL OR f.code = $1) AND ($2::text IS NULL OR d.ma_lk = $2)
  AND ($3::text IS NULL OR d.error_code = $3)
  AND NOT EXISTS (SELECT 1 FROM sync_dossier n
                  WHERE n.facility_id = d.facility_id AND n.ma_lk = d.ma_lk AND n.attempt > d.attempt)
ORDER BY d.id FOR UPDATE OF d
"""
_ANEW: Final = "UPDATE sync_dossier SET state = 'pending', error_code = NULL, error_text = NULL WHERE id = $1"
_NEXT: Final = """
INSERT INTO sync_dossier (ma_lk, facility_id, encounter_id, encounter_version, attempt, error_code)
VALUES ($1, $2, $3, $4, $5, $6)
"""


@dataclass(frozen=True, slots=True)
class Which:
    """What to send again; None does not narrow."""

    facility_code: str | None = None
    ma_lk: str | None = None
    error_code: str | None = None


async def resend(record: Record, which: Which) -> int:
    """Let the last attempts that were refused or withheld wait to be sent; how many."""

    async def work(uow: UnitOfWork) -> int:
        found = await uow.connection.fetch(_WHICH, which.facility_code, which.ma_lk, which.error_code)
        for row in found:
            await _again(uow, row)
        if found:
            await uow.audit.execute("resend-claims", detail={"dossiers": [row["id"] for row in found]})
        return len(found)

    return await record.run(CALLER, work)


async def _again(uow: UnitOfWork, row: Any) -> None:
    if row["state"] == "withheld":
        await uow.connection.execute(_ANEW, row["id"])
        return
    attempt = row["attempt"] + 1
    await uow.connection.execute(
        _NEXT, row["ma_lk"], row["facility_id"], row["encounter_id"], row["encounter_version"], attempt, ASKED
    )
