"""Which parameters decide the shard of a resource, and what the index by shard therefore joins."""

from typing import Final

from ehr.fhir.compartments import PATIENT_TYPES, members, shard_params
from ehr.search.terms import Chain, Has


def joins(type_name: str, condition: Chain | Has) -> bool:
    """A chain from this type to the patient that decides the shard; _has of patients by such a parameter."""
    if isinstance(condition, Has):
        return condition.type_name == "Patient" and condition.parameter.code in deciding(condition.source)
    ends = [name for name, _ in condition.links]
    return ends == ["Patient"] and condition.parameter.code in deciding(type_name)


def deciding(type_name: str) -> frozenset[str]:
    return shard_params(type_name) if type_name in PATIENT_TYPES else _NONE


def of_one_patient(type_name: str) -> bool:
    """Every membership parameter of the type is the one that decides its shard."""
    codes = members("Patient").get(type_name, ())
    return bool(codes) and set(codes) <= deciding(type_name)


_NONE: Final[frozenset[str]] = frozenset()
