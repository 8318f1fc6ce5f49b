"""Find what an earlier file of the same episode wrote and this one does not name any more: to be deleted with it.

In:      the Bundle of an envelope; the record, as this facility's feed sees it
Out:     DELETE entries for the same transaction
Why:     a later file with the same MA_LK replaces the earlier one; a row that was taken out must not stay on the bill.
         The later one is the one that came later: a file that waited is not laid over it, and one sent again after
         it is no repeat
Source:  QĐ 4750 annex (MA_LK is the key of the episode); at the portal a re-sent file replaces all its tables
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from adapters.draft import criteria
from ehr.access.policy import Action
from ehr.fhir.elements import identifier_of
from ehr.fhir.vietnam import EPISODE_LINK
from ehr.intake import FacilityRow, Held, Intake

BY_VISIT: Final[Mapping[str, str]] = {
    "ChargeItem": "context",
    "ClinicalImpression": "encounter",
    "Condition": "encounter",
    "DiagnosticReport": "encounter",
    "DocumentReference": "encounter",
    "MedicationRequest": "encounter",
    "Observation": "encounter",
    "Procedure": "encounter",
    "ServiceRequest": "encounter",
}
"""Type → the search parameter that names its Encounter."""
ASKED: Final[frozenset[tuple[str, Action]]] = frozenset(
    {(name, action) for name in (*BY_VISIT, "Coverage", "Encounter", "Patient") for action in ("c", "u")}
    | {(name, "d") for name in BY_VISIT}
)
"""What a token must grant for a claim file."""


async def replaced(intake: Intake, facility: FacilityRow, bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    links = [
        link
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Encounter" and (link := identifier_of(entry["resource"], EPISODE_LINK))
    ]
    named = {
        (entry["resource"]["resourceType"], identifier["value"])
        for entry in bundle["entry"]
        for identifier in entry["resource"].get("identifier", ())
    }
    asked = {link: ("Encounter", criteria(EPISODE_LINK, link)) for link in links}
    visits = await intake.held(facility, asked.values())
    return [
        {"request": {"method": "DELETE", "url": f"{held.type_name}/{held.id}"}}
        for link, its in asked.items()
        if its in visits
        for type_name, parameter in BY_VISIT.items()
        for held in await intake.held_with(facility, type_name, parameter, f"Encounter/{visits[its].id}")
        if _left_out(held, link, named)
    ]


async def last_files(intake: Intake, facility: FacilityRow, links: Iterable[str]) -> dict[str, tuple[int, bytes]]:
    """Of each episode that a file wrote: the ledger's number of the last one, and the SHA-256 of its bytes."""
    asked = {link: ("Encounter", criteria(EPISODE_LINK, link)) for link in links if link}
    visits = await intake.held(facility, asked.values())
    found = {
        link: await intake.newest(facility, visits[its], "claim_xml") for link, its in asked.items() if its in visits
    }
    return {link: last for link, last in found.items() if last is not None}


def _left_out(held: Held, link: str, named: set[tuple[str, str]]) -> bool:
    """It came from a file of this episode, and this file does not have it."""
    values = [str(identifier.get("value", "")) for identifier in held.tree.get("identifier", ())]
    ours = any(value.startswith(f"{link}/") for value in values)
    return ours and not any((held.type_name, value) in named for value in values)
