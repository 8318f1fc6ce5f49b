"""Keep the International Patient Summary of every person ready, and never serve a stale one.

The write that changes a person's record leaves an outbox row (topic 'summary', key the source Patient's id) in its
own transaction; workers take these rows and rebuild. A reader that finds such a row still there rebuilds first:
so a summary is as fresh as the last acknowledged write, and usually free.
A summary made for another address of the server is made anew: its entity tag begins with a digest of the address.
The table may be emptied at any time.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ehr import identity
from ehr.fhir import codec
from ehr.store.unit_of_work import UnitOfWork
from ehr.store.writes import SUMMARY_TOPIC
from ehr.summary.gather import SUMMARY_TYPES, Sources, gather, sources_of_person
from ehr.summary.ips import document

TOPIC: Final = SUMMARY_TOPIC


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes of the IPS Bundle and their entity tag, with its quotes."""

    body: bytes
    etag: str


async def summary_of(uow: UnitOfWork, sources: Sources, *, base_url: str) -> Document:
    """The summary of a person: the prepared one when nothing has changed since and the caller may read all of it."""
    full = all(uow.access.grants.allow(name, "r") for name in ("Patient", *SUMMARY_TYPES))
    if not full or sources.person_id is None:
        return await _make(uow, sources, base_url)
    prepared = await _prepared(uow, sources, base_url)
    if prepared is not None:
        return prepared
    await uow.connection.execute(_LOCK, sources.person_id)
    return await _prepared(uow, sources, base_url) or await _prepare(uow, sources, base_url)


async def refresh(uow: UnitOfWork, patient_id: str, *, base_url: str) -> bool:
    """Rebuild the summary of the person a source Patient belongs to; False where it belongs to none."""
    person_id = await identity.person_of(uow.connection, patient_id)
    if person_id is None:
        return False
    await uow.connection.execute(_LOCK, person_id)
    await _prepare(uow, await sources_of_person(uow, person_id), base_url)
    return True


_PREPARED: Final = "select body, etag from summary where person_id = $1"
_STALE: Final = "select exists(select 1 from outbox where topic = $1 and key = any($2::text[]))"
_KEEP: Final = """
insert into summary (person_id, xid, generated, etag, body) values ($1, pg_current_xact_id(), $2, $3, $4)
on conflict (person_id) do update
set xid = excluded.xid, generated = excluded.generated, etag = excluded.etag, body = excluded.body
"""


# One at a time for each person: a slow reader must not put an older summary over a newer one.
_LOCK: Final = "select pg_advisory_xact_lock(hashtextextended($1, 0))"


async def _prepared(uow: UnitOfWork, sources: Sources, base_url: str) -> Document | None:
    """The kept summary, unless a write since then has left its outbox row."""
    if await uow.connection.fetchval(_STALE, TOPIC, list(sources.patient_ids)):
        return None
    row = await uow.connection.fetchrow(_PREPARED, sources.person_id)
    if row is None or not row["etag"].startswith(_tag_begins(base_url)):
        return None
    return Document(uow.record.bodies.decompress(row["body"]), row["etag"])


async def _prepare(uow: UnitOfWork, sources: Sources, base_url: str) -> Document:
    made = await _make(uow, sources, base_url)
    body = uow.record.bodies.compress(0, made.body)
    await uow.connection.execute(_KEEP, sources.person_id, uow.now, made.etag, body)
    return made


async def _make(uow: UnitOfWork, sources: Sources, base_url: str) -> Document:
    body = codec.dumps(document(await gather(uow, sources), base_url=base_url, now=uow.now))
    return Document(body, f'{_tag_begins(base_url)}{sha256(body).hexdigest()[:32]}"')


def _tag_begins(base_url: str) -> str:
    """Weak: the same content may be compressed or spaced otherwise."""
    return f'W/"{sha256(base_url.encode()).hexdigest()[:8]}-'
