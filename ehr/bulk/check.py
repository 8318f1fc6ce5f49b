"""A chunk of an import that refuses dangling references: a part is checked, and nothing is stored yet.

In:      a part
Out:     checked-N.ndjson  of each valid line its number, what it holds and what it refers to; of a line that breaks a
                           profile it claims, the issues
         wanted-N.ndjson   what the part refers to and does not hold
Then:    the part that is checked last lets the references be settled (ehr.bulk.settle)
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr.bulk import dangling
from ehr.bulk.files import Part
from ehr.bulk.ingest import Prepared, caller_of, check_claims, prepare_part
from ehr.bulk.order import Order
from ehr.bulk.prepare import Ready, Refusal
from ehr.errors import Unavailable
from ehr.jobs.queue import Chunk, Queue

if TYPE_CHECKING:
    from ehr.store.record import Record

CHECK: Final = "check"
"""The parameter by which such a chunk is known: its part."""
SETTLE: Final = "settle"
"""The parameter of the chunk that comes after the last of them."""


def chunks(parts: Iterable[Mapping[str, Any]], order: Order) -> list[dict[str, Any]]:
    """The first chunks of an import of these parts."""
    return [{CHECK: part} if order.references == "refuse" else dict(part) for part in parts]


def checked(folder: Path, number: int) -> Path:
    return folder / f"checked-{number:06}.ndjson"


def wanted(folder: Path, number: int) -> Path:
    return folder / f"wanted-{number:06}.ndjson"


def remove(folder: Path) -> None:
    """What parts have left, and what of it was left half written."""
    for place in (*folder.glob("checked-*"), *folder.glob("wanted-*")):
        place.unlink(missing_ok=True)


async def check(record: "Record", chunk: Chunk) -> Mapping[str, Any]:
    """Be one such chunk."""
    part, order = Part(**chunk.params[CHECK]), Order.of(chunk.job_params)
    folder = Path(chunk.job_params["home"]) / chunk.job_id
    prepared = await prepare_part(record, part, job_id=chunk.job_id, keep_meta=order.keep_meta)
    unconforming = await check_claims(record, caller_of(order), prepared)
    await asyncio.to_thread(_leave, folder, chunk.number, prepared, unconforming)
    result = {"checked": part.length}
    if not await Queue(record.database).finish(chunk, result, then=[{SETTLE: True}], when_all_are=True):
        raise Unavailable("another worker has taken this part of the import over")
    return result


def _leave(folder: Path, number: int, prepared: Prepared, unconforming: Iterable[Refusal]) -> None:
    """Both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write(wanted(folder, number), ({"reference": _text(one)} for one in dangling.left_over(prepared.ready)))
    write(checked(folder, number), _entries(prepared.ready, unconforming))


def _entries(ready: Iterable[Ready], unconforming: Iterable[Refusal]) -> Iterator[Mapping[str, Any]]:
    for one in ready:
        to = sorted(set(map(_text, dangling.targets(one))))
        yield {"line": one.line, "key": f"{one.type_name}/{one.id}", "to": to}
    for refused in unconforming:
        yield {"line": refused.line, "issues": [asdict(issue) for issue in refused.issues]}


def _text(target: dangling.Target) -> str:
    return b"/".join(target).decode()


def write(target: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """A file of entries, one a line."""
    partial = target.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        file.writelines(orjson.dumps(one) + b"\n" for one in entries)
    partial.replace(target)


def entries(place: Path) -> Iterator[Mapping[str, Any]]:
    with place.open("rb") as file:
        yield from map(orjson.loads, file)
