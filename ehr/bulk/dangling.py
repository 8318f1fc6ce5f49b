"""References of an import that lead nowhere, looked for when all its parts are stored.

In:      ready lines of a part; later, what every part left over
Out:     leave()  a file a part: the literal references of its lines to what is not in the part itself, each once with
                  its first line; written before the part is done, so a part that runs again writes the same
         report() the last chunk of the job; dangling.ndjson: file, line, reference of those that are not stored now,
                  and an OperationOutcome that warns of it
Why so:  a reference may lead to a part that is stored later, so nothing can be said before the end; and few do lead
         out of what a part holds or repeats, so what is left over is small
Not in:  absolute addresses, contained resources, conditional references, versions; Bundles, whose references mean their
         entries first. What was deleted counts as absent
"""

import asyncio
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from ehr.bulk.output import LinesFile
from ehr.bulk.prepare import Ready
from ehr.database.connection import Connection
from ehr.errors import Issue
from ehr.fhir.outcome import operation_outcome
from ehr.fhir.r4 import TYPE_IDS
from ehr.jobs.queue import Chunk
from ehr.store.arrays import texts

if TYPE_CHECKING:
    from ehr.store.record import Record

Target = tuple[bytes, bytes]
"""Type and id."""

DANGLING: Final = "dangling.ndjson"
REPORT: Final = "report"
"""The parameter by which the chunk is known that writes it."""
BATCH: Final = 10_000

_REFERENCE: Final = b'"reference":"'
"""As it is in text without space; splitting by it takes half the time of a pattern, and a line has four."""
_SPACED: Final = re.compile(rb'"reference"\s*:\s*"([^"]*)')
_LITERAL: Final = re.compile(rb"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/.*)?", re.DOTALL)
_ESCAPED: Final = b"\\/"
"""Some writers escape the slash."""

_NOWHERE: Final = operation_outcome(
    [Issue("not-found", "the line is stored; the reference leads to nothing that is", severity="warning")]
)
_ABSENT: Final = """
select n.id from unnest($2::text::text[]) as n (id)
where not exists (select 1 from resource r where r.type_id = $1 and r.id = n.id)
"""


def targets(one: Ready) -> list[Target]:
    """What the literal references of a line lead to, each as often as it is there."""
    return [target for text in _texts(one) if (target := _target(text))]


def left_over(ready: Iterable[Ready]) -> dict[Target, int]:
    """(type, id) of what lines refer to and the part does not hold → the first line that does."""
    met: dict[bytes, int] = {}
    held: set[Target] = set()
    for one in ready:
        held.add((one.type_name.encode(), one.id.encode()))
        for text in _texts(one):
            if met.setdefault(text, one.line) > one.line:
                met[text] = one.line
    found: dict[Target, int] = {}
    for text, line in met.items():
        target = _target(text)
        if target and target not in held and found.setdefault(target, line) > line:
            found[target] = line
    return found


def _texts(one: Ready) -> Sequence[bytes]:
    """The texts of the references in a line."""
    if one.type_name == "Bundle":
        return ()
    if one.plain:
        return [after[: after.find(b'"')] for after in one.content.split(_REFERENCE)[1:]]
    return _in(one.content)


def literals(content: bytes) -> list[Target]:
    """What the literal references in any JSON text lead to, each as often as it is there."""
    return [target for text in _in(content) if (target := _target(text))]


def _in(content: bytes) -> Sequence[bytes]:
    return _SPACED.findall(content.replace(_ESCAPED, b"/") if _ESCAPED in content else content)


def _target(text: bytes) -> Target | None:
    literal = _LITERAL.fullmatch(text)
    return (literal[1], literal[2]) if literal else None


def leave(folder: Path, number: int, name: str, found: Mapping[Target, int]) -> None:
    """Whole or not at all."""
    target = folder / f"references-{number:06}.ndjson"
    if not found:
        target.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        for (type_name, id), line in sorted(found.items(), key=lambda item: item[1]):
            reference = f"{type_name.decode()}/{id.decode()}"
            file.write(orjson.dumps({"file": name, "line": line, "reference": reference}) + b"\n")
    partial.replace(target)


async def report(record: "Record", chunk: Chunk) -> Mapping[str, Any]:
    """Be that chunk: what is absent now that all is stored."""
    folder = Path(chunk.job_params["home"]) / chunk.job_id
    pieces = await asyncio.to_thread(_pieces, folder)
    if not pieces:
        return {}
    file = LinesFile(folder, DANGLING)
    try:
        async with record.database.acquire() as connection:
            for piece in pieces:
                file.write(map(_told, await _absent(connection, piece)))
    except BaseException:
        file.discard()
        raise
    if not file.count:
        file.discard()
        return {}
    return {"dangling": file.count, "files": [file.publish("error", None).as_json()]}


def _told(line: bytes) -> bytes:
    return orjson.dumps({**orjson.loads(line), "outcome": _NOWHERE})


def _pieces(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("references-*.ndjson"))


async def _absent(connection: Connection, piece: Path) -> Sequence[bytes]:
    """The lines of a piece whose reference is not stored."""
    kept: list[bytes] = []
    with piece.open("rb") as file:
        for batch in _batches(file):
            asked: dict[str, list[str]] = {}
            for reference in batch:
                type_name, id = reference.split("/")
                asked.setdefault(type_name, []).append(id)
            absent: set[str] = set()
            for type_name, ids in asked.items():
                if type_name not in TYPE_IDS:
                    absent.update(f"{type_name}/{id}" for id in ids)
                    continue
                rows = await connection.fetch(_ABSENT, TYPE_IDS[type_name], texts(ids))
                absent.update(f"{type_name}/{row['id']}" for row in rows)
            kept += [line for reference, line in batch.items() if reference in absent]
    return kept


def _batches(file: Iterable[bytes]) -> Iterator[dict[str, bytes]]:
    lines = iter(file)
    while some := list(islice(lines, BATCH)):
        yield {orjson.loads(line)["reference"]: line for line in some}
