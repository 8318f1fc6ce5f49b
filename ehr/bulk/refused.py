"""Refused lines → the ledger, where operators see what facilities send and what was wrong with it."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import orjson
import zstandard

from ehr.bulk.prepare import Refusal

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

_REFUSE: Final = """
insert into intake_message
    (facility_id, channel, kind, control_id, sha256, received, state, finished, attempts, issues, body)
select $1, 'ndjson', 'line', n.control_id, n.sha256, $2, 'refused', $2, 1, n.issues::text::jsonb, n.body
from unnest($3::text[], $4::bytea[], $5::text[], $6::bytea[]) as n (control_id, sha256, issues, body)
on conflict (facility_id, control_id, sha256) do nothing
"""


async def keep_refused(uow: "UnitOfWork", name: str, refused: Sequence[Refusal]) -> None:
    """Keep lines of the file of this name."""
    if not refused:
        return
    contents = [one.content or b"" for one in refused]
    await uow.connection.execute(
        _REFUSE,
        uow.caller.facility_id,
        uow.now,
        [f"{name}:{one.line}" for one in refused],
        [hashlib.sha256(content).digest() for content in contents],
        [orjson.dumps([asdict(issue) for issue in one.issues]).decode() for one in refused],
        [zstandard.compress(content, 1) for content in contents],
    )
