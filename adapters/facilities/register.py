"""Register the facilities of the simulated city in a record, and a client for each that sends over HTTP.

In:      facilities (registry.city)
Out:     Registration: facility.id by code, and the secret of each HTTP feed's client, shown once
Order:   rows and resources in one transaction; then the clients, whose secrets are new at every registration
Once:    an unchanged facility writes no new version; running it again costs reads only
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.facilities.communes import PROVINCE
from adapters.facilities.registry import DEFAULT_SPLIT, FACILITY_COUNT, Facility, FeedSplit, Kind, centre_of, city
from ehr.access.clients import register_client
from ehr.access.policy import Caller
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from ehr.store import facilities
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

SCOPES: Final = "system/*.cruds"
"""A feed writes what its facility did, and reads to find its own resources again."""

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


async def register_facilities(record: Record, listed: Sequence[Facility]) -> Registration:
    codes = {facility.code for facility in listed}

    async def work(uow: UnitOfWork) -> dict[str, int]:
        return await facilities.register(uow, [in_the_record(facility, codes) for facility in listed])

    ids = await record.run(Caller.system("register facilities"), work)
    secrets: dict[str, str] = {}
    for facility in listed:
        if facility.feed != "hl7v2":
            secrets[facility.client_id] = await register_client(
                record, facility.client_id, f"Feed of {facility.code}", SCOPES, ids[facility.code]
            )
    return Registration(tuple(listed), ids, secrets)


def in_the_record(facility: Facility, registered: set[str]) -> facilities.Facility:
    """A station is part of the health centre of its district, where that is registered too."""
    address = _address(facility)
    organization: dict[str, Any] = {
        "type": [coded(TERMINOLOGY + "organization-type", "prov", _KINDS[facility.kind])],
        "address": [address],
    }
    centre = centre_of(facility.commune)
    if facility.kind == "station" and centre.code in registered:
        organization["partOf"] = reference(f"Organization/{centre.organization_id}", centre.name)
    return facilities.Facility(
        facility.code,
        facility.name,
        facility.kind,
        facility.feed,
        facility.district,
        facility.commune.full_name,
        facility.commune_code,
        organization,
        {"address": address, "physicalType": coded(TERMINOLOGY + "location-physical-type", "si")},
    )


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
