"""Which resource types have a partition of their own, and how every partition stores its rows.

Own       types a city writes by the million: their indexes stay dense, and a bulk load can build them apart
Default   all other types share one
Storage   body is a zstd frame already: TOAST must not try again (external); tokens compress well (main)
Indexes   each partition has the same; where types share one, the type comes first. Of one patient's resources at one
          moment, and of what one transaction wrote, there are few: they share an entry and are sorted when read. What
          lasts no longer than LONG_US is found by its beginning, so only longer ranges are listed by their end. Of how
          many last longer there are statistics, since the planner would take a third of all for it
Ids       of one type are held apart by a hash index, exactly: rows it finds are compared by their ids. It is half of a
          B-tree, and has no order (docs/adr/0116)
Codes     CODED_TYPES have the rows of a code in the order of their date, and by whose they are, too: of one patient and
          one code there are many, and they share an entry
GIN       a pending list, which every search reads through; how long it may grow is said by the session that writes
          (gin_pending_list_limit): GIN_PENDING, or GIN_PENDING_IMPORT for imports into a record of GIN_LARGE_ROWS,
          which empty it at their end. At 1,000,000 resources a short one doubles what an import costs the server; at
          50,000 it costs nothing, and a long one, whose pages stay with the index, would be a fifth of the disk
"""

from collections.abc import Mapping
from types import MappingProxyType
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

CODED_TYPES: Final[tuple[str, ...]] = (
    "Condition",
    "DiagnosticReport",
    "Immunization",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Procedure",
    "ServiceRequest",
)
"""Types whose rows are listed by their code (ehr.index.main_code)."""

GIN_PENDING: Final = "128kB"
GIN_PENDING_IMPORT: Final = "4MB"
GIN_LARGE_ROWS: Final = 250_000

LONG_US: Final = 86_400_000_000
"""A day: most of what is recorded is a moment or a date."""

PACKED: Final = "with (fillfactor = 100)"
"""Entries come at the end only: no page need keep room for what comes between."""

ORDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "shard_date": "(shard, date_lo_us desc)",
        "date": "(date_lo_us, rid) where date_lo_us is not null",
        "long": f"(date_hi_us) where date_hi_us - date_lo_us > {LONG_US}",
        "updated": f"(updated, rid) {PACKED}",
        "feed": f"(xid) {PACKED}",
    }
)


CODED: Final = "((tokens[2]), date_lo_us, rid)"
CODED_SHARD: Final = "((tokens[2]), shard)"


def partition_name(type_name: str) -> str:
    return f"resource_{type_name.lower()}" if type_name in OWN_TYPES else "resource_default"


TOKEN_INDEXES: Final = (
    *(f"{name}_tokens_idx" for name in (*map(partition_name, OWN_TYPES), "resource_default")),
    "contained_tokens_ix",
)
"""The GIN indexes: those of the partitions, the default one's too, and that of contained resources."""


def statements(type_ids: Mapping[str, int]) -> list[str]:
    """The DDL that follows CREATE TABLE resource. Indexes of the parent are on the partitions by then."""
    made = []
    for type_name in OWN_TYPES:
        made += _partition(partition_name(type_name), f"for values in ({type_ids[type_name]})")
    return made + _partition("resource_default", "default")


def indexes() -> list[str]:
    """The DDL of the indexes that each partition has for itself."""
    made = []
    for order_name, columns in ORDERS.items():
        made += [_index(partition_name(type_name), order_name, columns) for type_name in OWN_TYPES]
        made.append(_index("resource_default", order_name, columns.replace("(", "(type_id, ", 1)))
    return [*made, _index("resource_default", "xid", ORDERS["feed"])]


def key_constraints() -> list[str]:
    """The DDL of what no two rows of a partition share: their numbers and their ids, which are of one type."""
    made = []
    for name in map(partition_name, OWN_TYPES):
        made.append(_key(name, "pk", f"primary key (rid) {PACKED}"))
        made.append(_key(name, "id_ex", "exclude using hash (id with =)"))
    made.append(_key("resource_default", "pk", "primary key (type_id, rid)"))
    return [*made, _key("resource_default", "type_id_id_uq", "unique (type_id, id)")]


def code_indexes() -> list[str]:
    """The DDL of the lists by code."""
    return [_index(partition_name(type_name), "code", CODED) for type_name in CODED_TYPES]


def code_shard_indexes() -> list[str]:
    """The DDL of the lists of whom codes are of. What codes there are is told by the lists by code already."""
    made = []
    for name in map(partition_name, CODED_TYPES):
        made.append(_index(name, "code_shard", CODED_SHARD))
        made.append(f"alter index {name}_code_shard_ix alter column 1 set statistics 0")
    return made


def lasting_statistics() -> list[str]:
    """The DDL of what the planner knows of how long rows last."""
    names = (*map(partition_name, OWN_TYPES), "resource_default")
    return [f"create statistics {name}_lasting_st on (date_hi_us - date_lo_us) from {name}" for name in names]


def _index(table_name: str, order_name: str, columns: str) -> str:
    return f"create index {table_name}_{order_name}_ix on {table_name} {columns}"


def _key(table_name: str, key_name: str, over_columns: str) -> str:
    return f"alter table {table_name} add constraint {table_name}_{key_name} {over_columns}"


def _partition(name: str, values: str) -> list[str]:
    return [
        f"create table {name} partition of resource {values}",
        f"alter table {name} alter body set storage external, alter tokens set storage main",
    ]
