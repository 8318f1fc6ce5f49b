"""The first chunk of an $import: its files are fetched, unpacked and cut; their parts become chunks of the same job.

Once:    the parts are enqueued in the transaction that finishes this chunk; when it runs again, what it has is kept
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ehr.bulk import check, files
from ehr.bulk.order import Order
from ehr.bulk.sources import Source, fetched
from ehr.bulk.unpack import SPOOL, unpacked
from ehr.errors import Unavailable
from ehr.jobs.queue import Chunk, Queue

if TYPE_CHECKING:
    from ehr.store.record import Record

SOURCES: Final = "sources"
"""The parameter by which such a chunk is known."""


async def begin(
    queue: Queue, sources: Sequence[Source], home: Path, order: Order, *, owner: str, told: Mapping[str, Any], kind: str
) -> str:
    """Enqueue an import of files that are not here yet; returns the job's id. told: what is kept with the job."""
    params = {**told, "home": str(await asyncio.to_thread(home.absolute)), "bytes": 0}
    chunk = {SOURCES: [asdict(one) for one in sources]}
    return await queue.enqueue(kind, {**params, **order.as_json()}, [chunk], owner=owner)


async def fetch(record: "Record", chunk: Chunk) -> Mapping[str, Any]:
    """Be the first chunk."""
    spool = Path(chunk.job_params["home"]) / chunk.job_id / SPOOL
    sources = sorted((Source(**one) for one in chunk.params[SOURCES]), key=lambda one: files.rank(one.type_name))
    parts: list[dict[str, Any]] = []
    for number, source in enumerate(sources):
        packed = await fetched(source, record.settings, spool / f"{number:06}.fetched")
        plain = await asyncio.to_thread(unpacked, packed, spool / f"{number:06}.ndjson", name=source.name)
        parts += [asdict(part) for part in await asyncio.to_thread(_parts, source.name, plain)]
    result: dict[str, Any] = {}
    bytes_total = sum(part["length"] for part in parts)
    begun = check.chunks(parts, Order.of(chunk.job_params))
    if not await Queue(record.database).finish(chunk, result, then=begun, bytes_total=bytes_total):
        raise Unavailable("another worker fetches these files")
    return result


def _parts(name: str, plain: Path) -> list[files.Part]:
    return list(files.parts(name, plain))
