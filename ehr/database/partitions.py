"""Which resource types have a partition of their own, and how every partition stores its rows.

Own       types a city writes by the million: their indexes stay dense, and a bulk load can build them apart
Default   all other types share one
Storage   body is a zstd frame already: TOAST must not try again (external); tokens compress well (main)
GIN       a pending list of 1 MiB, which every search reads through: 37 µs of server CPU a resource loaded, as with
          64 MiB; 42 with 256 KiB, 100 without a list
"""

from collections.abc import Mapping
from typing import Final

OWN_TYPES: Final[tuple[str, ...]] = (
    "AllergyIntolerance",
    "CarePlan",
    "Claim",
    "ClaimResponse",
    "Condition",
    "Coverage",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "ExplanationOfBenefit",
    "Immunization",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Organization",
    "Patient",
    "Person",
    "Practitioner",
    "Procedure",
    "Provenance",
    "ServiceRequest",
    "Specimen",
)

GIN_PENDING_KIB: Final = 1024


def partition_name(type_name: str) -> str:
    return f"resource_{type_name.lower()}" if type_name in OWN_TYPES else "resource_default"


def statements(type_ids: Mapping[str, int]) -> list[str]:
    """The DDL that follows CREATE TABLE resource. Indexes of the parent are on the partitions by then."""
    made = []
    for type_name in OWN_TYPES:
        made += _partition(partition_name(type_name), f"for values in ({type_ids[type_name]})")
    return made + _partition("resource_default", "default")


def _partition(name: str, values: str) -> list[str]:
    return [
        f"create table {name} partition of resource {values}",
        f"alter table {name} alter body set storage external, alter tokens set storage main",
        f"alter index {name}_tokens_idx set (gin_pending_list_limit = {GIN_PENDING_KIB})",
    ]
