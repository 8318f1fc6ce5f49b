"""Facilities that may send: a row each, and the Organization and Location that stand for it in the record.

In:      Facility; whoever knows more of its Organization or Location than a row has says it there
Writes:  rows and resources in the caller's transaction
Once:    an unchanged facility writes no new version; one that was closed is open again
Source:  FHIR R4 8.6 Organization, 8.7 Location; QĐ 4750 field MA_CSKCB (five letters or digits)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ehr.database.connection import Connection, Row
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from ehr.fhir.vietnam import FACILITY_CODE
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork

Kind = Literal["hospital", "centre", "station", "other"]
Feed = Literal["hl7v2", "fhir", "claim_xml"]

_COLUMNS: Final = ("code", "name", "kind", "feed", "district", "commune", "commune_code")
_REGISTER: Final = """
INSERT INTO facility (code, name, kind, feed, district, commune, commune_code, organization_id, location_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[])
ON CONFLICT (code) DO UPDATE SET name = excluded.name, kind = excluded.kind, feed = excluded.feed,
    district = excluded.district, commune = excluded.commune, commune_code = excluded.commune_code,
    organization_id = excluded.organization_id, location_id = excluded.location_id, active = true
RETURNING code, id
"""
_CLOSE: Final = "UPDATE facility SET active = false WHERE code = $1 RETURNING id"
_LIST: Final = """
SELECT code, name, kind, feed, district, commune, commune_code, active, registered FROM facility ORDER BY code
"""


@dataclass(frozen=True, slots=True)
class Facility:
    """organization, location: more elements of its resources."""

    code: str
    name: str
    kind: Kind
    feed: Feed
    district: str
    commune: str
    commune_code: str
    organization: Mapping[str, Any] = field(default_factory=dict)
    location: Mapping[str, Any] = field(default_factory=dict)


def organization_id(code: str) -> str:
    return f"facility-{code}"


def location_id(code: str) -> str:
    return f"facility-{code}-site"


async def register(uow: UnitOfWork, facilities: Sequence[Facility]) -> dict[str, int]:
    """The id of each, by its code."""
    columns = [[getattr(one, name) for one in facilities] for name in _COLUMNS]
    ids = [[make(one.code) for one in facilities] for make in (organization_id, location_id)]
    rows = await uow.connection.fetch(_REGISTER, *columns, *ids)
    trees = [tree for one in facilities for tree in (organization(one), location(one))]
    await uow.resources.apply([Write("U", tree["resourceType"], tree["id"], tree=tree) for tree in trees])
    return {row["code"]: row["id"] for row in rows}


def organization(facility: Facility) -> dict[str, Any]:
    return {
        "resourceType": "Organization",
        "id": organization_id(facility.code),
        "identifier": [{"system": FACILITY_CODE, "value": facility.code}],
        "active": True,
        "type": [coded(TERMINOLOGY + "organization-type", "prov")],
        "name": facility.name,
        **facility.organization,
    }


def location(facility: Facility) -> dict[str, Any]:
    return {
        "resourceType": "Location",
        "id": location_id(facility.code),
        "identifier": [{"system": FACILITY_CODE, "value": facility.code}],
        "status": "active",
        "name": facility.name,
        "mode": "instance",
        **facility.location,
        "managingOrganization": reference(f"Organization/{organization_id(facility.code)}"),
    }


async def close(uow: UnitOfWork, code: str) -> bool:
    """Take nothing more from it; False where none has this code."""
    return await uow.connection.fetchval(_CLOSE, code) is not None


async def listed(connection: Connection) -> list[Row]:
    """Every facility, by its code."""
    return list(await connection.fetch(_LIST))
