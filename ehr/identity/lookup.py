"""Whose is it: source Patient → person, person → source Patients, national number → person."""

from dataclasses import dataclass
from typing import Final

from ehr.database.connection import Connection
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.vietnam import NATIONAL_ID
from ehr.identity.normalize import DEFAULT_SYSTEMS, Numbers
from ehr.identity.persons import CITY_SCOPE

_PERSON_OF: Final = """
SELECT l.person_id FROM resource r JOIN person_link l ON l.shard = r.shard WHERE r.type_id = $1 AND r.id = $2
"""
_LINKS_OF: Final = """
SELECT l.shard, l.patient_id, l.assurance FROM person_link l
JOIN resource r ON r.type_id = $2 AND r.id = l.patient_id
WHERE l.person_id = $1 ORDER BY r.rid DESC
"""
_SHARDS_OF: Final = "SELECT shard FROM person_link WHERE person_id = $1"
_OWNER: Final = "SELECT id FROM claim WHERE scope = $1 AND type_id = $2 AND key = $3"


@dataclass(frozen=True, slots=True)
class Link:
    """One source Patient of a person. assurance: FHIR identity-assuranceLevel."""

    patient_id: str
    shard: int
    assurance: str


async def person_of(connection: Connection, patient_id: str) -> str | None:
    """The person a source Patient is linked to, or None."""
    person_id: str | None = await connection.fetchval(_PERSON_OF, TYPE_IDS["Patient"], patient_id)
    return person_id


async def links_of(connection: Connection, person_id: str) -> list[Link]:
    """The source Patients of a person, the newest first."""
    rows = await connection.fetch(_LINKS_OF, person_id, TYPE_IDS["Patient"])
    return [Link(row["patient_id"], row["shard"], row["assurance"]) for row in rows]


async def shards_of(connection: Connection, person_id: str) -> list[int]:
    """Where the person's record lies."""
    return [row["shard"] for row in await connection.fetch(_SHARDS_OF, person_id)]


async def by_national_id(connection: Connection, value: str) -> str | None:
    """The person who owns a national number (CCCD), however it is written."""
    number = Numbers(DEFAULT_SYSTEMS).read(NATIONAL_ID, value)
    if number is None:
        return None
    owner: str | None = await connection.fetchval(_OWNER, CITY_SCOPE, TYPE_IDS["Person"], number.key)
    return owner
