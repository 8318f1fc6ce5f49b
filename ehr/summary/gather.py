"""Collect one person's record from all facilities: Person or Patient id → PersonRecord.

A Patient id stands for the whole person it is linked to, because a summary of one facility's part would mislead.
Errors:  NotFound where the person does not exist, or the caller is confined to another one
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from ehr import identity, limits
from ehr.errors import NotFound
from ehr.store.compartment import current
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.ips import PersonRecord

SUMMARY_TYPES: Final = (
    "AllergyIntolerance",
    "CarePlan",
    "Condition",
    "Coverage",
    "Encounter",
    "Immunization",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Procedure",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The source Patients of one person; person_id is None where the patient is linked to no Person."""

    person_id: str | None
    subject: str
    patient_ids: tuple[str, ...]
    shards: tuple[int, ...]

    @property
    def key(self) -> str:
        return self.person_id or self.subject


async def sources_of_patient(uow: UnitOfWork, patient_id: str) -> Sources:
    """The whole person of a source Patient."""
    await uow.resources.read("Patient", patient_id)
    person_id = await identity.person_of(uow.connection, patient_id)
    if person_id is None:
        return Sources(None, patient_id, (patient_id,), (uow.record.hasher.shard("Patient", patient_id),))
    return await sources_of_person(uow, person_id)


async def sources_of_person(uow: UnitOfWork, person_id: str) -> Sources:
    """All source Patients of a Person; the subject is the newest, whichever was asked for."""
    if uow.access.person_id not in (None, person_id):
        raise NotFound(f"Person/{person_id} is not known")
    links = await identity.links_of(uow.connection, person_id)
    if not links:
        raise NotFound(f"Person/{person_id} is not known")
    patient_ids = tuple(link.patient_id for link in links)
    return Sources(person_id, patient_ids[0], patient_ids, tuple(link.shard for link in links))


async def gather(uow: UnitOfWork, sources: Sources) -> PersonRecord:
    """Everything a summary may draw on, with the caller's access applied."""
    held = await current(uow, sources.shards, ("Patient", *SUMMARY_TYPES), count_max=limits.summary_resources_max)
    trees: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in held:
        trees[one.type_name].append(one.tree)
    patients = sorted(trees.pop("Patient", []), key=lambda tree: tree["id"] != sources.subject)
    if not patients:
        raise NotFound(f"{sources.key} is not known")
    return PersonRecord(
        sources.key,
        str(patients[0]["id"]),
        tuple(patients),
        trees,
        {f"{one.type_name}/{one.id}": one.sender for one in held if one.sender},
        frozenset(name for name in SUMMARY_TYPES if not uow.access.grants.allow(name, "r")),
    )
