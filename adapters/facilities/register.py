"""Write the city's facilities into the record: facility rows, an Organization and a Location each, a client each.

In:      facilities (registry.city)
Out:     Registration: facility.id by code, and the secret of each HTTP feed's client, shown once
Order:   rows and resources in one transaction; then the clients, whose secrets are new at every registration
Once:    an unchanged facility writes no new version; running it again costs reads only
Source:  FHIR R4 8.6 Organization, 8.7 Location; ehr.fhir.vietnam (FACILITY_CODE)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.facilities.communes import PROVINCE
from adapters.facilities.registry import DEFAULT_SPLIT, FACILITY_COUNT, Facility, FeedSplit, Kind, centre_of, city
from ehr.access.clients import register_client
from ehr.access.policy import Caller
from ehr.fhir import vietnam
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork

SCOPES: Final = "system/*.cruds"
"""A feed writes what its facility did, and reads to find its own resources again."""

_ROWS: Final = """
INSERT INTO facility (code, name, kind, feed, district, commune, commune_code, organization_id, location_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[])
ON CONFLICT (code) DO UPDATE SET name = excluded.name, kind = excluded.kind, feed = excluded.feed,
    district = excluded.district, commune = excluded.commune, commune_code = excluded.commune_code,
    organization_id = excluded.organization_id, location_id = excluded.location_id, active = true
RETURNING code, id
"""
_KINDS: Final[dict[Kind, str]] = {
    "hospital": "Bệnh viện thành phố",
    "centre": "Trung tâm y tế",
    "station": "Trạm y tế",
    "other": "Phòng khám đa khoa",
}


@dataclass(frozen=True, slots=True)
class Registration:
    """ids: facility code → facility.id. secrets: client id → secret, for feeds over HTTP."""

    facilities: tuple[Facility, ...]
    ids: dict[str, int]
    secrets: dict[str, str]


async def register(record: Record, split: FeedSplit = DEFAULT_SPLIT, count: int = FACILITY_COUNT) -> Registration:
    """Register a city of count facilities with the feeds of a split."""
    return await register_facilities(record, city(count, split))


async def register_facilities(record: Record, facilities: Sequence[Facility]) -> Registration:
    async def work(uow: UnitOfWork) -> dict[str, int]:
        ids = await _rows(uow, facilities)
        chosen = {facility.code for facility in facilities}
        await uow.resources.apply(
            [
                write
                for facility in facilities
                for write in (
                    Write("U", "Organization", facility.organization_id, tree=organization(facility, chosen)),
                    Write("U", "Location", facility.location_id, tree=location(facility)),
                )
            ]
        )
        return ids

    ids = await record.run(Caller.system("register facilities"), work)
    secrets: dict[str, str] = {}
    for facility in facilities:
        if facility.feed != "hl7v2":
            secrets[facility.client_id] = await register_client(
                record, facility.client_id, f"Feed of {facility.code}", SCOPES, ids[facility.code]
            )
    return Registration(tuple(facilities), ids, secrets)


async def _rows(uow: UnitOfWork, facilities: Sequence[Facility]) -> dict[str, int]:
    rows = await uow.connection.fetch(
        _ROWS,
        [facility.code for facility in facilities],
        [facility.name for facility in facilities],
        [facility.kind for facility in facilities],
        [facility.feed for facility in facilities],
        [facility.district for facility in facilities],
        [facility.commune.full_name for facility in facilities],
        [facility.commune_code for facility in facilities],
        [facility.organization_id for facility in facilities],
        [facility.location_id for facility in facilities],
    )
    return {row["code"]: row["id"] for row in rows}


def organization(facility: Facility, registered: set[str]) -> dict[str, Any]:
    """A station is part of the health centre of its district, where that is registered too."""
    tree: dict[str, Any] = {
        "resourceType": "Organization",
        "id": facility.organization_id,
        "identifier": [{"system": vietnam.FACILITY_CODE, "value": facility.code}],
        "active": True,
        "type": [coded(TERMINOLOGY + "organization-type", "prov", _KINDS[facility.kind])],
        "name": facility.name,
        "address": [_address(facility)],
    }
    centre = centre_of(facility.commune)
    if facility.kind == "station" and centre.code in registered:
        tree["partOf"] = reference(f"Organization/{centre.organization_id}", centre.name)
    return tree


def location(facility: Facility) -> dict[str, Any]:
    return {
        "resourceType": "Location",
        "id": facility.location_id,
        "identifier": [{"system": vietnam.FACILITY_CODE, "value": facility.code}],
        "status": "active",
        "name": facility.name,
        "mode": "instance",
        "address": _address(facility),
        "physicalType": coded(TERMINOLOGY + "location-physical-type", "si"),
        "managingOrganization": reference(f"Organization/{facility.organization_id}"),
    }


def _address(facility: Facility) -> dict[str, Any]:
    commune = facility.commune
    return {
        "use": "work",
        "text": f"{commune.full_name}, {commune.full_district}, {PROVINCE}",
        "city": commune.full_name,
        "district": commune.full_district,
        "state": PROVINCE,
        "country": "VN",
    }
