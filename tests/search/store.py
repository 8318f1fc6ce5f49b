"""A small writer of resources straight into the tables, so that search is tested without the store above it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ehr.access.policy import ALL_GRANTS, AccessPredicate
from ehr.database.engine import Database
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import contained, term, write
from ehr.index.extract import Extractor
from ehr.index.hashing import Hasher
from ehr.search.page import Page, search
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.search.settled import settled

EVERYTHING = AccessPredicate(ALL_GRANTS)

_INSERT = """
insert into resource (type_id, rid, shard, id, version, updated, source, date_lo_us, date_hi_us, tokens, body)
values ($1, nextval('resource_rid'), $2, $3, 1, $4, 0, $5, $6, $7, $8) returning rid
"""


class Plain:
    """Bodies as they are; compression is the store's."""

    def decompress(self, frame: bytes) -> bytes:
        return frame


class Records:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.hasher = Hasher(database.installation.hash_key)
        self.extractor = Extractor(self.hasher)

    async def put(self, *trees: Mapping[str, Any], updated: datetime | None = None) -> None:
        async with self.database.acquire() as connection, connection.transaction():
            for tree in trees:
                rows = self.extractor.extract(tree, tree["resourceType"], tree["id"])
                rid = await connection.fetchval(
                    _INSERT,
                    TYPE_IDS[tree["resourceType"]],
                    rows.shard,
                    tree["id"],
                    updated or datetime(2026, 11, 23, tzinfo=UTC),
                    rows.date_lo_us,
                    rows.date_hi_us,
                    rows.tokens,
                    orjson.dumps(tree),
                )
                await write.insert(connection, [(rid, rows)])
                await contained.insert(connection, [contained.Container(tree["resourceType"], rid, rows.contained)])
                await term.keep(connection, rows.terms)

    async def link(self, patient_id: str, person_id: str) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(
                "insert into person_link (shard, patient_id, person_id, assurance) values ($1, $2, $3, 'level3')",
                self.hasher.shard("Patient", patient_id),
                patient_id,
                person_id,
            )

    async def page(
        self,
        type_name: str | None,
        query: Iterable[tuple[str, str]],
        *,
        access: AccessPredicate = EVERYTHING,
        compartment: tuple[str, str] | None = None,
    ) -> Page:
        planned = plan(parse(type_name, list(query), compartment=compartment), access)
        async with self.database.acquire(plans="once" if settled(planned, self.hasher) else "values") as connection:
            return await search(connection, planned, installation=self.database.installation, bodies=Plain())

    async def ids(
        self,
        type_name: str | None,
        *query: tuple[str, str],
        access: AccessPredicate = EVERYTHING,
        compartment: tuple[str, str] | None = None,
    ) -> list[str]:
        """Ids of the matches, in order."""
        page = await self.page(type_name, query, access=access, compartment=compartment)
        return [found.id for found in page.matches]
